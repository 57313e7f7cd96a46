"""One's own images with a table of captions: see README.md."""

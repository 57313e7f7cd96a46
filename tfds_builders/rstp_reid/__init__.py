"""RSTPReid: see README.md."""

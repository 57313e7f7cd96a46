"""CrossRe-ID: see README.md."""

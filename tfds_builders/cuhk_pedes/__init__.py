"""CUHK-PEDES: see README.md."""

"""Market-1501 with the captions of CUHK-PEDES: see README.md."""

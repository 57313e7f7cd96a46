"""CUHK-SYSU with the captions of CUHK-PEDES: see README.md."""

"""ICFG-PEDES: see README.md."""

"""Which losses on which features with which weights: one file per network."""

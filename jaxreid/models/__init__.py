"""Networks: pure Flax modules with plain typed fields, no losses and no config objects."""

"""synth_pedes: see README.md."""

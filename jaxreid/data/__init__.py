"""From a TFDS dataset to the batches of a training step."""

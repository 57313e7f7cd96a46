"""Find a person in a gallery of photographs from a description in words, in JAX."""

__version__ = "0.1.0"

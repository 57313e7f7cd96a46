"""Word vectors by word id."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class WordEmbedding(nn.Module):
    """Table of word vectors; row 0 is padding: zero, and without a gradient.

    Attributes:
      vocab_size: rows, the padding row included.
      features: width V of a word vector.
      dropout: share of values dropped in training.
      initial_std: standard deviation of the initial vectors.
    """

    vocab_size: int
    features: int
    dropout: float = 0.0
    initial_std: float = 1.0

    @nn.compact
    def __call__(self, tokens: Int[Array, "N L"], *, train: bool) -> Float[Array, "N L V"]:
        """Look words up."""

        def init(key: Array, shape: tuple[int, ...]) -> Array:
            return self.initial_std * jax.random.normal(key, shape).at[0].set(0.0)

        table = self.param("embedding", init, (self.vocab_size, self.features))
        words = jnp.take(table, tokens, axis=0, mode="clip")
        words = jnp.where((tokens > 0)[..., None], words, 0.0)
        return nn.Dropout(self.dropout, deterministic=not train)(words)

"""Functions of arrays that networks and losses share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def unit(x: Float[Array, "... D"], epsilon: float = 1e-12) -> Float[Array, "... D"]:
    """Scales vectors to length 1, in float32.

    Args:
      x: vectors along the last axis, any float type.
      epsilon: a vector whose squared length does not exceed this becomes 0 with gradient 0: a
        direction that says nothing must not push with a huge gradient.

    Returns:
      As `x`, float32.

    >>> unit(jnp.array([[3.0, 4.0], [0.0, 0.0]])).round(4).tolist()[1]
    [0.0, 0.0]
    """
    x = x.astype(jnp.float32)
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    present = square > epsilon
    # The inner `where` keeps the gradient of the branch that is not taken finite.
    return jnp.where(present, x * jax.lax.rsqrt(jnp.where(present, square, 1.0)), 0.0)


def lead(value: Float[Array, ...], like: Float[Array, ...]) -> Float[Array, ...]:
    """Gives `value` leading axes of size 1 up to the rank of `like`, so that they broadcast.

    Rank promotion is never left implicit.
    """
    return value.reshape((1,) * (like.ndim - value.ndim) + value.shape)

"""Functions of arrays that networks and losses share."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec
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


def mesh_in_use() -> AbstractMesh | None:
    """Returns the mesh that the program being traced runs on, where that has several devices.

    `jax.sharding.use_abstract_mesh` says so; what it changes is where arrays lie and what travels,
    never a result.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.size == 1 else mesh


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def placed(
    x: Float[Array, ...], spec: PartitionSpec, of_gradient: PartitionSpec | None = None
) -> Float[Array, ...]:
    """Lays an array out on the mesh in use, if there is one.

    Args:
      x: the array.
      spec: names of the mesh's axes that split each axis of x.
      of_gradient: the same of its gradient, which lies as it likes if None.
    """
    mesh = mesh_in_use()
    return x if mesh is None else jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def _placed_forward(
    x: Array, spec: PartitionSpec, of_gradient: PartitionSpec | None
) -> tuple[Array, None]:
    return placed(x, spec, of_gradient), None


def _placed_backward(
    spec: PartitionSpec, of_gradient: PartitionSpec | None, saved: None, grad: Array
) -> tuple[Array]:
    del spec, saved
    return (grad if of_gradient is None else placed(grad, of_gradient),)


placed.defvjp(_placed_forward, _placed_backward)


def after(x: Float[Array, ...], earlier: Float[Array, ...]) -> Float[Array, ...]:
    """Gives back x, but on a CPU not before `earlier` is computed; both keep their values.

    XLA's CPU back end computes what it can as soon as it can: work of the backward pass that needs
    no gradient would be done in the forward pass, and its result kept until it is wanted. It heeds
    neither ``jax.lax.optimization_barrier`` nor the memory that this takes. And a donated parameter
    is copied, so that it can be updated while it is still in use, unless all its uses come before
    its gradient.

    Args:
      x: what is to wait.
      earlier: what it waits for; broadcasts with x. What is no number there is none in x either.
    """

    def wait(x: Array, earlier: Array) -> Array:
        nothing = jnp.minimum(jnp.abs(earlier), 0)  # 0, which XLA does not know
        return x + nothing.astype(x.dtype)

    return jax.lax.platform_dependent(x, earlier, cpu=wait, default=lambda x, earlier: x)


def norm(arrays: Sequence[Float[Array, ...]]) -> Float[Array, ""]:
    """Length of the vector of all numbers of some arrays, float32."""

    def square(x: Array) -> Array:
        # Adam squares gradients, too, and what two ask for XLA's CPU back end writes to memory.
        x = x.astype(jnp.float32)
        return jnp.sum(jnp.square(after(x, x)))

    return jnp.sqrt(sum((square(x) for x in arrays), jnp.zeros(())))

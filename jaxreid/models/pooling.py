"""Pooling of maps and of captions, with gradients written out.

On a CPU some are computed otherwise than on an accelerator, with the same result: XLA looks for the
place of a maximum entry by entry there, not several at once. On a GPU it looks for it again in the
backward pass and adds the gradients up one by one, in no certain order.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxreid.models.platforms import on_cpu, on_tpu


def max_pool(
    x: Float[Array, "B H W C"], size: int, strides: int, padding: int, platform: str = "auto"
) -> Float[Array, "B P Q C"]:
    """Maximum over square windows; padding never wins.

    Args:
      x: the map.
      size: rows and columns of a window.
      strides: step in both directions.
      padding: rows and columns added on either side.
      platform: how it is computed, see `platforms.PLATFORMS`.
    """
    pool = _max_pool if on_tpu(platform) else _placed_max_pool
    return pool(x, size, strides, padding)


def _max_pool(x: Array, size: int, strides: int, padding: int) -> Array:
    return nn.max_pool(x, (size, size), (strides, strides), [(padding, padding)] * 2)


_placed_max_pool = jax.custom_vjp(_max_pool, nondiff_argnums=(1, 2, 3))


def _max_pool_forward(
    x: Array, size: int, strides: int, padding: int
) -> tuple[Array, tuple[Array, Array]]:
    """The place of each maximum in its window, the first one, is kept for the backward pass."""
    rows, columns = ((edge + 2 * padding - size) // strides + 1 for edge in x.shape[1:3])
    around = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    padded = jnp.pad(x, around, constant_values=-jnp.inf)
    most, place = jnp.asarray(-jnp.inf, x.dtype), jnp.int8(0)
    for number, (row, column) in enumerate(_taps(size)):
        last = row + (rows - 1) * strides + 1, column + (columns - 1) * strides + 1
        value = padded[:, row : last[0] : strides, column : last[1] : strides]
        better = _is_better(value, most)
        most, place = jnp.where(better, value, most), jnp.where(better, jnp.int8(number), place)
    return most, (place, jnp.zeros((0, *x.shape[1:3]), x.dtype))


def _max_pool_backward(
    size: int, strides: int, padding: int, saved: tuple[Array, Array], grad: Array
) -> tuple[Array]:
    """Each window's gradient goes to the place of its maximum; of `like` only the size counts."""
    place, like = saved
    total = jnp.zeros((), grad.dtype)
    for number, taps in enumerate(_taps(size)):
        mine = jnp.where(place == number, grad, jnp.zeros_like(grad))
        spread = [(0, 0, 0)]
        for tap, edge, count in zip(taps, like.shape[1:], grad.shape[1:3], strict=True):
            before = tap - padding
            spread.append((before, edge - before - (count - 1) * strides - 1, strides - 1))
        total = total + jax.lax.pad(mine, jnp.zeros((), grad.dtype), [*spread, (0, 0, 0)])
    return (total,)


_placed_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _taps(size: int) -> list[tuple[int, int]]:
    """Rows and columns of a window, in the order in which the first maximum is looked for."""
    return list(itertools.product(range(size), range(size)))


def _is_better(value: Array, most: Array) -> Array:
    """Whether a value replaces the maximum so far; the first NaN stays."""
    return ~(value <= most) & (most == most)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def mean_pool(x: Float[Array, "B H W C"], rows: int, columns: int) -> Float[Array, "B h w C"]:
    """Mean of windows side by side, float32; an odd last row or column is left out.

    A sum of slices, since XLA's CPU back end takes ten times as long for the same reduction.
    """
    windows = _windows(x, rows, columns)
    places = [(row, column) for row in range(rows) for column in range(columns)]
    slices = [windows[:, :, row, :, column].astype(jnp.float32) for row, column in places]
    return functools.reduce(jnp.add, slices) / len(places)


def _windows(x: Array, rows: int, columns: int) -> Float[Array, "B h r w c C"]:
    batch, height, width, channels = x.shape
    x = x[:, : height // rows * rows, : width // columns * columns]
    return x.reshape(batch, height // rows, rows, width // columns, columns, channels)


def _mean_pool_forward(x: Array, rows: int, columns: int) -> tuple[Array, Array]:
    return mean_pool(x, rows, columns), jnp.zeros((0, *x.shape[1:3]), x.dtype)


def _mean_pool_backward(rows: int, columns: int, like: Array, grad: Array) -> tuple[Array]:
    """Each pixel of a window gets its share; `like` holds type and size of the map alone."""
    (batch, height, width, channels), share = grad.shape, grad / (rows * columns)
    share = share.astype(like.dtype).reshape(batch, height, 1, width, 1, channels)
    share = jnp.broadcast_to(share, (batch, height, rows, width, columns, channels))
    share = share.reshape(batch, height * rows, width * columns, channels)
    left = like.shape[1] - share.shape[1], like.shape[2] - share.shape[2]
    return (jnp.pad(share, ((0, 0), (0, left[0]), (0, left[1]), (0, 0))),)


mean_pool.defvjp(_mean_pool_forward, _mean_pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def peak(x: Float[Array, " ..."], axis: int, platform: str = "auto") -> Float[Array, " ..."]:
    """Maximum along one axis; its gradient goes to the first place that holds it.

    The gradient of `jnp.max` looks for the maximum by comparing again, which gives 0 / 0 where a
    compiler computes x a second time and rounds otherwise. Here the place is remembered, which also
    spares keeping x for the backward pass.

    Args:
      x: any array.
      axis: from 0 on.
      platform: how it is computed, see `platforms.PLATFORMS`.
    """
    return jnp.max(x, axis)


def _peak_forward(x: Array, axis: int, platform: str) -> tuple[Array, tuple[Array, int]]:
    if not on_cpu(platform):
        return jnp.max(x, axis), (jnp.argmax(x, axis), x.shape[axis])

    def read(number: Array | int) -> Array:
        return jax.lax.dynamic_index_in_dim(x, number, axis, keepdims=False)

    most, place = _first_peak(read, x.shape[axis])
    return most, (place, x.shape[axis])


def _first_peak(read: Callable[[Array | int], Array], count: int) -> tuple[Array, Array]:
    """Maximum of `count` arrays, which `read` gives by number, and which one holds it first."""

    def look(number: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        most, place = found
        value = read(number)
        better = _is_better(value, most)
        return jnp.where(better, value, most), jnp.where(better, number, place)

    first = read(0)
    return jax.lax.fori_loop(1, count, look, (first, jnp.zeros(first.shape, jnp.int32)))


def _peak_backward(axis: int, platform: str, saved: tuple[Array, int], grad: Array) -> tuple[Array]:
    place, size = saved
    place, grad = jnp.expand_dims(place, axis), jnp.expand_dims(grad, axis)
    shape = [1] * grad.ndim
    shape[axis] = size
    here = jnp.arange(size, dtype=place.dtype).reshape(shape) == place
    return (jnp.where(here, grad, jnp.zeros_like(grad)),)


peak.defvjp(_peak_forward, _peak_backward)


def masked_max(
    x: Float[Array, "N L ..."], lengths: Int[Array, " N"], platform: str = "auto"
) -> Float[Array, "N ..."]:
    """Maximum over the first lengths[n] of L entries; 0 where there is none.

    Args:
      x: padded sequences.
      lengths: of each.
      platform: see `peak`.
    """
    valid = jnp.arange(x.shape[1]).reshape(1, -1) < lengths.reshape(-1, 1)
    valid = valid.reshape(*valid.shape, *[1] * (x.ndim - 2))
    return _where_any(peak(jnp.where(valid, x, jnp.finfo(x.dtype).min), 1, platform), lengths)


def _where_any(most: Float[Array, "N ..."], lengths: Int[Array, " N"]) -> Float[Array, "N ..."]:
    return jnp.where((lengths > 0).reshape(-1, *[1] * (most.ndim - 1)), most, jnp.zeros_like(most))


def masked_max_of_products(
    weights: Float[Array, "N L K"],
    x: Float[Array, "N L C"],
    lengths: Int[Array, " N"],
    platform: str = "auto",
) -> Float[Array, "N K C"]:
    """`masked_max` of weights[n, l, k] * x[n, l, c], which on a CPU are never all in memory.

    Args:
      weights: K for each entry, of the type of `x`.
      x: padded sequences.
      lengths: of each.
      platform: see `peak`.
    """
    if on_cpu(platform):
        return _where_any(_peak_of_products(weights, x, lengths), lengths)
    return masked_max(weights[..., None] * x[:, :, None, :], lengths, platform)


@jax.custom_vjp
def _peak_of_products(weights: Array, x: Array, lengths: Array) -> Float[Array, "N K C"]:
    read = functools.partial(_read_product, weights, x, lengths)

    def look(number: Array, most: Array) -> Array:
        return jnp.maximum(most, read(number))

    return jax.lax.fori_loop(1, x.shape[1], look, read(0))


def _read_product(weights: Array, x: Array, lengths: Array, number: Array | int) -> Array:
    """The products of one entry of each sequence."""
    one = functools.partial(jax.lax.dynamic_index_in_dim, index=number, axis=1, keepdims=False)
    product = one(weights)[:, :, None] * one(x)[:, None, :]
    return jnp.where((number < lengths).reshape(-1, 1, 1), product, jnp.finfo(x.dtype).min)


def _peak_of_products_forward(
    weights: Array, x: Array, lengths: Array
) -> tuple[Array, tuple[Array, ...]]:
    read = functools.partial(_read_product, weights, x, lengths)
    most, place = _first_peak(read, x.shape[1])
    return most, (weights, x, place)


def _peak_of_products_backward(
    saved: tuple[Array, ...], grad: Float[Array, "N K C"]
) -> tuple[Array, Array, None]:
    weights, x, place = saved

    def of_entry(_: None, entry: tuple[Array, Array, Array]) -> tuple[None, tuple[Array, Array]]:
        number, weights, x = entry
        mine = jnp.where(place == number, grad, jnp.zeros_like(grad))
        of_weights = jnp.sum(mine * x[:, None, :], axis=2)
        return None, (of_weights, jnp.sum(mine * weights[:, :, None], axis=1))

    entries = jnp.arange(x.shape[1]), jnp.moveaxis(weights, 1, 0), jnp.moveaxis(x, 1, 0)
    _, grads = jax.lax.scan(of_entry, None, entries)
    of_weights, of_x = (jnp.moveaxis(found, 0, 1) for found in grads)
    return of_weights, of_x, None


_peak_of_products.defvjp(_peak_of_products_forward, _peak_of_products_backward)

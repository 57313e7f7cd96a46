"""Depthwise convolution, and the form of it with which XLA's CPU back end is quick."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreid.models.convolution import convolution
from jaxreid.models.layers import kaiming_fan_out
from jaxreid.typing import DType


class DepthwiseConv(nn.Module):
    """Convolution of each channel by itself, step 1, padded to the same size, without bias.

    Attributes:
      kernel_size: odd height and width of the kernel.
      dtype: compute type; the parameter is float32.
    """

    kernel_size: tuple[int, int]
    dtype: DType = jnp.float32

    @nn.compact
    def kernel(self, channels: int) -> Float[Array, "h w 1 C"]:
        """The parameter, float32, for so many channels."""
        shape = (*self.kernel_size, 1, channels)
        return self.param("kernel", kaiming_fan_out, shape, jnp.float32)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Convolve."""
        channels = x.shape[-1]
        kernel = self.kernel(channels).astype(self.dtype)
        height, width = (size // 2 for size in self.kernel_size)
        return convolution(x.astype(self.dtype), kernel, padding=(height, width), groups=channels)


@jax.custom_vjp
def shifted_products(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w C"]
) -> Float[Array, "B H W C"]:
    """Depthwise convolution as a sum of shifted products, one for each tap of the kernel.

    XLA's CPU back end takes many times as long for a grouped convolution.
    """
    return _sum_shifted(x, kernel)


# A network has dozens of these of few shapes: compiled functions are traced once a shape.
@jax.jit
def _sum_shifted(x: Array, kernel: Array) -> Array:
    height, width = kernel.shape[:2]
    taps = zip(_shifts(x, height, width), kernel.reshape(-1, 1, 1, 1, kernel.shape[2]), strict=True)
    return functools.reduce(jnp.add, (shifted * tap for shifted, tap in taps))


def _shifts(x: Array, height: int, width: int) -> list[Array]:
    """Returns x moved by each offset of an odd kernel, zeros coming in, in the kernel's order."""
    padded = _pad(x, height, width)
    return [
        padded[:, row : row + x.shape[1], column : column + x.shape[2]]
        for row in range(height)
        for column in range(width)
    ]


def _pad(x: Array, height: int, width: int) -> Array:
    return jnp.pad(x, ((0, 0), (height // 2,) * 2, (width // 2,) * 2, (0, 0)))


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _sum_shifted(x, kernel), (x, kernel)


@jax.jit
def _backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    # What a tap read from the left it gives back to the left: the kernel turned by 180 degrees.
    grad_x = _sum_shifted(grad, kernel[::-1, ::-1])
    height, width, channels = kernel.shape
    x, grad = x.astype(jnp.float32), grad.astype(jnp.float32)
    taps = _products_by_rows(x, grad, height, width)
    sums = [jnp.sum(tap.reshape(-1, channels), axis=0) for tap in taps]
    return grad_x, jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _products_by_rows(x: Array, grad: Array, height: int, width: int) -> Sequence[Array]:
    """Gradient of each tap [B, W * C], yet to be summed over images and columns.

    All taps of one row of pixels at a time: what is added to stays in the processor's cache, and
    whole rows, not single pixels, are multiplied at once, which reductions of nine shifted copies
    of the images do not.
    """
    count, rows, columns, channels = x.shape
    padded = _pad(x, height, width).reshape(count, rows + height - 1, -1)
    grad = grad.reshape(count, rows, -1)

    def add_row(row: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        of_row = _row(grad, row)
        shifted = [
            above[:, column * channels : (column + columns) * channels]
            for above in (_row(padded, row + offset) for offset in range(height))
            for column in range(width)
        ]
        return tuple(total + one * of_row for total, one in zip(sums, shifted, strict=True))

    sums = (jnp.zeros_like(grad[:, 0]),) * (height * width)
    return jax.lax.fori_loop(0, rows, add_row, sums) if rows > 1 else add_row(jnp.int32(0), sums)


def _row(x: Array, row: Array | int) -> Array:
    return jax.lax.dynamic_index_in_dim(x, row, axis=1, keepdims=False)


shifted_products.defvjp(_forward, _backward)

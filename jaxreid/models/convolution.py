"""Convolution, written so that XLA's CPU back end is quick too.

The parameters are the same however it is computed. On a CPU a 1x1 convolution is a matrix product
of pixels, and some gradients are written out, since XLA's are several times slower than the
convolution itself; accelerators have kernels for all of them, and there the product would move more
memory than the convolution.
"""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreid.arrays import after, mesh_in_use
from jaxreid.models.layers import kaiming_fan_out
from jaxreid.models.platforms import on_cpu
from jaxreid.typing import DType

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# Maps of so many pixels or more are taken in two halves, see `_parts`.
_MANY_PIXELS = 8192


class Conv(nn.Module):
    """2-D convolution, NHWC, with explicit symmetric padding.

    Attributes:
      features: output channels.
      kernel_size: height and width of the kernel, one number where it is square.
      strides: step in both directions.
      padding: rows and columns of zeros added on either side, one number where they are as many.
      use_bias: whether a bias is added.
      dtype: compute type; parameters are float32.
      platform: how it is computed, see `platforms.PLATFORMS`.
    """

    features: int
    kernel_size: int | tuple[int, int] = 1
    strides: int = 1
    padding: int | tuple[int, int] = 0
    use_bias: bool = False
    dtype: DType = jnp.float32
    platform: str = "auto"

    @nn.compact
    def parameters(
        self, in_features: int
    ) -> tuple[Float[Array, "h w I O"], Float[Array, " O"] | None]:
        """Kernel and, with `use_bias`, bias, float32.

        Args:
          in_features: input channels I.
        """
        shape = (*_both(self.kernel_size), in_features, self.features)
        kernel = self.param("kernel", kaiming_fan_out, shape, jnp.float32)
        if not self.use_bias:
            return kernel, None
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)

    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B h w O"]:
        """Convolve."""
        size, padding = _both(self.kernel_size), _both(self.padding)
        kernel, bias = self.parameters(x.shape[-1])
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        written_out = on_cpu(self.platform)
        if written_out and size == (1, 1) and padding == (0, 0):
            y = product_of_pixels(x[:, :: self.strides, :: self.strides], kernel[0, 0])
        elif written_out:
            y = convolution_on_cpu(x, kernel, self.strides, padding)
        else:
            y = convolution(x, kernel, self.strides, padding)
        if bias is not None:
            y = y + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return y


def _both(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def convolution(
    x: Float[Array, "B H W I"],
    kernel: Float[Array, "h w J O"],
    strides: int = 1,
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> Float[Array, "B P Q O"]:
    """Convolution as XLA has it, zeros around, the same step in both directions; J = I / groups."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(strides, strides),
        padding=[(size, size) for size in padding],
        dimension_numbers=_DIMENSIONS,
        feature_group_count=groups,
    )


@jax.custom_vjp
def product_of_pixels(
    x: Float[Array, "B H W I"], kernel: Float[Array, "I O"]
) -> Float[Array, "B H W O"]:
    """1x1 convolution as one matrix product.

    Its gradient is written out, because that of the kernel would otherwise begin by transposing
    the map in memory.
    """
    return _of_rows(x, kernel)


def _parts(x: Float[Array, "B H W C"]) -> Float[Array, "P N C"]:
    """Pixels of a map, in two halves where they are many: two threads sum one each.

    All products take a map so, or XLA would compute it once for each of its shapes. Several
    devices have a part of the pixels each, and no halves of them in common.
    """
    pixels = math.prod(x.shape[:-1])  # a symbol where the program is for any number of images
    many = isinstance(pixels, int) and pixels >= _MANY_PIXELS and pixels % 2 == 0
    return x.reshape(2 if many and mesh_in_use() is None else 1, -1, x.shape[-1])


def _of_rows(x: Array, kernel: Array, axis: int = 0) -> Array:
    """Products of pixels with the kernel, summed over that axis of it."""
    parts = _parts(x)
    kernels = jnp.broadcast_to(kernel, (len(parts), *kernel.shape))
    y = jax.lax.dot_general(parts, kernels, (((2,), (1 + axis,)), ((0,), (0,))))
    return y.reshape(*x.shape[:-1], kernel.shape[1 - axis])


def _pixels_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _of_rows(x, kernel), (x, kernel)


def _pixels_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    grad_x = _of_rows(grad, kernel, axis=1)
    if x.shape[-1] <= grad.shape[-1]:  # the narrower one on the left is quicker
        return grad_x, _summed(x, grad)
    return grad_x, _summed(grad, x).T


def _summed(left: Float[Array, "B H W I"], right: Float[Array, "B H W O"]) -> Float[Array, "I O"]:
    """Products of two maps, summed over their pixels."""
    products = jax.lax.dot_general(_parts(left), _parts(right), (((1,), (1,)), ((0,), (0,))))
    return products.sum(0)


product_of_pixels.defvjp(_pixels_forward, _pixels_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution_on_cpu(
    x: Float[Array, "B H W I"],
    kernel: Float[Array, "h w I O"],
    strides: int,
    padding: tuple[int, int],
) -> Float[Array, "B P Q O"]:
    """The same convolution, with gradients written out.

    Where it has a step, the gradient of x is one small convolution for each phase: XLA would
    spread the gradient out with zeros between its pixels and convolve those, too.
    """
    return convolution(x, kernel, strides, padding)


def _cpu_forward(
    x: Array, kernel: Array, strides: int, padding: tuple[int, int]
) -> tuple[Array, tuple[Array, Array]]:
    return convolution(x, kernel, strides, padding), (x, kernel)


def _cpu_backward(
    strides: int, padding: tuple[int, int], saved: tuple[Array, Array], grad: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    # XLA transposes x for the kernel's gradient, and would do so in the forward pass.
    late = after(x, grad[:, :1, :1, :1])
    pull_kernel = jax.vjp(lambda kernel: convolution(late, kernel, strides, padding), kernel)[1]
    form = _by_phases if strides > 1 else convolution
    pull_x = jax.vjp(lambda x: form(x, kernel, strides, padding), x)[1]
    return pull_x(grad)[0], pull_kernel(grad)[0]


def _by_phases(x: Array, kernel: Array, strides: int, padding: tuple[int, int]) -> Array:
    """The same convolution as a sum over phases: each s-th pixel with each s-th tap, step 1."""
    rows, columns = (
        (size + 2 * zeros - taps) // strides + 1
        for size, zeros, taps in zip(x.shape[1:3], padding, kernel.shape[:2], strict=True)
    )
    padded = jnp.pad(x, ((0, 0), *((zeros, zeros) for zeros in padding), (0, 0)))
    total = jnp.zeros((), x.dtype)
    for row in range(min(strides, kernel.shape[0])):
        for column in range(min(strides, kernel.shape[1])):
            taps = kernel[row::strides, column::strides]
            phase = padded[:, row::strides, column::strides]
            height, width = rows + taps.shape[0] - 1, columns + taps.shape[1] - 1
            total = total + convolution(phase[:, :height, :width], taps)
    return total


convolution_on_cpu.defvjp(_cpu_forward, _cpu_backward)

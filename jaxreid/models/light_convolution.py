"""OSNet's light convolution, in the form that suits a CPU, and as a dense one for TPU."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreid.arrays import after, mesh_in_use
from jaxreid.models.convolution import Conv, convolution, product_of_pixels
from jaxreid.models.depthwise import DepthwiseConv, shifted_products
from jaxreid.models.normalization import BatchNorm, normalise_side_by_side, relu
from jaxreid.models.platforms import on_cpu, on_tpu
from jaxreid.typing import DType


class LightConv(nn.Module):
    """Pointwise, then depthwise convolution, one batch normalisation, ReLU.

    On a TPU both are computed as the one dense convolution that they are: the map between them is
    then never written, and a TPU multiplies so much faster than its memory follows that this pays
    for nine times the products. On a CPU that map is not kept, see `light_convolution_on_cpu`.

    Attributes:
      features: output channels.
      kernel_size: of the depthwise convolution.
      dtype: compute type.
      platform: see `platforms.PLATFORMS`.
    """

    features: int
    kernel_size: tuple[int, int]
    dtype: DType = jnp.float32
    platform: str = "auto"

    def setup(self) -> None:
        """Make the parts."""
        self.conv1 = Conv(self.features, dtype=self.dtype, platform=self.platform)
        self.conv2 = DepthwiseConv(self.kernel_size, self.dtype)
        self.bn = BatchNorm(dtype=self.dtype)

    def __call__(
        self, x: Float[Array, "B H W I"], use_running_average: bool
    ) -> Float[Array, "B H W O"]:
        """Convolve, normalise."""
        if on_tpu(self.platform):
            return dense_side_by_side([self], x, use_running_average, same_input=True)
        if on_cpu(self.platform):
            kernel = self.conv1.parameters(x.shape[-1])[0][0, 0]
            taps = self.conv2.kernel(self.features)[:, :, 0]
            y = light_convolution_on_cpu(*(part.astype(self.dtype) for part in (x, kernel, taps)))
        else:
            y = self.conv2(self.conv1(x))
        return relu(self.bn(y, use_running_average=use_running_average))

    def dense_kernel(self, in_features: int) -> Float[Array, "h w I O"]:
        """Kernel, float32, of the one convolution that both convolutions are."""
        return self.conv1.parameters(in_features)[0] * self.conv2.kernel(self.features)


@jax.custom_vjp
def light_convolution_on_cpu(
    x: Float[Array, "B H W I"], kernel: Float[Array, "I O"], taps: Float[Array, "h w O"]
) -> Float[Array, "B H W O"]:
    """1x1 convolution, then depthwise convolution, written for XLA's CPU back end.

    The gradient computes the map between the two again, one product of few channels, where there is
    one device. So a step of AXM-Net takes a fifth less memory, and about a twentieth more time.

    Args:
      x: map.
      kernel: of the 1x1 convolution.
      taps: of the depthwise convolution, odd in height and width.
    """
    return shifted_products(product_of_pixels(x, kernel), taps)


def _light_forward(x: Array, kernel: Array, taps: Array) -> tuple[Array, tuple[Array, ...]]:
    return light_convolution_on_cpu(x, kernel, taps), (x, kernel, taps)


def _light_backward(saved: tuple[Array, ...], grad: Array) -> tuple[Array, ...]:
    x, kernel, taps = saved
    # XLA would otherwise find that this is known since the forward pass, and keep it. Of several
    # devices, which do keep it, all would wait for the one that has the first row.
    again = after(kernel, grad[0, 0, :1, :1]) if mesh_in_use() is None else kernel
    between = product_of_pixels(x, again)
    grad_between, grad_taps = jax.vjp(shifted_products, between, taps)[1](grad)
    grad_x, grad_kernel = jax.vjp(product_of_pixels, x, kernel)[1](grad_between)
    return grad_x, grad_kernel, grad_taps


light_convolution_on_cpu.defvjp(_light_forward, _light_backward)


def dense_side_by_side(
    layers: Sequence[LightConv],
    x: Float[Array, "B H W I"],
    use_running_average: bool,
    *,
    same_input: bool,
) -> Float[Array, "B H W O"]:
    """Light convolutions of several maps side by side along the channels, as one convolution.

    Args:
      layers: one for each map, of equal widths.
      x: the maps that they take, or the one that all take.
      use_running_average: BatchNorm uses and keeps its running statistics.
      same_input: all take the whole of x.

    Returns:
      Their maps side by side.
    """
    layer, count = layers[0], 1 if same_input else len(layers)
    kernels = [one.dense_kernel(x.shape[-1] // count) for one in layers]
    if count > 1:  # each reads its own channels: zeros elsewhere
        kernels = [_placed(kernel, place, count) for place, kernel in enumerate(kernels)]
    kernel = jnp.concatenate(kernels, axis=-1).astype(layer.dtype)
    height, width = (size // 2 for size in layer.kernel_size)
    y = convolution(x.astype(layer.dtype), kernel, padding=(height, width))
    norms = [one.bn for one in layers]
    return relu(normalise_side_by_side(norms, y, use_running_average=use_running_average))


def _placed(kernel: Float[Array, "h w I O"], place: int, count: int) -> Float[Array, "h w J O"]:
    """The kernel for the `place`-th of `count` maps side by side."""
    size = kernel.shape[2]
    before_and_behind = place * size, (count - 1 - place) * size
    return jnp.pad(kernel, ((0, 0), (0, 0), before_and_behind, (0, 0)))

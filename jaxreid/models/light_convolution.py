"""OSNet's light convolution, and several of them side by side as one dense convolution for TPU."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreid.models.convolution import Conv, convolution
from jaxreid.models.depthwise import DepthwiseConv
from jaxreid.models.normalization import BatchNorm, normalise_side_by_side, relu
from jaxreid.models.platforms import on_tpu
from jaxreid.typing import DType


class LightConv(nn.Module):
    """Pointwise, then depthwise convolution, one batch normalisation, ReLU.

    On a TPU both are computed as the one dense convolution that they are: the map between them is
    then never written, and a TPU multiplies so much faster than its memory follows that this pays
    for nine times the products.

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
        self.conv2 = DepthwiseConv(self.kernel_size, self.dtype, self.platform)
        self.bn = BatchNorm(dtype=self.dtype)

    def __call__(
        self, x: Float[Array, "B H W I"], use_running_average: bool
    ) -> Float[Array, "B H W O"]:
        """Convolve, normalise."""
        if on_tpu(self.platform):
            return dense_side_by_side([self], x, use_running_average, same_input=True)
        return relu(self.bn(self.conv2(self.conv1(x)), use_running_average=use_running_average))

    def dense_kernel(self, in_features: int) -> Float[Array, "h w I O"]:
        """Kernel, float32, of the one convolution that both convolutions are."""
        return self.conv1.parameters(in_features)[0] * self.conv2.kernel(self.features)


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

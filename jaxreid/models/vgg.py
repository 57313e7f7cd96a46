"""VGG-16, the plain network without BatchNorm, through its last pooling."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreid.models.convolution import Conv
from jaxreid.models.pooling import max_pool
from jaxreid.typing import DType


class VGG(nn.Module):
    """VGG without its classifier; the default fields make VGG-16 (14,714,688 parameters).

    Simonyan and Zisserman, "Very Deep Convolutional Networks", configuration D. Channels double
    from stage to stage up to eight times the width.

    Attributes:
      stage_sizes: 3x3 convolutions in each stage; a 2x2 pooling closes the stage.
      width: channels of the first stage (the multiplier of all the others).
      dtype: compute type.
      remat: compute stages again in the backward pass instead of keeping their activations.
      platform: how it is computed, see `platforms.PLATFORMS`.
    """

    stage_sizes: tuple[int, ...] = (2, 2, 3, 3, 3)
    width: int = 64
    dtype: DType = jnp.float32
    remat: bool = False
    platform: str = "auto"

    @property
    def out_features(self) -> int:
        """Channels of the final map."""
        return self._features(len(self.stage_sizes) - 1)

    def _features(self, stage: int) -> int:
        return self.width * min(2**stage, 8)

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], *, use_running_average: bool = True
    ) -> tuple[Float[Array, "B h w C"], dict[str, Array]]:
        """Final map and the output of every stage.

        Args:
          images: normalised images.
          use_running_average: accepted so that backbones are called alike; there is no BatchNorm.
        """
        del use_running_average
        stage_class = nn.remat(Stage) if self.remat else Stage
        x, outputs = images, {}
        for index, convolutions in enumerate(self.stage_sizes):
            name = f"stage{index + 1}"
            x = stage_class(
                convolutions, self._features(index), self.dtype, self.platform, name=name
            )(x)
            outputs[name] = x
        return x, outputs


class Stage(nn.Module):
    """Convolutions with ReLU, then 2x2 pooling.

    Attributes:
      convolutions: how many.
      features: channels of each.
      dtype: compute type.
      platform: see `platforms.PLATFORMS`.
    """

    convolutions: int
    features: int
    dtype: DType = jnp.float32
    platform: str = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B h w O"]:
        """Apply the stage."""
        for index in range(self.convolutions):
            conv = Conv(
                self.features,
                3,
                padding=1,
                use_bias=True,
                dtype=self.dtype,
                platform=self.platform,
                name=f"conv{index + 1}",
            )
            x = jax.nn.relu(conv(x))
        return max_pool(x, 2, 2, 0, self.platform)

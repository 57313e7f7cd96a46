"""ResNet, version 1.5: the stride of a bottleneck sits on its 3x3 convolution."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreid.models.convolution import Conv
from jaxreid.models.normalization import BatchNorm, relu
from jaxreid.models.pooling import max_pool
from jaxreid.typing import DType

EXPANSION = {"bottleneck": 4, "basic": 1}


class Block(nn.Module):
    """One residual block.

    Attributes:
      kind: "bottleneck" (1x1, 3x3, 1x1 with four times the width) or "basic" (3x3, 3x3).
      width: channels of the 3x3 convolutions.
      strides: step of the (first) 3x3 convolution and of the short cut.
      dtype: compute type.
      platform: how it is computed, see `platforms.PLATFORMS`.
    """

    kind: str
    width: int
    strides: int = 1
    dtype: DType = jnp.float32
    platform: str = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W I"], use_running_average: bool
    ) -> Float[Array, "B h w O"]:
        """Residual block."""

        def conv(x: Array, index: int, features: int, size: int, strides: int = 1) -> Array:
            layer = Conv(
                features,
                size,
                strides,
                padding=size // 2,
                dtype=self.dtype,
                platform=self.platform,
                name=f"conv{index}" if index else "downsample_conv",
            )
            norm = BatchNorm(dtype=self.dtype, name=f"bn{index}" if index else "downsample_bn")
            return norm(layer(x), use_running_average=use_running_average)

        features = self.width * EXPANSION[self.kind]
        if self.kind == "bottleneck":
            y = relu(conv(x, 1, self.width, 1))
            y = relu(conv(y, 2, self.width, 3, self.strides))
            y = conv(y, 3, features, 1)
        else:
            y = relu(conv(x, 1, self.width, 3, self.strides))
            y = conv(y, 2, features, 3)
        if self.strides != 1 or x.shape[-1] != features:
            x = conv(x, 0, features, 1, self.strides)
        return relu(x.astype(self.dtype) + y)


class ResNet(nn.Module):
    """ResNet without its classifier; the default fields make ResNet-50 (23,508,032 parameters).

    He et al., "Deep Residual Learning for Image Recognition", with the stride on the 3x3.

    Attributes:
      stage_sizes: blocks in each of the stages.
      block: "bottleneck" or "basic".
      width: channels of the stem and of the first stage's 3x3 convolutions.
      last_stride: step of the last stage, 2 or 1.
      dtype: compute type; BatchNorm keeps float32 statistics.
      remat: compute blocks again in the backward pass instead of keeping their activations.
      platform: how it is computed, see `platforms.PLATFORMS`.
    """

    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    block: str = "bottleneck"
    width: int = 64
    last_stride: int = 2
    dtype: DType = jnp.float32
    remat: bool = False
    platform: str = "auto"

    @property
    def out_features(self) -> int:
        """Channels of the final map."""
        if self.block not in EXPANSION:
            raise ValueError(f"block={self.block!r}: choose one of {', '.join(EXPANSION)}.")
        return self.width * 2 ** (len(self.stage_sizes) - 1) * EXPANSION[self.block]

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], *, use_running_average: bool
    ) -> tuple[Float[Array, "B h w C"], dict[str, Array]]:
        """Final map and the outputs of the stem and of every stage.

        Args:
          images: normalised images.
          use_running_average: BatchNorm uses and keeps its running statistics.
        """
        if self.out_features <= 0 or self.last_stride not in (1, 2):
            raise ValueError(f"last_stride={self.last_stride}: choose 1 or 2.")
        # `use_running_average` decides what is traced, so it is static under remat.
        block_class = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        how = {"dtype": self.dtype, "platform": self.platform}
        x = Conv(self.width, 7, 2, padding=3, **how, name="stem_conv")(images)
        x = BatchNorm(dtype=self.dtype, name="stem_bn")(x, use_running_average=use_running_average)
        x = max_pool(relu(x), 3, 2, 1, self.platform)
        outputs = {"stem": x}
        for stage, blocks in enumerate(self.stage_sizes, start=1):
            first_stride = self.last_stride if stage == len(self.stage_sizes) else 2
            for index in range(blocks):
                x = block_class(
                    self.block,
                    self.width * 2 ** (stage - 1),
                    first_stride if index == 0 and stage > 1 else 1,
                    dtype=self.dtype,
                    platform=self.platform,
                    name=f"stage{stage}_block{index + 1}",
                )(x, use_running_average)
            outputs[f"stage{stage}"] = x
        return x, outputs

"""OSNet x1.0 in two dimensions for images and in one for sentences, from one definition.

Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification" [45 of AXM-Net]. A sentence
is a picture of height 1, so that kernels of (1, 3) in place of (3, 3) are all that differs.

A block is cut in two where its gate belongs, `Block.split` and `Block.merge`: what lies between,
the context network of AXM-Net, may look at the streams of several modalities at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxreid.models.convolution import Conv
from jaxreid.models.light_convolution import LightConv, dense_side_by_side
from jaxreid.models.normalization import BatchNorm, relu
from jaxreid.models.platforms import on_tpu
from jaxreid.models.pooling import max_pool, mean_pool
from jaxreid.typing import DType

STREAMS = 4
TILE = 128
"""Channels that a TPU keeps together in memory, fewer being padded."""

MODALITIES = ("vision", "text")
TEXT_STEMS = ("conv", "separable")
CONTEXTS = ("shared", "separate", "joint")

dense_init = nn.initializers.normal(0.01)


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and, unless told otherwise, ReLU.

    Attributes:
      features: output channels.
      kernel_size: height and width of the kernel, one number where it is square.
      strides: step in both directions.
      relu: whether negative values become 0.
      dtype: compute type.
      platform: how it is computed, see `platforms.PLATFORMS`.
    """

    features: int
    kernel_size: int | tuple[int, int] = 1
    strides: int = 1
    relu: bool = True
    dtype: DType = jnp.float32
    platform: str = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W I"], use_running_average: bool
    ) -> Float[Array, "B h w O"]:
        """Convolve, normalise."""
        size = self.kernel_size
        padding = size // 2 if isinstance(size, int) else (size[0] // 2, size[1] // 2)
        x = Conv(
            self.features,
            size,
            self.strides,
            padding,
            dtype=self.dtype,
            platform=self.platform,
            name="conv",
        )(x)
        x = BatchNorm(dtype=self.dtype, name="bn")(x, use_running_average=use_running_average)
        return relu(x) if self.relu else x


class Block(nn.Module):
    """Omni-scale residual block without its gate: four streams, r light convolutions in stream r.

    Attributes:
      in_features: input channels.
      features: output channels; the streams have a quarter of them.
      kernel_size: of the depthwise convolutions, (3, 3) or (1, 3).
      dtype: compute type.
      platform: see `platforms.PLATFORMS`.
    """

    in_features: int
    features: int
    kernel_size: tuple[int, int]
    dtype: DType = jnp.float32
    platform: str = "auto"

    def setup(self) -> None:
        """Make the parts."""
        how = {"dtype": self.dtype, "platform": self.platform}
        self.reduce = ConvNorm(stream_features(self.features), **how)
        self.streams = [
            [LightConv(stream_features(self.features), self.kernel_size, **how) for _ in range(r)]
            for r in range(1, STREAMS + 1)
        ]
        self.expand = ConvNorm(self.features, relu=False, **how)
        if self.in_features != self.features:
            self.shortcut = ConvNorm(self.features, relu=False, **how)

    def split(
        self, x: Float[Array, "B H W I"], use_running_average: bool
    ) -> tuple[Float[Array, "B H W m"], ...]:
        """Maps of the streams, with receptive fields of 3, 5, 7 and 9."""
        x = self.reduce(x, use_running_average)
        if on_tpu(self.platform):
            return self._split_side_by_side(x, use_running_average)
        streams = []
        for layers in self.streams:
            y = x
            for layer in layers:
                y = layer(y, use_running_average)
            streams.append(y)
        return tuple(streams)

    def _split_side_by_side(
        self, x: Float[Array, "B H W m"], use_running_average: bool
    ) -> tuple[Float[Array, "B H W m"], ...]:
        """As many streams at a time as fill a tile of a TPU's memory: it pads what is narrower."""
        width, longest_first = x.shape[-1], self.streams[::-1]
        together = min(STREAMS, max(1, TILE // width))
        found: list[Array] = []
        for start in range(0, STREAMS, together):
            group = longest_first[start : start + together]
            y, ended = x, []
            for level in range(len(group[0])):
                layers = [stream[level] for stream in group if len(stream) > level]
                y = y[..., : len(layers) * width]  # streams that have ended lie behind
                y = dense_side_by_side(layers, y, use_running_average, same_input=level == 0)
                if len(group[len(layers) - 1]) == level + 1:
                    ended.append(y[..., -width:])
            found = ended + found
        return tuple(found)

    def merge(
        self,
        x: Float[Array, "B H W I"],
        streams: tuple[Float[Array, "B H W m"], ...],
        scales: Float[Array, "B R m"],
        use_running_average: bool,
    ) -> Float[Array, "B H W O"]:
        """Sum of the scaled streams, eq. (2) of AXM-Net, widened and added to the input x."""
        scales = scales.astype(self.dtype)
        total = sum(y * scales[:, r, None, None] for r, y in enumerate(streams))
        y = self.expand(jnp.asarray(total), use_running_average)
        if self.in_features != self.features:
            x = self.shortcut(x, use_running_average)
        return relu(x.astype(self.dtype) + y)


class OSNet(nn.Module):
    """The parts of OSNet, to be run by `run_backbones`; default fields make OSNet x1.0.

    Attributes:
      modality: "vision" (images) or "text" (word vectors as pictures of height 1).
      channels: of the stem and of the three stages.
      blocks: in each stage.
      text_stem: "conv" (an ordinary 1x3 convolution) or "separable".
      dtype: compute type; BatchNorm keeps float32 statistics.
      platform: see `platforms.PLATFORMS`.
    """

    modality: str
    channels: tuple[int, int, int, int] = (64, 256, 384, 512)
    blocks: int = 2
    text_stem: str = "conv"
    dtype: DType = jnp.float32
    platform: str = "auto"

    def setup(self) -> None:
        """Make the parts."""
        how = {"dtype": self.dtype, "platform": self.platform}
        kernel = (3, 3) if self.modality == "vision" else (1, 3)
        stem, *stages = self.channels
        if self.modality == "vision":
            conv1: ConvNorm | LightConv = ConvNorm(stem, 7, 2, **how)
        elif self.text_stem == "separable":
            conv1 = LightConv(stem, kernel, **how)
        else:
            conv1 = ConvNorm(stem, kernel, **how)
        self.conv1 = conv1
        widths = [c for c in stages for _ in range(self.blocks)]
        before = [stem, *widths]
        self.body = [
            Block(before[index], width, kernel, **how) for index, width in enumerate(widths)
        ]
        self.transitions = [ConvNorm(width, **how) for width in stages[:-1]]
        self.conv5 = ConvNorm(stages[-1], **how)

    def stem(self, x: Float[Array, "B H W I"], use_running_average: bool) -> Array:
        """First convolution; that of images halves twice, that of words keeps their number."""
        x = self.conv1(x, use_running_average)
        return max_pool(x, 3, 2, 1, self.platform) if self.modality == "vision" else x

    def halve(self, x: Array, stage: int, use_running_average: bool) -> Array:
        """Transition behind a stage: 1x1 convolution and mean of 2x2 pixels or of 2 words."""
        x = self.transitions[stage](x, use_running_average)
        rows = 2 if self.modality == "vision" else 1
        return mean_pool(x, rows, 2).astype(self.dtype)


class Gate(nn.Module):
    """Two dense layers and a sigmoid: a scale for each channel.

    Attributes:
      hidden: width between the layers.
      features: output width.
      dtype: compute type.
    """

    hidden: int
    features: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B ... I"]) -> Float[Array, "B ... O"]:
        """Scales in (0, 1)."""
        x = nn.Dense(self.hidden, dtype=self.dtype, kernel_init=dense_init, name="fc1")(x)
        x = nn.Dense(self.features, dtype=self.dtype, kernel_init=dense_init, name="fc2")(relu(x))
        return jax.nn.sigmoid(x)


class Context(nn.Module):
    """Context sharing network C of one block, AXM-Net eq. (1).

    Attributes:
      kind: "shared" (one gate for streams and modalities, each pooled vector by itself),
        "separate" (one gate a modality) or "joint" (one on the pooled vectors of all).
      features: channels of a stream.
      dtype: compute type.
    """

    kind: str
    features: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self, pooled: Mapping[str, Float[Array, "B R m"]]
    ) -> dict[str, Float[Array, "B R m"]]:
        """Scales of the streams of each modality.

        Raises:
          ValueError: one modality alone, and the context is joint.
        """
        if self.kind == "joint":
            return self._joint(pooled)
        hidden = max(1, self.features // 16)
        shared = None
        if self.kind == "shared":
            shared = Gate(hidden, self.features, self.dtype, name="shared")
        return {
            modality: (shared or Gate(hidden, self.features, self.dtype, name=modality))(x)
            for modality, x in pooled.items()
        }

    def _joint(self, pooled: Mapping[str, Array]) -> dict[str, Array]:
        if set(pooled) != set(MODALITIES):
            raise ValueError(
                "context='joint' scales an image by the sentence beside it and the sentence by "
                f"the image, so {', '.join(pooled)} alone cannot be encoded: the photographs of a "
                "gallery have no sentences. It is for training studies; retrieval takes "
                "context='shared' or 'separate'."
            )
        vectors = jnp.concatenate([pooled[modality] for modality in MODALITIES], axis=1)
        flat = vectors.reshape(vectors.shape[0], -1)
        scales = Gate(self.features, flat.shape[1], self.dtype, name="joint")(flat)
        parts = jnp.split(scales.reshape(vectors.shape), len(MODALITIES), axis=1)
        return dict(zip(MODALITIES, parts, strict=True))


def stream_features(features: int) -> int:
    """Channels of a stream in a block of so many channels."""
    return features // 4


def mean_over_positions(
    x: Float[Array, "B H W C"], mask: Bool[Array, "B H W"] | None = None
) -> Float[Array, "B C"]:
    """Global average pooling in float32, over all positions or those of a mask; 0 over none."""
    x = x.astype(jnp.float32)
    if mask is None:
        return jnp.mean(x, (1, 2))
    weights = mask[..., None].astype(jnp.float32)
    return jnp.sum(x * weights, (1, 2)) / jnp.maximum(jnp.sum(weights, (1, 2)), 1.0)


def run_backbones(
    backbones: Mapping[str, OSNet],
    contexts: Sequence[Context],
    inputs: Mapping[str, Float[Array, "B _ _ _"]],
    *,
    use_running_average: bool,
    mask: Bool[Array, "B 1 L"] | None = None,
) -> tuple[dict[str, Float[Array, "B _ _ _"]], dict[str, dict[str, Array]]]:
    """Runs one or both modalities through their blocks, side by side.

    Args:
      backbones: by modality.
      contexts: one for each block.
      inputs: normalised images as "vision", word vectors [B, 1, L, V] as "text", or one of them.
      use_running_average: BatchNorm uses and keeps its running statistics.
      mask: words that count where the gates pool text; all when None.

    Returns:
      The final map of each modality, and the maps after every stage of Table 1.

    Raises:
      ValueError: one modality alone, and the context is joint.
    """
    nets = {modality: backbones[modality] for modality in inputs}
    x = {m: net.stem(inputs[m], use_running_average) for m, net in nets.items()}
    masks = {m: mask if m == "text" else None for m in nets}
    outputs = {m: {"conv1": x[m]} for m in nets}
    per_stage = next(iter(nets.values())).blocks
    for index, context in enumerate(contexts):
        split = {m: net.body[index].split(x[m], use_running_average) for m, net in nets.items()}
        pooled = {
            m: jnp.stack([mean_over_positions(y, masks[m]) for y in streams], axis=1)
            for m, streams in split.items()
        }
        scales = context(pooled)
        stage, last = index // per_stage, index % per_stage == per_stage - 1
        for m, net in nets.items():
            x[m] = net.body[index].merge(x[m], split[m], scales[m], use_running_average)
            if last and stage < len(net.transitions):
                x[m] = net.halve(x[m], stage, use_running_average)
                masks[m] = halve_mask(masks[m])
            if last:
                outputs[m][f"conv{stage + 2}"] = x[m]
    for m, net in nets.items():
        outputs[m]["conv5"] = x[m] = net.conv5(x[m], use_running_average)
    return x, outputs


def halve_mask(mask: Bool[Array, "B H W"] | None) -> Bool[Array, "B H w"] | None:
    """Mask after pooling pairs of words: a pair counts if either word does."""
    if mask is None:
        return None
    even = mask[..., : mask.shape[-1] // 2 * 2]
    return even[..., ::2] | even[..., 1::2]

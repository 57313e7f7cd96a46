"""AXM-Net: adaptive cross-modal context sharing (Farooq et al., "AXM-Net", equations (1), (2)).

A photograph becomes [V_g ; V_p] and a sentence [T ; T], each feature of unit length, so that dot
products add cosines: image against image, sentence against image, and, with the sum of an image's
and a sentence's embedding, both against image. No program of the authors is public; the README
says what the paper prints, what was inferred and what was ours to choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxreid.arrays import unit
from jaxreid.models.axm_heads import (
    FC,
    FEATURE_DROPS,
    POOLINGS,
    STRIP_NETWORKS,
    NonLocal,
    PartBranch,
)
from jaxreid.models.embedding import WordEmbedding
from jaxreid.models.fields import check_choices, check_positive, from_fields
from jaxreid.models.layers import Classifier
from jaxreid.models.osnet import (
    CONTEXTS,
    TEXT_STEMS,
    Context,
    OSNet,
    halve_mask,
    mean_over_positions,
    run_backbones,
    stream_features,
)
from jaxreid.models.templates import RowTemplate
from jaxreid.typing import DType

# Layers of V_g, V_p and T that the paper proposes; Table 6 tries as many for all.
_PROPOSED_LAYERS = {"global": 2, "part": 1, "text": 1}
_POSITIVE = (
    *("vocab_size", "blocks", "num_parts", "part_reduction", "nla_reduction"),
    *("feature_dim", "word_dim", "max_tokens"),
)
_CHOICES = {
    "context": CONTEXTS,
    "strip_network": STRIP_NETWORKS,
    "pooling": POOLINGS,
    "feature_drop": FEATURE_DROPS,
    "text_stem": TEXT_STEMS,
}


class AXMNet(nn.Module):
    """AXM-Net; default fields are those of the paper.

    Attributes:
      vocab_size: rows of the word table, the padding row 0 included.
      num_classes: identities of the shared classifier; 0: no classifier.
      channels: of the stem and of the three stages of both backbones.
      blocks: AXM blocks in each stage.
      context: "shared" by the modalities, "separate" (the baseline) or "joint".
      global_branch: V_g.
      part: V_p, the attentive part branch.
      nla: non-local attention over the words.
      num_parts: strips of the part branch, dividing the rows of the final map.
      strip_network: "shared" by the strips or "separate".
      pooling: of the part branch, "max" or "average".
      feature_drop: "none", "random" (a rectangle) or "part" (a strip) of the part branch's map.
      part_reduction: channels of the map for each hidden one of a strip's network.
      nla_reduction: channels of the text for each one of NLA's embeddings.
      fc_layers: dense layers of every branch; 0: as proposed, two for V_g and one for the others.
      feature_dim: width of V_g, V_p and T.
      word_dim: width V of the word vectors.
      word_std: standard deviation of initial word vectors, where none are given.
      max_tokens: length L that every sentence is padded to.
      text_stem: "conv" or "separable".
      mask_padding: leave padding out of text pooling, gates and NLA.
      dtype: compute type; parameters, statistics and features are float32.
      platform: what all of it is written for, see `platforms.PLATFORMS`.
    """

    vocab_size: int
    num_classes: int = 0
    channels: tuple[int, int, int, int] = (64, 256, 384, 512)
    blocks: int = 2
    context: str = "shared"
    global_branch: bool = True
    part: bool = True
    nla: bool = True
    num_parts: int = 7
    strip_network: str = "shared"
    pooling: str = "max"
    feature_drop: str = "none"
    part_reduction: int = 16
    nla_reduction: int = 2
    fc_layers: int = 0
    feature_dim: int = 512
    word_dim: int = 300
    word_std: float = 0.1
    max_tokens: int = 56
    text_stem: str = "conv"
    mask_padding: bool = False
    dtype: DType = jnp.float32
    platform: str = "auto"

    def setup(self) -> None:
        """Make the parts."""
        _check_fields(self)
        how: dict[str, Any] = {
            "channels": tuple(self.channels),
            "blocks": self.blocks,
            "dtype": self.dtype,
            "platform": self.platform,
        }
        self.words = WordEmbedding(
            self.vocab_size, self.word_dim, initial_std=self.word_std, name="embedding"
        )
        self.vision = OSNet("vision", **how)
        self.text = OSNet("text", text_stem=self.text_stem, **how)
        widths = [width for width in self.channels[1:] for _ in range(self.blocks)]
        self.contexts = [
            Context(self.context, stream_features(width), self.dtype, name=f"context{index + 1}")
            for index, width in enumerate(widths)
        ]
        self.heads = {
            name: FC(
                self.feature_dim,
                self.fc_layers or _PROPOSED_LAYERS[name],
                self.dtype,
                name=f"fc_{name}",
            )
            for name in (*self.branches, "text")
        }
        if self.part:
            self.part_branch = PartBranch(
                self.num_parts,
                self.strip_network,
                self.pooling,
                self.feature_drop,
                self.part_reduction,
                self.dtype,
                self.platform,
            )
        if self.nla:
            self.non_local = NonLocal(self.nla_reduction, self.dtype)
        if self.num_classes > 0:
            self.classifier = Classifier(self.num_classes, self.dtype, initial_std=0.01)

    @property
    def encodes_alone(self) -> bool:
        """Whether an image can be encoded without a sentence, as a search needs."""
        return self.context != "joint"

    @property
    def branches(self) -> tuple[str, ...]:
        """Branches of the image: "global" (V_g), "part" (V_p) or both."""
        present = {"global": self.global_branch, "part": self.part}
        return tuple(name for name, there in present.items() if there)

    def __call__(
        self,
        images: Float[Array, "B H W 3"],
        tokens: Int[Array, "B T L"],
        lengths: Int[Array, "B T"],
        valid: Bool[Array, "B T"],
        *,
        train: bool,
        template: RowTemplate | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Encode pairs for training.

        Args:
          images: normalised images.
          tokens: T = 1 caption per image; 0 is padding.
          lengths: valid tokens of each caption.
          valid: captions that are real; part of the interface, each image has one here.
          train: BatchNorm uses and updates batch statistics, features are dropped.
          template: of recurrent networks; not used.

        Returns:
          Features of `encode_image` as "image" and of `encode_text` as "strong"; with a
          classifier, both have "logits" per branch, float32, padding classes at a large negative
          number.
        """
        del valid, template
        if tokens.shape[1] != 1:
            raise ValueError(
                f"tokens has {tokens.shape[1]} captions per image: AXM-Net takes 1; set "
                "config.data.captions_per_pair=1."
            )
        words, mask = self._words(tokens[:, 0], lengths[:, 0])
        inputs = {"vision": images, "text": words}
        maps, stages = self._backbones(inputs, train=train, mask=mask)
        feats: dict[str, dict[str, Any]] = {
            "image": self._image_features(maps["vision"], stages["vision"], train=train),
            "strong": self._text_features(maps["text"], stages["text"], mask, train=train),
        }
        if self.num_classes > 0:
            of_images = [feats["image"][branch] for branch in self.branches]
            *logits, of_text = self.classifier(*of_images, feats["strong"]["text"])
            feats["image"]["logits"] = dict(zip(self.branches, logits, strict=True))
            feats["strong"]["logits"] = {"text": of_text}
        return feats

    def encode_image(
        self, images: Float[Array, "B H W 3"], *, train: bool = False
    ) -> dict[str, Any]:
        """Features of images, which need no sentence.

        Returns:
          "global" and "part" [B, D] as far as they are there, "embedding" [B, D or 2 D], "map" and
          "part_map" [B, h, w, C], what V_g and V_p are pooled from, "stages" by name of Table 1.

        Raises:
          ValueError: with a joint context.
        """
        maps, stages = self._backbones({"vision": images}, train=train)
        return self._image_features(maps["vision"], stages["vision"], train=train)

    def encode_text(
        self,
        tokens: Int[Array, "N L"],
        lengths: Int[Array, " N"],
        *,
        train: bool = False,
        template: RowTemplate | None = None,
    ) -> dict[str, Any]:
        """Features of captions, which need no image.

        Returns:
          "text" [N, D], "embedding" [N, D or 2 D], "phrases" [N, l, l] with NLA (the weight of
          each stretch of words for each other), "stages" by name of Table 1.

        Raises:
          ValueError: with a joint context.
        """
        del template
        words, mask = self._words(tokens, lengths)
        maps, stages = self._backbones({"text": words}, train=train, mask=mask)
        return self._text_features(maps["text"], stages["text"], mask, train=train)

    def _backbones(
        self,
        inputs: Mapping[str, Array],
        *,
        train: bool,
        mask: Bool[Array, "B 1 L"] | None = None,
    ) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
        nets = {"vision": self.vision, "text": self.text}
        return run_backbones(nets, self.contexts, inputs, use_running_average=not train, mask=mask)

    def _words(
        self, tokens: Int[Array, "N l"], lengths: Int[Array, " N"]
    ) -> tuple[Float[Array, "N 1 L V"], Bool[Array, "N 1 L"] | None]:
        """Word vectors, padded with zeros to `max_tokens`, and the mask of words if one is used."""
        missing = self.max_tokens - tokens.shape[1]
        if missing < 0:
            raise ValueError(
                f"captions of {tokens.shape[1]} tokens, and the network takes {self.max_tokens}: "
                "set config.data.max_tokens to config.model.max_tokens."
            )
        tokens = jnp.pad(tokens, ((0, 0), (0, missing)))
        real = jnp.arange(self.max_tokens)[None] < lengths[:, None]
        vectors = self.words(jnp.where(real, tokens, 0), train=False)
        return vectors[:, None], real[:, None] if self.mask_padding else None

    def _image_features(
        self, final: Float[Array, "B h w C"], stages: dict[str, Array], *, train: bool
    ) -> dict[str, Any]:
        feats: dict[str, Any] = {"map": final, "stages": stages}
        if self.global_branch:
            pooled = mean_over_positions(final)
            feats["global"] = self.heads["global"](pooled, not train)
        if self.part:
            pooled, feats["part_map"] = self.part_branch(final, train=train)
            feats["part"] = self.heads["part"](pooled, not train)
        units = [unit(feats[branch]) for branch in self.branches]
        return feats | {"embedding": jnp.concatenate(units, axis=-1)}

    def _text_features(
        self,
        final: Float[Array, "N 1 l C"],
        stages: dict[str, Array],
        mask: Bool[Array, "N 1 L"] | None,
        *,
        train: bool,
    ) -> dict[str, Any]:
        feats: dict[str, Any] = {"stages": stages}
        mask = halve_mask(halve_mask(mask))
        if self.nla:
            words = final[:, 0]
            row_mask = None if mask is None else mask[:, 0]
            attended, feats["phrases"] = self.non_local(words, not train, row_mask)
            final = attended[:, None]
        feats["text"] = self.heads["text"](mean_over_positions(final, mask), not train)
        return feats | {"embedding": jnp.tile(unit(feats["text"]), (1, len(self.branches)))}


def _check_fields(model: AXMNet) -> None:
    """Refuse fields that make no network."""
    check_choices(model, _CHOICES)
    if not model.branches:
        raise ValueError("global_branch and part are both False: an image would have no feature.")
    if model.fc_layers not in (0, 1, 2):
        raise ValueError(f"fc_layers={model.fc_layers}: choose 0 (as proposed), 1 or 2.")
    if len(model.channels) != 4 or any(width < 4 or width % 4 for width in model.channels):
        raise ValueError(
            f"channels={tuple(model.channels)}: give the widths of the stem and of three stages, "
            "multiples of 4."
        )
    check_positive(model, _POSITIVE)


def build(
    config_model: Mapping[str, Any], *, vocab_size: int, num_classes: int, dtype: DType
) -> AXMNet:
    """Make the network from a mapping of its fields.

    Args:
      config_model: fields of `AXMNet` by name, those below excepted.
      vocab_size: rows of the word table, the padding row included.
      num_classes: identities of the classifier, 0 for none.
      dtype: compute type.

    Raises:
      ValueError: on an unknown field.
    """
    return from_fields(
        AXMNet, config_model, vocab_size=vocab_size, num_classes=num_classes, dtype=dtype
    )

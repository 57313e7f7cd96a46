"""SSAN: Semantically Self-Aligned Network (Ding et al., equations (1)-(17)).

A photograph and a sentence become vectors of the same length whose dot product is the similarity
S_g + S_l + S_n of the paper. ``formulation="paper"`` follows the equations;
``formulation="released"`` reproduces what the authors' program computes, from which the published
numbers came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxreid.models.embedding import WordEmbedding
from jaxreid.models.fields import check_choices, check_positive, from_fields
from jaxreid.models.layers import Classifier
from jaxreid.models.lstm import BiLSTM, RowTemplate
from jaxreid.models.pooling import masked_max, masked_max_of_products, peak
from jaxreid.models.resnet import ResNet
from jaxreid.models.ssan_heads import BRANCHES, Heads, WordAttention
from jaxreid.models.vgg import VGG
from jaxreid.typing import DType

BACKBONES = ("resnet", "vgg")
FORMULATIONS = ("paper", "released")
RELATIONS = ("mv_nln", "conv1x1", "none")
RELEASED_DROPOUT = 0.3


class SSAN(nn.Module):
    """Semantically Self-Aligned Network; default fields are those of the paper on ResNet-50.

    The LSTM is as wide as the channels C of the backbone's final map.

    Attributes:
      vocab_size: rows of the embedding table, the padding row 0 included.
      num_classes: identities of the classifiers; 0: no classifiers.
      backbone: "resnet" (default fields: ResNet-50) or "vgg" (VGG-16).
      stage_sizes: blocks (convolutions for VGG) per stage; empty: ResNet-50's or VGG-16's.
      block: "bottleneck" or "basic" (ResNet).
      width: channels of the backbone's first stage.
      last_stride: step of the last stage (ResNet).
      formulation: "paper" or "released".
      part: part-specific feature learning (PFL); without it only the global branch remains.
      relation: "mv_nln", "conv1x1" (only W_n) or "none".
      shared_projection: one global projection W_g for both modalities.
      num_parts: K strips, dividing the rows of the map.
      word_dim: width V of word vectors.
      global_dim: width M of global and part features.
      relation_dim: width N of relation features.
      view_dim: width M' of the views of MV-NLN.
      max_tokens: longest caption; the released global pooling sees zeros in shorter ones.
      dropout: after the word embeddings; None: 0.3 released, 0 paper.
      dtype: compute type; parameters, statistics and features are float32.
      remat: compute backbone blocks again in the backward pass.
      platform: what all of it is written for, see `platforms.PLATFORMS`.
    """

    vocab_size: int
    num_classes: int = 0
    backbone: str = "resnet"
    stage_sizes: tuple[int, ...] = ()
    block: str = "bottleneck"
    width: int = 64
    last_stride: int = 2
    formulation: str = "paper"
    part: bool = True
    relation: str = "mv_nln"
    shared_projection: bool = True
    num_parts: int = 6
    word_dim: int = 512
    global_dim: int = 1024
    relation_dim: int = 512
    view_dim: int = 512
    max_tokens: int = 100
    dropout: float | None = None
    dtype: DType = jnp.float32
    remat: bool = False
    platform: str = "auto"

    def setup(self) -> None:
        """Make the parts."""
        _check_choices(self)
        self.image_net = self.image_backbone(name="backbone")
        rate = self.dropout
        if rate is None:
            rate = RELEASED_DROPOUT if self.formulation == "released" else 0.0
        tables: tuple[str, ...] = ("embedding",)
        if self.formulation == "released":
            # Parts have a table of their own, so without parts there is one table.
            tables = ("embedding_global", "embedding_part")[: 2 if self.part else 1]
        self.tables = [
            WordEmbedding(self.vocab_size, self.word_dim, rate, name=name) for name in tables
        ]
        self.lstm = BiLSTM(
            self.image_net.out_features,
            self.dtype,
            self.platform,
        )
        if self.part:
            self.word_attention = WordAttention(self.num_parts, self.dtype)
        self.heads = Heads(
            formulation=self.formulation,
            part=self.part,
            relation=self.relation,
            shared_projection=self.shared_projection,
            global_dim=self.global_dim,
            relation_dim=self.relation_dim,
            view_dim=self.view_dim,
            dtype=self.dtype,
        )
        self.classifiers = {
            branch: Classifier(self.num_classes, self.dtype, name=f"classifier_{branch}")
            for branch in self.branches
            if self.num_classes > 0
        }

    @property
    def branches(self) -> tuple[str, ...]:
        """Branches that this network has, out of "global", "part", "relation"."""
        present = (True, self.part, self.part and self.relation != "none")
        return tuple(name for name, there in zip(BRANCHES, present, strict=True) if there)

    def image_backbone(self, **place: Any) -> ResNet | VGG:
        """Makes the network for images; ``place`` says under which name or parent."""
        sizes = {"stage_sizes": tuple(self.stage_sizes)} if self.stage_sizes else {}
        common: dict[str, Any] = {**sizes, "width": self.width, "dtype": self.dtype}
        common |= {"remat": self.remat, "platform": self.platform, **place}
        if self.backbone == "vgg":
            return VGG(**common)
        return ResNet(block=self.block, last_stride=self.last_stride, **common)

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
        """Encode pairs for training, all captions in one pass of the LSTM.

        Args:
          images: normalised images.
          tokens: T = 1 (strong) or 2 (strong, weak) captions per image; 0 is padding.
          lengths: valid tokens of each caption.
          valid: captions that are real.
          train: dropout acts (rng "dropout"), BatchNorm uses and updates batch statistics.
          template: rows of the LSTM for the B*T captions, row b*T + t.

        Returns:
          Features of `encode_image` as "image" and of `encode_text` as "strong" and "weak"; with
          classifiers, "image" and "strong" have "logits" per branch, float32, padding classes at
          a large negative number.
        """
        captions = tokens.shape[1]
        if captions not in (1, 2):
            raise ValueError(
                f"tokens has {captions} captions per image: give 1 (strong) or 2 (strong, weak)."
            )
        flat = tokens.reshape(-1, tokens.shape[2]), lengths.reshape(-1)
        text = self._pool_text(*flat, train=train, template=template)
        text = {key: x.reshape(-1, captions, *x.shape[1:]) for key, x in text.items()}
        # In this order: BatchNorm's running statistics follow the calls.
        feats: dict[str, dict[str, Any]] = {"image": self.encode_image(images, train=train)}
        for index, slot in enumerate(("strong", "weak")[:captions]):
            mine = {key: x[:, index] for key, x in text.items()}
            feats[slot] = self._text_heads(
                mine, train=train, mask=valid[:, index] if slot == "weak" else None
            )
        classified = [feats["image"], feats["strong"]]
        for branch, classifier in self.classifiers.items():
            logits = classifier(*(one[branch] for one in classified))
            for one, of_one in zip(classified, logits, strict=True):
                one.setdefault("logits", {})[branch] = of_one
        return feats

    def encode_image(
        self, images: Float[Array, "B H W 3"], *, train: bool = False
    ) -> dict[str, Array]:
        """Features of images.

        Returns:
          Per branch present "global" [B, M], "part" [B, K, M], "relation" [B, K, N]; "embedding"
          [B, D]; "alpha" [B, K, K] with MV-NLN; "map", the backbone's final map [B, h, w, C].
        """
        feature_map, _ = self.image_net(images, use_running_average=not train)
        batch, rows, _, width = feature_map.shape
        pooled_parts = None
        if self.part:
            if rows % self.num_parts:
                raise ValueError(
                    f"num_parts={self.num_parts} does not divide the {rows} rows of the map of "
                    f"images with {images.shape[1]} rows: choose a divisor of {rows}, other image "
                    "sizes, or last_stride=1."
                )
            strips = feature_map.reshape(batch, self.num_parts, -1, width)
            pooled_parts = peak(strips, 2, self.platform)
            pooled = peak(pooled_parts, 1, self.platform)
        else:
            pooled = peak(feature_map.reshape(batch, -1, width), 1, self.platform)
        feats = self.heads(pooled, pooled_parts, modality="image", train=train)
        return {**feats, "map": feature_map}

    def encode_text(
        self,
        tokens: Int[Array, "N L"],
        lengths: Int[Array, " N"],
        *,
        train: bool = False,
        template: RowTemplate | None = None,
    ) -> dict[str, Array]:
        """Features of captions.

        Returns:
          As `encode_image`, with "words" [N, P, C] (the E of the part branches, of the global
          branch without them; P: the template's length) and "scores" [N, P, K] in place of "map".
        """
        text = self._pool_text(tokens, lengths, train=train, template=template)
        return self._text_heads(text, train=train, mask=None)

    def _pool_text(
        self,
        tokens: Int[Array, "N L"],
        lengths: Int[Array, " N"],
        *,
        train: bool,
        template: RowTemplate | None,
    ) -> dict[str, Array]:
        """Words, scores, and words pooled for every branch, eq. (1)-(4), (6), (8), (9), (11)."""
        lengths = jnp.clip(lengths, 0, tokens.shape[1])
        streams = [table(tokens, train=train) for table in self.tables]
        encoded = self.lstm(jnp.stack(streams, axis=2), lengths, template)
        pooled = masked_max(encoded[:, :, 0], lengths, self.platform)
        if self.formulation == "released":
            # The released program pads to max_tokens and lets the zeros take part.
            short = (lengths < self.max_tokens)[:, None]
            pooled = jnp.where(short, jnp.maximum(pooled, 0.0), pooled)
        words = encoded[:, :, -1]
        text = {"pooled": pooled, "words": words}
        if self.part:
            scores = self.word_attention(words, lengths)
            weights = scores.astype(words.dtype)
            parts = masked_max_of_products(weights, words, lengths, self.platform)
            text |= {"scores": scores, "pooled_parts": parts}
        return text

    def _text_heads(
        self, text: dict[str, Array], *, train: bool, mask: Bool[Array, " B"] | None
    ) -> dict[str, Array]:
        seen = {key: text[key] for key in ("words", "scores") if key in text}
        parts = text.get("pooled_parts")
        return seen | self.heads(text["pooled"], parts, modality="text", train=train, mask=mask)


def _check_choices(model: SSAN) -> None:
    """Refuse fields that make no network."""
    check_choices(
        model, {"backbone": BACKBONES, "formulation": FORMULATIONS, "relation": RELATIONS}
    )
    if model.relation != "none" and not model.part:
        raise ValueError(
            f"relation={model.relation!r} needs part features: set part=True or relation='none'."
        )
    check_positive(model, ("vocab_size", "num_parts", "word_dim", "global_dim", "width"))


def build(
    config_model: Mapping[str, Any], *, vocab_size: int, num_classes: int, dtype: DType
) -> SSAN:
    """Make the network from a mapping of its fields.

    Args:
      config_model: fields of `SSAN` by name, those below excepted; lists become tuples.
      vocab_size: rows of the embedding table, the padding row included.
      num_classes: identities of the classifiers, 0 for none.
      dtype: compute type.

    Raises:
      ValueError: on an unknown field.
    """
    return from_fields(
        SSAN, config_model, vocab_size=vocab_size, num_classes=num_classes, dtype=dtype
    )

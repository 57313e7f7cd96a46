"""Tiny networks and made-up batches on which both sides are run; no torch here."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

VOCABULARY, CLASSES, LENGTH, BATCH = 12, 5, 7, 6

RATE, BACKBONE_SHARE, MOMENTUM, WEIGHT_DECAY, STEPS = 0.01, 0.1, 0.9, 5e-4, 2
"""Of the optimisers; the backbone has its share of the rate."""

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, its objective and a batch.

    Attributes:
      network: "ssan" or "axm_net".
      fields: of the network, those of `_SMALL` excepted.
      objective: fields of the objective.
      image_size: height and width; odd, where the parts still divide the rows of the map.
      epoch: for the released formulation.
      weak_valid: which weak captions are real; None: no weak captions.
      seed: of weights and batch, chosen so that no maximum is near a tie.
    """

    network: str
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    objective: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    image_size: tuple[int, int] = (45, 29)
    epoch: float = 0.0
    weak_valid: tuple[int, ...] | None = None
    seed: int = 0

    @property
    def all_fields(self) -> dict[str, Any]:
        """Of the network, with sizes that make it small."""
        sizes = {"vocab_size": VOCABULARY, "num_classes": CLASSES, "max_tokens": LENGTH}
        return {**sizes, **_SMALL[self.network], **self.fields}

    @property
    def branches(self) -> tuple[str, ...]:
        """Of an image."""
        fields = self.all_fields
        if self.network == "axm_net":
            there = {name: fields.get(f"{name}_branch", True) for name in ("global",)}
            there["part"] = fields.get("part", True)
        else:
            part = fields.get("part", True)
            there = {"global": True, "part": part, "relation": fields["relation"] != "none"}
        return tuple(name for name, is_there in there.items() if is_there)


_SMALL: dict[str, dict[str, Any]] = {
    "ssan": {
        "stage_sizes": (1, 1),
        "block": "bottleneck",
        "width": 4,
        "num_parts": 3,
        "word_dim": 6,
        "global_dim": 8,
        "relation": "mv_nln",
        "relation_dim": 5,
        "view_dim": 4,
        "dropout": 0.0,  # the two sides draw otherwise
    },
    "axm_net": {
        "channels": (4, 8, 8, 12),
        "blocks": 1,
        "num_parts": 3,
        "part_reduction": 4,
        "feature_dim": 16,
        "word_dim": 6,
        "max_tokens": 9,  # captions have 7, so that the padding to max_tokens is seen
    },
}


def batch(case: Case) -> Arrays:
    """Images [B, 3, H, W] uint8, captions of 1 to 7 words with a longest one, labels.

    "captions" are for `encode_text` alone; the first of them has no word.
    """
    rng = np.random.default_rng(case.seed)

    def captions(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
        tokens = rng.integers(1, VOCABULARY, (len(lengths), LENGTH))
        tokens[np.arange(LENGTH) >= np.array(lengths)[:, None]] = 0
        return tokens, np.array(lengths)

    arrays = {"images": rng.integers(0, 256, (BATCH, 3, *case.image_size), np.uint8)}
    arrays["tokens"], arrays["lengths"] = captions([1, 7, 3, 5, 2, 6])
    arrays["weak_tokens"], arrays["weak_lengths"] = captions([7, 2, 4, 1, 6, 3])
    arrays["captions"], arrays["caption_lengths"] = captions([0, 1, 7, 4])
    arrays["labels"] = np.array([3, 3, 0, 4, 0, 1])
    if case.weak_valid is None:
        del arrays["weak_tokens"], arrays["weak_lengths"]
    else:
        arrays["weak_valid"] = np.array(case.weak_valid, bool)
    return arrays


def normalised(images: np.ndarray) -> np.ndarray:
    """Pixels between -2 and 2, float32, exactly."""
    return images.astype(np.float32) / 64 - 2


def forget_unreal(arrays: Arrays, weak_valid: np.ndarray) -> Arrays:
    """Features with 0 for the weak captions that are not real, of which nothing is said."""
    return {
        name: np.where(weak_valid.reshape(-1, *[1] * (value.ndim - 1)), value, 0)
        if "/weak/" in name
        else value
        for name, value in arrays.items()
    }


def key(case: Case) -> jax.Array:
    """Of the random negatives."""
    return jax.random.key(case.seed)


def draws(case: Case) -> dict[str, Any]:
    """Tables of uniform numbers [B, B] that `key` gives jaxreid's objective, by branch."""
    if case.network == "axm_net":
        return axm_draws(key(case), case.branches, BATCH)
    return ssan_draws(key(case), BATCH)


def axm_draws(rng: jax.Array, branches: tuple[str, ...], size: int) -> dict[str, Any]:
    """Of each branch, tables for the negatives of images and of captions."""
    keys = jax.random.split(rng, len(branches))
    return {name: _tables(one, size) for name, one in zip(branches, keys, strict=True)}


def ssan_draws(rng: jax.Array, size: int) -> dict[str, Any]:
    """Likewise, for strong and for weak captions."""
    tables = {}
    for name, one in zip(("global", "part", "relation"), jax.random.split(rng, 3), strict=True):
        strong, weak = jax.random.split(one)
        tables[name] = {"strong": _tables(strong, size), "weak": _tables(weak, size)}
    return tables


def _tables(one: jax.Array, size: int) -> tuple[np.ndarray, ...]:
    keys = jax.random.split(one)
    return tuple(np.asarray(jax.random.uniform(rng, (size, size))) for rng in keys)


_PAPER = Case("ssan", weak_valid=(1, 1, 0, 1, 1, 1), seed=5)
_RELEASED = Case(
    "ssan",
    {"formulation": "released", "block": "basic", "max_tokens": 6},
    {"formulation": "released"},
    epoch=5.0,
    weak_valid=(1, 1, 0, 1, 1, 1),
    seed=10,
)
_AXM = Case("axm_net", image_size=(97, 29), seed=10)


def _like(case: Case, **changes: Any) -> Case:
    """The case with other `fields` or `objective` besides those it has, or another attribute."""
    for name in ("fields", "objective"):
        changes[name] = {**getattr(case, name), **changes.get(name, {})}
    return dataclasses.replace(case, **changes)


FIXTURES: dict[str, Case] = {
    "ssan_paper": _PAPER,
    "ssan_released": _RELEASED,
    "ssan_vgg": _like(
        _PAPER,
        fields={"backbone": "vgg", "stage_sizes": (1, 1, 2)},
        image_size=(53, 29),
        seed=9,
    ),
    "axm_net": _AXM,
}
"""Written to files, which are compared where there is no torch."""

LIVE: dict[str, Case] = {
    "ssan_baseline": _like(
        _PAPER,
        fields={"part": False, "relation": "none", "shared_projection": False},
        objective={"cr": False},
        weak_valid=None,
        seed=3,
    ),
    "ssan_conv1x1": _like(
        _PAPER,
        fields={"relation": "conv1x1", "last_stride": 1, "num_parts": 4},
        objective={"adaptive": False, "fixed_margin": 0.15, "id_weight": 0.5},
        seed=8,
    ),
    "ssan_released_one_weak": _like(
        _RELEASED, epoch=0.0, weak_valid=(0, 0, 0, 1, 0, 0), fields={"max_tokens": 7}, seed=3
    ),
    "axm_net_separate": _like(
        _AXM,
        fields={"context": "separate", "strip_network": "separate", "text_stem": "separable"},
        objective={"affinity": "usual", "negatives": "random"},
        seed=11,
    ),
    "axm_net_joint": _like(
        _AXM,
        fields={"context": "joint", "mask_padding": True, "pooling": "average"},
        seed=5,
    ),
    "axm_net_masked": _like(_AXM, fields={"mask_padding": True, "fc_layers": 2}, seed=8),
    "axm_net_unified": _like(
        _AXM,
        fields={"global_branch": False, "nla": False, "fc_layers": 1},
        objective={"triplet_weight": 0.0, "affinity_weight": 0.0, "label_smoothing": 0.0},
        seed=10,
    ),
}
"""Compared where torch is installed."""

CASES = {**FIXTURES, **LIVE}


@dataclasses.dataclass(frozen=True)
class BackboneCase:
    """A backbone by itself.

    Attributes:
      kind: "resnet", "vgg" or "osnet".
      fields: of it; empty: full size.
      image_size: height and width.
      seed: of weights and images.
    """

    kind: str
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    image_size: tuple[int, int] = (97, 45)
    seed: int = 0


def images(case: BackboneCase) -> np.ndarray:
    """[2, 3, H, W] uint8."""
    rng = np.random.default_rng(case.seed)
    return rng.integers(0, 256, (2, 3, *case.image_size), np.uint8)


BACKBONE_FIXTURES = {
    "resnet": BackboneCase("resnet", {"stage_sizes": (2, 1, 1), "width": 4}),
    "vgg": BackboneCase("vgg", {"stage_sizes": (2, 1, 1), "width": 4}),
    "osnet": BackboneCase("osnet", {"channels": (8, 8, 12, 16), "blocks": 2}),
}
BACKBONES_LIVE = {
    "resnet_basic": BackboneCase(
        "resnet",
        {"stage_sizes": (1, 2), "width": 8, "block": "basic", "last_stride": 1},
        image_size=(98, 47),
    ),
}
BACKBONES_FULL = {
    "ResNet-50": BackboneCase("resnet", image_size=(193, 97)),
    "VGG-16": BackboneCase("vgg"),
    "OSNet x1.0": BackboneCase("osnet"),
}
BACKBONES = {**BACKBONE_FIXTURES, **BACKBONES_LIVE, **BACKBONES_FULL}

"""Who is drawn: identities in families of four near twins, and how each is photographed.

A family is a square. From a base identity, one side changes a single local attribute and the other
swaps the colours of top and bottom, so every member has exactly two near twins, and whoever counts
colour words without binding them to a garment cannot tell half of the family from the other half.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from tfds_builders.synth_pedes.attributes import ATTRIBUTES, COLORS, VIEWS

Values = dict[str, str]

FAMILY_SIZE = 4
IMAGES_PER_IDENTITY = 4
NUM_CAMERAS = 6

# Streams of randomness below one seed, so that a change in one leaves the others alone.
_IDENTITY_STREAM, _SHOT_STREAM, _DRAW_STREAM, _CAPTION_STREAM = range(4)

_CLOTHES = {
    "black": 15,
    "blue": 14,
    "white": 13,
    "grey": 11,
    "red": 11,
    "green": 9,
    "brown": 7,
    "yellow": 6,
    "pink": 5,
    "purple": 5,
    "orange": 4,
}
_SHOES = {"white": 24, "black": 22, "brown": 13, "grey": 11, "red": 9, "blue": 9} | {
    "pink": 4,
    "green": 4,
    "yellow": 2,
    "orange": 1,
    "purple": 1,
}
_BAGS = _CLOTHES | {"black": 20, "brown": 15}
_JEANS = frozenset({"blue", "black", "grey", "white", "brown", "red", "green"})

_BUILD = {"slim": 3, "average": 4, "stout": 3}
_HAIR_LENGTH = {
    "man": {"short": 16, "shoulder-length": 3, "long": 1},
    "woman": {"short": 3, "shoulder-length": 8, "long": 9},
}
_HAIR_COLOR = {"black": 8, "brown": 8, "blond": 6, "grey": 4, "red": 3}
_HAT = {"none": 12, "cap": 4, "beanie": 3, "sun hat": 2}
_GLASSES = {"none": 13, "glasses": 4, "sunglasses": 3}
_TOP = {
    "man": {"t-shirt": 6, "shirt": 5, "sweater": 4, "jacket": 5, "hoodie": 4, "coat": 2},
    "woman": {"t-shirt": 6, "shirt": 4, "sweater": 5, "jacket": 4, "hoodie": 3, "coat": 4},
}
_PATTERN = {
    "t-shirt": {"plain": 4, "striped": 3, "dotted": 1, "logo": 3},
    "shirt": {"plain": 4, "striped": 3, "checked": 4, "dotted": 1},
    "sweater": {"plain": 4, "striped": 4, "checked": 1, "dotted": 1, "logo": 1},
    "jacket": {"plain": 7, "striped": 1, "checked": 1},
    "hoodie": {"plain": 5, "striped": 2, "logo": 3},
    "coat": {"plain": 6, "checked": 2},
}
_BOTTOM = {
    "man": {"trousers": 9, "jeans": 7, "shorts": 4},
    "woman": {"trousers": 5, "jeans": 4, "shorts": 2, "skirt": 6, "leggings": 4},
}
_FOOTWEAR = {"sneakers": 11, "boots": 5, "sandals": 3}
_BAG = {
    "man": {"none": 7, "backpack": 8, "handbag": 1, "shoulder bag": 5},
    "woman": {"none": 6, "backpack": 5, "handbag": 6, "shoulder bag": 5},
}
_BAG_PLACE = {"none": "none", "backpack": "back", "handbag": "hand", "shoulder bag": "shoulder"}

_IMPLAUSIBLE: tuple[tuple[tuple[str, str], tuple[str, str]], ...] = (
    (("top", "coat"), ("bottom", "shorts")),
    (("top", "coat"), ("shoes", "sandals")),
    (("top", "coat"), ("hat", "sun hat")),
    (("top", "jacket"), ("shoes", "sandals")),
    (("hat", "beanie"), ("shoes", "sandals")),
    (("hat", "beanie"), ("bottom", "shorts")),
    (("shoes", "boots"), ("bottom", "shorts")),
    (("person", "man"), ("bottom", "skirt")),
    (("person", "man"), ("bottom", "leggings")),
)

# Two colours nearer than this (RGB distance) are hard to tell apart under another light, so a
# near twin never rests on such a pair.
_CONTRAST = 95.0


@dataclasses.dataclass(frozen=True)
class Shot:
    """One picture to be taken.

    Attributes:
      index: number of the picture in the whole dataset, all splits; seeds its randomness.
      number: number of the picture among those of its identity.
      camera: camera, 0 to 5.
      view: one of `VIEWS`.
    """

    index: int
    number: int
    camera: int
    view: str


def _rng(seed: int, *stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, *stream))))


def drawing_rng(seed: int, image_index: int, attempt: int = 0) -> np.random.Generator:
    """Randomness of one drawing: pose, light, background, crop, occlusion."""
    return _rng(seed, _DRAW_STREAM, image_index, attempt)


def caption_rng(seed: int, image_index: int) -> np.random.Generator:
    """Randomness of the captions of one picture, apart from that of its drawing."""
    return _rng(seed, _CAPTION_STREAM, image_index)


def _pick(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    names = list(weights)
    shares = np.array([weights[name] for name in names], dtype=np.float64)
    return names[rng.choice(len(names), p=shares / shares.sum())]


def contrast(first: str, second: str) -> bool:
    """Whether two clothing colours are told apart under any light of the renderer."""
    return float(np.linalg.norm(np.subtract(COLORS[first], COLORS[second]))) >= _CONTRAST


def _bag(rng: np.random.Generator, kind: str) -> Values:
    carried = kind != "none"
    sided = kind in ("handbag", "shoulder bag")
    return {
        "bag": kind,
        "bag_color": _pick(rng, _BAGS) if carried else "none",
        "bag_side": str(rng.choice(["left", "right"])) if sided else "none",
        "bag_place": _BAG_PLACE[kind],
    }


def _hat(rng: np.random.Generator, kind: str) -> Values:
    return {"hat": kind, "hat_color": "none" if kind == "none" else _pick(rng, _CLOTHES)}


def _draw_base(rng: np.random.Generator) -> Values:
    person = _pick(rng, {"man": 1, "woman": 1})
    top = _pick(rng, _TOP[person])
    values = {
        "person": person,
        "build": _pick(rng, _BUILD),
        "hair_length": _pick(rng, _HAIR_LENGTH[person]),
        "hair_color": _pick(rng, _HAIR_COLOR),
        "glasses": _pick(rng, _GLASSES),
        "top": top,
        "top_color": _pick(rng, _CLOTHES),
        "top_pattern": _pick(rng, _PATTERN[top]),
        "bottom": _pick(rng, _BOTTOM[person]),
        "bottom_color": _pick(rng, _CLOTHES),
        "shoes": _pick(rng, _FOOTWEAR),
        "shoes_color": _pick(rng, _SHOES),
    }
    values |= _hat(rng, _pick(rng, _HAT)) | _bag(rng, _pick(rng, _BAG[person]))
    return {name: values[name] for name in ATTRIBUTES}


def plausible(values: Mapping[str, str]) -> bool:
    """Whether a bundle could be met in a street, also with top and bottom colours swapped."""
    if not contrast(values["top_color"], values["bottom_color"]):
        return False
    if values["bottom"] == "jeans" and not {values["top_color"], values["bottom_color"]} <= _JEANS:
        return False
    if values["top_pattern"] not in _PATTERN[values["top"]]:
        return False
    return not any(
        values[first[0]] == first[1] and values[second[0]] == second[1]
        for first, second in _IMPLAUSIBLE
    )


def swap_colors(values: Mapping[str, str]) -> Values:
    """The near twin whose top has the colour of the bottom and the other way round."""
    return {
        **values,
        "top_color": values["bottom_color"],
        "bottom_color": values["top_color"],
    }


def _other_color(rng: np.random.Generator, color: str, weights: Mapping[str, float]) -> str:
    return _pick(rng, {c: w for c, w in weights.items() if c != color and contrast(c, color)})


def _keep_color(values: Values, changed: Values, part: str) -> Values:
    """Another kind of hat or bag keeps its colour, so that only the kind tells."""
    if "none" in (values[part], changed[part]):
        return changed
    return {**changed, f"{part}_color": values[f"{part}_color"]}


def _change_shoes_color(values: Values, rng: np.random.Generator) -> Values:
    return {"shoes_color": _other_color(rng, values["shoes_color"], _SHOES)}


def _change_hair_color(values: Values, rng: np.random.Generator) -> Values:
    dark = values["hair_color"] in ("black", "brown")
    return {"hair_color": _pick(rng, {"blond": 3, "grey": 2, "red": 2} if dark else {"black": 1})}


def _change_hair_length(values: Values, rng: np.random.Generator) -> Values:
    return {"hair_length": "long" if values["hair_length"] == "short" else "short"}


def _change_hat(values: Values, rng: np.random.Generator) -> Values:
    changed = _hat(rng, _pick(rng, {k: w for k, w in _HAT.items() if k != values["hat"]}))
    return _keep_color(values, changed, "hat")


def _change_hat_color(values: Values, rng: np.random.Generator) -> Values:
    if values["hat"] == "none":
        return {}
    return {"hat_color": _other_color(rng, values["hat_color"], _CLOTHES)}


def _change_bag(values: Values, rng: np.random.Generator) -> Values:
    kinds = {k: w for k, w in _BAG[values["person"]].items() if k != values["bag"]}
    return _keep_color(values, _bag(rng, _pick(rng, kinds)), "bag")


def _change_bag_color(values: Values, rng: np.random.Generator) -> Values:
    if values["bag"] == "none":
        return {}
    return {"bag_color": _other_color(rng, values["bag_color"], _BAGS)}


def _change_bag_side(values: Values, rng: np.random.Generator) -> Values:
    if values["bag_side"] == "none":
        return {}
    return {"bag_side": "left" if values["bag_side"] == "right" else "right"}


def _change_pattern(values: Values, rng: np.random.Generator) -> Values:
    # Only from the front one sees that there is neither logo nor pattern, so these two would be
    # told apart too rarely.
    if values["top_pattern"] in ("logo", "plain"):
        return {}
    patterns = {p: w for p, w in _PATTERN[values["top"]].items() if p not in ("logo", "plain")}
    del patterns[values["top_pattern"]]
    return {"top_pattern": _pick(rng, patterns)} if patterns else {}


def _change_bottom(values: Values, rng: np.random.Generator) -> Values:
    bare = values["bottom"] in ("shorts", "skirt")
    long_kinds = ("trousers", "jeans", "leggings")
    kinds = _BOTTOM[values["person"]]
    return {"bottom": _pick(rng, {k: w for k, w in kinds.items() if (k in long_kinds) == bare})}


# A change gives what becomes different, with what hangs on it; nothing where it does not apply.
_LOCAL_CHANGES: dict[Callable[[Values, np.random.Generator], Values], float] = {
    _change_shoes_color: 5,
    _change_hair_color: 4,
    _change_hair_length: 3,
    _change_hat: 2,
    _change_hat_color: 4,
    _change_bag: 3,
    _change_bag_color: 5,
    _change_bag_side: 2,
    _change_pattern: 3,
    _change_bottom: 4,
}


def _key(values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(values[name] for name in ATTRIBUTES)


def _draw_alone(rng: np.random.Generator, taken: set[tuple[str, ...]]) -> list[Values]:
    while True:
        values = _draw_base(rng)
        if plausible(values) and _key(values) not in taken:
            taken.add(_key(values))
            return [values]


def _draw_family(rng: np.random.Generator, taken: set[tuple[str, ...]]) -> list[Values]:
    shares = np.array(list(_LOCAL_CHANGES.values()), dtype=np.float64)
    # Drawn once: a change that fits few people would come up too rarely if it were drawn anew.
    change = list(_LOCAL_CHANGES)[rng.choice(len(shares), p=shares / shares.sum())]
    while True:
        base = _draw_base(rng)
        changed = {**base, **change(base, rng)}
        if not (plausible(base) and plausible(changed)):
            continue
        family = [base, changed, swap_colors(base), swap_colors(changed)]
        keys = {_key(member) for member in family}
        if len(keys) == FAMILY_SIZE and not keys & taken:
            taken |= keys
            # Which corner comes first must not tell how the family was made.
            return [family[i] for i in rng.permutation(FAMILY_SIZE)]


def draw_identities(seed: int, count: int, *, alone: int = 0) -> list[Values]:
    """Draws identities: some on their own, then family after family. No two are alike.

    Args:
      seed: seed of the dataset.
      count: number of identities of all splits together.
      alone: how many of them, the first ones, have no near twin made for them. They show more
        different bundles than as many in families, so a training split is made of them.

    Returns:
      One bundle (attribute name -> value name) per identity. The first identities do not depend on
      `count`.

    Raises:
      ValueError: if `count - alone` is not a multiple of `FAMILY_SIZE`, or a number is out of
        range.
    """
    if count <= 0 or not 0 <= alone <= count or (count - alone) % FAMILY_SIZE:
        raise ValueError(
            f"count={count}, alone={alone}: identities that are not alone come in families of "
            f"{FAMILY_SIZE}; give a positive count and 0 <= alone <= count such that "
            f"count - alone is a multiple of {FAMILY_SIZE}."
        )
    rng = _rng(seed, _IDENTITY_STREAM)
    taken: set[tuple[str, ...]] = set()
    identities: list[Values] = []
    while len(identities) < count:
        draw = _draw_alone if len(identities) < alone else _draw_family
        identities.extend(draw(rng, taken))
    return identities


def draw_shots(seed: int, person_id: int) -> Iterator[Shot]:
    """Plans the pictures of one identity: other cameras, at least one front and one back view.

    Args:
      seed: seed of the dataset.
      person_id: number of the identity, 0 first.

    Yields:
      `IMAGES_PER_IDENTITY` shots, each from another camera.
    """
    rng = _rng(seed, _SHOT_STREAM, person_id)
    cameras = rng.choice(NUM_CAMERAS, size=IMAGES_PER_IDENTITY, replace=False)
    free = rng.choice(VIEWS, size=IMAGES_PER_IDENTITY - 2)
    views = rng.permutation(["front", "back", *free])
    for number, (camera, view) in enumerate(zip(cameras, views, strict=True)):
        yield Shot(
            index=person_id * IMAGES_PER_IDENTITY + number,
            number=number,
            camera=int(camera),
            view=str(view),
        )


def value_indices(values: Mapping[str, str]) -> np.ndarray:
    """Encodes a bundle as [A] int32 value indices in the order of `ATTRIBUTES`."""
    return np.array([ATTRIBUTES[name].index(values[name]) for name in ATTRIBUTES], np.int32)

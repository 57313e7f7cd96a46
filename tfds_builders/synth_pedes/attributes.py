"""What a drawn pedestrian is made of: attributes, their values and the body regions.

An identity is one value index for every attribute. Attributes that depend on another one (a hat's
colour without a hat) hold the value ``none``. Sides are the viewer's, in every view: a bag on the
left is on the left of the picture.
"""

from __future__ import annotations

COLORS: dict[str, tuple[int, int, int]] = {
    "white": (236, 236, 232),
    "black": (30, 30, 34),
    "grey": (132, 134, 138),
    "red": (196, 36, 40),
    "blue": (38, 76, 178),
    "green": (44, 128, 62),
    "yellow": (232, 200, 48),
    "brown": (112, 70, 40),
    "pink": (232, 138, 172),
    "purple": (112, 52, 140),
    "orange": (234, 122, 32),
}
"""RGB of each clothing colour before light and shading."""

_COLOR_NAMES = tuple(COLORS)

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "person": ("man", "woman"),
    "build": ("slim", "average", "stout"),
    "hair_length": ("short", "shoulder-length", "long"),
    "hair_color": ("black", "brown", "blond", "grey", "red"),
    "hat": ("none", "cap", "beanie", "sun hat"),
    "hat_color": ("none", *_COLOR_NAMES),
    "glasses": ("none", "glasses", "sunglasses"),
    "top": ("t-shirt", "shirt", "sweater", "jacket", "hoodie", "coat"),
    "top_color": _COLOR_NAMES,
    "top_pattern": ("plain", "striped", "checked", "dotted", "logo"),
    "bottom": ("trousers", "jeans", "shorts", "skirt", "leggings"),
    "bottom_color": _COLOR_NAMES,
    "shoes": ("sneakers", "boots", "sandals"),
    "shoes_color": _COLOR_NAMES,
    "bag": ("none", "backpack", "handbag", "shoulder bag"),
    "bag_color": ("none", *_COLOR_NAMES),
    "bag_side": ("none", "left", "right"),
    "bag_place": ("none", "back", "hand", "shoulder"),
}
"""Attribute name -> value names; an identity stores the index of its value."""

REGIONS: tuple[str, ...] = ("head", "torso", "legs", "feet", "bag")
"""Regions that have a box in every picture that shows them (``bag`` only when carried)."""

WORD_REGIONS: tuple[str, ...] = ("head", "torso", "legs", "feet")
"""Body regions: their words count for word-part accuracy. A bag has no fixed place."""

ATTRIBUTE_REGIONS: dict[str, str | None] = {
    "person": None,
    "build": None,
    "hair_length": "head",
    "hair_color": "head",
    "hat": "head",
    "hat_color": "head",
    "glasses": "head",
    "top": "torso",
    "top_color": "torso",
    "top_pattern": "torso",
    "bottom": "legs",
    "bottom_color": "legs",
    "shoes": "feet",
    "shoes_color": "feet",
    "bag": "bag",
    "bag_color": "bag",
    "bag_side": "bag",
    "bag_place": "bag",
}
"""Attribute name -> region whose words name it; None for the person as a whole."""

VIEWS: tuple[str, ...] = ("front", "back", "left", "right")
"""Where the person faces: to the viewer, away, to the left or to the right of the picture."""

"""The words of the captions: synonyms, remarks and openings.

Words in square brackets name or describe something on the body part that a phrase is about; they
get that part as their true region. All other words have none.
"""

from __future__ import annotations

SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "person": {"man": ("man", "man", "guy", "male"), "woman": ("woman", "woman", "lady", "female")},
    "build": {
        "slim": ("slim", "thin", "slender"),
        "average": ("medium-built", "average-sized"),
        "stout": ("stout", "heavyset", "stocky"),
    },
    "hair_length": {
        "short": ("short", "short", "cropped"),
        "shoulder-length": ("shoulder-length", "medium-length"),
        "long": ("long", "long", "flowing"),
    },
    "hair_color": {
        "black": ("black",),
        "brown": ("brown", "brown", "brunette"),
        "blond": ("blond", "blonde"),
        "grey": ("grey",),
        "red": ("red", "ginger"),
    },
    "hat": {
        "cap": ("cap", "baseball cap"),
        "beanie": ("beanie", "woolly hat", "knitted hat"),
        "sun hat": ("sun hat", "wide-brimmed hat"),
    },
    "glasses": {
        "glasses": ("glasses", "eyeglasses", "spectacles"),
        "sunglasses": ("sunglasses", "dark glasses", "shades"),
    },
    "top": {
        "t-shirt": ("t-shirt", "t-shirt", "tee"),
        "shirt": ("shirt", "button-up shirt", "collared shirt"),
        "sweater": ("sweater", "pullover", "jumper"),
        "jacket": ("jacket", "zip-up jacket"),
        "hoodie": ("hoodie", "hooded sweatshirt"),
        "coat": ("coat", "overcoat", "long coat"),
    },
    "bottom": {
        "trousers": ("trousers", "pants", "slacks"),
        "jeans": ("jeans", "jeans", "denim trousers"),
        "shorts": ("shorts", "short pants"),
        "skirt": ("skirt",),
        "leggings": ("leggings", "tights"),
    },
    "shoes": {
        "sneakers": ("sneakers", "trainers", "running shoes"),
        "boots": ("boots", "ankle boots"),
        "sandals": ("sandals", "open sandals"),
    },
    "bag": {
        "backpack": ("backpack", "rucksack"),
        "handbag": ("handbag", "purse"),
        "shoulder bag": ("shoulder bag", "messenger bag", "satchel"),
    },
}
"""Attribute -> value -> ways to say it (a repeated one is likelier)."""

COLOR_SYNONYMS: dict[str, tuple[str, ...]] = {
    "grey": ("grey", "gray"),
    "purple": ("purple", "violet"),
}
"""Colours with two names or spellings; one caption keeps to one of them."""

UNKNOWN_KIND: dict[str, tuple[str, ...]] = {
    "hat": ("hat",),
    "top": ("top", "upper garment"),
    "bottom": ("bottoms",),
    "shoes": ("shoes", "footwear"),
    "bag": ("bag",),
}
"""What a part is called when its kind is left out."""

UNKNOWN_PERSON: tuple[str, ...] = ("person", "person", "pedestrian")
"""What the person is called when neither man nor woman is said."""

PLURAL: frozenset[str] = frozenset({"shoes", "bottoms"})
"""General names that are plural words."""

PAIRED: frozenset[str] = frozenset(
    {"trousers", "jeans", "shorts", "leggings", "sneakers", "boots", "sandals"}
)
"""Values that are plural words."""

PATTERN_BEFORE: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "plain", "unpatterned"),
    "striped": ("striped", "striped", "stripy"),
    "checked": ("checked", "checkered", "plaid"),
    "dotted": ("dotted", "spotted", "polka-dot"),
}
PATTERN_AFTER: dict[str, tuple[str, ...]] = {
    "plain": ("without any [pattern]",),
    "striped": ("with [stripes]", "with a [striped pattern]"),
    "checked": ("with a [checked pattern]", "with [checks]"),
    "dotted": ("with [dots]", "with a [dotted pattern]"),
    "logo": ("with a [logo]", "with a [logo] on the [chest]", "with a [print] on the [front]"),
}

BAG_PLACES: dict[str, tuple[str, ...]] = {
    "back": ("on {poss} [back]", "over both [shoulders]"),
    "hand": ("in {poss} [hand]", "in one [hand]"),
    "shoulder": ("over {poss} [shoulder]", "hanging from {poss} [shoulder]", "on a [strap]"),
}
BAG_SIDES: tuple[str, ...] = (
    "on the [{side}]",
    "on the [{side} side]",
    "on the [{side}-hand side]",
    "at the [{side}]",
)

ABSENCES: dict[str, tuple[str, ...]] = {
    "hat": ("no [hat]", "no [hat]", "nothing on {poss} [head]"),
    "glasses": ("no [glasses]",),
    "bag": ("no [bag]",),
}
"""What is said of a thing that is seen not to be there."""

REMARKS: tuple[str, ...] = (
    "{subject} is walking down the street",
    "{subject} is looking at a phone",
    "{subject} seems to be in a hurry",
    "{subject} may be waiting for someone",
    "{subject} is walking at an easy pace",
    "{subject} seems to be on the way to work",
    "{subject} appears to be strolling",
    "it looks like a pleasant day",
    "it might rain later",
    "it is not very crowded here",
    "the picture was taken outdoors",
)
"""Remarks that tell nothing: which one is said is drawn without looking at person or picture."""

OPENINGS: tuple[str, ...] = ("there is {person}", "this is {person}", "the picture shows {person}")
"""Ways to bring the person in, besides starting with the person."""

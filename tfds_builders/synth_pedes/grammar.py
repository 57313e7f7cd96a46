"""Captions of a drawn person as people would write them, with the truth about every word.

A caption says only what its picture shows. What is said is drawn first (some parts and attributes
are left out), then how: order of the parts, synonyms, colours before or after, lists or statements,
one or several sentences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tfds_builders.synth_pedes import phrases
from tfds_builders.synth_pedes.clauses import (
    PART_ATTRIBUTES,
    Voice,
    Word,
    introduce,
    make_voice,
    mark,
    punctuate,
    sentence,
    statements,
)

MIN_WORDS = 20
MAX_WORDS = 40

CAPTION_WORDS = 64
"""Room for the regions of a caption's words."""

_MIN_PARTS = 4
_REMARK_SHARE = 0.15
_ATTEMPTS = 500

# How often a part that the picture shows is spoken of at all.
_PART_SHARE = {
    "hair": 0.92,
    "hat": 0.95,
    "glasses": 0.6,
    "top": 0.99,
    "bottom": 0.98,
    "shoes": 0.93,
    "bag": 0.96,
}
# How often an attribute is said, given that its part is spoken of.
_ATTRIBUTE_SHARE = {
    "person": 0.93,
    "build": 0.2,
    "hair_length": 0.94,
    "hair_color": 0.96,
    "hat": 0.95,
    "hat_color": 0.94,
    "glasses": 1.0,
    "top": 0.95,
    "top_color": 0.96,
    "top_pattern": 0.95,
    "bottom": 0.97,
    "bottom_color": 0.96,
    "shoes": 0.85,
    "shoes_color": 0.96,
    "bag": 0.95,
    "bag_color": 0.94,
    "bag_side": 0.93,
    "bag_place": 0.5,
}
# How often one says that something is seen not to be there, or that a garment has no pattern.
_ABSENCE_SHARE = {"hat": 0.4, "glasses": 0.04, "bag": 0.5, "top_pattern": 0.5}


@dataclasses.dataclass(frozen=True)
class Caption:
    """What one writer says of one picture.

    Attributes:
      text: the caption as written.
      regions: true region (index into `REGIONS`) of every word, -1 for none; words as the default
        tokeniser makes them (lower case, punctuation deleted, split on white space).
      mentions: names of the attributes that the caption asserts.
    """

    text: str
    regions: tuple[int, ...]
    mentions: frozenset[str]


def _plan(
    values: Mapping[str, str], shown: Collection[str], rng: np.random.Generator
) -> dict[str, str]:
    """Chooses what is said: attribute -> value, only of what is shown."""
    names = [n for n in ("person", "build") if n in shown and rng.random() < _ATTRIBUTE_SHARE[n]]
    for part, attributes in PART_ATTRIBUTES.items():
        spoken = rng.random() < _PART_SHARE[part]
        for name in attributes:
            absent = values[name] == "none" or (name, values[name]) == ("top_pattern", "plain")
            share = _ABSENCE_SHARE.get(name, 0.0) if absent else _ATTRIBUTE_SHARE[name]
            # All shares are drawn, shown or not, so that pictures of one person differ in little.
            if rng.random() < share and spoken and name in shown:
                names.append(name)
    return {name: values[name] for name in names}


def _cut(parts: Sequence[str], rng: np.random.Generator) -> list[list[str]]:
    """Deals the parts, in their order, to one to three sentences."""
    count = min(int(rng.choice([1, 2, 3], p=[0.25, 0.45, 0.3])), len(parts))
    if count < 2:
        return [list(parts)]
    cuts = sorted(rng.choice(np.arange(1, len(parts)), size=count - 1, replace=False).tolist())
    return [list(parts[i:j]) for i, j in zip([0, *cuts], [*cuts, len(parts)], strict=True)]


def _compose(voice: Voice, said: Mapping[str, str], remark: str) -> list[Word]:
    """Orders the parts freely and puts them into sentences, the remark behind them."""
    spoken = [part for part, names in PART_ATTRIBUTES.items() if any(n in said for n in names)]
    chunks = _cut([spoken[i] for i in voice.rng.permutation(len(spoken))], voice.rng)
    finite = voice.chance(0.45)
    if not finite and voice.chance(0.4):
        opening = voice.choose(phrases.OPENINGS).format(person=introduce(voice, said, "a"))
    else:
        opening = introduce(voice, said, "the" if finite and voice.chance(0.4) else "a")
    sentences = [sentence(voice, opening, chunks[0], said, finite=finite)]
    for chunk in chunks[1:]:
        if len(chunk) < 3 and voice.chance(0.5):
            sentences.append(statements(voice, chunk, said))
        else:
            subject = voice.choose([voice.subject, voice.subject, f"the {voice.noun}"])
            sentences.append(sentence(voice, subject, chunk, said, finite=True))
    if remark:
        sentences.append(mark(remark.format(subject=voice.subject)))
    return [word for words in sentences for word in _finish(words)]


def _finish(words: list[Word]) -> list[Word]:
    """A capital in front, a full stop behind, and "an" before vowels."""
    following = [text for text, _ in words[1:]] + [""]
    words = [
        ("an" if text == "a" and after[:1] in set("aeiou") else text, region)
        for (text, region), after in zip(words, following, strict=True)
    ]
    first = (words[0][0].capitalize(), words[0][1])
    return punctuate([first, *words[1:]], ".")


def _remark(rng: np.random.Generator) -> str:
    said, number = rng.random() < _REMARK_SHARE, int(rng.integers(len(phrases.REMARKS)))
    return phrases.REMARKS[number] if said else ""


def is_describable(values: Mapping[str, str], shown: Collection[str]) -> bool:
    """Whether a picture shows enough things for a caption of `MIN_WORDS` words."""
    present = [
        part
        for part, names in PART_ATTRIBUTES.items()
        if any(name in shown and values[name] != "none" for name in names)
    ]
    return len(present) >= _MIN_PARTS


def describe(
    values: Mapping[str, str], shown: Collection[str], rng: np.random.Generator
) -> Caption:
    """Writes one caption of `MIN_WORDS` to `MAX_WORDS` words.

    Args:
      values: attribute name -> value name of the identity.
      shown: names of the attributes that the picture shows.
      rng: randomness of this caption.

    Returns:
      The caption with the region of every word and the attributes it asserts.

    Raises:
      ValueError: if the picture shows too little for a caption of that length, see
        `is_describable`.
    """
    # First of all, so that a remark can depend on neither the person nor the picture.
    remark = _remark(rng)
    for _ in range(_ATTEMPTS):
        said = _plan(values, shown, rng)
        words = _compose(make_voice(said, rng), said, remark)
        if MIN_WORDS <= len(words) <= MAX_WORDS:
            return Caption(
                text=" ".join(text for text, _ in words),
                regions=tuple(region for _, region in words),
                mentions=frozenset(said),
            )
    raise ValueError(
        f"shown={sorted(shown)}: no caption of {MIN_WORDS} to {MAX_WORDS} words in {_ATTEMPTS} "
        "attempts; show more attributes of the person."
    )

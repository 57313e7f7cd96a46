"""From what is said of a person to marked words: noun phrases, statements, sentences.

Every function returns words with their true region. `said` maps the attributes that the caption
asserts to their values; each of them must come out in words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfds_builders.synth_pedes import phrases
from tfds_builders.synth_pedes.attributes import ATTRIBUTE_REGIONS, REGIONS

Word = tuple[str, int]
"""A word as written and the index of its true region in `REGIONS`, -1 for none."""

Said = Mapping[str, str]

NO_REGION = -1

PART_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "hair": ("hair_length", "hair_color"),
    "hat": ("hat", "hat_color"),
    "glasses": ("glasses",),
    "top": ("top", "top_color", "top_pattern"),
    "bottom": ("bottom", "bottom_color"),
    "shoes": ("shoes", "shoes_color"),
    "bag": ("bag", "bag_color", "bag_side", "bag_place"),
}
"""What is spoken of together -> its attributes."""

_PART_REGION = {
    part: REGIONS.index(region)
    for part, names in PART_ATTRIBUTES.items()
    if (region := ATTRIBUTE_REGIONS[names[0]]) is not None
}
_CLOTHES = frozenset({"top", "bottom", "shoes"})
_FINITE = {
    "have": ("has",),
    "lack": ("has",),
    "wear": ("wears", "is wearing", "has on"),
    "dress": ("wears", "is wearing", "is dressed in"),
    "carry": ("carries", "is carrying", "has"),
}
_PARTICIPLE = {
    "have": ("with",),
    "lack": ("with",),
    "wear": ("wearing",),
    "dress": ("wearing", "wearing", "dressed in", "in"),
    "carry": ("carrying", "carrying", "with"),
}


@dataclasses.dataclass(frozen=True)
class Voice:
    """Choices that one caption keeps to: how the person and the colours are called."""

    rng: np.random.Generator
    noun: str
    subject: str
    possessive: str
    colors: Mapping[str, str]

    def choose(self, options: Sequence[str]) -> str:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, share: float) -> bool:
        """True in the given share of cases."""
        return bool(self.rng.random() < share)

    def say(self, attribute: str, value: str) -> str:
        """One of the ways to say a value; a colour in the caption's own spelling."""
        if attribute.endswith("_color") and value in self.colors:
            return self.colors[value]
        return self.choose(phrases.SYNONYMS.get(attribute, {}).get(value, (value,)))

    def name(self, part: str, said: Said) -> str:
        """One of the names of a garment or bag, a general one if its kind is left out."""
        if part in said:
            return self.say(part, said[part])
        return self.choose(phrases.UNKNOWN_KIND[part])


def make_voice(said: Said, rng: np.random.Generator) -> Voice:
    """Draws the voice of one caption; without the attribute `person` it stays neutral."""
    subject, possessive = {"man": ("he", "his"), "woman": ("she", "her")}.get(
        said.get("person", ""), ("the person", "their")
    )
    nouns = phrases.SYNONYMS["person"].get(said.get("person", ""), phrases.UNKNOWN_PERSON)
    colors = {
        name: options[int(rng.integers(len(options)))]
        for name, options in phrases.COLOR_SYNONYMS.items()
    }
    return Voice(rng, nouns[int(rng.integers(len(nouns)))], subject, possessive, colors)


def mark(text: str, region: int = NO_REGION) -> list[Word]:
    """Splits a phrase into words; those in square brackets get the region."""
    words: list[Word] = []
    inside = False
    for token in text.split():
        inside = inside or token.startswith("[")
        words.append((token.strip("[]"), region if inside else NO_REGION))
        inside = inside and not token.endswith("]")
    return words


def punctuate(words: list[Word], sign: str) -> list[Word]:
    """The words with a sign behind the last one."""
    return [*words[:-1], (words[-1][0] + sign, words[-1][1])]


def _article(voice: Voice, part: str, said: Said) -> str:
    if said.get(part) in phrases.PAIRED:
        return "a pair of " if voice.chance(0.15) else ""
    return "" if part not in said and part in ("bottom", "shoes") else "a "


def _pattern(voice: Voice, pattern: str) -> tuple[str, str]:
    """The words for a pattern: an adjective before or a phrase after the noun."""
    before = phrases.PATTERN_BEFORE.get(pattern, ())
    after = phrases.PATTERN_AFTER.get(pattern, ())
    if before and voice.chance(0.75):
        return voice.choose(before), ""
    return "", voice.choose(after) if after else ""


def _garment(voice: Voice, part: str, said: Said) -> str:
    """Hat, top, bottom, shoes or bag: "a striped red sweater", "a red sweater with stripes"."""
    noun = voice.name(part, said)
    color = voice.say(f"{part}_color", said[f"{part}_color"]) if f"{part}_color" in said else ""
    before, after = _pattern(voice, said.get("top_pattern", "")) if part == "top" else ("", "")
    behind = ""
    if color and voice.chance(0.15):
        color, behind = "", f"in [{color}]"
    adjectives = [word for word in (before, color) if word]
    if voice.chance(0.5):
        adjectives.reverse()
    inner = " ".join([*adjectives, noun])
    return f"{_article(voice, part, said)}[{inner}] {behind} {after}"


def _hair(voice: Voice, said: Said) -> str:
    words = [voice.say(name, said[name]) for name in PART_ATTRIBUTES["hair"] if name in said]
    if len(words) == 2 and voice.chance(0.2):
        return f"[{words[0]} hair] that is [{words[1]}]"
    return f"[{' '.join(words)} hair]"


def _bag(voice: Voice, said: Said) -> str:
    pieces = [_garment(voice, "bag", said)]
    if "bag_place" in said:
        pieces.append(voice.choose(phrases.BAG_PLACES[said["bag_place"]]))
    if "bag_side" in said:
        pieces.append(voice.choose(phrases.BAG_SIDES).format(side=said["bag_side"]))
    return " ".join(pieces).format(poss=voice.possessive)


def _noun_phrase(voice: Voice, part: str, said: Said) -> list[Word]:
    if said.get(part) == "none":
        text = voice.choose(phrases.ABSENCES[part]).format(poss=voice.possessive)
    elif part == "hair":
        text = _hair(voice, said)
    elif part == "bag":
        text = _bag(voice, said)
    elif part == "glasses":
        text = f"[{voice.say('glasses', said['glasses'])}]"
    else:
        text = _garment(voice, part, said)
    return mark(text, _PART_REGION[part])


def _verb(parts: Sequence[str], said: Said) -> str:
    """Which verb a list of parts takes; what one carries or lacks is not worn."""
    if said.get(parts[0]) == "none":
        return "lack"
    if parts[0] in ("hair", "bag"):
        return {"hair": "have", "bag": "carry"}[parts[0]]
    # Nobody is dressed in a hat, and hardly in shoes alone.
    clothed = _CLOTHES.issuperset(parts) and set(parts) != {"shoes"}
    return "dress" if clothed else "wear"


def _join(items: Sequence[list[Word]], voice: Voice) -> list[Word]:
    """Joins phrases into "x, y and z"."""
    words = list(items[0])
    for number, item in enumerate(items[1:], start=2):
        if number == len(items):
            words = punctuate(words, ",") if number > 2 and voice.chance(0.3) else words
            words += mark(voice.choose(["and"] * 7 + ["as well as"]))
        else:
            words = punctuate(words, ",")
        words += item
    return words


def _qualities(voice: Voice, part: str, said: Said) -> tuple[list[str], str]:
    """The adjectives of a statement about a part and what follows them."""
    words, tail = [voice.say(f"{part}_color", said[f"{part}_color"])], ""
    if part == "hair" and "hair_length" in said:
        words.append(voice.say("hair_length", said["hair_length"]))
    if part == "top" and "top_pattern" in said:
        before, tail = _pattern(voice, said["top_pattern"])
        words += [before] if before else []
    if voice.chance(0.5):
        words.reverse()
    return words, tail


def statement(voice: Voice, part: str, said: Said) -> list[Word]:
    """A clause of its own about one part: "his sweater is red and striped"."""
    if part == "bag" or f"{part}_color" not in said or said.get(part) == "none":
        verb = voice.choose(_FINITE[_verb([part], said)])
        return [*mark(f"{voice.subject} {verb}"), *_noun_phrase(voice, part, said)]
    noun = "hair" if part == "hair" else voice.name(part, said)
    plural = said.get(part) in phrases.PAIRED or noun in phrases.PLURAL
    words, tail = _qualities(voice, part, said)
    owner = voice.choose([voice.possessive, voice.possessive, "the"])
    joined = "] and [".join(words)
    text = f"{owner} [{noun}] {'are' if plural else 'is'} [{joined}] {tail}"
    return mark(text, _PART_REGION[part])


def statements(voice: Voice, parts: Sequence[str], said: Said) -> list[Word]:
    """Statements about a few parts in one sentence."""
    words = statement(voice, parts[0], said)
    for part in parts[1:]:
        words = punctuate(words, ",") if voice.chance(0.4) else words
        words += [*mark(voice.choose(["and", "and", "while"])), *statement(voice, part, said)]
    return words


def _grouped(parts: Sequence[str], said: Said) -> list[list[str]]:
    """Parts that share a verb, in the order in which the verbs first come."""
    groups: dict[str, list[str]] = {}
    for part in parts:
        verb = _verb([part], said)
        groups.setdefault("wear" if verb == "dress" else verb, []).append(part)
    return list(groups.values())


def sentence(
    voice: Voice, subject: str, parts: Sequence[str], said: Said, *, finite: bool
) -> list[Word]:
    """Subject and a list of parts, with verbs ("wears") or participles ("wearing")."""
    verbs = _FINITE if finite else _PARTICIPLE
    words = mark(subject)
    groups = _grouped(parts, said)
    for number, members in enumerate(groups, start=1):
        verb = voice.choose(verbs[_verb(members, said)])
        last = 1 < number == len(groups)
        if number > 1 and (verb == "with" or not last or voice.chance(0.4)):
            words = punctuate(words, ",")
        if last and verb != "with" and (finite or voice.chance(0.7)):
            words += mark("and")
        words += mark(verb)
        words += _join([_noun_phrase(voice, part, said) for part in members], voice)
    return words


def introduce(voice: Voice, said: Said, article: str) -> str:
    """The person as first spoken of: "a slim woman"."""
    build = f"{voice.say('build', said['build'])} " if "build" in said else ""
    return f"{article} {build}{voice.noun}"

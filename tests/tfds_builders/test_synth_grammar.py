import collections
import string

import numpy as np
import pytest

from tfds_builders.synth_pedes import phrases
from tfds_builders.synth_pedes.attributes import ATTRIBUTE_REGIONS, ATTRIBUTES, COLORS, REGIONS
from tfds_builders.synth_pedes.grammar import (
    CAPTION_WORDS,
    MAX_WORDS,
    MIN_WORDS,
    describe,
    is_describable,
)
from tfds_builders.synth_pedes.identities import draw_identities

SPELLING = {name: color for color, names in phrases.COLOR_SYNONYMS.items() for name in names}
ALWAYS_SHOWN = {"person", "build", "hair_color", "top", "top_color", "bottom", "bottom_color"}


def tokens_of(text):
    return text.lower().translate(str.maketrans("", "", string.punctuation)).split()


@pytest.fixture(scope="module")
def written():
    """Captions of many people, of each of whom another part of the attributes is shown."""
    rng = np.random.default_rng(0)
    captions = []
    for values in draw_identities(4, 800):
        for _ in range(3):
            hidden = {name for name in ATTRIBUTES if rng.random() < 0.15} - ALWAYS_SHOWN
            shown = set(ATTRIBUTES) - hidden
            captions.append((values, shown, describe(values, shown, rng)))
    return captions


def test_length_is_in_range(written):
    lengths = [len(tokens_of(caption.text)) for _, _, caption in written]
    assert MIN_WORDS <= min(lengths) <= max(lengths) <= MAX_WORDS <= CAPTION_WORDS
    assert 25 < np.mean(lengths) < 35


def test_every_word_has_a_region(written):
    for _, _, caption in written:
        assert len(caption.regions) == len(tokens_of(caption.text))
        assert set(caption.regions) <= set(range(-1, len(REGIONS)))


def test_says_only_what_is_shown(written):
    for values, shown, caption in written:
        assert caption.mentions <= shown
        absent = {name for name in caption.mentions if values[name] == "none"}
        assert absent <= {"hat", "glasses", "bag"}


def test_regions_with_words_are_those_of_the_mentions(written):
    for values, _, caption in written:
        with_words = {REGIONS[region] for region in caption.regions if region >= 0}
        assert with_words == {ATTRIBUTE_REGIONS[name] for name in caption.mentions} - {None}, (
            values,
            caption,
        )


def test_colours_are_those_of_the_region(written):
    """A colour word on the torso is the colour of the top, and is counted as mentioned."""
    attribute = {"torso": "top_color", "legs": "bottom_color", "feet": "shoes_color"}
    attribute["bag"] = "bag_color"
    for values, _, caption in written:
        found = collections.defaultdict(set)
        for word, region in zip(tokens_of(caption.text), caption.regions, strict=True):
            color = SPELLING.get(word, word)
            if color in COLORS and region >= 0:
                found[REGIONS[region]].add(color)
        for region, name in attribute.items():
            assert found[region] == ({values[name]} if name in caption.mentions else set())
        head = {n for n in ("hair_color", "hat_color") if n in caption.mentions}
        assert found["head"] <= {values[name] for name in head}


def test_sides_are_said_when_counted(written):
    for values, _, caption in written:
        words = {word.removesuffix("hand") for word in tokens_of(caption.text)}
        said = words & {"left", "right"}
        assert said == ({values["bag_side"]} if "bag_side" in caption.mentions else set())


def test_function_words_have_no_region(written):
    for _, _, caption in written:
        for word, region in zip(tokens_of(caption.text), caption.regions, strict=True):
            if word in {"a", "an", "and", "the", "is", "are", "he", "she", "his", "her", "wearing"}:
                assert region == -1


def test_articles_go_with_the_next_word(written):
    for _, _, caption in written:
        words = tokens_of(caption.text)
        for word, following in zip(words, words[1:], strict=False):
            if word in ("a", "an"):
                assert (word == "an") == (following[0] in "aeiou")


def test_reads_as_sentences(written):
    for _, _, caption in written:
        assert caption.text[0].isupper()
        assert caption.text.endswith(".")
        assert not set(caption.text) & set("[]{}")
        assert "  " not in caption.text
        assert " ," not in caption.text


def test_words_vary(written):
    vocabulary = collections.Counter(w for _, _, c in written for w in tokens_of(c.text))
    assert 150 < len(vocabulary) < 400
    for value_names in phrases.SYNONYMS.values():
        for synonyms in value_names.values():
            for synonym in synonyms:
                assert set(tokens_of(synonym)) <= vocabulary.keys()
    assert len({caption.text for _, _, caption in written}) > 0.99 * len(written)


def test_parts_come_in_any_order(written):
    first = collections.Counter()
    for _, _, caption in written:
        first.update([next(region for region in caption.regions if region >= 0)])
    assert all(first[region] > 0.05 * len(written) for region in range(len(REGIONS)))


def remark_of(text):
    templates = [remark.replace("{subject}", "") for remark in phrases.REMARKS]
    return [i for i, remark in enumerate(templates) if text.lower().endswith(remark + ".")]


def test_remarks_depend_on_neither_person_nor_picture():
    first, second = draw_identities(9, 8)[::7]
    full = set(ATTRIBUTES)
    remarks = []
    for seed in range(200):
        captions = [
            describe(values, shown, np.random.default_rng(seed))
            for values, shown in ((first, full), (second, full), (first, ALWAYS_SHOWN | {"shoes"}))
        ]
        found = [remark_of(caption.text) for caption in captions]
        assert found[0] == found[1] == found[2]
        remarks += found[0]
    assert 10 < len(remarks) < 60


def test_same_randomness_gives_the_same_caption():
    values = draw_identities(1, 4)[0]
    first, second = (describe(values, set(ATTRIBUTES), np.random.default_rng(7)) for _ in range(2))
    assert first == second


def test_whatever_shows_enough_can_be_described():
    """Whole parts are hidden until just enough is left, also for people with few things."""
    rng = np.random.default_rng(2)
    tried = 0
    for values in draw_identities(6, 200):
        for _ in range(20):
            hidden = rng.choice(REGIONS, size=rng.integers(1, 4), replace=False)
            shown = {n for n, region in ATTRIBUTE_REGIONS.items() if region not in hidden}
            shown -= {name for name in shown if rng.random() < 0.1}
            if is_describable(values, shown):
                assert describe(values, shown, rng).mentions <= shown
                tried += 1
    assert tried > 200


def test_too_little_to_say_is_an_error():
    values = draw_identities(1, 4)[0]
    with pytest.raises(ValueError, match="no caption of 20 to 40 words.*show more"):
        describe(values, {"person"}, np.random.default_rng(0))

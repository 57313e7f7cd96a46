"""synth_pedes as a yardstick: what can be reached by reading everything, and by counting words."""

import numpy as np
import pytest

from tfds_builders.synth_pedes.attributes import ATTRIBUTES
from tfds_builders.synth_pedes.examples import make_examples
from tfds_builders.synth_pedes.identities import draw_identities
from tfds_builders.synth_pedes.synth_pedes_dataset_builder import Builder

CEILING = (85.0, 97.0)
BAG_BELOW = 25.0
ABSENCES = ("hat", "glasses", "bag")


def read_test_split(name, num_ids=None):
    config = next(c for c in Builder.BUILDER_CONFIGS if c.name == name)
    first = config.train + config.val
    everyone = draw_identities(config.seed, first + config.test, alone=config.train)
    count = num_ids or config.test
    members = {first + i: values for i, values in enumerate(everyone[first : first + count])}
    rows = list(make_examples(config.seed, "test", members))
    return {
        "values": np.array([row["attributes"] for row in rows]),
        "pids": np.array([row["person_id"] for row in rows]),
        "shown": np.array([row["shown"] for row in rows], bool),
        "mentions": np.array([row["caption_mentions"] for row in rows], bool),
    }


def expected_rank1(scores, query_pids, gallery_pids):
    best = scores == scores.max(axis=1, keepdims=True)
    right = best & (query_pids[:, None] == gallery_pids[None, :])
    return 100 * np.mean(right.sum(axis=1) / best.sum(axis=1))


def oracle_scores(mentions, query_values, shown, gallery_values):
    """Fewest contradictions, then most confirmations."""
    scores = np.zeros((len(mentions), len(shown)), np.int16)
    for index in range(mentions.shape[1]):
        known = np.outer(mentions[:, index], shown[:, index])
        equal = query_values[:, index, None] == gallery_values[None, :, index]
        scores += np.where(known, np.where(equal, 1, -100), 0).astype(np.int16)
    return scores


def value_words():
    """[A, V] number of the word for each value; -1 where nothing is said. Parts share words."""
    numbers = {}
    table = np.full((len(ATTRIBUTES), max(map(len, ATTRIBUTES.values()))), -1)
    for row, (name, values) in enumerate(ATTRIBUTES.items()):
        for column, value in enumerate(values):
            if value != "none" or name in ABSENCES:
                table[row, column] = numbers.setdefault(value, len(numbers))
    return table


def bags_of_words(flags, values):
    """[N, W] how often each word stands for a flagged attribute."""
    table = value_words()
    bags = np.zeros((len(flags), table.max() + 1), int)
    for index in range(flags.shape[1]):
        words = table[index, values[:, index]]
        rows = np.flatnonzero(flags[:, index] & (words >= 0))
        np.add.at(bags, (rows, words[rows]), 1)
    return bags


def shared_words(first, second):
    """[N, M] size of the intersection of multisets."""
    counts = range(1, max(first.max(), second.max()) + 1)
    pairs = ((np.float32(first >= n), np.float32(second >= n)) for n in counts)
    return sum(one @ other.T for one, other in pairs)


def rank1_of_both(split):
    pictures, captions, _ = split["mentions"].shape
    own = np.repeat(np.arange(pictures), captions)
    mentions = split["mentions"].reshape(len(own), -1)
    values, shown, pids = split["values"], split["shown"], split["pids"]
    bags = bags_of_words(mentions, values[own]), bags_of_words(shown, values)
    missing = shared_words(*bags)
    surplus = missing - 0.01 * bags[1].sum(axis=1)  # and as little else as may be
    scores = {
        "oracle": oracle_scores(mentions, values[own], shown, values),
        "bag": missing,
        "tidy_bag": surplus,
    }
    return {name: expected_rank1(score, pids[own], pids) for name, score in scores.items()}


@pytest.mark.parametrize(
    ("config", "num_ids"),
    [
        ("quickstart", 200),
        pytest.param("full", 1000, marks=pytest.mark.slow),
    ],
)
def test_is_a_yardstick_and_no_gift(config, num_ids):
    rank1 = rank1_of_both(read_test_split(config, num_ids))
    assert CEILING[0] <= rank1["oracle"] <= CEILING[1]
    assert max(rank1["bag"], rank1["tidy_bag"]) <= rank1["oracle"] - BAG_BELOW


def test_reference_computations_by_hand():
    """Two persons, two attributes; the caption says the first only; then both tie, then not."""
    mentions, values = np.array([[True, False]]), np.array([[1, 0], [1, 1]])
    shown = np.array([[True, True], [True, True]])
    pids = np.array([0, 1])
    scores = oracle_scores(mentions, values[:1], shown, values)
    assert expected_rank1(scores, pids[:1], pids) == 50
    scores = oracle_scores(~mentions, values[:1], shown, values)
    assert expected_rank1(scores, pids[:1], pids) == 100
    hidden = shown & [[True, False], [True, True]]
    assert oracle_scores(~mentions, values[:1], hidden, values).tolist() == [[0, -100]]


def test_swapped_colours_make_the_same_bag():
    names = list(ATTRIBUTES)
    values = np.zeros((2, len(names)), int)
    values[0, names.index("top_color")], values[1, names.index("bottom_color")] = 3, 3
    flags = np.ones(values.shape, bool)
    bags = bags_of_words(flags, values)
    assert np.array_equal(*bags)
    assert shared_words(bags[:1], bags).tolist() == [[bags[0].sum()] * 2]

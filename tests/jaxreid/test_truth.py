"""Scores against the synthetic truth, worked out by hand and by slow transcripts."""

import doctest

import numpy as np
import pytest

from jaxreid import truth
from jaxreid.truth import oracle_rank1, word_part_accuracy


def test_docstring_examples():
    result = doctest.testmod(truth)
    assert result.attempted == 4
    assert result.failed == 0


def test_oracle_by_hand():
    gallery_values = np.array([[0, 5, 1], [0, 5, 2], [3, 5, 1], [0, 6, 1]])
    gallery_pids = np.array([10, 11, 12, 13])
    shown = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 1]], np.uint8)
    query_values = gallery_values[[0, 1, 2, 3]]
    mentions = np.array(
        [
            # Person 10, all said: images 0 (3 confirmed), 1 and 3 (2 each) have no contradiction.
            [1, 1, 1],
            # Person 11, the first two said: images 0 and 1 tie with two confirmed: half.
            [1, 1, 0],
            # Person 12, nothing said: all four images tie: a quarter.
            [0, 0, 0],
            # Person 13, the middle said (6): image 3 does not show it; the others contradict.
            [0, 1, 0],
        ],
        np.uint8,
    )
    result = oracle_rank1(mentions, query_values, gallery_pids, shown, gallery_values, gallery_pids)
    assert result == pytest.approx(100 * (1 + 0.5 + 0.25 + 1) / 4)


def test_one_contradiction_outweighs_any_number_of_confirmations():
    values = np.array([[0, 0, 0, 0], [1, 0, 0, 0]])
    shown = np.array([[0, 0, 0, 0], [1, 1, 1, 1]])
    result = oracle_rank1(
        np.ones((1, 4), bool), values[:1], np.array([0]), shown, values, np.array([0, 1])
    )
    assert result == 100


def test_oracle_equals_its_transcript(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(truth, "_BLOCK_SIZE", 7)
    mentions, shown = rng.integers(0, 2, (30, 5)), rng.integers(0, 2, (20, 5))
    query_values, gallery_values = rng.integers(0, 3, (30, 5)), rng.integers(0, 3, (20, 5))
    query_pids, gallery_pids = rng.integers(0, 5, 30), rng.integers(0, 5, 20)
    total = 0.0
    for q in range(30):
        keys = []
        for g in range(20):
            known = [a for a in range(5) if mentions[q, a] and shown[g, a]]
            wrong = sum(query_values[q, a] != gallery_values[g, a] for a in known)
            keys.append((wrong, wrong - len(known)))
        tied = [g for g in range(20) if keys[g] == min(keys)]
        total += sum(gallery_pids[g] == query_pids[q] for g in tied) / len(tied)
    result = oracle_rank1(mentions, query_values, query_pids, shown, gallery_values, gallery_pids)
    assert result == pytest.approx(100 * total / 30)


def test_oracle_needs_captions_and_images():
    none = np.zeros((0, 2), int)
    with pytest.raises(ValueError, match="0 captions and 0 images"):
        oracle_rank1(none, none, none[:, 0], none, none, none[:, 0])


# Of 4 strips the head lies in 0, the coat in 1 and 2, shoes by a hair under half a strip in 3.
HEAD, COAT, SHOES, STREET = [0.0, 0, 0.2, 1], [0.25, 0, 0.7, 1], [0.88, 0, 1.0, 1], [-1.0] * 4
BOXES = np.array([[HEAD, COAT, SHOES, STREET]], np.float32)


def _scores(*best):
    return np.eye(4, dtype=np.float32)[list(best)][None]


def test_word_part_by_hand():
    # Words: head right, coat right (strip 2), coat wrong (strip 3), no region, and regions that do
    # not count or are not shown. The best constant strip, 1 or 2, is right for the two coats.
    scores = _scores(0, 2, 3, 1, 3, 0)
    regions = np.array([[0, 1, 1, -1, 2, 3]])
    result = word_part_accuracy(scores, regions, BOXES, [0, 1, 3], 4)
    assert result == {
        "word_part_accuracy": pytest.approx(200 / 3),
        "word_part_constant": pytest.approx(200 / 3),
        "num_words": 3,
    }


def test_word_whose_box_no_strip_reaches_is_a_miss_for_both():
    result = word_part_accuracy(_scores(3, 0), np.array([[2, 0]]), BOXES, [0, 2], 4)
    assert result == {"word_part_accuracy": 50.0, "word_part_constant": 50.0, "num_words": 2}


@pytest.mark.parametrize(("bottom", "hits"), [(0.375, 100.0), (0.37, 0.0)])
def test_exactly_half_a_strip_is_enough(bottom, hits):
    boxes = np.array([[[0.25, 0, bottom, 1]]], np.float32)
    result = word_part_accuracy(_scores(1), np.array([[0]]), boxes, [0], 4)
    assert result["word_part_accuracy"] == result["word_part_constant"] == hits


def test_half_of_a_sixth_survives_rounding():
    boxes = np.array([[[k / 6, 0, k / 6 + 1 / 12, 1] for k in range(6)]], np.float32)
    scores = np.eye(6)[None]
    result = word_part_accuracy(scores, np.arange(6)[None], boxes, np.arange(6), 6)
    assert result["word_part_accuracy"] == 100


def test_equal_scores_count_as_expected():
    result = word_part_accuracy(np.ones((1, 1, 4)), np.array([[1]]), BOXES, [1], 4)
    assert result["word_part_accuracy"] == 50
    assert result["word_part_constant"] == 100


def test_ragged_scores_and_longer_regions():
    boxes = np.repeat(BOXES, 3, axis=0)
    regions = np.array([[0, 1, -1, -1], [1, 0, 1, 0], [0, 0, 0, 0]])
    scores = [_scores(0, 0)[0], _scores(1, 0, 2, 0)[0], np.zeros((0, 4))]
    result = word_part_accuracy(scores, regions, boxes, [0, 1], 4)
    assert result["num_words"] == 6
    assert result["word_part_accuracy"] == pytest.approx(500 / 6)
    padded = np.zeros((3, 4, 4))
    for row, one in zip(padded, scores, strict=True):
        row[: len(one)] = one
    shorter = np.where(np.arange(4) < [[2], [4], [0]], regions, -1)
    assert word_part_accuracy(padded, shorter, boxes, [0, 1], 4) == result


def test_no_word_counts():
    result = word_part_accuracy(_scores(0), np.array([[-1]]), BOXES, [0], 4)
    assert result == {"word_part_accuracy": 0.0, "word_part_constant": 0.0, "num_words": 0}


def test_scores_of_another_set_are_refused():
    with pytest.raises(ValueError, match="expected 1 of shape"):
        word_part_accuracy(_scores(0), np.array([[0]]), BOXES, [0], 6)

"""Scores that only a synthetic set can give, since it knows the truth about its figures.

The attribute oracle is the ceiling of text-to-image retrieval: it reads what a caption says and
sees what an image shows, without error. Word-part accuracy tells whether the word attention of a
network sends a word to the strip of the image where the body part stands that it speaks of.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

_BLOCK_SIZE = 256


def oracle_rank1(
    mentions: Shaped[np.ndarray, "Q A"],
    query_values: Int[np.ndarray, "Q A"],
    query_pids: Int[np.ndarray, " Q"],
    shown: Shaped[np.ndarray, "G A"],
    gallery_values: Int[np.ndarray, "G A"],
    gallery_pids: Int[np.ndarray, " G"],
) -> float:
    """Rank-1 of a reader who knows every attribute that is both mentioned and shown.

    The best images of a caption are those with the fewest contradictions (mentioned, shown and
    different) and, among these, the most confirmations (mentioned, shown and equal). A tie counts
    as expected: the share of right images among the best.

    Args:
      mentions: [Q, A] 0 or 1, whether the caption mentions the attribute.
      query_values: [Q, A] value of the attribute of the caption's identity.
      query_pids: [Q] identity of the caption.
      shown: [G, A] 0 or 1, whether the image shows the attribute.
      gallery_values: [G, A] value of the attribute of the image's identity.
      gallery_pids: [G] identity of the image.

    Returns:
      Expected Rank-1 in percent, over all captions.

    Raises:
      ValueError: no caption or no image.

    >>> one, value = np.array([[1]]), np.array([[3], [4]])
    >>> oracle_rank1(one, value[:1], np.array([7]), np.array([[1], [1]]), value, np.array([7, 8]))
    100.0
    """
    if not len(query_pids) or not len(gallery_pids):
        raise ValueError(
            f"the oracle got {len(query_pids)} captions and {len(gallery_pids)} images; it needs "
            "at least one of each: check the split."
        )
    expected = 0.0
    for start in range(0, len(query_pids), _BLOCK_SIZE):
        rows = slice(start, start + _BLOCK_SIZE)
        agreement = _agreement(mentions[rows], query_values[rows], shown, gallery_values)
        best = agreement == agreement.max(axis=1, keepdims=True)
        right = best & (query_pids[rows, None] == gallery_pids[None, :])
        expected += float(np.sum(right.sum(axis=1) / best.sum(axis=1)))
    return 100.0 * expected / len(query_pids)


def _agreement(
    mentions: Shaped[np.ndarray, "Q A"],
    query_values: Int[np.ndarray, "Q A"],
    shown: Shaped[np.ndarray, "G A"],
    gallery_values: Int[np.ndarray, "G A"],
) -> Int[np.ndarray, "Q G"]:
    num_attributes = mentions.shape[1]
    agreement = np.zeros((len(mentions), len(shown)), np.int32)
    for index in range(num_attributes):
        known = (mentions[:, index, None] != 0) & (shown[None, :, index] != 0)
        equal = query_values[:, index, None] == gallery_values[None, :, index]
        # One contradiction outweighs any number of confirmations.
        agreement += np.where(known, np.where(equal, 1, -(num_attributes + 1)), 0)
    return agreement


def word_part_accuracy(
    scores: Float[np.ndarray, "Q L K"] | Sequence[Float[np.ndarray, "_ K"]],
    regions: Int[np.ndarray, "Q M"],
    boxes: Float[np.ndarray, "Q R 4"],
    word_regions: Sequence[int] | Int[np.ndarray, " W"],
    num_strips: int,
) -> dict[str, float | int]:
    """Share of words whose highest-scoring strip lies on the body region they speak of.

    A word counts if its true region is one of `word_regions` and its image shows it. It is right if
    strip k, the k-th of K equal horizontal strips from the top, overlaps the region's box by at
    least half the height of a strip. A tie of scores counts as expected. The reference is the best
    *constant* strip: the one strip that is right for most words.

    Args:
      scores: word-part scores of each caption, [Q, L, K] or Q arrays [L_i, K].
      regions: [Q, M] true region of each word, -1 where none, in the word order of `scores`; words
        beyond the shorter of the two do not count.
      boxes: [Q, R, 4] y0, x0, y1, x1 of each region in the caption's own image, as fractions; all
        -1 where not shown.
      word_regions: indices of the regions that count.
      num_strips: K.

    Returns:
      "word_part_accuracy" and "word_part_constant" in percent, 0 if no word counts, and
      "num_words", the words that count.

    Raises:
      ValueError: scores of another number of captions or strips.

    >>> scores, box = np.array([[[0.1, 0.9], [0.8, 0.2]]]), np.array([[[0.5, 0.0, 1.0, 1.0]]])
    >>> word_part_accuracy(scores, np.array([[0, 0]]), box, [0], 2)
    {'word_part_accuracy': 50.0, 'word_part_constant': 100.0, 'num_words': 2}
    """
    if len(scores) != len(regions) or any(one.shape[-1] != num_strips for one in scores):
        shapes = sorted({one.shape for one in scores})
        raise ValueError(
            f"scores hold {len(scores)} captions of shapes {shapes}; expected {len(regions)} "
            f"of shape (words, {num_strips}): give the scores and the truth of the same split."
        )
    reached = _reached(boxes, num_strips)
    counts = (boxes[..., 2] >= 0) & np.isin(np.arange(boxes.shape[1]), word_regions)
    share, hits, num_words = 0.0, np.zeros(num_strips), 0
    for index, caption in enumerate(scores):
        region = regions[index, : len(caption)]
        words = np.flatnonzero((region >= 0) & counts[index, region])
        right = reached[index, region[words]]
        best = caption[words] == caption[words].max(axis=-1, keepdims=True, initial=-np.inf)
        share += float(np.sum((best & right).sum(axis=1) / np.maximum(best.sum(axis=1), 1)))
        hits += right.sum(axis=0)
        num_words += len(words)
    return {
        "word_part_accuracy": 100.0 * share / max(num_words, 1),
        "word_part_constant": 100.0 * float(hits.max()) / max(num_words, 1),
        "num_words": num_words,
    }


def _reached(boxes: Float[np.ndarray, "Q R 4"], num_strips: int) -> Bool[np.ndarray, "Q R K"]:
    top = np.arange(num_strips) / num_strips
    bottom = np.arange(1, num_strips + 1) / num_strips
    overlap = np.minimum(boxes[..., 2, None], bottom) - np.maximum(boxes[..., 0, None], top)
    # Boxes are float32: a box that ends exactly in the middle of a strip must not fail by rounding.
    return overlap >= 0.5 / num_strips - 1e-6

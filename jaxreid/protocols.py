"""Queries of three kinds on sets with a query and a gallery side, and their single-shot draws.

AXM-Net (Farooq et al., arXiv:2101.08238) searches with an image (i2i), a sentence (t2i), or both
(it2i). With v and t the embeddings of image and sentence, and v' that of a gallery image, the score
is v.v', t.v', and (v + t).v', the sum of the two.

A single-shot draw takes one query image of each identity, with its first sentence, and one gallery
image of each identity, by lot; it2i searches the whole gallery. What a draw gives is a mean over
identities, of which the mean and the standard deviation over draws are reported. Everything here is
a pure function of arrays and seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxreid import metrics

MODES = {"i2i": "image to image", "t2i": "text to image", "it2i": "image and text to image"}
SCORES = ("rank1", "rank5", "rank10", "map", "minp")


def _field(shape: tuple[int, ...], dtype: type) -> Any:
    return dataclasses.field(default_factory=lambda: np.zeros(shape, dtype))


@dataclasses.dataclass(frozen=True)
class Side:
    """N images and M sentences of the query or the gallery side.

    Attributes:
      images: [N, D] embeddings.
      pids: [N] identity of each image.
      captions: [M, D] embeddings; a gallery needs none.
      caption_image: [M] position of the image that each sentence describes.
      views: key of each image's view, "" where unknown; None where no view is known.
    """

    images: Float[np.ndarray, "N D"]
    pids: Int[np.ndarray, " N"]
    captions: Float[np.ndarray, "M _"] = _field((0, 0), np.float32)
    caption_image: Int[np.ndarray, " M"] = _field((0,), np.int32)
    views: Sequence[str] | None = None

    @property
    def has_caption(self) -> Bool[np.ndarray, " N"]:
        """Which images a sentence describes."""
        return np.isin(np.arange(len(self.pids)), self.caption_image)


@dataclasses.dataclass(frozen=True)
class Draw:
    """One draw, as positions of images.

    Attributes:
      query: [Q] query images, one of each identity.
      gallery: [I] gallery images, one of each identity.
      whole: [G] the gallery without what its identity's query must not meet.
      num_left_out: identities that are not asked for, since all their gallery images show the view
        of their query image.
    """

    query: Int[np.ndarray, " Q"]
    gallery: Int[np.ndarray, " I"]
    whole: Int[np.ndarray, " G"]
    num_left_out: int


def first_captions(caption_image: Int[np.ndarray, " M"], num_images: int) -> Int[np.ndarray, " N"]:
    """Finds the first sentence of each image.

    Args:
      caption_image: [M] position of the image that each sentence describes.
      num_images: N.

    Returns:
      [N] position of its first sentence, -1 for an image without one.

    >>> first_captions(np.array([0, 0, 2]), 3).tolist()
    [0, -1, 2]
    """
    first = np.full(num_images, -1, np.int64)
    # Backwards, so that the first one stays.
    first[caption_image[::-1]] = np.arange(len(caption_image))[::-1]
    return first


def draw_single_shot(query: Side, gallery: Side, *, seed: int, number: int) -> Draw:
    """Draws one query image and one gallery image of each identity.

    The query image is one with a sentence, if the identity has any, so that all three kinds of
    query ask for the same people. The gallery image shows another view than it. An identity that
    only one side has is drawn there all the same: its query cannot be answered, its gallery image
    distracts.

    Args:
      query: N images to search with; embeddings do not matter.
      gallery: G images to search in.
      seed: of all draws.
      number: of this draw, from 0; each is drawn independently of the others.

    Returns:
      The images drawn, identities in ascending order.
    """
    query_codes, gallery_codes = _view_codes(query, gallery)
    queries, galleries = _rows(query.pids), _rows(gallery.pids)
    has_caption = query.has_caption
    pids = sorted({*queries, *galleries})
    # Two numbers for each identity, whether used or not.
    lots = np.random.default_rng((seed, number)).random((len(pids), 2))
    chosen_queries, chosen_gallery = [], []
    allowed = np.ones(len(gallery.pids), bool)
    num_left_out = 0
    for pid, (query_lot, gallery_lot) in zip(pids, lots, strict=True):
        images = galleries.get(pid, np.zeros(0, np.int64))
        if pid in queries:
            captioned = queries[pid][has_caption[queries[pid]]]
            asked = _pick(captioned if len(captioned) else queries[pid], query_lot)
            other = images[gallery_codes[images] != query_codes[asked]]
            if len(images) and not len(other):
                num_left_out += 1
            else:
                allowed[np.setdiff1d(images, other)] = False
                chosen_queries.append(asked)
                images = other
        if len(images):
            chosen_gallery.append(_pick(images, gallery_lot))
    return Draw(
        np.array(chosen_queries, np.int64),
        np.array(chosen_gallery, np.int64),
        np.flatnonzero(allowed),
        num_left_out,
    )


def _rows(pids: Int[np.ndarray, " N"]) -> dict[int, Int[np.ndarray, " _"]]:
    """Positions of each identity's images, in order."""
    distinct, starts = np.unique(np.sort(pids), return_index=True)
    return dict(
        zip(distinct.tolist(), np.split(np.argsort(pids, kind="stable"), starts[1:]), strict=True)
    )


def _pick(rows: Int[np.ndarray, " _"], lot: float) -> int:
    return int(rows[int(lot * len(rows))])


def _view_codes(query: Side, gallery: Side) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " G"]]:
    """Numbers views, equal ones alike; what is unknown equals nothing of the other side."""
    names = [side.views or [""] * len(side.pids) for side in (query, gallery)]
    known = {name: code for code, name in enumerate(sorted({*names[0], *names[1]} - {""}))}
    query_codes, gallery_codes = (
        np.array([known.get(name, unknown) for name in views], np.int64)
        for views, unknown in zip(names, (-1, -2), strict=True)
    )
    return query_codes, gallery_codes


def score_draw(query: Side, gallery: Side, draw: Draw) -> dict[str, metrics.RetrievalMetrics]:
    """Scores the three kinds of query in one draw.

    Args:
      query: side to search with.
      gallery: side to search in.
      draw: of these sides.

    Returns:
      By mode: i2i and t2i among one gallery image of each identity, it2i among all of them. Images
      without a sentence are asked for by i2i alone; a mode without any query is left out.
    """
    captions = first_captions(query.caption_image, len(query.images))[draw.query]
    galleries = {"i2i": draw.gallery, "t2i": draw.gallery, "it2i": draw.whole}
    found = {}
    for mode, rows in galleries.items():
        asked = np.ones(len(captions), bool) if mode == "i2i" else captions >= 0
        if asked.any():
            images = draw.query[asked]
            found[mode] = metrics.retrieval_metrics(
                _embed(mode, query, images, captions[asked]),
                gallery.images[rows],
                query.pids[images],
                gallery.pids[rows],
            )
    return found


def score_all(query: Side, gallery: Side) -> dict[str, metrics.RetrievalMetrics]:
    """Scores every query against the whole gallery, whatever its view.

    Args:
      query: side to search with.
      gallery: side to search in.

    Returns:
      By mode: i2i asks with each image, t2i with each sentence, it2i with each image that has a
      sentence, and the first of them (see `query_rows`). A mode without any query is left out.
    """
    found = {}
    for mode in MODES:
        images, captions = query_rows(mode, query.caption_image, len(query.images))
        if len(images):
            found[mode] = metrics.retrieval_metrics(
                _embed(mode, query, images, captions),
                gallery.images,
                query.pids[images],
                gallery.pids,
            )
    return found


def query_rows(
    mode: str, caption_image: Int[np.ndarray, " M"], num_images: int
) -> tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " Q"]]:
    """Lists the queries of `score_all`.

    Args:
      mode: one of `MODES`.
      caption_image: [M] position of the image that each sentence describes.
      num_images: images of the query side.

    Returns:
      Image and sentence of each query, the sentence -1 for i2i.
    """
    if mode == "t2i":
        return np.asarray(caption_image, np.int64), np.arange(len(caption_image))
    images = np.arange(num_images)
    if mode == "i2i":
        return images, np.full(num_images, -1)
    first = first_captions(caption_image, num_images)
    return images[first >= 0], first[first >= 0]


def _embed(
    mode: str, query: Side, images: Int[np.ndarray, " Q"], captions: Int[np.ndarray, " Q"]
) -> Float[np.ndarray, "Q D"]:
    if mode == "i2i":
        return query.images[images]
    if mode == "t2i":
        return query.captions[captions]
    return query.images[images] + query.captions[captions]


def evaluate_sides(
    query: Side, gallery: Side, *, draws: int, seed: int
) -> tuple[dict[str, metrics.RetrievalMetrics], dict[str, Any]]:
    """Scores all draws, and every query against the whole gallery.

    Args:
      query: side to search with.
      gallery: side to search in.
      draws: number of single-shot draws.
      seed: of these.

    Returns:
      What became of every query in the whole gallery, by mode, and the result as JSON takes it:
      ``protocol`` (``single_shot``), ``draws``, ``seed``; ``modes``, by mode, `SCORES` over draws
      as `spread` gives them; ``all``, by mode, the scores of all queries and their number;
      ``num_ids`` on both sides, ``num_queries`` (images), ``num_captions`` of these,
      ``num_gallery``; ``num_unmatched``, identities that only ``query`` or ``gallery`` has;
      ``num_without_caption``, query images that ask as images only; ``num_left_out`` of each draw.

    Raises:
      ValueError: no identity is on both sides, or a draw has no query.
    """
    drawn = [draw_single_shot(query, gallery, seed=seed, number=number) for number in range(draws)]
    both = np.intersect1d(query.pids, gallery.pids)
    if not len(both):
        raise ValueError(
            "no query can be found: no identity is in both query and gallery. See that person ids "
            "mean the same on both sides, and build the set again."
        )
    if not all(len(draw.query) for draw in drawn):
        raise ValueError(
            "no query can be asked: each person's query and gallery images show the same view. "
            "Divide the set by views, and build it again."
        )
    scores = [score_draw(query, gallery, draw) for draw in drawn]
    found = score_all(query, gallery)
    return found, {
        "protocol": "single_shot",
        "draws": draws,
        "seed": seed,
        "modes": {
            mode: spread([draw[mode].summary() for draw in scores], SCORES)
            for mode in found
            if all(mode in draw for draw in scores)
        },
        "all": {mode: of_mode.summary() for mode, of_mode in found.items()},
        "num_ids": len(both),
        "num_queries": len(query.pids),
        "num_captions": len(query.captions),
        "num_gallery": len(gallery.pids),
        "num_unmatched": {
            "query": len(np.setdiff1d(query.pids, gallery.pids)),
            "gallery": len(np.setdiff1d(gallery.pids, query.pids)),
        },
        "num_without_caption": int(np.sum(~query.has_caption)),
        "num_left_out": [draw.num_left_out for draw in drawn],
    }


def spread(
    summaries: Sequence[Mapping[str, float]], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Sums up scores over draws.

    Args:
      summaries: scores of each draw by name, at least one.
      names: of the scores wanted.

    Returns:
      By name, ``mean`` and ``std``: the sample standard deviation (n - 1), 0 for a single draw.

    >>> spread([{"rank1": 50.0}, {"rank1": 52.0}, {"rank1": 54.0}], ["rank1"])
    {'rank1': {'mean': 52.0, 'std': 2.0}}
    """
    result = {}
    for name in names:
        values = np.array([scores[name] for scores in summaries])
        std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        result[name] = {"mean": float(values.mean()), "std": std}
    return result

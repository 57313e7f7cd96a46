"""Retrieval metrics from embeddings: Rank-k, mAP, mINP, in percent, on the device, in blocks.

One definition for every number of this library. The gallery is ranked by similarity, the dot
product of the embeddings. Ties are broken against us: a wrong item as similar as a right one ranks
before it, so that a constant similarity scores nothing. So the i-th match of a query (by
similarity) has the rank

    r_i = i + number of wrong gallery items at least as similar as it,      i = 1 .. R

and ranks come from counting, without sorting the gallery. Every query counts: one without a match
in the gallery scores 0 and is reported. With R matches,

- Rank-k: share of queries with r_1 <= k;
- mAP: mean of AP = (1/R) sum_i i / r_i;
- mINP: mean of R / r_R (Ye et al., "Deep learning for person re-identification", arXiv:2001.04193);
- map_trapezoid: mean of the trapezoid area under the precision-recall curve,
  (1/R) sum_i (p_i + i / r_i) / 2, with p_i = (i - 1) / (r_i - 1) the precision just before hit i,
  and 1 before rank 1: the evaluation of the old Market-1501 code. It is never above mAP and must
  not be compared with it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from jaxreid import counting
from jaxreid.counting import Embeddings

Ids = Int[np.ndarray, " _"] | Int[Array, " _"]

# Rows of queries and of gallery in one product: 40 MB each at D = 10,240. The similarities of one
# block of queries with the whole gallery are held, 80 MB for a gallery of 20,000.
BLOCK_SIZE = 1024

# Bytes on a device for both directions out of one product: several times what CUHK-PEDES takes.
# ICFG-PEDES, 19,848 captions and images, would take 1.7 GB, which not every machine has to spare.
HOLD_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class RetrievalMetrics:
    """What became of every query; `summary` gives the means.

    Attributes:
      first_rank: [Q] rank of the first match, from 1; 0 for a query without a match.
      average_precision: [Q] in [0, 1].
      inverse_penalty: [Q] number of matches / rank of the last match, in [0, 1].
      trapezoid: [Q] trapezoid area under the precision-recall curve, in [0, 1].
      num_matches: [Q] gallery items of the query's identity.
      num_gallery: items in the gallery.
      ks: the k of Rank-k.
    """

    first_rank: Int[np.ndarray, " Q"]
    average_precision: Float[np.ndarray, " Q"]
    inverse_penalty: Float[np.ndarray, " Q"]
    trapezoid: Float[np.ndarray, " Q"]
    num_matches: Int[np.ndarray, " Q"]
    num_gallery: int
    ks: tuple[int, ...] = (1, 5, 10)

    def summary(self) -> dict[str, float | int]:
        """Means over all queries: percent, and counts."""
        found = self.first_rank > 0
        scores = {f"rank{k}": found & (self.first_rank <= k) for k in self.ks}
        scores |= {
            "map": self.average_precision,
            "minp": self.inverse_penalty,
            "map_trapezoid": self.trapezoid,
        }
        return {name: 100.0 * float(np.mean(values)) for name, values in scores.items()} | {
            "num_queries": len(self.first_rank),
            "num_gallery": self.num_gallery,
            "num_unmatched": int(np.sum(~found)),
        }

    def per_query(self) -> dict[str, np.ndarray]:
        """Columns of [Q] values, for a table with one row a query."""
        names = ("first_rank", "average_precision", "inverse_penalty", "trapezoid", "num_matches")
        return {name: getattr(self, name) for name in names}


def retrieval_metrics(
    query: Embeddings,
    gallery: Embeddings,
    query_ids: Ids,
    gallery_ids: Ids,
    *,
    ks: Sequence[int] = (1, 5, 10),
    block_size: int = BLOCK_SIZE,
    mesh: Mesh | None = None,
) -> RetrievalMetrics:
    """Ranks the gallery for every query and scores the ranks, by the rules of this module.

    Memory besides the embeddings: two blocks of them, and 4 bytes for each pair of a block of
    queries and the whole gallery.

    Args:
      query: [Q, D] embeddings, of unit length where the similarity is a cosine; NumPy arrays, also
        memory-mapped, are read block by block, arrays on the device are cut there.
      gallery: [G, D] embeddings.
      query_ids: [Q] identities, any integers.
      gallery_ids: [G] identities.
      ks: the k of Rank-k.
      block_size: most rows of queries, and of gallery, in one product.
      mesh: devices that share the queries of a block; one device where none is given.

    Returns:
      Scores of each query, and their means by `.summary()`.

    Raises:
      ValueError: no query or an empty gallery, shapes that do not go together, or a similarity
        that is not finite.

    >>> query = gallery = np.eye(3, dtype=np.float32)
    >>> scores = retrieval_metrics(query, gallery, np.array([4, 5, 6]), np.array([4, 6, 5]))
    >>> round(scores.summary()["rank1"], 2)
    33.33
    """
    _check(query, gallery, block_size)
    query_labels, gallery_labels = _labels(query, gallery, query_ids, gallery_ids)
    table = counting.MatchTable.build(query_labels, gallery_labels)
    columns: dict[str, np.ndarray] = {}
    for rows, _ in counting.row_blocks(len(query), block_size):
        matches, num_matches = table.rows(query_labels[rows])
        num_wrong, _ = counting.count_wrong(
            counting.cut(query, rows),
            gallery,
            matches,
            block_size=block_size,
            mesh=mesh or counting.one_device(),
        )
        for name, values in _score(num_wrong, num_matches).items():
            columns.setdefault(name, np.empty(len(query), values.dtype))[rows] = values
    return RetrievalMetrics(**columns, num_gallery=len(gallery), ks=tuple(ks))


def both_directions(
    query: Embeddings,
    gallery: Embeddings,
    query_ids: Ids,
    gallery_ids: Ids,
    *,
    ks: Sequence[int] = (1, 5, 10),
    block_size: int = BLOCK_SIZE,
    mesh: Mesh | None = None,
    hold_bytes: int = HOLD_BYTES,
) -> tuple[RetrievalMetrics, RetrievalMetrics]:
    """Scores the search of each side in the other, out of one product of the two.

    The similarities of all pairs are held meanwhile, and the smaller side, both shared by the
    devices; on each device also two blocks of the larger side. Where this would be more than
    `hold_bytes` a device, each direction is computed on its own, in less memory and twice the time.

    Args:
      query: [Q, D] embeddings, as in `retrieval_metrics`.
      gallery: [G, D] embeddings.
      query_ids: [Q] identities, any integers.
      gallery_ids: [G] identities.
      ks: the k of Rank-k.
      block_size: most rows of the larger side in one product.
      mesh: devices that share the smaller side; one device where none is given.
      hold_bytes: most bytes to hold on a device.

    Returns:
      Scores of the queries searched for in the gallery, and of the gallery in the queries.

    Raises:
      ValueError: as `retrieval_metrics`.

    >>> there, back = both_directions(
    ...     np.eye(3), np.eye(3)[:2], np.array([4, 5, 6]), np.array([4, 6]))
    >>> there.first_rank.tolist(), back.first_rank.tolist()
    ([1, 0, 2], [1, 3])
    """
    _check(query, gallery, block_size)
    labels = _labels(query, gallery, query_ids, gallery_ids)
    mesh = mesh or counting.one_device()
    if _held(query, gallery, mesh) > hold_bytes:

        def one_way(*sides: Any) -> RetrievalMetrics:
            return retrieval_metrics(*sides, ks=ks, block_size=block_size, mesh=mesh)

        return one_way(query, gallery, *labels), one_way(gallery, query, *labels[::-1])
    searches = _count_both(query, gallery, *labels, block_size, mesh)
    there, back = (
        RetrievalMetrics(**_score(*counts), num_gallery=size, ks=tuple(ks))
        for counts, size in zip(searches, (len(gallery), len(query)), strict=True)
    )
    return there, back


def top_matches(
    query: Embeddings, gallery: Embeddings, k: int = 10, block_size: int = BLOCK_SIZE
) -> tuple[Int[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
    """The k most similar gallery items of every query.

    Args:
      query: [Q, D] embeddings.
      gallery: [G, D] embeddings.
      k: length of the lists; a smaller gallery gives lists of G.
      block_size: most rows of queries, and of gallery, in one product.

    Returns:
      [Q, min(k, G)] int32 gallery rows, best first, equals by row, and [Q, min(k, G)] float32
      similarities.

    Raises:
      ValueError: k below 1, and what `retrieval_metrics` raises.

    >>> index, similarity = top_matches(np.eye(2), np.array([[0.0, 2.0], [0.0, 3.0]]), k=2)
    >>> index.tolist(), similarity.tolist()
    ([[0, 1], [1, 0]], [[0.0, 0.0], [3.0, 2.0]])
    """
    _check(query, gallery, block_size)
    if k < 1:
        raise ValueError(f"k is {k}; a ranked list has at least 1 entry: give k >= 1.")
    k = min(k, len(gallery))
    indices = np.empty((len(query), k), np.int32)
    similarities = np.empty((len(query), k), np.float32)
    mesh = counting.one_device()
    for rows, _, queries in counting.blocks(query, block_size, mesh):
        index = jnp.zeros((len(queries), k), jnp.int32)
        best = jnp.full((len(queries), k), -jnp.inf)
        for columns, seen, items in counting.blocks(gallery, block_size, mesh):
            similarity, finite = counting.similarity(queries, items)
            index, best = _merge_top(index, best, similarity, columns.start, seen)
            counting.check_finite(finite)
        indices[rows], similarities[rows] = index, best
    return indices, similarities


@jax.jit
def _merge_top(index, best, similarity, start, seen):
    """The best of [B, k] and of this block; equals stay in gallery order, as top_k is stable."""
    places = jnp.arange(similarity.shape[1], dtype=jnp.int32)
    similarity = jnp.where((places >= seen)[None, :], similarity, -jnp.inf)
    places = jnp.broadcast_to((places + start)[None, :], similarity.shape)
    candidates = jnp.concatenate([best, similarity], axis=1)
    best, chosen = jax.lax.top_k(candidates, best.shape[1])
    rows = jnp.concatenate([index, places], axis=1)
    return jnp.take_along_axis(rows, chosen, axis=1), best


def _count_both(
    query: Embeddings,
    gallery: Embeddings,
    query_labels: Int[np.ndarray, " Q"],
    gallery_labels: Int[np.ndarray, " G"],
    block_size: int,
    mesh: Mesh,
) -> list[tuple[Int[np.ndarray, "_ P"], Int[np.ndarray, " _"]]]:
    """What `_score` takes, of both directions; the smaller side stays on the devices."""
    matches, num = counting.MatchTable.build(query_labels, gallery_labels).rows(query_labels)
    back, num_back = counting.MatchTable.build(gallery_labels, query_labels).rows(gallery_labels)
    options: Any = {"block_size": block_size, "mesh": mesh}
    if len(query) <= len(gallery):
        wrong, wrong_back = counting.count_wrong(query, gallery, matches, back, **options)
    else:
        wrong_back, wrong = counting.count_wrong(gallery, query, back, matches, **options)
    return [(wrong, num), (wrong_back, num_back)]


def _score(
    num_wrong: Int[np.ndarray, "B P"], num_matches: Int[np.ndarray, " B"]
) -> dict[str, np.ndarray]:
    """Scores of each query from the numbers of wrong items before its matches."""
    order = np.arange(1, num_wrong.shape[1] + 1)
    real = order <= num_matches[:, None]
    last = np.iinfo(np.int32).max
    ranks = order + np.sort(np.where(real, num_wrong.astype(np.int64), last), axis=1)
    precision = order / ranks
    before = np.where(ranks > 1, (order - 1) / np.maximum(ranks - 1, 1), 1.0)
    found, divisor = num_matches > 0, np.maximum(num_matches, 1)
    rank_of_last = np.take_along_axis(ranks, divisor[:, None] - 1, axis=1)[:, 0]
    return {
        "first_rank": np.where(found, ranks[:, 0], 0),
        "average_precision": np.sum(precision, axis=1, where=real) / divisor,
        "inverse_penalty": num_matches / rank_of_last,
        "trapezoid": np.sum((before + precision) / 2, axis=1, where=real) / divisor,
        "num_matches": num_matches,
    }


def _check(query: Embeddings, gallery: Embeddings, block_size: int) -> None:
    for name, embeddings in (("query", query), ("gallery", gallery)):
        if not len(embeddings):
            raise ValueError(
                f"{name} holds no embedding (shape {embeddings.shape}); retrieval needs at least "
                "one query and one gallery item: check the split and its identities."
            )
    if query.shape[1:] != gallery.shape[1:]:
        raise ValueError(
            f"query embeddings are {query.shape}, those of the gallery {gallery.shape}; the widths "
            "must agree: embed both with the same network."
        )
    if block_size < 1:
        raise ValueError(f"block_size is {block_size}; it takes a number of rows of at least 1.")


def _labels(
    query: Embeddings, gallery: Embeddings, query_ids: Ids, gallery_ids: Ids
) -> tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " G"]]:
    """Checks the identities and numbers those of both sides from 0."""
    query_ids, gallery_ids = np.asarray(query_ids), np.asarray(gallery_ids)
    for name, embeddings, ids in (
        ("query", query, query_ids),
        ("gallery", gallery, gallery_ids),
    ):
        if ids.shape != embeddings.shape[:1]:
            raise ValueError(
                f"{name}_ids is {ids.shape} and {name} {embeddings.shape}; give one identity to "
                "each embedding."
            )
    _, dense = np.unique(np.concatenate([query_ids, gallery_ids]), return_inverse=True)
    query_labels, gallery_labels = np.split(dense.astype(np.int32), [len(query_ids)])
    return query_labels, gallery_labels


def _held(query: Embeddings, gallery: Embeddings, mesh: Mesh) -> int:
    """Bytes on each device for its share of the smaller side and of all similarities."""
    small, large = sorted((len(query), len(gallery)))
    return 4 * -(-small // mesh.size) * (query.shape[1] + large)

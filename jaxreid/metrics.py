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
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Embeddings = Float[np.ndarray, "_ D"] | Float[Array, "_ D"]
Ids = Int[np.ndarray, " _"] | Int[Array, " _"]

# Rows of queries and of gallery in one product: 40 MB each at D = 10,240. The similarities of one
# block of queries with the whole gallery are held, 80 MB for a gallery of 20,000.
BLOCK_SIZE = 1024


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
    query_ids, gallery_ids = np.asarray(query_ids), np.asarray(gallery_ids)
    _check(query, gallery, block_size)
    _check_ids("query", query, query_ids)
    _check_ids("gallery", gallery, gallery_ids)
    _, dense = np.unique(np.concatenate([query_ids, gallery_ids]), return_inverse=True)
    query_labels, gallery_labels = np.split(dense.astype(np.int32), [len(query_ids)])
    table = _MatchTable.build(query_labels, gallery_labels)
    columns: dict[str, np.ndarray] = {}
    for rows, _, queries in _blocks(query, block_size):
        labels = query_labels[rows]
        matches, num_matches = table.rows(labels)
        num_wrong = _count_wrong(queries, labels, matches, gallery, gallery_labels, block_size)
        for name, values in _score(num_wrong, num_matches).items():
            columns.setdefault(name, np.empty(len(query_ids), values.dtype))[rows] = values
    return RetrievalMetrics(**columns, num_gallery=len(gallery_ids), ks=tuple(ks))


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
    for rows, _, queries in _blocks(query, block_size):
        index = jnp.zeros((len(queries), k), jnp.int32)
        best = jnp.full((len(queries), k), -jnp.inf)
        all_finite = []
        for columns, seen, items in _blocks(gallery, block_size):
            similarity, finite = _similarity(queries, items)
            index, best = _merge_top(index, best, similarity, columns.start, seen)
            all_finite.append(finite)
        _check_finite(all_finite)
        indices[rows], similarities[rows] = index, best
    return indices, similarities


@dataclasses.dataclass(frozen=True)
class _MatchTable:
    """Gallery rows of each identity: `order[first[label]:first[label] + count[label]]`."""

    order: Int[np.ndarray, " G"]
    first: Int[np.ndarray, " N"]
    count: Int[np.ndarray, " N"]
    width: int

    @classmethod
    def build(
        cls, query_labels: Int[np.ndarray, " Q"], gallery_labels: Int[np.ndarray, " G"]
    ) -> "_MatchTable":
        size = 1 + max(query_labels.max(), gallery_labels.max())
        count = np.bincount(gallery_labels, minlength=size)
        most = int(count[query_labels].max())
        # Powers of two, so that sets of about the same kind share a compiled function.
        return cls(
            order=np.argsort(gallery_labels, kind="stable"),
            first=np.cumsum(count) - count,
            count=count,
            width=1 << max(most - 1, 0).bit_length(),
        )

    def rows(
        self, labels: Int[np.ndarray, " B"]
    ) -> tuple[Int[np.ndarray, "B P"], Int[np.ndarray, " B"]]:
        """Gallery rows of the matches of each label, -1 beyond their number, and the number."""
        place = np.arange(self.width)[None, :]
        index = np.minimum(self.first[labels][:, None] + place, len(self.order) - 1)
        count = self.count[labels]
        return np.where(place < count[:, None], self.order[index], -1).astype(np.int32), count


def _count_wrong(
    queries: Float[Array, "B D"],
    labels: Int[np.ndarray, " B"],
    matches: Int[np.ndarray, "B P"],
    gallery: Embeddings,
    gallery_labels: Int[np.ndarray, " G"],
    block_size: int,
) -> Int[np.ndarray, "B P"]:
    """Number of wrong gallery items at least as similar as each match; 0 where `matches` is -1."""
    right = jnp.full(matches.shape, jnp.inf)
    counts = jnp.zeros(matches.shape, jnp.int32)
    held, all_finite = [], []
    # Matches and wrong items are compared within one product, so that equal embeddings are equal.
    for columns, seen, items in _blocks(gallery, block_size):
        similarity, finite = _similarity(queries, items)
        right = _pick_right(right, similarity, matches, columns.start, seen)
        held.append((similarity, gallery_labels[columns], seen))
        all_finite.append(finite)
    for similarity, column_labels, seen in held:
        counts = _add_wrong(counts, similarity, right, labels, column_labels, seen)
    _check_finite(all_finite)
    return np.asarray(counts)


@jax.jit
def _similarity(
    queries: Float[Array, "B D"], items: Float[Array, "C D"]
) -> tuple[Float[Array, "B C"], Bool[Array, ""]]:
    similarity = jnp.matmul(queries, items.T, precision=jax.lax.Precision.HIGHEST)
    return similarity, jnp.isfinite(similarity).all()


@jax.jit
def _pick_right(right, similarity, matches, start, seen):
    """Similarities [B, P] of the matches, those in this block of the gallery filled in."""
    place = matches - start
    here = (place >= seen) & (place < similarity.shape[1])
    values = jnp.take_along_axis(similarity, jnp.where(here, place, 0), axis=1)
    return jnp.where(here, values, right)


@jax.jit
def _add_wrong(counts, similarity, right, labels, column_labels, seen):
    """Adds to [B, P] the wrong items of this block that are at least as similar as the match."""
    fresh = jnp.arange(similarity.shape[1]) >= seen
    wrong = (labels[:, None] != column_labels[None, :]) & fresh[None, :]
    similarity = jnp.where(wrong, similarity, -jnp.inf)
    # One match at a time: three to ten times as fast on CPU as one [B, P, C] comparison.
    at_least = jax.lax.map(
        lambda value: jnp.sum(similarity >= value[:, None], axis=1, dtype=jnp.int32), right.T
    )
    return counts + at_least.T


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


def _blocks(
    embeddings: Embeddings, block_size: int
) -> Iterator[tuple[slice, int, Float[Array, "B D"]]]:
    """Blocks of one shape: their rows, how many at their head were seen before, their values.

    The last block is filled from the rows before it, so that nothing is compiled twice.
    """
    total = len(embeddings)
    even = -(-total // -(-total // block_size))
    size = min(total, block_size, -(-even // 8) * 8)
    for begin in range(0, total, size):
        start = min(begin, total - size)
        rows = slice(start, start + size)
        if isinstance(embeddings, np.ndarray):
            block = jnp.asarray(np.asarray(embeddings[rows], np.float32))
        else:
            block = jax.lax.dynamic_slice_in_dim(embeddings, start, size).astype(jnp.float32)
        yield rows, begin - start, block


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


def _check_ids(name: str, embeddings: Embeddings, ids: Int[np.ndarray, " N"]) -> None:
    if ids.shape != embeddings.shape[:1]:
        raise ValueError(
            f"{name}_ids is {ids.shape} and {name} {embeddings.shape}; give one identity to each "
            "embedding."
        )


def _check_finite(all_finite: Sequence[Bool[Array, ""]]) -> None:
    if not all(bool(finite) for finite in all_finite):
        raise ValueError(
            "a similarity is not finite: the embeddings hold NaN, infinite or huge values. Take a "
            "checkpoint from before the training diverged."
        )

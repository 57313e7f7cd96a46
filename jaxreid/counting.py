"""Wrong items before each match, counted in blocks of similarities, for one direction or both.

The wrong items at least as similar as a match are all items at least as similar, less the right
ones among them. So a block of similarities is compared with a few numbers a row, whatever the
identities, and the right ones, whose similarities are picked out of the same block, are compared
with each other at the end. Matches and items are never compared across two products, in which equal
embeddings need not be equal.

A block holds rows, which the devices share, and columns, of which each device sees all. All that is
right of the columns stands in the block, so they are done with it; rows wait for the last block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from jaxreid import sharding

# Similarities of a block on CPU, 8 MB: each match of a row reads them once more, from the cache.
_CACHED_PAIRS = 2**21
_FEWEST_COLUMNS = 128

Embeddings = Float[np.ndarray, "_ D"] | Float[Array, "_ D"]


@dataclasses.dataclass(frozen=True)
class MatchTable:
    """Items of each identity: `order[first[label]:first[label] + count[label]]`.

    Attributes:
      order: [G] items, those of an identity side by side.
      first: [N] where an identity begins.
      count: [N] its number of items.
      width: most matches of a query, rounded up.
    """

    order: Int[np.ndarray, " G"]
    first: Int[np.ndarray, " N"]
    count: Int[np.ndarray, " N"]
    width: int

    @classmethod
    def build(
        cls, query_labels: Int[np.ndarray, " Q"], item_labels: Int[np.ndarray, " G"]
    ) -> MatchTable:
        """Sorts the items by identity.

        Args:
          query_labels: [Q] identities that are asked for, from 0.
          item_labels: [G] identity of each item.
        """
        size = 1 + max(query_labels.max(), item_labels.max())
        count = np.bincount(item_labels, minlength=size)
        most = int(count[query_labels].max())
        # Powers of two, so that sets of about the same kind share a compiled function.
        return cls(
            order=np.argsort(item_labels, kind="stable"),
            first=np.cumsum(count) - count,
            count=count,
            width=1 << max(most - 1, 0).bit_length(),
        )

    def rows(
        self, labels: Int[np.ndarray, " B"]
    ) -> tuple[Int[np.ndarray, "B P"], Int[np.ndarray, " B"]]:
        """Finds the matches of queries.

        Args:
          labels: [B] their identities.

        Returns:
          [B, P] matching items, -1 beyond their number, and [B] their number.
        """
        place = np.arange(self.width)[None, :]
        index = np.minimum(self.first[labels][:, None] + place, len(self.order) - 1)
        count = self.count[labels]
        return np.where(place < count[:, None], self.order[index], -1).astype(np.int32), count


def count_wrong(
    rows: Embeddings,
    columns: Embeddings,
    row_matches: Int[np.ndarray, "R P"],
    column_matches: Int[np.ndarray, "C _"] | None = None,
    *,
    block_size: int,
    mesh: Mesh,
) -> tuple[Int[np.ndarray, "R P"], Int[np.ndarray, "C _"]]:
    """Counts the wrong items at least as similar as each match, out of one product.

    On the devices lie the rows and 4 bytes for each pair, both shared by the devices, and, on each,
    a block of columns.

    Args:
      rows: [R, D] embeddings.
      columns: [C, D] embeddings, read block by block.
      row_matches: [R, P] columns that match each row, -1 for none.
      column_matches: [C, P'] rows that match each column; None to rank the columns alone.
      block_size: most columns in one product.
      mesh: devices that share the rows.

    Returns:
      [R, P] and [C, P'] numbers, 0 where there is no match; the second [0, 0] if not wanted.

    Raises:
      ValueError: a similarity is not finite.
    """
    placed = share(cut(rows, slice(0, len(rows))), mesh)
    matches = share(row_matches, mesh, fill=-1)
    real = share(np.ones(len(rows), bool), mesh)
    right = share(np.full(row_matches.shape, np.inf, np.float32), mesh, fill=np.inf)
    held, of_columns = [], []
    for where, seen, items in blocks(columns, _fitting(block_size, len(rows), mesh), mesh):
        block, finite = similarity(placed, items)
        right = _pick_right(right, block, matches, where.start, seen)
        if column_matches is not None:
            of_columns.append((where, _wrong_in_block(block, column_matches[where], real)))
        held.append((block, np.arange(block.shape[1]) >= seen))
        check_finite(finite)  # waits for the product: no more than two blocks of columns are there
    counts = -_count_right(right, matches)
    for block, fresh in held:
        counts = _add_at_least(counts, block, right, fresh)
    wrong = np.asarray(counts)[: len(rows)]
    if column_matches is None:
        return wrong, np.zeros((0, 0), np.int32)
    wrong_of_columns = np.empty_like(column_matches)
    for where, found in of_columns:
        wrong_of_columns[where] = found
    return wrong, wrong_of_columns


def share(values: np.ndarray | Array, mesh: Mesh, fill: float = 0) -> Array:
    """Puts its share of the rows on each device.

    Args:
      values: rows, on the host or on a device.
      mesh: the devices.
      fill: value of the rows behind the last, where the devices cannot divide them evenly.
    """
    size = -(-len(values) // mesh.size)
    spread = sharding.by_batch(mesh)

    def padded(module: Any, part: Any, length: int) -> Any:
        padding = [(0, length - len(part))] + [(0, 0)] * (part.ndim - 1)
        return module.pad(part, padding, constant_values=fill) if len(part) < length else part

    if not isinstance(values, np.ndarray):
        return jax.device_put(padded(jnp, values, size * mesh.size), spread)
    # Part by part, so that the host makes no second copy of it all.
    shape = size * mesh.size, *values.shape[1:]
    return jax.make_array_from_callback(
        shape, spread, lambda index: padded(np, values[index or ()], size)
    )


def _fitting(block_size: int, num_rows: int, mesh: Mesh) -> int:
    """Makes blocks of many rows narrower where the processor's cache would not hold them."""
    if mesh.devices.flat[0].platform != "cpu":
        return block_size
    return min(block_size, max(_FEWEST_COLUMNS, _CACHED_PAIRS // num_rows))


@jax.jit
def similarity(
    rows: Float[Array, "R D"], items: Float[Array, "C D"]
) -> tuple[Float[Array, "R C"], Bool[Array, ""]]:
    """Multiplies in float32.

    Args:
      rows: [R, D] embeddings.
      items: [C, D] embeddings.

    Returns:
      [R, C] dot products, and whether all are finite.
    """
    found = jnp.matmul(rows, items.T, precision=jax.lax.Precision.HIGHEST)
    return found, jnp.isfinite(found).all()


def check_finite(finite: Bool[Array, ""]) -> None:
    """Refuses what `similarity` found not to be finite.

    Raises:
      ValueError: it is not.
    """
    if not bool(finite):
        raise ValueError(
            "a similarity is not finite: the embeddings hold NaN, infinite or huge values. Take a "
            "checkpoint from before the training diverged."
        )


def one_device() -> Mesh:
    """A mesh of the first device alone."""
    return Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), sharding.BATCH_AXES)


def row_blocks(total: int, block_size: int) -> Iterator[tuple[slice, int]]:
    """Divides rows into blocks of one size, so that nothing is compiled twice.

    Args:
      total: number of rows, at least 1.
      block_size: most rows of a block.

    Yields:
      Rows of a block, and how many at its head were in the one before: the last block is filled
      from the rows before it.
    """
    even = -(-total // -(-total // block_size))
    size = min(total, block_size, -(-even // 8) * 8)
    for begin in range(0, total, size):
        start = min(begin, total - size)
        yield slice(start, start + size), begin - start


def blocks(
    embeddings: Embeddings, block_size: int, mesh: Mesh
) -> Iterator[tuple[slice, int, Float[Array, "B D"]]]:
    """Yields `row_blocks` with their embeddings in float32, whole on each device."""
    for rows, seen in row_blocks(len(embeddings), block_size):
        block = cut(embeddings, rows)
        yield rows, seen, jax.device_put(block, sharding.replicated(mesh))


def cut(embeddings: Embeddings, rows: slice) -> Embeddings:
    """Cuts rows out, in float32, where the embeddings are: on the host or on a device."""
    if isinstance(embeddings, np.ndarray):
        return np.asarray(embeddings[rows], np.float32)
    size = rows.stop - rows.start
    return jax.lax.dynamic_slice_in_dim(embeddings, rows.start, size).astype(jnp.float32)


@jax.jit
def _pick_right(right, similarity, matches, start, seen):
    """Similarities [R, P] of the matches, those in this block of columns filled in."""
    place = matches - start
    here = (place >= seen) & (place < similarity.shape[1])
    values = jnp.take_along_axis(similarity, jnp.where(here, place, 0), axis=1)
    return jnp.where(here, values, right)


@jax.jit
def _wrong_in_block(similarity, matches, real):
    """Numbers [C, P] for the columns of a block [R, C], which the real ones of its rows match."""
    right = jnp.full(matches.shape, jnp.inf)
    right = _pick_right(right, similarity.T, matches, 0, 0)
    return _add_at_least(-_count_right(right, matches), similarity.T, right, real)


@jax.jit
def _count_right(right, matches):
    """How many matches [R, P] are at least as similar as each of them."""
    items = jnp.where(matches >= 0, right, -jnp.inf)
    none = jnp.zeros(matches.shape, jnp.int32)
    return _add_at_least(none, items, right, jnp.ones(matches.shape[1], bool))


@jax.jit
def _add_at_least(counts, similarity, right, counted):
    """Adds to [R, P] the items [R, C] at least as similar as the match, of those that count."""
    # One match at a time: the comparison with all of them in one is slower on CPU, three to ten
    # times.
    at_least = jax.lax.map(
        lambda value: jnp.sum(
            (similarity >= value[:, None]) & counted[None, :], axis=1, dtype=jnp.int32
        ),
        right.T,
    )
    return counts + at_least.T

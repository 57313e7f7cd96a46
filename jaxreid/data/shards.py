"""Rows that are split over the devices, each device holding a part, and read by their position."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Int, Shaped


@functools.partial(jax.tree_util.register_dataclass, data_fields=["parts"], meta_fields=["by_rows"])
@dataclasses.dataclass(frozen=True)
class Shards:
    """An array of N rows, split over all devices of a mesh by its first axis.

    Attributes:
      parts: [N', ...], rows of zeros at the end so that all parts are of one size.
      by_rows: sharding of the first axis, over all axes of the mesh.
    """

    parts: Any  # as a node of a tree it holds shapes and shardings, too
    by_rows: NamedSharding

    @classmethod
    def put(cls, rows: Shaped[np.ndarray, "N ..."], by_rows: NamedSharding) -> Shards:
        """Brings each device its part of an array that lies on the host.

        Args:
          rows: a memory map will do: no more than a part is read at once.
          by_rows: sharding of the first axis, over all axes of the mesh.
        """
        count = part_size(len(rows), by_rows.mesh.size) * by_rows.mesh.size

        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            start, stop, _ = (index[0] if index else slice(None)).indices(count)
            found = rows[start:stop]
            missing = stop - start - len(found)
            return np.pad(found, [(0, missing)] + [(0, 0)] * (rows.ndim - 1)) if missing else found

        shape = (count, *rows.shape[1:])
        return cls(jax.make_array_from_callback(shape, by_rows, part), by_rows)

    def take(self, index: Int[jax.Array, " B"]) -> Shaped[jax.Array, "B ..."]:
        """Reads the rows at these positions; runs inside a compiled function.

        Each device picks those that it owns out of its part and puts 0 for the others; the sum over
        the devices, of which one at most is not 0, hands each its rows of the batch. So a batch
        crosses the mesh, never the whole array.

        Args:
          index: [B] positions below N; B is a multiple of the number of devices.

        Returns:
          [B, ...] of the same type, split over the devices like the index.
        """
        spec, axes = self.by_rows.spec, self.by_rows.spec[0]

        def take_here(part: jax.Array, index: jax.Array) -> jax.Array:
            place = jax.lax.all_gather(index, axes, tiled=True)
            place = place - jax.lax.axis_index(axes).astype(place.dtype) * len(part)
            own = (place >= 0) & (place < len(part))
            rows = jnp.take(part, place, axis=0, mode="clip")
            rows = jnp.where(own.reshape(-1, *[1] * (rows.ndim - 1)), rows, jnp.zeros_like(rows))
            return jax.lax.psum_scatter(rows, axes, scatter_dimension=0, tiled=True)

        taken: jax.Array = jax.shard_map(
            take_here, mesh=self.by_rows.mesh, in_specs=(spec, spec), out_specs=spec
        )(self.parts, index)
        return taken


def part_size(count: int, devices: int) -> int:
    """Rows that each of so many devices holds of `count`."""
    return -(-count // devices)

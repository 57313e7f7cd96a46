"""Rows that are split over the devices, each device holding a part, and read by their position."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Int, Shaped


@functools.partial(jax.tree_util.register_dataclass, data_fields=["parts"], meta_fields=["by_rows"])
@dataclasses.dataclass(frozen=True)
class Shards:
    """An array of N rows, split by its first axis inside of each group of devices.

    Attributes:
      parts: [N', ...], rows of zeros at the end so that all parts are of one size.
      by_rows: where they lie, see `sharding.by_group`; each group holds all of them.
    """

    parts: Any  # as a node of a tree it holds shapes and shardings, too
    by_rows: NamedSharding

    @classmethod
    def put(cls, rows: Shaped[np.ndarray, "N ..."], by_rows: NamedSharding) -> Shards:
        """Brings each device its part of an array that lies on the host.

        Args:
          rows: a memory map will do: no more than a part is read at once.
          by_rows: see `Shards`.
        """
        count = padded_count(len(rows), by_rows)

        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            start, stop, _ = (index[0] if index else slice(None)).indices(count)
            found = rows[start:stop]
            missing = stop - start - len(found)
            return np.pad(found, [(0, missing)] + [(0, 0)] * (rows.ndim - 1)) if missing else found

        shape = (count, *rows.shape[1:])
        return cls(jax.make_array_from_callback(shape, by_rows, part), by_rows)

    def take(self, index: Int[jax.Array, " B"]) -> Shaped[jax.Array, "B ..."]:
        """Reads the rows at these positions; runs inside a compiled function.

        Each device picks those that it owns out of its part, 0 for the others, and sends each other
        device of its group that one's rows; of what a device gets for a row, one at most is not 0.
        So a batch crosses the group, never the whole array. (A sum over the devices would do the
        same, but a TPU adds in 32 bits: four times the bytes, there and back.)

        Args:
          index: [B] positions below N; B is a multiple of the number of devices.

        Returns:
          [B, ...] of the same type, split over all devices of the mesh like the index.
        """
        member, size = self.by_rows.spec[0], group_size(self.by_rows)
        each = PartitionSpec(self.by_rows.mesh.axis_names)

        def take_here(part: jax.Array, index: jax.Array) -> jax.Array:
            place = jax.lax.all_gather(index, member, tiled=True)
            place = place - jax.lax.axis_index(member).astype(place.dtype) * len(part)
            own = (place >= 0) & (place < len(part))
            rows = jnp.take(part, place, axis=0, mode="clip")
            rows = jnp.where(own.reshape(-1, *[1] * (rows.ndim - 1)), rows, jnp.zeros_like(rows))
            found = jax.lax.all_to_all(rows, member, split_axis=0, concat_axis=0, tiled=True)
            return found.reshape(size, -1, *found.shape[1:]).max(axis=0)

        taken: jax.Array = jax.shard_map(
            take_here,
            mesh=self.by_rows.mesh,
            in_specs=(self.by_rows.spec, each),
            out_specs=each,
        )(self.parts, index)
        return taken


def group_size(by_rows: NamedSharding) -> int:
    """Devices that hold a part each, so that together they hold all rows."""
    return int(by_rows.mesh.shape[by_rows.spec[0]])


def padded_count(count: int, by_rows: NamedSharding) -> int:
    """Rows of all parts together, those that fill the last ones included."""
    devices = group_size(by_rows)
    return part_size(count, devices) * devices


def part_size(count: int, devices: int) -> int:
    """Rows that each of so many devices holds of `count`."""
    return -(-count // devices)

"""The device mesh and which array lies how on it.

Two axes: the batch is split over both, ``P(("data", "model"))``, so that no device repeats the work
of another; identity classifiers are split by class over ``model``; all else is a copy on each.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from jaxreid.models.layers import CLASS_MULTIPLE, is_classifier
from jaxreid.typing import PyTree

BATCH_AXES = ("data", "model")
_AXIS_TYPES = (AxisType.Auto, AxisType.Auto)


def make_mesh(model: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lays devices out as ``data`` x ``model``.

    Args:
      model: number of devices that share the identity classifiers.
      devices: to lay out, which need not be here; None for all that are.

    Raises:
      ValueError: the devices cannot be divided so.
    """
    count = jax.device_count() if devices is None else len(devices)
    shape = _mesh_shape(model, count)
    try:
        return jax.make_mesh(shape, BATCH_AXES, axis_types=_AXIS_TYPES, devices=devices)
    except NotImplementedError:
        # A TPU slice none of whose sides, nor a product of them, is `model` chips: 8 of 4x4x4.
        found = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
        return Mesh(found, BATCH_AXES, axis_types=_AXIS_TYPES)


def abstract_mesh(model: int, count: int) -> AbstractMesh:
    """Lays out devices of which there is only the number, see `make_mesh`.

    Args:
      model: number of devices that share the identity classifiers.
      count: of all devices.

    Raises:
      ValueError: the devices cannot be divided so.
    """
    return AbstractMesh(_mesh_shape(model, count), BATCH_AXES, axis_types=_AXIS_TYPES)


def _mesh_shape(model: int, count: int) -> tuple[int, int]:
    if model < 1 or count % model:
        raise ValueError(
            f"config.mesh.model is {model}, which does not divide the {count} devices here. Take a "
            "divisor of them, or 1 for whole classifiers on each."
        )
    if CLASS_MULTIPLE % model:
        raise ValueError(
            f"config.mesh.model is {model}; classes are padded to a multiple of {CLASS_MULTIPLE}, "
            "so it takes a power of two up to that."
        )
    return count // model, model


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """A full copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def by_batch(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The first axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def by_group(mesh: Mesh | AbstractMesh, size: int) -> NamedSharding:
    """The first axis split inside of each group of neighbouring devices, which hold all of it.

    Args:
      mesh: the devices; those of the result are the same, in the same order, on axes of its own.
      size: of a group, a divisor of their number.
    """
    axes, shape = ("group", "member"), (mesh.size // size, size)
    if isinstance(mesh, Mesh):
        groups: Mesh | AbstractMesh = Mesh(mesh.devices.reshape(shape), axes)
    else:
        groups = AbstractMesh(shape, axes)
    return NamedSharding(groups, PartitionSpec(axes[1]))


def of_this_host(mesh: Mesh) -> Mesh:
    """Lays the devices of this host out alone, for what every host computes by itself."""
    if mesh.is_multi_process:
        return make_mesh(1, mesh.local_devices)
    return mesh


def put(value: np.ndarray, place: Sharding) -> jax.Array:
    """Puts an array that every host holds alike where it belongs, on the devices of all hosts.

    `jax.device_put` would have the hosts compare it each time.
    """
    # A guard against unwanted transfers must let this one pass.
    with jax.transfer_guard_host_to_device("allow"):
        return jax.make_array_from_callback(value.shape, place, lambda index: value[index])


def fetch(array: jax.Array) -> np.ndarray:
    """Reads an array whole, wherever its parts lie; every host has to ask for it."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def rows_here(count: int, place: NamedSharding) -> np.ndarray:
    """Finds which rows of an array split by rows lie on the devices of this host.

    Args:
      count: rows.
      place: of the array.

    Returns:
      Their positions, in order.
    """
    parts = place.addressable_devices_indices_map((count,)).values()
    return np.unique(np.concatenate([np.arange(count)[index] for index in parts if index]))


def check_batch_size(batch_size: int, mesh: Mesh, field: str) -> None:
    """Refuses a batch that the devices cannot share evenly.

    Args:
      batch_size: of all devices together.
      mesh: the devices.
      field: config field to name in the message.

    Raises:
      ValueError: the batch is not a multiple of the number of devices.
    """
    if batch_size < 1 or batch_size % mesh.size:
        raise ValueError(
            f"{field} is {batch_size}; it counts all devices together and must be a positive "
            f"multiple of the {mesh.size} devices here (the next one is "
            f"{max(1, -(-batch_size // mesh.size)) * mesh.size})."
        )


def path_name(path: tuple[object, ...]) -> str:
    """Writes a tree path as ``module/sub_module/kernel``."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def state_shardings(state: PyTree, mesh: Mesh | AbstractMesh) -> PyTree:
    """Says how each leaf of a training state lies on the mesh.

    Args:
      state: tree of arrays or of their shapes; optimiser states repeat the parameters' names.
      mesh: the devices.

    Returns:
      The same tree of `NamedSharding`.
    """

    def place(path: tuple[object, ...], leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        if leaf.ndim and is_classifier(path_name(path)):
            return NamedSharding(mesh, PartitionSpec(*[None] * (leaf.ndim - 1), "model"))
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(place, state)

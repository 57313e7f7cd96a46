"""Devices that a run is planned for, and what one step of it takes there.

Neither a TPU's compiler nor a GPU's needs the device, so the step is compiled. Where the compiler
for GPUs is not installed, it is counted for them, see `bench.ideal`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
from ml_collections import ConfigDict

from jaxreid import flops, sharding
from jaxreid.bench import abstract, compiling, gpu, hlo, ideal, roofline, scaling, traffic
from jaxreid.models.layers import is_classifier
from jaxreid.typing import PyTree

Parts = Mapping[str, float]
"""Bytes of one device by what they hold."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What one step takes on one device.

    Attributes:
      parts: bytes, see `plan.PARTS`.
      usable: bytes of the device that a program can have.
      accepted: the compiler, where there is one, has made a program of it.
      line: work of the step; None where there is no program.
      feed: where the images live.
      seconds: that compiling took; None where nothing was.
      notes: what could not be counted.
    """

    parts: Parts
    usable: float
    accepted: bool
    line: roofline.Roofline | None
    feed: str
    seconds: float | None = None
    notes: Sequence[str] = ()

    @property
    def total(self) -> float:
        """All bytes."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the device has the memory."""
        return self.accepted and self.total <= self.usable


class Target(Protocol):
    """Devices to plan for; ``usable`` bytes of ``memory`` bytes of each are a program's."""

    @property
    def topology(self) -> str:
        """As the command line names it."""

    @property
    def kind(self) -> str:
        """As ``jax.Device.device_kind`` has it."""

    @property
    def count(self) -> int:
        """Devices."""

    @property
    def memory(self) -> float:
        """Bytes of each."""

    @property
    def usable(self) -> float:
        """Bytes of each that a program can have."""

    @property
    def platform(self) -> str:
        """Such as "gpu"."""

    def estimate(self, config: ConfigDict, sizes: abstract.Sizes) -> Estimate:
        """Says what a step takes; ``config.batch_size`` counts all devices together."""


def find(topology: str, memory: float | None = None) -> Target:
    """Returns the devices of a topology.

    Args:
      topology: a TPU slice such as "v5e:2x4", or GPUs such as "h100x8".
      memory: bytes of each to plan with, in place of what its maker states.

    Raises:
      ValueError: the topology is not known, is one of a TPU whose compiler is not installed, or
        has a compiler that cannot be used.
    """
    if not compiling.is_slice(topology) and not gpu.has_compiler():
        kind, count = compiling.parse_gpus(topology)
        return Gpus(topology, kind.kind, count, memory)
    devices = tuple(compiling.topology_devices(topology, memory))
    share = 1.0 if compiling.is_slice(topology) else gpu.JAX_SHARE
    return Compiled(topology, devices, share, memory)


def _memory_of(kind: str, given: float | None) -> float:
    limits = flops.device(kind)
    found = given or (limits.memory if limits else None)
    if found is None:
        raise ValueError(f"the memory of {kind!r} is not known; plan for a device that is.")
    return found


@dataclasses.dataclass(frozen=True)
class Compiled:
    """Devices with a compiler that is here; steps are compiled for them.

    Attributes:
      topology: their name.
      devices: as the compiler knows them.
      share: of their memory that a program can have; what a TPU's compiler reserves it takes off by
        itself.
      given: bytes of each to plan with, if another number than the maker's.
    """

    topology: str
    devices: tuple[Any, ...]
    share: float
    given: float | None = None

    @property
    def platform(self) -> str:
        """Such as "tpu"."""
        return self.devices[0].platform

    @property
    def kind(self) -> str:
        """As ``jax.Device.device_kind`` has it."""
        return self.devices[0].device_kind

    @property
    def count(self) -> int:
        """Devices."""
        return len(self.devices)

    @property
    def memory(self) -> float:
        """Bytes of each."""
        return _memory_of(self.kind, self.given)

    @property
    def usable(self) -> float:
        """Bytes of each that a program can have."""
        return self.share * self.memory

    def estimate(self, config: ConfigDict, sizes: abstract.Sizes) -> Estimate:
        """Compiles the step; ``config.batch_size`` counts all devices together."""
        mesh = sharding.make_mesh(config.mesh.model, self.devices)
        step = abstract.training_step(config, mesh, sizes, device_memory=self.usable)
        held = _held(step.state, step.arguments[1:])
        try:
            each = config.batch_size // self.count
            compiled, seconds = compiling.compile_step(step, each, self.topology)
        except compiling.DoesNotFitError as error:
            activations = (error.used or 0.0) - sum(held.values())
            if error.used is None:
                activations = counted(self, config, sizes).work.peak
            parts = {**held, "activations": activations}
            usable = min(self.usable, error.limit or self.usable)
            return Estimate(parts, usable, False, None, step.feed)
        memory = compiling.memory_numbers(compiled)
        parts = {
            **held,
            "activations": memory["temporaries"] + memory["outputs_besides"],
            "layout": memory["arguments"] - sum(held.values()),
            "code": memory["code"],
        }
        moved = traffic.measure(hlo.Program.read(compiled.as_text()), self.count)
        line = roofline.Roofline.of(moved, self.kind)
        notes = [*moved.notes, *gpu.notes(self.kind, config.dtype)]
        return Estimate(parts, self.usable, True, line, step.feed, seconds, notes)


@dataclasses.dataclass(frozen=True)
class Gpus:
    """GPUs without their compiler; steps are counted.

    Attributes:
      topology: their name on the command line.
      kind: as ``jax.Device.device_kind`` has it.
      count: of them.
      given: bytes of each to plan with, if another number than the maker's.
    """

    topology: str
    kind: str
    count: int
    given: float | None = None
    platform: str = "gpu"

    @property
    def memory(self) -> float:
        """Bytes of each."""
        return _memory_of(self.kind, self.given)

    @property
    def usable(self) -> float:
        """The share of them that JAX takes."""
        return gpu.JAX_SHARE * self.memory

    def estimate(self, config: ConfigDict, sizes: abstract.Sizes) -> Estimate:
        """Counts the step; ``config.batch_size`` counts all devices together."""
        found = counted(self, config, sizes)
        parts = {**found.held, "activations": found.work.peak}
        sent = _sent(found.params, self.count, config.mesh.model)
        line = roofline.Roofline(found.flops.total, found.work.moved, sent, flops.device(self.kind))
        notes = [*found.flops.notes, *gpu.notes(self.kind, config.dtype)]
        return Estimate(parts, self.usable, True, line, found.feed, notes=notes)


@dataclasses.dataclass(frozen=True)
class Counted:
    """What counting finds of one device's share of a step.

    Attributes:
      held: bytes that are there before the step, by part.
      work: what the step adds and moves.
      flops: its operations.
      params: shapes of the parameters.
      feed: where the images live.
    """

    held: Parts
    work: ideal.Count
    flops: flops.FlopCount
    params: PyTree
    feed: str


def counted(target: Target, config: ConfigDict, sizes: abstract.Sizes) -> Counted:
    """Counts one device's share of a step, as if it were alone with its pairs.

    So similarities of its pairs with those of other devices are not counted: they are small beside
    the rest as long as batches are of thousands.

    Args:
      target: the devices.
      config: of the run; ``batch_size`` counts all devices together.
      sizes: of its data.

    Raises:
      ValueError: a field of the config does not go with the devices.
    """
    mesh = sharding.abstract_mesh(config.mesh.model, target.count)
    _check_batch(config.batch_size, target.count)
    kind = abstract.feed_kind(config, sizes, target.count, target.usable)
    alone = config.copy_and_resolve_references()
    with alone.unlocked():
        alone.batch_size = config.batch_size // target.count
        alone.mesh.model = 1
        alone.data.feed = "host" if kind == "host" else "device"
    one = sharding.make_mesh(1, jax.devices()[:1])
    step = abstract.training_step(alone, one, sizes, platform=target.platform)
    traced = step.function.trace(*step.arguments, template=step.template)
    data = abstract.data_shapes(config, sizes, mesh, kind, target.usable)
    return Counted(
        held=_held(_on(mesh, step.state), data),
        work=ideal.count(traced.jaxpr),
        flops=flops.count_jaxpr(traced.jaxpr),
        params=step.state.params,
        feed=kind,
    )


def _check_batch(batch_size: int, devices: int) -> None:
    if batch_size % devices:
        raise ValueError(
            f"config.batch_size is {batch_size}; it counts all devices together and must be a "
            f"multiple of the {devices} that are planned for. Or give the pairs of each: "
            "--config.batch_per_device=64."
        )


def _on(mesh: jax.sharding.AbstractMesh, state: PyTree) -> PyTree:
    """Shapes of a state as it lies on these devices."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        state,
        sharding.state_shardings(state, mesh),
    )


def _held(state: Any, data: tuple[PyTree, PyTree]) -> dict[str, float]:
    """Bytes that one device holds before a step, by part."""
    resident, batch = data
    trees = {
        "parameters": state.params,
        "optimiser": state.opt_state,
        "statistics": state.batch_stats,
        "data": resident,
        "batch": batch,
    }
    return {name: scaling.bytes_per_device(tree) for name, tree in trees.items()}


def _sent(params: PyTree, count: int, model: int) -> float:
    """Bytes of gradients that a device sends, going round in a ring; of classifiers its part."""

    def sent(size: float, others: int) -> float:
        return 2 * size * (others - 1) / others

    total = 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        size = float(leaf.size * leaf.dtype.itemsize)
        if is_classifier(sharding.path_name(path)):
            total += sent(size / model, count // model)
        else:
            total += sent(size, count)
    return total

"""The training step compiled for devices that are not here, and its work counted: an estimate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxreid import flops, sharding
from jaxreid.bench import (
    abstract,
    collectives,
    compiling,
    gpu,
    hlo,
    measure,
    roofline,
    tpu,
    traffic,
)

_PLACES = 8


def bench_tpu(
    config: ConfigDict,
    topology: str,
    *,
    batch_per_device: int = 64,
    dtype: str = "bfloat16",
    sizes: abstract.Sizes | None = None,
) -> measure.Measured:
    """Compiles the training step of a config's last stage for a TPU slice, and counts its work.

    Args:
      config: of a run; its batch size and dtype give way to the two below.
      topology: such as "v5e:2x4", see `tpu.TOPOLOGIES`.
      batch_per_device: pairs a step on each chip.
      dtype: of the computation.
      sizes: of the data; CUHK-PEDES by default.

    Returns:
      Memory of a chip, operations, bytes moved, and the time that follows: an estimate.

    Raises:
      ValueError: the compiler is not installed, or does not know the topology, the batch does not
        fit, or a field of the config does not go with it.
    """
    measure.check_from_one({"batch_per_device": batch_per_device})
    devices = tpu.topology_devices(topology)
    where = measure.environment()
    config = _at(config, batch_per_device * len(devices), dtype)
    numbers, counted = _estimate(config, topology, devices, 1.0, sizes)
    title = _title(numbers, f"TPU {topology}")
    return measure.Measured.here(title, where, numbers, _rows(numbers, counted, "chip"))


def bench_gpu(
    config: ConfigDict,
    topology: str,
    *,
    batch_per_device: int = 64,
    dtype: str = "bfloat16",
    sizes: abstract.Sizes | None = None,
) -> measure.Measured:
    """Compiles the training step of a config's last stage for GPUs, and counts its work.

    Which of cuDNN's algorithms are taken is found out on a GPU alone; the memory that those work in
    is not counted.

    Args:
      config: of a run; its batch size and dtype give way to the two below.
      topology: such as "h100x8", see `gpu.GPUS`.
      batch_per_device: pairs a step on each GPU.
      dtype: of the computation.
      sizes: of the data; CUHK-PEDES by default.

    Returns:
      Memory of a GPU, kernels, operations, bytes moved, and the time that follows: an estimate.

    Raises:
      ValueError: the compiler is not installed, the topology is not known, or a field of the config
        does not go with it.
    """
    measure.check_from_one({"batch_per_device": batch_per_device})
    devices = gpu.topology_devices(topology)
    where = measure.environment()
    config = _at(config, batch_per_device * len(devices), dtype)
    numbers, counted = _estimate(config, topology, devices, gpu.JAX_SHARE, sizes)
    kernels = sum(mover.runs for mover in counted.movers)
    rows = _rows(numbers, counted, "GPU")
    rows.insert(3, ("", f"JAX takes {gpu.JAX_SHARE:.0%} of a GPU's memory {gpu.UNLESS}"))
    rows.insert(4, ("kernels a step", f"{kernels:,}"))
    rows.append(
        ("", "cuDNN chooses its algorithms on a GPU; the room that they take does not count")
    )
    numbers["kernels"] = kernels
    return measure.Measured.here(_title(numbers, topology), where, numbers, rows)


def _estimate(
    config: ConfigDict,
    topology: str,
    devices: Sequence[Any],
    usable: float,
    sizes: abstract.Sizes | None,
) -> tuple[dict[str, Any], traffic.Traffic]:
    """Numbers of a step, and what they were counted from.

    Args:
      config: ``batch_size`` counts all devices together.
      topology: name of the devices.
      devices: as their compiler knows them.
      usable: share of their memory that a program can have.
      sizes: of the data.
    """
    kind, count = devices[0].device_kind, len(devices)
    limits = flops.device(kind)
    memory = usable * limits.memory if limits else None
    mesh = sharding.make_mesh(config.mesh.model, devices)
    step = abstract.training_step(config, mesh, sizes or abstract.Sizes(), device_memory=memory)
    each = config.batch_size // count
    compiled, seconds = compiling.compile_step(step, each, topology)
    counted = traffic.measure(hlo.Program.read(compiled.as_text()), count)
    line = roofline.Roofline.of(counted, kind)
    numbers = {
        "estimate": True,
        "topology": topology,
        "target": kind,
        "devices": count,
        "batch_per_device": each,
        **_settings(config, step),
        "compile_seconds": seconds,
        "memory": compiling.memory_numbers(compiled, memory),
        "roofline": line.numbers(),
        "pairs_per_second": config.batch_size / line.seconds if line.seconds else None,
        **_traffic_numbers(counted, compiled, gpu.notes(kind, config.dtype)),
    }
    return numbers, counted


def _settings(config: ConfigDict, step: abstract.AbstractStep) -> dict[str, Any]:
    return {
        "model": config.model.to_dict(),
        "dtype": config.dtype,
        "image_size": list(config.data.image_size),
        "batch_size": config.batch_size,
        "mesh_model": config.mesh.model,
        "feed": step.feed,
        "template": step.template,
    }


def _title(numbers: Mapping[str, Any], where: str) -> str:
    height, width = numbers["image_size"]
    return (
        f"estimate: training step of {numbers['model']['name']} on {where}, "
        f"{numbers['batch_per_device']} pairs each, {height} x {width} pixels, {numbers['dtype']}"
    )


def _at(config: ConfigDict, batch_size: int, dtype: str) -> ConfigDict:
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.batch_size, changed.dtype = batch_size, dtype
    return changed


def _traffic_numbers(
    counted: traffic.Traffic, compiled: Any, notes: Sequence[str]
) -> dict[str, Any]:
    analysis = compiled.cost_analysis() or {}
    return {
        "bytes_padding": counted.padding,
        "bytes_layout_copies": counted.layout_copies,
        "host_transfers": list(counted.host_transfers),
        "bytes_by_module": traffic.by_place(counted.movers),
        "collective_bytes": collectives.by_kind(counted.collectives),
        "notes": [*counted.notes, *notes],
        "xla_flops": analysis.get("flops"),
        "xla_bytes_accessed": analysis.get("bytes accessed"),
        "movers": [dataclasses.asdict(mover) for mover in counted.movers[:100]],
        "collectives": [dataclasses.asdict(one) for one in counted.collectives],
    }


def _rows(numbers: Mapping[str, Any], counted: traffic.Traffic, each: str) -> list[tuple[str, str]]:
    """Rows for the screen; `each` is what one of the devices is called."""
    line, memory = numbers["roofline"], numbers["memory"]
    rows = [
        (
            f"{each}s",
            f"{numbers['devices']} x {numbers['target']}, {numbers['mesh_model']} to a classifier",
        ),
        ("images", compiling.IMAGES[numbers["feed"]]),
        (f"memory a {each}", _memory(memory)),
        (f"FLOPs a {each}", measure.operations(line["flops"])),
        (f"moved a {each}", _moved(numbers)),
        *(
            (f"  {place or 'outside of modules'}", f"{size / 1e9:.3g} GB")
            for place, size in list(numbers["bytes_by_module"].items())[:_PLACES]
        ),
        (f"sent a {each}", f"{line['bytes_sent'] / 1e9:.3g} GB"),
        *_collective_rows(counted),
        ("host transfers", ", ".join(numbers["host_transfers"]) or "none"),
        *(("", note) for note in numbers["notes"]),
        ("roofline", _roofline(line)),
        ("pairs/s", _rate(numbers, each)),
        ("largest movers", "GB through main memory a step"),
        *roofline.mover_rows(counted),
        ("compile", f"{numbers['compile_seconds']:.1f} s"),
    ]
    return rows


def _collective_rows(counted: traffic.Traffic) -> list[tuple[str, str]]:
    """Each kind with its largest, which would show activations or logits that are gathered."""
    rows = []
    for kind, size in collectives.by_kind(counted.collectives).items():
        largest = next(one for one in counted.collectives if one.kind == kind)
        where = hlo.readable(largest.op_name) or largest.name
        text = f"{size / 1e6:,.1f} MB of operands, the largest {largest.bytes / 1e6:,.1f} ({where})"
        rows.append((f"  {kind}", text))
    return rows


def _memory(memory: Mapping[str, Any]) -> str:
    text = (
        f"{measure.gib(memory['arguments'])} arguments, {measure.gib(memory['temporaries'])} "
        f"temporaries, {measure.gib(memory['total'])} in all"
    )
    if memory["device"] is None:
        return text
    fits = "fits" if memory["fits"] else "does not fit"
    return f"{text}: {fits} in {measure.gib(memory['device'])}"


def _moved(numbers: Mapping[str, Any]) -> str:
    return (
        f"{numbers['roofline']['bytes'] / 1e9:.4g} GB, {numbers['bytes_padding'] / 1e9:.3g} of "
        f"them padding, {numbers['bytes_layout_copies'] / 1e9:.3g} copied into another layout"
    )


def _roofline(line: Mapping[str, Any]) -> str:
    if line["seconds"] is None:
        return "the device's limits are not known"
    parts = [
        f"{1000 * seconds:.3g} ms by {roofline.BOUNDS[bound]}"
        for bound, seconds in line["seconds_by_bound"].items()
    ]
    return f"{1000 * line['seconds']:.4g} ms a step at least: {', '.join(parts)}"


def _rate(numbers: Mapping[str, Any], each: str) -> str:
    rate, count = numbers["pairs_per_second"], numbers["devices"]
    if rate is None:
        return "not known"
    return f"{rate:,.0f} at most, {rate / count:,.0f} a {each}: an estimate, nothing was run"

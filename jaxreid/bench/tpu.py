"""The training step compiled by the TPU's own compiler, which needs no TPU: an estimate."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.experimental import topologies
from ml_collections import ConfigDict

from jaxreid import flops, sharding
from jaxreid.bench import abstract, collectives, hlo, measure, roofline, traffic

TOPOLOGIES = {
    "v4": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    "v5e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    "v6e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
}
"""Slices by generation; the compiler may know more."""

_PLACES = 8

# Or the compiler's library asks the network what machine it is on, and serves one process at a time
# as it would with a TPU.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

# How the compiler says that a program does not fit: bytes needed, bytes there.
_NEEDED = (
    r"(?:Used|required for HLO temporaries) \(?([\d.]+[KMGT]?)\)? (?:of|exceeds available HBM) "
    r"\(?([\d.]+[KMGT]?)"
)

IMAGES = {
    "device": "a copy on each chip",
    "sharded": "split over the chips",
    "host": "streamed from the host",
}
"""Where images live, by the feed."""


class DoesNotFitError(ValueError):
    """A program needs more memory than its device has.

    Attributes:
      used: bytes that it would take, arguments included; None where the compiler does not tell.
      limit: bytes that a program can have there, likewise.
    """

    def __init__(self, message: str, used: float | None, limit: float | None = None) -> None:
        super().__init__(message)
        self.used, self.limit = used, limit


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
      topology: such as "v5e:2x4", see `TOPOLOGIES`.
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
    where = measure.environment()
    devices = topology_devices(topology)
    config = _at(config, batch_per_device * len(devices), dtype)
    kind = devices[0].device_kind
    limits = flops.device(kind)
    memory = limits.memory if limits else None
    mesh = sharding.make_mesh(config.mesh.model, devices)
    step = abstract.training_step(config, mesh, sizes or abstract.Sizes(), device_memory=memory)
    compiled, seconds = compile_step(step, batch_per_device, topology)
    counted = traffic.measure(hlo.Program.read(compiled.as_text()), len(devices))
    line = roofline.Roofline.of(counted, kind)
    numbers = {
        "estimate": True,
        "topology": topology,
        "target": kind,
        "chips": len(devices),
        "batch_per_device": batch_per_device,
        **_settings(config, step),
        "compile_seconds": seconds,
        "memory": memory_numbers(compiled, memory),
        "roofline": line.numbers(),
        "pairs_per_second": config.batch_size / line.seconds if line.seconds else None,
        **_traffic_numbers(counted, compiled),
    }
    return measure.Measured.here(_title(numbers), where, numbers, _rows(numbers, counted))


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


def _title(numbers: Mapping[str, Any]) -> str:
    height, width = numbers["image_size"]
    return (
        f"estimate: training step of {numbers['model']['name']} on TPU {numbers['topology']}, "
        f"{numbers['batch_per_device']} pairs a chip, {height} x {width} pixels, {numbers['dtype']}"
    )


def topology_devices(topology: str) -> Sequence[Any]:
    """Returns the chips of a TPU slice, as the compiler knows them.

    Args:
      topology: such as "v5e:2x4".

    Raises:
      ValueError: the compiler is not installed or does not know the topology.
    """
    if not has_compiler():
        raise ValueError(
            "the TPU's compiler is not installed here. It needs no TPU, only Linux on x86-64: pip "
            "install 'jaxreid[tpu-compiler]'."
        )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    known = "; ".join(f"{kind}:{', '.join(sizes)}" for kind, sizes in TOPOLOGIES.items())
    message = f"--topology is {topology!r}; it takes a generation and a slice of it, {known}."
    if not re.fullmatch(r"v\d+[a-z]*:\d+(x\d+)+", topology):
        raise ValueError(message)
    jax_config: Any = jax.config
    if not jax_config.jax_platforms:  # or JAX would look for the TPU that is not here
        jax.config.update("jax_platforms", "cpu")
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
        raise ValueError(f"{message} The compiler says: {error}") from error
    return found.devices


def has_compiler() -> bool:
    """Tells whether the TPU's compiler is installed."""
    return importlib.util.find_spec("libtpu") is not None


def _at(config: ConfigDict, batch_size: int, dtype: str) -> ConfigDict:
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.batch_size, changed.dtype = batch_size, dtype
    return changed


def compile_step(
    step: abstract.AbstractStep, batch_per_device: int, topology: str
) -> tuple[Any, float]:
    """Compiles a step for a TPU slice.

    Args:
      step: on the chips of the slice.
      batch_per_device: pairs on each, for the message.
      topology: its name, likewise.

    Returns:
      The program, which cannot run here, and the seconds that it took to make.

    Raises:
      DoesNotFitError: a chip has not the memory.
    """
    start = time.perf_counter()
    with _explained(batch_per_device, topology), uncached():
        compiled = step.lower().compile()
    return compiled, time.perf_counter() - start


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Keeps programs out of the compilation cache: without devices they cannot be read back."""
    name = "jax_persistent_cache_min_compile_time_secs"
    jax_config: Any = jax.config
    before = getattr(jax_config, name)
    jax.config.update(name, math.inf)
    try:
        yield
    finally:
        jax.config.update(name, before)


@contextlib.contextmanager
def _explained(batch_per_device: int, topology: str) -> Iterator[None]:
    """Says in our words that a step does not fit."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed = re.search(_NEEDED, str(error))
        used, limit = needed.groups() if needed else ("", "")
        raise DoesNotFitError(
            f"--batch_per_device is {batch_per_device}, which does not fit on a chip of "
            f"{topology}" + (f" (used {used} of {limit} hbm)" if needed else "") + ". Take a "
            "smaller one, or compute activations twice: --config.model.remat=true where the "
            "network has it.",
            _bytes(used) if needed else None,
            _bytes(limit) if needed else None,
        ) from error


def _bytes(text: str) -> float:
    """Reads a size as the compiler writes it, "17.92G"."""
    number, unit = re.fullmatch(r"([\d.]+)([KMGT]?)", text).groups()  # type: ignore[union-attr]
    return float(number) * 1024 ** " KMGT".index(unit or " ")


def memory_numbers(compiled: Any, limit: float | None = None) -> dict[str, Any]:
    """Bytes of one device that a program takes, as its compiler has planned them.

    Args:
      compiled: the program.
      limit: bytes of the device.
    """
    found = compiled.memory_analysis()
    arguments, temporaries = found.argument_size_in_bytes, found.temp_size_in_bytes
    outputs = found.output_size_in_bytes - found.alias_size_in_bytes
    code = found.generated_code_size_in_bytes
    total = arguments + temporaries + outputs + code
    return {
        "arguments": arguments,
        "temporaries": temporaries,
        "outputs_besides": outputs,
        "code": code,
        "total": total,
        "device": limit,
        "fits": None if limit is None else total <= limit,
    }


def _traffic_numbers(counted: traffic.Traffic, compiled: Any) -> dict[str, Any]:
    analysis = compiled.cost_analysis() or {}
    return {
        "bytes_padding": counted.padding,
        "bytes_layout_copies": counted.layout_copies,
        "host_transfers": list(counted.host_transfers),
        "bytes_by_module": traffic.by_place(counted.movers),
        "collective_bytes": collectives.by_kind(counted.collectives),
        "notes": list(counted.notes),
        "xla_flops": analysis.get("flops"),
        "xla_bytes_accessed": analysis.get("bytes accessed"),
        "movers": [dataclasses.asdict(mover) for mover in counted.movers[:100]],
        "collectives": [dataclasses.asdict(one) for one in counted.collectives],
    }


def _rows(numbers: Mapping[str, Any], counted: traffic.Traffic) -> list[tuple[str, str]]:
    line, memory = numbers["roofline"], numbers["memory"]
    rows = [
        (
            "chips",
            f"{numbers['chips']} x {numbers['target']}, {numbers['mesh_model']} to a classifier",
        ),
        ("images", IMAGES[numbers["feed"]]),
        ("memory a chip", _memory(memory)),
        ("FLOPs a chip", measure.operations(line["flops"])),
        ("moved a chip", _moved(numbers)),
        *(
            (f"  {place or 'outside of modules'}", f"{size / 1e9:.3g} GB")
            for place, size in list(numbers["bytes_by_module"].items())[:_PLACES]
        ),
        ("sent a chip", f"{line['bytes_sent'] / 1e9:.3g} GB"),
        *_collective_rows(counted),
        ("host transfers", ", ".join(numbers["host_transfers"]) or "none"),
        *(("", note) for note in numbers["notes"]),
        ("roofline", _roofline(line)),
        ("pairs/s", _rate(numbers)),
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
        return "the chip's limits are not known"
    parts = [
        f"{1000 * seconds:.3g} ms by {roofline.BOUNDS[bound]}"
        for bound, seconds in line["seconds_by_bound"].items()
    ]
    return f"{1000 * line['seconds']:.4g} ms a step at least: {', '.join(parts)}"


def _rate(numbers: Mapping[str, Any]) -> str:
    rate, chips = numbers["pairs_per_second"], numbers["chips"]
    if rate is None:
        return "not known"
    return f"{rate:,.0f} at most, {rate / chips:,.0f} a chip: an estimate, nothing was run"

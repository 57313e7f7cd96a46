"""Compiling for devices that are not here, by their own compilers: nothing can be run."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from jaxreid.bench import abstract, gpu, tpu

# How a compiler says that a program does not fit: bytes needed, bytes there.
_NEEDED = (
    r"(?:Used|required for HLO temporaries) \(?([\d.]+[KMGT]?)\)? (?:of|exceeds available HBM) "
    r"\(?([\d.]+[KMGT]?)"
)

# What XLA says of a product for which it can write no kernel of its own.
_NO_TILES = "Couldn't find output tile sizes"

IMAGES = {
    "device": "a copy on each device",
    "sharded": "split over the devices",
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


def topology_devices(topology: str, memory: float | None = None) -> Sequence[Any]:
    """Returns devices as their compiler knows them.

    Args:
      topology: a TPU slice such as "v5e:2x4", or GPUs such as "h100x8".
      memory: bytes of each GPU, if another number than the maker's.

    Raises:
      ValueError: the topology is not known, or its compiler is not installed or cannot be used.
    """
    with _offering_both(topology):
        if is_slice(topology):
            return tpu.topology_devices(topology)
        return gpu.topology_devices(topology, memory)


def parse_gpus(topology: str) -> tuple[gpu.Gpu, int]:
    """Reads GPUs and how many, as `gpu.parse` does, where a TPU slice is taken as well.

    Raises:
      ValueError: the topology is not known.
    """
    with _offering_both(topology):
        return gpu.parse(topology)


@contextlib.contextmanager
def _offering_both(topology: str) -> Iterator[None]:
    """Adds to an error what else a topology could be."""
    try:
        yield
    except ValueError as error:
        other = gpu.OFFER if is_slice(topology) else tpu.OFFER
        raise ValueError(f"{error} Or take {other}.") from error


def is_slice(topology: str) -> bool:
    """Tells a TPU slice from GPUs."""
    return ":" in topology


def compile_step(
    step: abstract.AbstractStep, batch_per_device: int, topology: str
) -> tuple[Any, float]:
    """Compiles a step for devices that are not here.

    Args:
      step: on those devices.
      batch_per_device: pairs on each, for the message.
      topology: their name, likewise.

    Returns:
      The program, which cannot run here, and the seconds that it took to make.

    Raises:
      DoesNotFitError: a device has not the memory.
      ValueError: CUDA's assembler knows nothing of the device.
    """
    start = time.perf_counter()
    with _explained(batch_per_device, topology), uncached():
        compiled = _compile(step.lower())
    return compiled, time.perf_counter() - start


def _compile(lowered: Any) -> Any:
    """Compiles; products by cuBLAS where the compiler finds no tiles for its own kernels.

    On a GPU it would try several tilings and cuBLAS, and take the quickest that works.
    """
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if _NO_TILES not in str(error):
            raise
        return lowered.compile(compiler_options={"xla_gpu_enable_triton_gemm": False})


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
    """Says in our words that a step does not fit, or that no assembler is there for it."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "ptxas" in str(error):
            raise ValueError(
                f"CUDA's assembler cannot make a program for {topology} ({error}). Install one "
                "that can: pip install nvidia-cuda-nvcc-cu12."
            ) from error
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed = re.search(_NEEDED, str(error))
        used, limit = needed.groups() if needed else ("", "")
        raise DoesNotFitError(
            f"--batch_per_device is {batch_per_device}, which does not fit on a device of "
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

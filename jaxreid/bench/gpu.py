"""NVIDIA's GPUs, as XLA's compiler for them knows them; it needs no GPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from jaxreid import flops

JAX_SHARE = 0.75
"""Of a GPU's memory, which JAX takes for itself."""
UNLESS = "unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise"

_PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
# Versions of CUDA and cuDNN to compile for.
_RUNTIME, _CUDNN = "major: 12 minor: 8 patch: 0", "major: 9 minor: 10 patch: 0"


@dataclasses.dataclass(frozen=True)
class Gpu:
    """What the compiler asks of a GPU, as its maker states it.

    Attributes:
      kind: as ``jax.Device.device_kind`` has it.
      capability: CUDA's compute capability.
      cores: multiprocessors.
      clock: GHz at most.
      cache: bytes of the second level.
      shared: bytes of shared memory of a multiprocessor.
      shared_per_block: bytes of it that a block can have at most.
      units: float32 units of a multiprocessor.
      threads: of a multiprocessor.
    """

    kind: str
    capability: tuple[int, int]
    cores: int
    clock: float
    cache: int
    shared: int
    shared_per_block: int
    units: int = 128
    threads: int = 2048


_A100 = ((8, 0), 108, 1.41, 40 * 2**20, 164 * 1024, 163 * 1024, 64)
_ADA = (100 * 1024, 99 * 1024, 128, 1536)
_HOPPER = ((9, 0), 132, 1.98, 50 * 2**20, 228 * 1024, 227 * 1024)
_V100 = ((7, 0), 80, 1.53, 6 * 2**20, 96 * 1024, 96 * 1024, 64)

GPUS = {
    "h200": Gpu("NVIDIA H200", *_HOPPER),
    "h100": Gpu("NVIDIA H100 80GB HBM3", *_HOPPER),
    "a100-80": Gpu("NVIDIA A100-SXM4-80GB", *_A100),
    "a100-40": Gpu("NVIDIA A100-SXM4-40GB", *_A100),
    "l4": Gpu("NVIDIA L4", (8, 9), 58, 2.04, 48 * 2**20, *_ADA),
    "rtx4090": Gpu("NVIDIA GeForce RTX 4090", (8, 9), 128, 2.52, 72 * 2**20, *_ADA),
    "v100-32": Gpu("Tesla V100-SXM2-32GB", *_V100),
    "v100": Gpu("Tesla V100-SXM2-16GB", *_V100),
}
"""By the names that a topology has for them."""

OFFER = f"a GPU and how many, {', '.join(GPUS)} (h100x8)"
"""What a topology may be."""


def has_compiler() -> bool:
    """Tells whether XLA's compiler for CUDA is installed."""
    return any(_is_installed(name) for name in _PLUGINS)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even the package that it would be in
        return False


def parse(topology: str) -> tuple[Gpu, int]:
    """Reads "h100x8" or "h100": a GPU, and how many.

    Raises:
      ValueError: no known GPU, or none of it.
    """
    found = re.fullmatch(r"(.+)x(\d+)", topology)
    name, count = found.groups() if found and topology not in GPUS else (topology, "1")
    if name not in GPUS or not int(count):
        raise ValueError(f"--topology is {topology!r}; it takes {OFFER}.")
    return GPUS[name], int(count)


def notes(kind: str, dtype: str) -> list[str]:
    """Returns what to know of a kind of device that computes in a type."""
    if kind.startswith("Tesla V100") and dtype == "bfloat16":
        return [f"a {kind} has no units for bfloat16: it will be slower than this"]
    return []


def topology_devices(topology: str, memory: float | None = None) -> Sequence[Any]:
    """Returns the GPUs of one host, as the compiler knows them.

    Args:
      topology: such as "h100x8".
      memory: bytes of each, if another number than the maker's.

    Raises:
      ValueError: the compiler is not installed, or the topology is not known.
    """
    gpu, count = parse(topology)
    if not has_compiler():
        raise ValueError(
            "XLA's compiler for GPUs is not installed here. It needs no GPU, only Linux: pip "
            "install 'jaxreid[gpu-compiler]'."
        )
    jax_config: Any = jax.config
    if not jax_config.jax_platforms:  # or JAX would look for the GPU that is not here
        jax.config.update("jax_platforms", "cpu")
    try:
        found = topologies.get_topology_desc(
            platform="cuda", topology=f"1x1x{count}", target_config=_as_text(gpu, memory)
        )
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        raise ValueError(
            f"XLA's compiler for GPUs is installed and cannot be used ({error}). Set "
            "JAX_PLATFORMS=cpu where there is no GPU."
        ) from error
    return found.devices


def _as_text(gpu: Gpu, memory: float | None) -> str:
    """Describes a GPU as XLA's ``GpuTargetConfigProto`` in text."""
    limits = flops.device(gpu.kind)
    if limits is None:
        raise ValueError(f"memory and bandwidth of {gpu.kind!r} are not known.")
    major, minor = gpu.capability
    accelerated = "feature_extension: ACCELERATED_FEATURES" if major >= 9 else ""
    return f"""
        gpu_device_info {{
          threads_per_block_limit: 1024
          threads_per_warp: 32
          threads_per_core_limit: {gpu.threads}
          thread_dim_limit_x: 1024
          thread_dim_limit_y: 1024
          thread_dim_limit_z: 64
          block_dim_limit_x: {2**31 - 1}
          block_dim_limit_y: {2**16 - 1}
          block_dim_limit_z: {2**16 - 1}
          shared_memory_per_block: {48 * 1024}
          shared_memory_per_block_optin: {gpu.shared_per_block}
          shared_memory_per_core: {gpu.shared}
          registers_per_core_limit: {2**16}
          registers_per_block_limit: {2**16}
          core_count: {gpu.cores}
          fpus_per_core: {gpu.units}
          clock_rate_ghz: {gpu.clock}
          l2_cache_size: {gpu.cache}
          memory_bandwidth: {int(limits.bandwidth)}
          device_memory_size: {int(memory or limits.memory)}
          cuda_compute_capability {{ major: {major} minor: {minor} {accelerated} }}
        }}
        platform_name: "CUDA"
        dnn_version_info {{ {_CUDNN} }}
        runtime_version {{ {_RUNTIME} }}
        device_description_str: "{gpu.kind}"
    """

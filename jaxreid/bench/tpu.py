"""Slices of TPU pods, as the TPU's own compiler knows them; it needs no TPU."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

TOPOLOGIES = {
    "v4": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    "v5e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    "v6e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
}
"""Slices by generation; the compiler may know more."""

_KNOWN = "; ".join(f"{kind}:{', '.join(sizes)}" for kind, sizes in TOPOLOGIES.items())
OFFER = f"a TPU slice, {_KNOWN} (v5e:2x4)"
"""What a topology may be."""

# Or the compiler's library asks the network what machine it is on, and serves one process at a time
# as it would with a TPU.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


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
    message = f"--topology is {topology!r}; it takes {OFFER}."
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

"""What kind of device a network is written for.

Parameters and results are the same everywhere; the form of an operation that suits one kind of
device may be slow on another.
"""

from __future__ import annotations

import jax

PLATFORMS = ("auto", "cpu", "gpu", "tpu")


def on_cpu(platform: str) -> bool:
    """Whether operations take the forms for CPUs.

    Args:
      platform: "auto" (that of the back end in use while tracing), "cpu", "gpu" or "tpu". The last
        three are for tests and for compiling on another host than the one that will compute.
    """
    return _resolved(platform) == "cpu"


def on_tpu(platform: str) -> bool:
    """Whether operations take the forms for TPUs.

    Args:
      platform: as in `on_cpu`.
    """
    return _resolved(platform) == "tpu"


def _resolved(platform: str) -> str:
    if platform not in PLATFORMS:
        raise ValueError(f"platform={platform!r}: choose one of {', '.join(PLATFORMS)}.")
    return jax.default_backend() if platform == "auto" else platform

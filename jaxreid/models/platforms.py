"""What kind of device a network is written for.

Parameters and results are the same everywhere; the form of an operation that suits one kind of
device may be slow on another.
"""

from __future__ import annotations

import jax

PLATFORMS = ("auto", "cpu", "gpu", "tpu")
"""What a network's field ``platform`` takes: "auto" is that of the back end in use while tracing;
the others are for tests and for compiling on another host than the one that will compute."""


def on_cpu(platform: str) -> bool:
    """Whether operations take the forms for CPUs.

    Args:
      platform: one of `PLATFORMS`.
    """
    return _resolved(platform) == "cpu"


def on_tpu(platform: str) -> bool:
    """Whether operations take the forms for TPUs.

    Args:
      platform: one of `PLATFORMS`.
    """
    return _resolved(platform) == "tpu"


def _resolved(platform: str) -> str:
    if platform not in PLATFORMS:
        raise ValueError(f"platform={platform!r}: choose one of {', '.join(PLATFORMS)}.")
    return jax.default_backend() if platform == "auto" else platform

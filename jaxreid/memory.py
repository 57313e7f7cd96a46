"""Memory: of the host, and how it is written."""

from __future__ import annotations

import contextlib
import ctypes


def give_back() -> None:
    """Hands memory that was freed back to the system, where the C library can.

    glibc keeps what a compilation has freed, hundreds of megabytes, for allocations to come.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def gib(count: float | int) -> str:
    """Writes bytes in GiB."""
    return f"{count / 2**30:.2f} GiB"

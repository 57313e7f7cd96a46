"""Memory: of the host, and how it is written."""

from __future__ import annotations

import contextlib
import ctypes
import gc


def give_back(*, programs: bool = False) -> None:
    """Hands memory that was freed back to the system, where the C library can.

    glibc keeps what a compilation has freed, hundreds of megabytes, for allocations to come.

    Args:
      programs: free those of JAX first that nothing can call again. They live on in cycles of
        references, the second of which is only found when the first is gone.
    """
    for _ in range(2 if programs else 0):
        gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def gib(count: float | int) -> str:
    """Writes bytes in GiB."""
    return f"{count / 2**30:.2f} GiB"

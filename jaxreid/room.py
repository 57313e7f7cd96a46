"""Room on the disk of a run."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator

from absl import logging

_FULL = ("No space left on device", "Disk quota exceeded", "ENOSPC")
_MARGIN = 1.1


def free(folder: str | os.PathLike[str]) -> int | None:
    """Bytes free on the disk of a folder; None for a bucket, which has no end."""
    if "://" in os.fspath(folder):
        return None
    return shutil.disk_usage(_nearest(folder)).free


def _nearest(folder: str | os.PathLike[str]) -> pathlib.Path:
    path = pathlib.Path(folder).absolute()
    while not path.exists():
        path = path.parent
    return path


def mib(count: float) -> str:
    """Writes bytes in MiB."""
    return f"{count / 2**20:.1f} MiB"


def warn_if_short(folder: str | os.PathLike[str], needed: int) -> bool:
    """Warns where a save will hardly fit.

    Args:
      folder: where it goes.
      needed: bytes of its arrays.

    Returns:
      Whether it warned.
    """
    there = free(folder)
    if there is None or there >= _MARGIN * needed:
        return False
    logging.warning(
        "%s has %s free, and the next checkpoint takes up to %s before the one it replaces is "
        "deleted: make room",
        folder,
        mib(there),
        mib(needed),
    )
    return True


def is_full(error: BaseException) -> bool:
    """Whether an error, from Python or from below, says that a disk has no room."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error) for words in _FULL)


@contextlib.contextmanager
def explained(workdir: str | os.PathLike[str]) -> Iterator[None]:
    """Turns the system's error of a full disk into one that names the run's folder.

    Args:
      workdir: folder that is written to inside the ``with``.

    Raises:
      OSError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        there = free(workdir)
        raise OSError(
            f"no room is left for the run in {str(workdir)!r} ({error}; "
            f"{mib(there or 0)} are free). What was saved is whole: make room, then run the "
            "same command, which goes on from there."
        ) from error

"""Files that are there whole or not at all, and locks that end with their process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import tempfile
from collections.abc import Iterator

from absl import logging

from jaxreid import paths
from jaxreid.paths import AnyPath


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file beside its final name, then moves it there: a kill leaves no half of it.

    In a bucket an object is there after its last byte by itself.

    Args:
      path: file to write or to replace; its folder must exist.
      text: the content, stored as UTF-8.

    Raises:
      OSError: the file cannot be written.
    """
    path = paths.as_path(path)
    if paths.is_remote(path):
        path.write_bytes(text.encode())
        return
    temporary = path.with_name(f"{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


@contextlib.contextmanager
def whole(path: AnyPath) -> Iterator[pathlib.Path]:
    """A local file to write, which lies at `path` at the end, or nowhere where anything fails.

    Args:
      path: of the file; its folder is made.
    """
    if paths.is_remote(path):
        with tempfile.TemporaryDirectory(prefix="jaxreid-") as folder:
            local = pathlib.Path(folder) / path.name
            yield local
            paths.upload(local, path)
        return
    partial = pathlib.Path(path.with_name(f"{path.name}.partial"))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):  # gone already, or no file could be there
            partial.unlink()


@contextlib.contextmanager
def locked(path: pathlib.Path, what: str) -> Iterator[None]:
    """Lets one process of a machine in at a time; a killed one is out.

    Args:
      path: of the lock, a local file.
      what: another process does while this one waits, for the log.
    """
    with path.open("w") as handle:
        try:  # the kernel lets go of a lock when its process is killed
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("another process %s: waiting for it (%s)", what, path)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield

"""Paths of local disks and of buckets, ``gs://BUCKET/...``, used alike.

A bucket holds objects by name: it has no folders to make, no file that grows, no renaming of what
lies below a name. What needs one of these is written on the local disk and copied.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from etils import epath

    AnyPath: TypeAlias = "pathlib.Path | epath.Path"
else:
    AnyPath = Any

PREFIX = "gs://"
_COPIED_AT_ONCE = 8 * 2**20


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads into a bucket."""
    return os.fspath(path).startswith(PREFIX)


def as_path(path: str | os.PathLike[str], field: str = "the path") -> AnyPath:
    """Makes a path of a string.

    Args:
      path: on a local disk, or ``gs://BUCKET/...``.
      field: what to call it in errors.

    Returns:
      A `pathlib.Path`, or one of `etils.epath` with the same methods.

    Raises:
      ValueError: it leads somewhere else, names no bucket, or the extra ``gcs`` is missing.
    """
    text = os.fspath(path)
    if not text.startswith(PREFIX):
        if "://" in text:
            raise ValueError(
                f"{field} is {text!r}; it takes a local path or {PREFIX}BUCKET/..., and no other "
                "store. Copy it to one of them."
            )
        return pathlib.Path(path)
    if not text.removeprefix(PREFIX).strip("/"):
        raise ValueError(f"{field} is {text!r}, which names no bucket: {PREFIX}BUCKET/...")
    if not _reads_buckets():
        raise ValueError(
            f"{field} is {text!r}, and {PREFIX} takes the package gcsfs: pip install "
            "'jaxreid[gcs]', or name a local path."
        )
    from etils import epath

    return epath.Path(text)


@functools.cache
def _reads_buckets() -> bool:
    """Whether there is what `etils.epath` reads buckets by: gcsfs, or TensorFlow."""
    import fsspec

    # Listings that are kept grow old: TensorStore and other hosts write into the same folders.
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    try:
        fsspec.get_filesystem_class("gcs")
    except (ImportError, ValueError):
        return importlib.util.find_spec("tensorflow") is not None
    return True


def refuse_remote(path: str | os.PathLike[str], field: str) -> None:
    """Refuses a path that must be local.

    Args:
      path: of a cache.
      field: what to call it in errors.

    Raises:
      ValueError: it is not local.
    """
    if "://" in os.fspath(path):
        raise ValueError(
            f"{field} is {os.fspath(path)!r}; caches are mapped into memory and locked, so it "
            "takes a folder on a disk of this machine. What comes from a bucket is copied there."
        )


def absolute(path: AnyPath) -> AnyPath:
    """The path as seen from anywhere; links are followed on local disks."""
    return path if is_remote(path) else path.resolve()


def make_folder(path: AnyPath) -> None:
    """Makes a local folder and those above it, where they are missing; a bucket needs none."""
    if not is_remote(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def explained(path: str | os.PathLike[str], field: str) -> Iterator[None]:
    """Turns what a bucket's client raises into one error that says what to do.

    Args:
      path: that is used inside; errors of a local one pass as they are.
      field: what to call it.

    Raises:
      ValueError: the bucket could not be used; an error that is a ValueError already passes.
    """
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # those of fsspec, of the store's client and of its login
        if not is_remote(path):
            raise
        raise ValueError(
            f"{field} is {os.fspath(path)!r}, which cannot be used: {first_line(error)}. Check "
            "bucket and name; `gcloud auth application-default login`, or the machine's service "
            "account, gives the rights to read and write it."
        ) from error


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def download(source: AnyPath, target: pathlib.Path) -> None:
    """Copies a file of a bucket; it appears under its name after its last byte.

    Args:
      source: the file.
      target: its copy, which is replaced if it exists; its folder is made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    with source.open("rb") as read, partial.open("wb") as write:
        shutil.copyfileobj(read, write, _COPIED_AT_ONCE)
    partial.replace(target)


def upload(source: pathlib.Path, target: AnyPath) -> None:
    """Copies a local file, or all files of a folder and of those below it, into a bucket.

    Args:
      source: file or folder.
      target: name of its copy.
    """
    if not source.is_dir():
        # At one go, since a writer that is closed half way leaves half of an object.
        target.write_bytes(source.read_bytes())
        return
    for file in sorted(source.rglob("*")):
        if file.is_file():
            upload(file, target / file.relative_to(source).as_posix())

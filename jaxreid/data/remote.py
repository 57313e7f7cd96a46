"""Copies on the local disk of what lies in a bucket: datasets, weights, word vectors.

Record files are read at random and images are mapped into memory, which takes files of this
machine. So every host copies what it needs, once.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

from absl import logging

from jaxreid import files, paths
from jaxreid.data.cache import default_cache_dir
from jaxreid.paths import AnyPath

INFO_FILE = "dataset_info.json"
"""Of TFDS, in the folder of a finished dataset."""

_COPIES_AT_A_TIME = 8


def as_local(path: str | os.PathLike[str], field: str) -> pathlib.Path:
    """The local file of a path, which in a bucket is a copy of it.

    Args:
      path: local, where ``~`` is expanded, or ``gs://BUCKET/...``.
      field: what to call it in errors.

    Returns:
      The path; whether there is such a file on the local disk is not looked at.

    Raises:
      ValueError: it leads elsewhere, or there is no such file in the bucket.
    """
    if paths.is_remote(path):
        return _local_file(os.fspath(path), field)
    return pathlib.Path(paths.as_path(path, field)).expanduser()


def _local_file(source: str, field: str) -> pathlib.Path:
    """Copies a file of a bucket below the cache folder, once for each state of it."""
    remote = paths.as_path(source, field)
    with paths.explained(source, field):
        state: Any = remote.stat()
        folder = default_cache_dir() / "fetched" / _digest([source, state.length, state.mtime])
        local = folder / remote.name
        folder.mkdir(parents=True, exist_ok=True)
        with files.locked(folder / ".lock", "copies the same file"):
            if not local.is_file():
                paths.download(remote, local)
    return local


def local_data_dir(dataset: AnyPath, relative: pathlib.PurePath) -> pathlib.Path:
    """Copies a finished dataset below the cache folder; what is there already is not read again.

    Args:
      dataset: folder of one version of it, in a bucket.
      relative: that folder below its ``data_dir``: name, config, version.

    Returns:
      A ``data_dir`` on the local disk that holds this version alone. A set that is built anew or
      replaced in the bucket gets one of its own.

    Raises:
      ValueError: the bucket cannot be read.
      OSError: the disk is full or cannot be written.
    """
    field = "config.data.data_dir"
    with paths.explained(dataset, field):
        remote = _files(dataset)
    states = [[file.name, size, changed] for file, size, changed in remote]
    data_dir = default_cache_dir() / "datasets" / _digest([str(dataset), states])
    folder = data_dir / relative
    folder.mkdir(parents=True, exist_ok=True)
    with files.locked(data_dir / ".lock", f"copies {dataset}"):
        missing = [one for one in remote if not _is_copied(folder / one[0].name, one[1])]
        if missing:
            _check_room(missing, folder)
            with paths.explained(dataset, field):
                _copy(missing, folder)
            logging.info("%s is copied to %s", dataset, folder)
    return data_dir


_File = tuple[AnyPath, int, int]
"""A remote file, its size in bytes, and the second in which it was changed."""


def _files(folder: AnyPath) -> list[_File]:
    names = sorted(folder.iterdir(), key=lambda file: file.name)
    with concurrent.futures.ThreadPoolExecutor(_COPIES_AT_A_TIME) as pool:
        states = list(pool.map(lambda file: file.stat(), names))
    return [
        (file, state.length, state.mtime)
        for file, state in zip(names, states, strict=True)
        if not state.is_directory
    ]


def _is_copied(local: pathlib.Path, size: int) -> bool:
    return local.is_file() and local.stat().st_size == size


def _check_room(missing: Sequence[_File], folder: pathlib.Path) -> None:
    needed, free = sum(size for _, size, _ in missing), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"the copy of a dataset in a bucket takes {needed / 2**30:.1f} GiB in {folder}, where "
            f"{free / 2**30:.1f} GiB are free. Name a folder with room in JAXREID_CACHE."
        )


def _copy(missing: Sequence[_File], folder: pathlib.Path) -> None:
    total = sum(size for _, size, _ in missing)
    logging.info("copying %d files, %.2f GiB, to %s", len(missing), total / 2**30, folder)
    done = 0
    # The file that tells of a finished dataset comes last.
    last = [one for one in missing if one[0].name == INFO_FILE]
    others = [one for one in missing if one[0].name != INFO_FILE]
    copy = functools.partial(_copy_file, folder=folder)
    with concurrent.futures.ThreadPoolExecutor(_COPIES_AT_A_TIME) as pool:
        for group in (others, last):
            for size in pool.map(copy, group):
                done += size
                logging.log_every_n_seconds(
                    logging.INFO, "copied %.2f of %.2f GiB", 10, done / 2**30, total / 2**30
                )


def _copy_file(one: _File, folder: pathlib.Path) -> int:
    """Copies a file, which keeps its time of change: caches of images are told apart by it."""
    remote, size, changed = one
    local = folder / remote.name
    paths.download(remote, local)
    if not _is_copied(local, size):
        raise OSError(f"{remote} came as {local.stat().st_size} bytes of {size}: copy it again")
    os.utime(local, (changed, changed))
    return size


def _digest(state: object) -> str:
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]

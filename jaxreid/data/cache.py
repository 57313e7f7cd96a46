"""Decoded images of a split, once on disk, mapped into memory by every process that wants them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import math
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import cv2
import numpy as np
from absl import logging
from jaxtyping import UInt8

from jaxreid import files, paths
from jaxreid.data import decode
from jaxreid.progress import duration

_CHUNK = 256


def default_cache_dir() -> pathlib.Path:
    """Folder of what can be made again: ``$JAXREID_CACHE``, else ``$XDG_CACHE_HOME/jaxreid``.

    Decoded images lie in it where the config names no other; weights, compiled programs and copies
    of what lies in buckets below.

    Raises:
      ValueError: it is not local.
    """
    if own := os.environ.get("JAXREID_CACHE"):
        paths.refuse_remote(own, "JAXREID_CACHE")
        return pathlib.Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "jaxreid"


def cached_images(
    read: Callable[[int], tuple[str, bytes]],
    num_images: int,
    size: tuple[int, int],
    *,
    resize: str = "bicubic",
    key: Mapping[str, Any],
    cache_dir: str | os.PathLike[str],
) -> UInt8[np.ndarray, "N H W 3"]:
    """Decodes all images of a split into a file, or finds it there, and maps it into memory.

    The file appears by one rename after its last byte, so a kill half way leaves nothing that a
    later run could mistake for a finished cache; a lock keeps two processes from decoding twice.

    Args:
      read: position in the split -> (image id, file bytes).
      num_images: N.
      size: (height, width) in pixels.
      resize: how, see `decode.decode_image`.
      key: everything else that changes the pixels: dataset, version, split, fingerprint of files.
      cache_dir: local folder for the caches of all splits; ``~`` is expanded.

    Returns:
      [N, H, W, 3] uint8 memory map, read only.

    Raises:
      ValueError: an image cannot be decoded (all broken ones counted, the first five named), or the
        folder is not local.
      OSError: the folder cannot be written, knows no locks, or is full.
    """
    full_key = {
        **key,
        "size": list(size),
        "resize": resize,
        "decoder": decode.VERSION,
        "images": num_images,
    }
    digest = hashlib.sha256(json.dumps(full_key, sort_keys=True).encode()).hexdigest()[:20]
    paths.refuse_remote(cache_dir, "config.data.cache_dir")
    folder = pathlib.Path(cache_dir).expanduser()
    path = folder / f"{digest}.npy"
    if not path.exists():
        with _usable(folder), files.locked(folder / f"{digest}.lock", "decodes the same images"):
            if not path.exists():
                # For people who wonder what a file is; nothing reads it.
                path.with_suffix(".json").write_text(json.dumps(full_key, indent=2))
                _decode_all(read, (num_images, *size, 3), resize, path)
                _report(path)
    return np.load(path, mmap_mode="r")


@contextlib.contextmanager
def _usable(folder: pathlib.Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OSError(
            f"the cache of decoded images cannot be written to {folder} ({error}). Name a local "
            "folder with room that you may write to in config.data.cache_dir."
        ) from error


def _report(path: pathlib.Path) -> None:
    """Logs what a new cache takes on the disk, beside what lies there already."""
    files = [*path.parent.glob("*.npy"), *path.parent.glob("*.partial")]
    total = sum(file.stat().st_size for file in files)
    logging.info(
        "cache of decoded images: %s, %.2f GiB; files in that folder: %d, %.2f GiB in all. They "
        "are never removed by themselves; those of no further use can be.",
        path,
        path.stat().st_size / 2**30,
        len(files),
        total / 2**30,
    )


def _decode_all(
    read: Callable[[int], tuple[str, bytes]],
    shape: tuple[int, int, int, int],
    resize: str,
    path: pathlib.Path,
) -> None:
    cv2.setNumThreads(1)  # the pool below is the parallelism
    temporary = path.with_suffix(".partial")
    temporary.unlink(missing_ok=True)  # of a killed build
    needed = math.prod(shape)
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(f"{needed / 2**30:.1f} GiB are needed, {free / 2**30:.1f} GiB are free")
    try:
        with temporary.open("wb") as file:
            problems = _fill(file, read, shape, resize)
            file.flush()
            os.fsync(file.fileno())
        if problems:
            shown = "\n  ".join(sorted(problems)[:5])
            raise ValueError(f"{len(problems)} of {shape[0]} images are broken:\n  {shown}")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _fill(
    file: BinaryIO,
    read: Callable[[int], tuple[str, bytes]],
    shape: tuple[int, int, int, int],
    resize: str,
) -> list[str]:
    """Writes a NumPy file of all images; returns what is wrong with those that are broken."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    file.flush()
    begin, each = file.tell(), math.prod(shape[1:])
    num_images, size = shape[0], (shape[1], shape[2])
    problems: list[str] = []

    def fill(index: int) -> None:
        name, data = read(index)
        try:
            image = decode.decode_image(data, size, name=name, resize=resize)
        except ValueError as error:
            problems.append(str(error))
        else:
            # Through a memory map, a full disk or a quota would kill the process without a word.
            pixels = np.ascontiguousarray(image).data
            os.pwrite(file.fileno(), pixels, begin + index * each)

    since = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, num_images, _CHUNK):
            done = min(start + _CHUNK, num_images)
            list(pool.map(fill, range(start, done)))
            rate = done / (time.perf_counter() - since)
            logging.log_every_n_seconds(
                logging.INFO,
                "decoding images: %d of %d, %.0f images/s, %s left",
                10,
                done,
                num_images,
                rate,
                duration((num_images - done) / rate),
            )
    return problems

"""A look at image files before a build: is each of them there, whole, and JPEG, PNG or BMP?"""

from __future__ import annotations

import collections
import concurrent.futures
import os
import pathlib
import struct
from collections.abc import Callable, Collection

from tfds_builders.base import first_names

ACCEPTED = "JPEG, PNG or BMP"

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = 0xDA
_MISSING = "missing"
_BMP_UNCOMPRESSED = (0, 3)  # BI_RGB, BI_BITFIELDS
# Files are small; a reader thread mostly waits for the disk or the network.
_READERS = 8


def image_problem(path: str | os.PathLike[str]) -> str | None:
    """Says what is wrong with an image file, from its markers and size, without decoding it.

    Args:
      path: an existing file.

    Returns:
      The problem in a few words; None for a whole JPEG, PNG or BMP file, whatever its suffix.
    """
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not data:
        return "empty file"
    for magic, is_whole in _KINDS.items():
        if data.startswith(magic):
            return None if is_whole(data) else "truncated"
    return f"not {ACCEPTED}"


def check_images(root: pathlib.Path, names: Collection[str]) -> None:
    """Checks that all images of a dataset are there and whole.

    Args:
      root: folder that the names are relative to.
      names: file paths relative to it, with "/".

    Raises:
      ValueError: one or more are missing or damaged; one message with counts for each sub-folder,
        the first five names and what to do.
    """
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda name: _missing_or_damaged(root / name), names)
        problems = {name: what for name, what in zip(names, found, strict=True) if what}
    missing = [name for name, what in problems.items() if what == _MISSING]
    damaged = {name: what for name, what in problems.items() if what != _MISSING}
    if missing or damaged:
        total = collections.Counter(map(_folder, names))
        message = _missing_text(root, missing, total) + _damaged_text(root, damaged, total)
        raise ValueError("\n".join(message))


def _missing_or_damaged(path: pathlib.Path) -> str | None:
    return image_problem(path) if path.is_file() else _MISSING


def _folder(name: str) -> str:
    return name.rpartition("/")[0] or "."


def _per_folder(names: Collection[str], total: collections.Counter[str]) -> str:
    """Lists "folder: missing of all" for each sub-folder concerned."""
    counts = collections.Counter(map(_folder, names))
    return ", ".join(f"{folder}: {n:,} of {total[folder]:,}" for folder, n in counts.items())


def _missing_text(
    root: pathlib.Path, missing: list[str], total: collections.Counter[str]
) -> list[str]:
    if not missing:
        return []
    whole = [folder for folder in total if not (root / folder).is_dir()]
    lines = [
        f"{len(missing):,} of {total.total():,} annotated images are missing under {root}",
        f"  by sub-folder: {_per_folder(missing, total)}",
        f"  first: {first_names(missing)}",
    ]
    if whole:
        lines.append(f"  sub-folders that do not exist at all: {', '.join(whole)}")
    return [
        *lines,
        "  What to do: unpack the image archive of each of these sub-folders again, so that "
        "the names above exist; names are compared letter by letter, suffix included.",
    ]


def _damaged_text(
    root: pathlib.Path, damaged: dict[str, str], total: collections.Counter[str]
) -> list[str]:
    if not damaged:
        return []
    named = [f"{name} ({what})" for name, what in damaged.items()]
    return [
        f"{len(damaged):,} of {total.total():,} annotated images under {root} are damaged",
        f"  by sub-folder: {_per_folder(damaged, total)}",
        f"  first: {first_names(named)}",
        f"  What to do: fetch these files again; accepted: {ACCEPTED}.",
    ]


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the end-of-image marker follows the compressed data."""
    if data.endswith(_JPEG_END):
        return True
    # Some writers add bytes after the end. An embedded thumbnail has an end marker of its own, so
    # look behind the headers only; there a marker cannot be mistaken for data.
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        if data[position + 1] == _JPEG_SCAN:
            return _JPEG_END in data[position:]
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _bmp_is_whole(data: bytes) -> bool:
    """Whether the pixels announced by the header are there."""
    if len(data) < 34:
        return False
    size, _, offset, header = struct.unpack_from("<IIII", data, 2)
    if header < 40:
        return len(data) >= size
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression in _BMP_UNCOMPRESSED:
        # The size field is zero or wrong in files of some writers; these numbers are not.
        size = offset + (abs(width) * bits + 31) // 32 * 4 * abs(height)
    return len(data) >= size


_KINDS: dict[bytes, Callable[[bytes], bool]] = {
    _JPEG_MAGIC: _jpeg_is_whole,
    _PNG_MAGIC: lambda data: _PNG_END in data[-64:] or _PNG_END in data,
    b"BM": _bmp_is_whole,
}

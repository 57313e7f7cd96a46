"""What lies in a folder, and whether what was looked for lies one level up or down."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfds_builders.manual import ManualBuilder

_DEPTH = 2
_SHOWN = 12  # entries of a folder
_COUNTED = 200_000  # files after which counting stops: somebody gave "/"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


def state(folder: pathlib.Path) -> str:
    """Says in words what is wrong with a folder as such; "" for one that holds something."""
    try:
        if not folder.exists():
            return "does not exist"
        if not folder.is_dir():
            return "is a file, not a folder"
        return "" if any(folder.iterdir()) else "is empty"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def tree(folder: pathlib.Path) -> tuple[str, ...]:
    """Draws what is in a folder: two levels of sub-folders with the number of files below them.

    Args:
      folder: any path, existing or not.

    Returns:
      Lines; of a folder that does not exist, those of the nearest one above that does.
    """
    if state(folder) == "does not exist" and folder.parent != folder:
        above = next(path for path in folder.absolute().parents if os.path.exists(path))
        return (f"no such folder; {above} holds:", *_lines(above, depth=1, indent="  "))
    return tuple(_lines(folder, depth=_DEPTH)) or ("nothing",)


def find_near(builder: ManualBuilder, manual_dir: pathlib.Path) -> pathlib.Path | None:
    """Looks one level down and up for a folder that the builder can read.

    Args:
      builder: of the dataset.
      manual_dir: a folder that it cannot read.

    Returns:
      The first of the sub-folders, then of the parent, that it can read; None if there is none.
    """
    below = [path for path in _entries(manual_dir) if os.path.isdir(path)]
    for folder in (*below, manual_dir.absolute().parent):
        try:
            builder.read(folder)
        except (ValueError, OSError):
            continue
        return folder
    return None


def _entries(folder: pathlib.Path) -> list[pathlib.Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _lines(folder: pathlib.Path, depth: int, indent: str = "") -> Iterator[str]:
    """Yields files other than images, then sub-folders, then the number of images beside them."""
    entries = _entries(folder)
    folders = [path for path in entries if os.path.isdir(path)]
    is_folder = set(folders)
    files = [_printable(path.name) for path in entries if path not in is_folder]
    pictures = [name for name in files if name.lower().endswith(IMAGE_SUFFIXES)]
    others = [name for name in files if not name.lower().endswith(IMAGE_SUFFIXES)]
    yield from (f"{indent}{name}" for name in others[:_SHOWN])
    if len(others) > _SHOWN:
        yield f"{indent}and {len(others) - _SHOWN:,} more files"
    width = max((len(_printable(path.name)) + 1 for path in folders[:_SHOWN]), default=0)
    for path in folders[:_SHOWN]:
        yield f"{indent}{_printable(path.name) + '/':<{width}}  {_number(path)} files"
        if depth > 1:
            yield from _lines(path, depth - 1, f"{indent}  ")
    if len(folders) > _SHOWN:
        yield f"{indent}and {len(folders) - _SHOWN:,} more sub-folders"
    if pictures and (folders or others or not indent):
        yield f"{indent}{len(pictures):,} image files"


def _printable(name: str) -> str:
    """Returns a file name without the bytes that are no UTF-8, which nothing could print."""
    return os.fsencode(name).decode("utf-8", "replace")


def _number(folder: pathlib.Path) -> str:
    number = 0
    for _, _, files in os.walk(folder):
        number += len(files)
        if number > _COUNTED:
            return f"more than {_COUNTED:,}"
    return f"{number:,}"

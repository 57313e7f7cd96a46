"""Whether a checkpoint is whole: checksums written with it, and what happens to one that is not.

Orbax notices a file that is missing or cut short, but not a bit that turned: arrays lie in files
without checksums, and a flipped bit comes back as another weight. So each checkpoint carries the
size and CRC-32 of its files, written before the rename that makes it appear.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from typing import Any

from absl import logging
from etils import epath

MANIFEST = "checksums.json"
UNFINISHED = ".orbax-checkpoint-tmp"
SET_ASIDE = "damaged-"

# Written by Orbax after the checksums.
_LAST = "commit_success.txt"
_METADATA = "_CHECKPOINT_METADATA"
_ITEMS = ("variables", "optimizer", "meta", "metrics")
_NEEDED = (
    "meta/metadata",
    "optimizer/_METADATA",
    "optimizer/manifest.ocdbt",
    "variables/_METADATA",
    "variables/manifest.ocdbt",
)
_CHUNK = 1 << 24
_SMALL = 1 << 16


def seal(folder: str | os.PathLike[str]) -> None:
    """Writes size and CRC-32 of every file of a checkpoint into it.

    A bucket is asked for sizes alone: its own checksums guard what is sent to it and fetched.

    Args:
      folder: of the checkpoint, before it gets its final name.
    """
    place = epath.Path(folder)
    found = {name: _describe(path) for name, path in _files(place)}
    (place / MANIFEST).write_text(json.dumps(found, indent=0, sort_keys=True))


def unseal(folder: str | os.PathLike[str]) -> None:
    """Takes the checksums away from a checkpoint that is about to be deleted.

    Args:
      folder: of the checkpoint. `mend` takes what is left of it for the rest of a deletion.
    """
    (epath.Path(folder) / MANIFEST).unlink(missing_ok=True)


def damage(folder: str | os.PathLike[str], item: str = "", *, quick: bool = False) -> str:
    """Says what is wrong with a checkpoint.

    Args:
      folder: of the checkpoint.
      item: ``variables``, ``optimizer`` or ``meta``; empty for all of it.
      quick: sizes, and the contents of small files only.

    Returns:
      The first file that is not as it was written, and how it differs; empty where all are. Of a
      checkpoint without checksums, written by an older version, only the files that it needs are
      looked for.
    """
    place = epath.Path(folder)
    try:
        expected = _manifest(place)
    except (ValueError, OSError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    if expected is None:
        return _damage_without_checksums(place, item)
    for name, (size, checksum) in expected.items():
        if item and not name.startswith(f"{item}/"):
            continue
        path = place / name
        if not path.exists():
            return f"{name} is missing"
        if (length := path.stat().length) != size:
            return f"{name} has {length} bytes instead of {size}"
        if checksum and (size <= _SMALL or not quick) and _checksum(path) != checksum:
            return f"{name} has changed since it was written"
    return ""


def mend(directory: str | os.PathLike[str]) -> None:
    """Readies the checkpoints of a run for going on; for one process, before any opens them.

    What killed saves and deletions left behind is removed: folders under Orbax's name for a save
    that is under way; in a bucket, folders with neither checksums nor the file that ends a save;
    and, older than a whole checkpoint, folders without checksums, which a deletion takes first, in
    which something is missing. None is removed that holds anything but parts of a checkpoint.

    Every other checkpoint that is not whole is set aside under another name, with a warning, so
    that the run goes on from the one before and can save this step again. A whole one in a bucket
    without the file that ends a save, such as one copied from a disk, is given it.

    Args:
      directory: of the checkpoints; may be missing.

    Raises:
      ValueError: there are checkpoints, and none is whole.
    """
    place = epath.Path(directory)
    if not place.is_dir():
        return
    _remove_unfinished(place)
    if "://" in os.fspath(place):
        _finish_saves(place)
    if not place.is_dir():  # a bucket has no empty folders
        return
    whole = None
    for step in _steps(place):
        folder = place / str(step)
        wrong = damage(folder, quick=whole is not None)
        if not wrong:
            whole = step if whole is None else whole
        elif whole is not None and _is_remainder(folder):
            logging.info("removing %s, whose deletion was cut short", folder)
            folder.rmtree()
        else:
            _set_aside(folder, wrong)
    aside = sorted(path.name for path in place.glob(f"{SET_ASIDE}*"))
    if whole is None and aside:
        raise ValueError(
            f"no checkpoint in {str(place)!r} is whole: {', '.join(aside)} were set aside. Put "
            "one back from a copy, named by its step alone; or, to train from the start, delete "
            "them and run the same command."
        )


def _steps(directory: epath.Path) -> list[int]:
    """Steps that have a checkpoint, newest first."""
    names = [path.name for path in directory.iterdir() if path.is_dir()]
    steps = (int(name) for name in names if name.isdecimal())
    return sorted((step for step in steps if str(step) in names), reverse=True)


def _remove_unfinished(directory: epath.Path) -> None:
    """A save gets its name by a rename at its end; in a bucket, a file that is written last."""
    unfinished = list(directory.glob(f"*{UNFINISHED}*"))
    if "://" in os.fspath(directory):
        folders = (directory / str(step) for step in _steps(directory))
        unfinished += [f for f in folders if not (f / _LAST).exists() and _is_remainder(f)]
    for path in unfinished:
        logging.info("removing %s, a save that was cut short", path)
        path.rmtree()


def _finish_saves(directory: epath.Path) -> None:
    """Decides about the folders of a bucket that lack the last file of a save.

    The checksums come before that file, so they tell whether anything else is missing.
    """
    if not directory.is_dir():
        return
    for step in _steps(directory):
        folder = directory / str(step)
        if (folder / _LAST).exists():
            continue
        wrong = damage(folder, quick=True)
        if wrong or not (folder / MANIFEST).exists():
            _set_aside(folder, wrong or f"{MANIFEST} and {_LAST} are missing")
            continue
        logging.info("%s is whole, but for %s, which is written", folder, _LAST)
        items = [path for path in folder.iterdir() if path.name in _ITEMS]
        for path in (*items, folder):  # the folder's own last, like Orbax
            (path / _LAST).write_text(f"Checkpoint commit was successful to {path}")


def _is_remainder(folder: epath.Path) -> bool:
    """Whether a folder is the beginning of a save or the rest of a deletion, and nothing else."""
    parts = {*_ITEMS, _LAST, _METADATA}
    return all(path.name in parts for path in folder.iterdir())


def _set_aside(folder: epath.Path, wrong: str) -> None:
    place, count = folder.parent / f"{SET_ASIDE}{folder.name}", 1
    while place.exists():
        count += 1
        place = folder.parent / f"{SET_ASIDE}{folder.name}-{count}"
    _move(folder, place)
    logging.warning(
        "checkpoint %s is damaged: %s. It is kept as %s, which you may delete; the run goes on "
        "from the one before, if there is one.",
        folder,
        wrong,
        place.name,
    )


def _move(folder: epath.Path, place: epath.Path) -> None:
    if "://" not in os.fspath(folder):
        folder.rename(place)
        return
    _copy(folder, place)  # in a bucket nothing has a name that could be changed
    folder.rmtree()


def _copy(folder: epath.Path, place: epath.Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            _copy(path, place / path.name)
        else:
            (place / path.name).write_bytes(path.read_bytes())


def _files(folder: epath.Path) -> Iterator[tuple[str, epath.Path]]:
    """Files inside the items of a checkpoint, by their name in it."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            for name, inner in _files(path):
                yield f"{path.name}/{name}", inner
        elif path.name not in (_LAST, MANIFEST, _METADATA):
            yield path.name, path


def _describe(path: epath.Path) -> tuple[int, int]:
    """Size, and checksum or 0 where none is taken."""
    remote = "://" in os.fspath(path)
    return path.stat().length, 0 if remote else _checksum(path)


def _checksum(path: epath.Path) -> int:
    """CRC-32; 0 stands for none, so a sum of 0 counts as 1."""
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value or 1


def _manifest(folder: epath.Path) -> dict[str, tuple[int, int]] | None:
    path = folder / MANIFEST
    if not path.exists():
        return None
    content: Any = json.loads(path.read_text())
    if not isinstance(content, dict) or not all(map(_is_pair, content.values())):
        raise ValueError("it holds no size and checksum for each file")
    return {name: (size, checksum) for name, (size, checksum) in content.items()}


def _is_pair(value: Any) -> bool:
    """Whether a value is a size and a checksum."""
    is_list = isinstance(value, list) and len(value) == 2
    return is_list and all(isinstance(number, int) for number in value)


def _damage_without_checksums(folder: epath.Path, item: str) -> str:
    for name in _NEEDED:
        if name.startswith(item) and not (folder / name).exists():
            return f"{name} is missing"
    meta = folder / "meta" / "metadata"
    try:
        json.loads(meta.read_text() if not item else "{}")
    except ValueError as error:
        return f"meta/metadata is no JSON ({error})"
    return ""

"""A look at image files before a build: is each of them there, whole, and JPEG, PNG or BMP?"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import struct
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping

from tensorflow_datasets.core.utils import tqdm_utils

from tfds_builders.base import first_names, named_line

ACCEPTED = "JPEG, PNG or BMP"

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = 0xDA
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


@dataclasses.dataclass(frozen=True)
class Located:
    """Where the images of a dataset lie.

    Attributes:
      root: folder that the names are relative to.
      paths: existing file of each name that has one.
      missing: names without a file.
      other_suffix: names whose file has the same name but for its suffix: case, or `.jpg.jpg`.
    """

    root: pathlib.Path
    paths: Mapping[str, pathlib.Path]
    missing: tuple[str, ...]
    other_suffix: tuple[str, ...]

    def notes(self) -> list[str]:
        """Returns a line on names whose file has another suffix, if there are any."""
        found = [f"{name} ({self.paths[name].name})" for name in self.other_suffix]
        return named_line("images found under another suffix than annotated, and used", found)


def locate(root: pathlib.Path, names: Iterable[str]) -> Located:
    """Finds the files of a dataset; each folder is listed once.

    Some copies have `.jpg.jpg` for `.jpg` or `.JPG` for `.jpg`: such a file stands for the name. So
    does one whose letters are coded otherwise: some systems store "ë" as "e" and two dots.

    Args:
      root: folder that the names are relative to.
      names: file paths relative to it, with "/".

    Returns:
      What is there and what is not.
    """
    paths: dict[str, pathlib.Path] = {}
    missing, other_suffix = [], []
    list_files = functools.cache(_files)
    list_loosely = functools.cache(lambda folder: {_loose(n): n for n in list_files(folder)})
    existing = functools.cache(lambda folder: _existing(root, folder))
    for name in names:
        folder, _, base = name.rpartition("/")
        place = existing(folder)
        if base in list_files(place):
            paths[name] = place / base
        elif (other := list_loosely(place).get(_loose(base))) is not None:
            paths[name] = place / other
            if composed(other) != composed(base):
                other_suffix.append(name)
        else:
            missing.append(name)
    return Located(root, paths, tuple(missing), tuple(other_suffix))


def composed(name: str) -> str:
    """Returns a name with each letter and its accents in one, however it was coded."""
    return unicodedata.normalize("NFC", name)


def _existing(root: pathlib.Path, folder: str) -> pathlib.Path:
    """Returns the folder of this name, or the one whose name is the same but for its coding."""
    place = root / folder
    if folder.isascii() or place.is_dir():
        return place
    above, _, last = folder.rpartition("/")
    parent = _existing(root, above)
    inside = sorted(parent.iterdir()) if parent.is_dir() else []
    same = [path for path in inside if composed(path.name) == composed(last)]
    return same[0] if same else parent / last


def _files(folder: pathlib.Path) -> dict[str, None]:
    """Lists the files of a folder in reverse order, nothing where there is no such folder."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        # In reverse, so that of several names for one image the first counts.
        return dict.fromkeys(sorted((e.name for e in entries if _is_file(e)), reverse=True))


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _loose(name: str) -> str:
    """Returns a file name with its suffix in lower case, and once where it stands twice."""
    stem, suffix = os.path.splitext(composed(name))
    if suffix and stem.lower().endswith(suffix.lower()):
        stem = stem[: -len(suffix)]
    return stem + suffix.lower()


def check_images(located: Located) -> None:
    """Checks that all images of a dataset are there and whole.

    Args:
      located: what `locate` found.

    Raises:
      ValueError: one or more are missing or damaged; one message with counts for each sub-folder,
        the first five names and what to do.
    """
    damaged = _damaged(located.paths)
    if located.missing or damaged:
        total = collections.Counter(map(_folder, [*located.paths, *located.missing]))
        message = _missing_text(located.root, located.missing, total)
        raise ValueError("\n".join(message + _damaged_text(located.root, damaged, total)))


def _damaged(paths: Mapping[str, pathlib.Path]) -> dict[str, str]:
    """Returns what is wrong by name, for files that are not whole."""
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        found = tqdm_utils.tqdm(
            pool.map(image_problem, paths.values()),
            desc="Checking images...",
            unit=" images",
            total=len(paths),
            leave=False,
            mininterval=1.0,
        )
        return {name: what for name, what in zip(paths, found, strict=True) if what}


def _folder(name: str) -> str:
    return name.rpartition("/")[0] or "."


def _per_folder(names: Collection[str], total: collections.Counter[str]) -> str:
    """Lists "folder: missing of all" for each sub-folder concerned."""
    counts = collections.Counter(map(_folder, names))
    return ", ".join(f"{folder}: {n:,} of {total[folder]:,}" for folder, n in counts.items())


def _missing_text(
    root: pathlib.Path, missing: Collection[str], total: collections.Counter[str]
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
        "the names above exist; names are compared letter by letter (of the suffix, case does "
        "not matter).",
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

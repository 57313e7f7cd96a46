"""Decodes every image of a folder: which are missing or damaged, what sizes and colours there are.

JPEG files are decoded strictly where `simplejpeg` is installed: only so damage in the middle of a
file shows, over which decoders pass with a warning.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import cv2
import numpy as np

from tfds_builders import images

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

USUAL_MODE = "RGB"
_SMALL = (32, 16)  # height, width
_LARGE = 2_000
_READERS = max(4, os.cpu_count() or 1)
_WINDOW = 64 * _READERS  # images on their way at once: bounds memory, whatever the dataset's size
_FIRST = 5

_PNG_MODES = {0: "grey", 2: USUAL_MODE, 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_BMP_MODES = {1: "palette", 4: "palette", 8: "palette", 32: "32 bits"}
_JPEG_MODES = {1: "grey", 3: USUAL_MODE, 4: "CMYK"}
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA
_EXIF, _HEADER = b"Exif\0\0", 1_024  # bytes in which a JPEG that is to be turned says so


@dataclasses.dataclass(frozen=True)
class Look:
    """One image file.

    Attributes:
      problem: why it cannot be read, "" if it can.
      warning: what a strict decoder says of a file that decodes nevertheless.
      height: in pixels.
      width: in pixels.
      mode: RGB, grey, palette, ...
    """

    problem: str = ""
    warning: str = ""
    height: int = 0
    width: int = 0
    mode: str = ""


@dataclasses.dataclass(frozen=True)
class ImageFacts:
    """The image files of a folder.

    Attributes:
      root: folder that the names are relative to.
      named: number of images that the annotations name.
      named_by_folder: the same by sub-folder.
      missing: names without a file.
      missing_by_folder: their number by sub-folder.
      unreadable: problem by name.
      warnings: what a strict JPEG decoder says, by name, of files that decode nevertheless.
      strict: whether JPEG files were decoded strictly.
      modes: number of images by colour mode.
      sizes: smallest, median and largest (height, width) by area; none without images.
      odd_sizes: number of images by what is odd about their size.
      odd_first: the first five of each.
      other_suffix: number of images found under another suffix than named.
    """

    root: str
    named: int
    named_by_folder: Mapping[str, int]
    missing: tuple[str, ...]
    missing_by_folder: Mapping[str, int]
    unreadable: Mapping[str, str]
    warnings: Mapping[str, str]
    strict: bool
    modes: Mapping[str, int]
    sizes: tuple[tuple[int, int], ...]
    odd_sizes: Mapping[str, int]
    odd_first: Mapping[str, tuple[str, ...]]
    other_suffix: int


def look_at_all(located: images.Located, progress: Callable[[int, int], None]) -> ImageFacts:
    """Decodes all images that are there, in threads; pixels are not kept.

    Args:
      located: where the images are.
      progress: called with (number decoded, number to decode).
    """
    unreadable, warnings = {}, {}
    modes: collections.Counter[str] = collections.Counter()
    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    odd: dict[str, list[str]] = collections.defaultdict(list)
    for done, (name, found) in enumerate(_looks(located.paths), start=1):
        progress(done, len(located.paths))
        if found.problem:
            unreadable[name] = found.problem
            continue
        if found.warning:
            warnings[name] = found.warning
        modes[found.mode] += 1
        sizes[found.height, found.width] += 1
        for what in _odd_size(found.height, found.width):
            odd[what].append(name)
    return ImageFacts(
        root=str(located.root),
        named=len(located.paths) + len(located.missing),
        named_by_folder=_by_folder([*located.paths, *located.missing]),
        missing=tuple(located.missing),
        missing_by_folder=_by_folder(located.missing),
        unreadable=unreadable,
        warnings=warnings,
        strict=simplejpeg is not None,
        modes=dict(modes.most_common()),
        sizes=_three_sizes(sizes),
        odd_sizes={what: len(names) for what, names in odd.items()},
        odd_first={what: tuple(names[:_FIRST]) for what, names in odd.items()},
        other_suffix=len(located.other_suffix),
    )


def look(path: pathlib.Path) -> Look:
    """Decodes one image file.

    Args:
      path: an existing file.

    Returns:
      What it is like; pixels are dropped.
    """
    problem = images.image_problem(path)
    if problem:
        return Look(problem=problem)
    try:
        data = path.read_bytes()
    except OSError as error:
        return Look(problem=f"cannot be read ({error.strerror})")
    mode = _mode(data)
    shape, warning = _decode(data)
    if shape is None:
        return Look(problem=warning or "cannot be decoded")
    return Look(warning=warning, height=shape[0], width=shape[1], mode=mode)


def _looks(paths: Mapping[str, pathlib.Path]) -> Iterator[tuple[str, Look]]:
    rest = iter(paths.items())
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        while window := list(itertools.islice(rest, _WINDOW)):
            found = pool.map(look, [path for _, path in window])
            yield from zip((name for name, _ in window), found, strict=True)


def _decode(data: bytes) -> tuple[tuple[int, ...] | None, str]:
    """Returns (height, width), None for no image, and what a strict decoder objects to."""
    warning = ""
    if simplejpeg is not None and data.startswith(b"\xff\xd8"):
        for strict in (True, False):  # the lenient one does not write to stderr, as OpenCV's does
            try:
                shape = simplejpeg.decode_jpeg(data, strict=strict).shape[:2]
            except ValueError as error:
                warning = warning or str(error)
                continue
            if _EXIF not in data[:_HEADER]:
                return shape, warning
            break  # it may have to be turned upright, which OpenCV does
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        return None, f"OpenCV says {str(error).strip()}"
    return (None if picture is None else picture.shape[:2]), warning


def _mode(data: bytes) -> str:
    """Reads the colour mode from the header of a whole JPEG, PNG or BMP file."""
    if data.startswith(b"\x89PNG"):
        mode = _PNG_MODES.get(data[25], f"PNG colour type {data[25]}")
        return f"{mode}, 16 bits" if data[24] == 16 else mode
    if data.startswith(b"BM"):
        bits = int.from_bytes(data[28:30], "little")
        return _BMP_MODES.get(bits, USUAL_MODE)
    position = 2
    while position + 10 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _JPEG_FRAMES:
            return _JPEG_MODES.get(data[position + 9], f"{data[position + 9]} components")
        if marker == _JPEG_SCAN:
            break
        # 0xFF may be repeated as padding before a marker.
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        position += 1 if marker == 0xFF else 2 + length
    return "unknown"


def _odd_size(height: int, width: int) -> Iterator[str]:
    if width > height:
        yield "wider than high"
    if height < _SMALL[0] or width < _SMALL[1]:
        yield f"smaller than {_SMALL[0]} x {_SMALL[1]}"
    if max(height, width) > _LARGE:
        yield f"larger than {_LARGE:,} pixels"


def _three_sizes(sizes: Mapping[tuple[int, int], int]) -> tuple[tuple[int, int], ...]:
    """Returns the smallest, the median and the largest size by area."""
    if not sizes:
        return ()
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    half, middle = sum(sizes.values()) / 2, ordered[-1]
    for size, before in zip(ordered, itertools.accumulate(sizes[s] for s in ordered), strict=True):
        if before >= half:
            middle = size
            break
    return ordered[0], middle, ordered[-1]


def _by_folder(names: Iterable[str]) -> dict[str, int]:
    return dict(collections.Counter(name.rpartition("/")[0] or "." for name in names))

"""Notes on records that are unusual but usable: what a reader of the numbers should know."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from tfds_builders.base import UNKNOWN_CAMERA, named_line
from tfds_builders.manual import Record

_STRAY_BLANKS = re.compile(r"^\s|\s$|\s\s")
_LONGEST = 60  # letters of a caption shown in a note

# What a caption may have; it is kept as given.
_CAPTIONS: dict[str, Callable[[str], object]] = {
    "empty": lambda text: not text.strip(),
    "over several lines": lambda text: len(text.splitlines()) > 1,
    "with leading, trailing or double blanks": lambda text: (
        text.strip() and _STRAY_BLANKS.search(text)
    ),
    "with letters that are not ASCII": lambda text: not text.isascii(),
}


def unusual(
    splits: Mapping[str, Sequence[Record]],
    usual_captions: int | None,
    tells_camera: Callable[[str], bool] = lambda _: False,
) -> list[str]:
    """Notes what is unusual about the records of a dataset.

    Args:
      splits: records by split.
      usual_captions: captions of an ordinary image, None where any number is.
      tells_camera: whether the name of a file should tell its camera.

    Returns:
      One line each, with count and first five names.
    """
    notes = []
    for split, records in splits.items():
        notes += _unusual_numbers(split, records, usual_captions)
        notes += _unusual_captions(split, records)
    every = {record.file_path: record for records in splits.values() for record in records}
    unread = [
        path
        for path, record in every.items()
        if record.camera_id == UNKNOWN_CAMERA and tells_camera(path)
    ]
    notes += named_line("file names that do not tell the camera, stored as -1", unread)
    return notes + _shared_captions(every.values())


def _unusual_numbers(split: str, records: Sequence[Record], usual: int | None) -> list[str]:
    images = collections.Counter(record.person_id for record in records)
    other = [
        f"{record.file_path} ({len(record.captions)})"
        for record in records
        if len(record.captions) != usual and (usual is not None or not record.captions)
    ]
    single = [person for person, number in images.items() if number == 1]
    is_not = "0" if usual is None else f"not {usual}"
    notes = named_line(f"{split} images whose number of captions is {is_not}", other)
    return notes + named_line(f"{split} ids with one image", single)


def _unusual_captions(split: str, records: Sequence[Record]) -> list[str]:
    notes = []
    for what, is_so in _CAPTIONS.items():
        found = [record.file_path for record in records for text in record.captions if is_so(text)]
        notes += named_line(f"{split} captions {what}, kept as given", found)
    return notes


def _shared_captions(records: Iterable[Record]) -> list[str]:
    """Notes sentences that stand on images of several identities: no one can tell those apart."""
    persons: dict[str, set[int]] = collections.defaultdict(set)
    for record in records:
        for text in record.captions:
            if text.strip():
                persons[text].add(record.person_id)
    shared = [_shortened(text) for text, found in persons.items() if len(found) > 1]
    return named_line("sentences that stand on several ids, kept as given", shared)


def _shortened(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")

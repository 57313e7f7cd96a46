"""Reads annotations of the JSON family: a list of records, one for each image.

CUHK-PEDES, ICFG-PEDES and RSTPReid share it. Every record is checked; what is unusual but usable
(captions as one text, a path written with backslashes) is used, counted and named; what forbids a
build is collected, so that a user sees all of it at once.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence

from tfds_builders import raw_records
from tfds_builders.base import first_names, named_line
from tfds_builders.manual import Record
from tfds_builders.raw_records import IMAGES, Layout, RawRecord

SPLIT_FILES = ("reid_raw_{split}.json", "{split}_reid_raw.json", "{split}.json")


@dataclasses.dataclass(frozen=True)
class Annotations:
    """All records of a folder.

    Attributes:
      folder: the dataset's folder.
      files: the annotation files read.
      splits: images of each split that has any, in the order of the files, each once.
      notes: what was unusual about the form: one line each, with count and first five names.
      faults: what forbids a build.
    """

    folder: pathlib.Path
    files: tuple[pathlib.Path, ...]
    splits: Mapping[str, tuple[Record, ...]]
    notes: tuple[str, ...]
    faults: tuple[str, ...]


def read_annotations(manual_dir: pathlib.Path, layout: Layout) -> Annotations:
    """Reads and checks the annotations of a folder.

    Args:
      manual_dir: the folder that holds the dataset's, or that itself.
      layout: of the dataset.

    Returns:
      The records, notes on what is unusual about them, and what is wrong with them.

    Raises:
      ValueError: nothing can be read: no such folder, no annotation file, no list of records.
    """
    folder = find_folder(manual_dir, layout)
    files = _annotation_files(folder, layout)
    raw = [record for path, split in files for record in _load(path, split, layout)]
    usable, faults = raw_records.check_records(raw, layout)
    records = [raw_records.to_record(item, layout) for item in usable]
    merged, notes, double = _merge_repeated(records)
    splits = {
        split: tuple(record for name, record in merged if name == split) for split in layout.splits
    }
    return Annotations(
        folder=folder,
        files=tuple(path for path, _ in files),
        splits={split: part for split, part in splits.items() if part},
        notes=(*raw_records.odd_forms(usable, layout), *notes),
        faults=(*faults, *double, *_shared_identities(records, layout)),
    )


def find_folder(manual_dir: pathlib.Path, layout: Layout) -> pathlib.Path:
    """Returns the dataset's folder: in `manual_dir`, or `manual_dir` if it is that itself.

    Args:
      manual_dir: what the user gave.
      layout: of the dataset.

    Raises:
      ValueError: neither holds an annotation file or `imgs/`; the message shows what was found.
    """
    inside = manual_dir.iterdir() if manual_dir.is_dir() else ()
    named = [path for path in sorted(inside) if _plain(path.name) == _plain(layout.name)]
    # The usual spelling first, should there be several.
    for folder in (*sorted(named, key=lambda path: path.name != layout.name), manual_dir):
        if (folder / IMAGES).is_dir() or any(folder.glob("*.json")):
            return folder
    raise ValueError(
        f"no {layout.name} in manual_dir = {manual_dir}\n{layout.tree}\n"
        f"found in {manual_dir}: {listing(manual_dir)}\n"
        f"What to do: pass the folder that contains {layout.name}/ as manual_dir."
    )


def listing(folder: pathlib.Path) -> str:
    """Returns the first names in a folder, sub-folders with "/"; "nothing" where there is none."""
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir()) if folder.is_dir() else []
    return first_names(names, limit=20) or "nothing"


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower()


def _annotation_files(
    folder: pathlib.Path, layout: Layout
) -> list[tuple[pathlib.Path, str | None]]:
    """Returns the files to read, each with the split it stands for (None: all)."""
    whole = _present(folder, layout.files, "all splits")
    if whole:
        return [(whole[0], None)]
    files: list[tuple[pathlib.Path, str | None]] = []
    for split in layout.splits:
        names = [name.format(split=split) for name in SPLIT_FILES]
        files += [(path, split) for path in _present(folder, names, f"split {split}")]
    if files:
        return files
    if layout.file_without_splits and (folder / layout.file_without_splits).is_file():
        raise ValueError(_no_splits(folder / layout.file_without_splits, layout))
    raise ValueError(
        f"no annotation file in {folder}\n{layout.tree}\n"
        f"found in {folder}: {listing(folder)}\n"
        f"What to do: put {layout.files[0]} there; it comes with the images from the authors."
    )


def _present(folder: pathlib.Path, names: Sequence[str], what: str) -> list[pathlib.Path]:
    """Returns the one file of these names that exists, if any."""
    present = [folder / name for name in names if (folder / name).is_file()]
    if len(present) > 1:
        raise ValueError(
            f"{folder} has several files for {what}: "
            f"{', '.join(path.name for path in present)}. Keep one of them."
        )
    return present


def _no_splits(path: pathlib.Path, layout: Layout) -> str:
    wanted = layout.files[0]
    return (
        f'{path} has no official splits: it is a distribution without the field "split"'
        + (", and its ids are numbered differently" if layout.file_without_splits else "")
        + f".\nWhat to do: ask the authors of {layout.name} for {wanted} (the annotation file with "
        f'"split", "captions", "{layout.path_field}" and "id") and put it into {path.parent}.'
    )


def _load(path: pathlib.Path, split: str | None, layout: Layout) -> list[RawRecord]:
    """Reads one file as a list of raw records."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}. Fetch it again.") from error
    except (ValueError, RecursionError) as error:  # also of numbers of thousands of digits
        raise ValueError(
            f"{path} is not valid JSON: {error}. If it was cut off, fetch it again."
        ) from error
    if not isinstance(content, list) or not content:
        raise ValueError(
            f"{path} holds {raw_records.shown(content)} of type {type(content).__name__}; "
            f'accepted: a list of records {{"split", "captions", "{layout.path_field}", "id"}}, at '
            "least one. Fetch it again, or ask the authors for the original file."
        )
    objects = [record for record in content if isinstance(record, dict)]
    if split is None and objects and not any("split" in record for record in objects):
        raise ValueError(_no_splits(path, layout))
    return [
        RawRecord(record, f"{path.name}, record {index}", split)
        for index, record in enumerate(content)
    ]


def _merge_repeated(
    records: Sequence[tuple[str, Record]],
) -> tuple[list[tuple[str, Record]], list[str], list[str]]:
    """Joins the records of one image: some copies have one record for each caption.

    Returns:
      (split, record) of each image, notes and faults.
    """
    merged: dict[str, tuple[str, Record]] = {}
    joined: dict[str, None] = {}
    copies: dict[str, None] = {}
    double: dict[str, str] = {}
    for split, record in records:
        path = record.file_path
        if path not in merged:
            merged[path] = split, record
            continue
        first_split, first = merged[path]
        if first.person_id != record.person_id:
            double.setdefault(path, f"{path} ({first.person_id} and {record.person_id})")
        elif first.captions == record.captions:
            copies[path] = None
        else:
            captions = first.captions + record.captions
            merged[path] = first_split, dataclasses.replace(first, captions=captions)
            joined[path] = None
    notes = named_line("images with an identical record more than once, kept once", copies)
    notes += named_line("images with several records, their captions joined", joined)
    faults = [
        f"{line}. Accepted: one id for each image. Correct the annotation file."
        for line in named_line("images stand under two ids", double.values())
    ]
    return list(merged.values()), notes, faults


def _shared_identities(records: Sequence[tuple[str, Record]], layout: Layout) -> list[str]:
    """Returns a fault if an identity stands in two splits, which would spoil any measurement."""
    found: dict[int, dict[str, None]] = collections.defaultdict(dict)
    for split, record in records:
        found[record.person_id][split] = None
    shared = [f"{person} ({' and '.join(s)})" for person, s in found.items() if len(s) > 1]
    return [
        f"{line}. Accepted: splits without a common identity. If the files were cut from different "
        f"copies, use one {layout.files[0]} instead."
        for line in named_line("ids stand in more than one split", shared)
    ]

"""Reads the annotations of CUHK-PEDES in the forms that are in circulation.

Accepted: `reid_raw.json` with all splits, or one file for each split. Every record is checked, and
what is unusual but usable (a caption that is empty, an image listed twice) is counted and named.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from tfds_builders.base import SPLITS, SplitCounts, first_names, named_line

FOLDER = "CUHK-PEDES"
IMAGES = "imgs"
WHOLE_FILE = "reid_raw.json"
FILE_WITHOUT_SPLITS = "caption_all.json"
SPLIT_FILES = ("reid_raw_{split}.json", "{split}_reid_raw.json", "{split}.json")

EXPECTED_TREE = f"""\
expected:
  {FOLDER}/
    {WHOLE_FILE}    list of {{"split", "captions", "file_path", "id"}}
                     or one file for each split: {", ".join(SPLIT_FILES)}
    {IMAGES}/            cam_a/ cam_b/ CUHK01/ CUHK03/ Market/ test_query/ train_query/"""

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Record:
    """One image with its captions.

    Attributes:
      file_path: path of the image under `imgs/`.
      person_id: identity, as published.
      split: train, val or test.
      captions: sentences as given, line breaks and blanks included.
    """

    file_path: str
    person_id: int
    split: str
    captions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Annotations:
    """All records of a folder.

    Attributes:
      files: the annotation files read.
      records: images in the order of the files, each once.
      notes: what was unusual: one line each, with count and first five names.
    """

    files: tuple[pathlib.Path, ...]
    records: tuple[Record, ...]
    notes: tuple[str, ...]


def find_folder(manual_dir: pathlib.Path) -> pathlib.Path:
    """Returns the dataset's folder: `manual_dir/CUHK-PEDES`, or `manual_dir` if it is that itself.

    Args:
      manual_dir: what the user gave.

    Raises:
      ValueError: neither holds an annotation file or `imgs/`; the message shows what was found.
    """
    for folder in (manual_dir / FOLDER, manual_dir):
        if (folder / IMAGES).is_dir() or any(folder.glob("*.json")):
            return folder
    raise ValueError(
        f"no {FOLDER} in manual_dir = {manual_dir}\n{EXPECTED_TREE}\n"
        f"found in {manual_dir}: {_listing(manual_dir)}\n"
        f"What to do: pass the folder that contains {FOLDER}/ as manual_dir."
    )


def read_annotations(folder: pathlib.Path) -> Annotations:
    """Reads and checks the annotations of a folder.

    Args:
      folder: the dataset's folder.

    Returns:
      The records of all splits that were found, and notes on what is unusual about them.

    Raises:
      ValueError: no usable annotation file, or records that are not as they should be.
    """
    files = _annotation_files(folder)
    raw: list[_Located] = []
    for path, split in files:
        raw += _load(path, split)
    records = _checked_records(raw)
    _check_identities(records)
    merged, notes = _merge_repeated(records)
    return Annotations(
        tuple(path for path, _ in files), tuple(merged), tuple(notes + _unusual(merged))
    )


def count(records: Iterable[Record]) -> SplitCounts:
    """Returns the numbers of images, captions and identities among the records."""
    records = list(records)
    return SplitCounts(
        images=len(records),
        captions=sum(len(record.captions) for record in records),
        ids=len({record.person_id for record in records}),
    )


@dataclasses.dataclass(frozen=True)
class _Located:
    """A raw record with the place it came from; `split` is that of its file, if it has one."""

    content: Any
    place: str
    split: str | None


def _listing(folder: pathlib.Path) -> str:
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir()) if folder.is_dir() else []
    return first_names(names, limit=20) or "nothing"


def _annotation_files(folder: pathlib.Path) -> list[tuple[pathlib.Path, str | None]]:
    """Returns the files to read, each with the split it stands for (None: all)."""
    if (folder / WHOLE_FILE).is_file():
        return [(folder / WHOLE_FILE, None)]
    files: list[tuple[pathlib.Path, str | None]] = []
    for split in SPLITS:
        paths = [folder / name.format(split=split) for name in SPLIT_FILES]
        present = [path for path in paths if path.is_file()]
        if len(present) > 1:
            raise ValueError(
                f"{folder} has several files for split {split}: "
                f"{', '.join(path.name for path in present)}. Keep one of them."
            )
        files += [(path, split) for path in present]
    if files:
        return files
    json_files = sorted(path.name for path in folder.glob("*.json"))
    if FILE_WITHOUT_SPLITS in json_files:
        raise ValueError(_no_splits(folder / FILE_WITHOUT_SPLITS))
    raise ValueError(
        f"no annotation file in {folder}\n{EXPECTED_TREE}\n"
        f"found in {folder}: {_listing(folder)}\n"
        f"What to do: put {WHOLE_FILE} there; it comes with the images from the authors."
    )


def _no_splits(path: pathlib.Path) -> str:
    return (
        f'{path} has no official splits: it is the distribution without the field "split", and '
        f"its ids are numbered differently.\nWhat to do: ask the authors of CUHK-PEDES for "
        f'{WHOLE_FILE} (the annotation file with "split", "captions", "file_path" and '
        f'"id") and put it into {path.parent}.'
    )


def _load(path: pathlib.Path, split: str | None) -> list[_Located]:
    """Reads one file as a list of raw records."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}. Fetch it again.") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON: {error}. If it was cut off, fetch it again."
        ) from error
    if not isinstance(content, list) or not content:
        raise ValueError(
            f"{path} holds {_shown(content)} of type {type(content).__name__}; accepted: a list "
            'of records {"split", "captions", "file_path", "id"}, at least one.'
        )
    if split is None and not any(isinstance(r, dict) and "split" in r for r in content):
        raise ValueError(_no_splits(path))
    return [
        _Located(record, f"{path.name}, record {index}", split)
        for index, record in enumerate(content)
    ]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _checked_records(raw: Sequence[_Located]) -> list[Record]:
    """Turns raw records into checked ones, or raises one error that names the first five faults."""
    records, faults = [], []
    for item in raw:
        fault = _fault(item)
        if fault:
            faults.append(f"  {item.place}: {fault}")
        else:
            records.append(_record(item))
    if faults:
        more = f"\n  and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
        raise ValueError(
            f"{len(faults):,} of {len(raw):,} records are not as they should be (records are "
            "counted from 0):\n" + "\n".join(faults[:_SHOWN]) + more + "\nWhat to do: correct "
            "these records, or ask the authors for the original file."
        )
    return records


def _record(item: _Located) -> Record:
    captions = item.content["captions"]
    return Record(
        file_path=item.content["file_path"],
        person_id=item.content["id"],
        split=item.split or item.content["split"],
        captions=(captions,) if isinstance(captions, str) else tuple(captions),
    )


def _fault(item: _Located) -> str | None:
    """Says what is wrong with a raw record, None if nothing is."""
    record = item.content
    if not isinstance(record, dict):
        return f"{_shown(record)} is no object; accepted: an object with file_path, id, captions"
    needed = ["file_path", "id", "captions"] + ([] if item.split else ["split"])
    for field in needed:
        if field not in record:
            return f"{field} is missing; the record has {', '.join(sorted(record)) or 'no field'}"
    rules = {
        "file_path": (_is_path(record["file_path"]), f"a path under {IMAGES}/ as text"),
        "id": (_is_int64(record["id"]), "an integer"),
        "captions": (_is_captions(record["captions"]), "a list of texts, or one text"),
    }
    if item.split is None:
        rules["split"] = (record["split"] in SPLITS, ", ".join(SPLITS))
    elif "split" in record:
        rules["split"] = (record["split"] == item.split, f"{item.split}, as the file's name says")
    for field, (good, accepted) in rules.items():
        if not good:
            return f"{field} = {_shown(record[field])}; accepted: {accepted}"
    return None


def _is_text(value: Any) -> bool:
    """Whether the value is text that can be stored: JSON may hold half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_int64(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_path(value: Any) -> bool:
    if not _is_text(value) or not value.strip() or "\0" in value:
        return False
    path = pathlib.PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts


def _is_captions(value: Any) -> bool:
    return all(map(_is_text, value)) if isinstance(value, list) else _is_text(value)


def _check_identities(records: Sequence[Record]) -> None:
    """Raises ValueError if an identity stands in two splits, which would spoil any measurement."""
    splits: dict[int, set[str]] = collections.defaultdict(set)
    for record in records:
        splits[record.person_id].add(record.split)
    shared = {person: found for person, found in splits.items() if len(found) > 1}
    if shared:
        named = [f"{person} ({' and '.join(sorted(found))})" for person, found in shared.items()]
        raise ValueError(
            f"{len(shared):,} ids stand in more than one split: {first_names(named)}. Accepted: "
            "splits without a common identity. If the files were cut from different copies, "
            f"use one {WHOLE_FILE} instead."
        )


def _merge_repeated(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Joins the records of one image: some copies have one record for each caption."""
    merged: dict[str, Record] = {}
    joined: dict[str, None] = {}
    copies: dict[str, None] = {}
    for record in records:
        first = merged.setdefault(record.file_path, record)
        if first is record:
            continue
        if first.person_id != record.person_id:
            raise ValueError(
                f"{record.file_path} stands under two ids, {first.person_id} and "
                f"{record.person_id}; accepted: one id for each image. Correct the annotation file."
            )
        if first.captions == record.captions:
            copies[record.file_path] = None
        else:
            captions = first.captions + record.captions
            merged[record.file_path] = dataclasses.replace(first, captions=captions)
            joined[record.file_path] = None
    notes = named_line("images with an identical record more than once, kept once", copies)
    notes += named_line("images with several records, their captions joined", joined)
    return list(merged.values()), notes


def _unusual(records: Sequence[Record]) -> list[str]:
    """Notes what a reader of the numbers should know about the records of each split."""
    notes = []
    for split in SPLITS:
        chosen = [record for record in records if record.split == split]
        images = collections.Counter(record.person_id for record in chosen)
        other = [f"{r.file_path} ({len(r.captions)})" for r in chosen if len(r.captions) != 2]
        blank = [r.file_path for r in chosen for text in r.captions if not text.strip()]
        single = [person for person, number in images.items() if number == 1]
        notes += named_line(f"{split} images whose number of captions is not 2", other)
        notes += named_line(f"{split} captions that are empty, kept as given", blank)
        notes += named_line(f"{split} ids with one image", single)
    return notes

"""From the rows of a table to images, identities and splits."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from tfds_builders.base import UNKNOWN_CAMERA, first_names, named_line
from tfds_builders.folder_pedes.table import SPLIT_NAMES, Row, Table
from tfds_builders.manual import Record
from tfds_builders.protocols import seeded_order
from tfds_builders.raw_records import shown

_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_INT64 = range(-(2**63), 2**63)
_FEWEST = 3  # identities of which a split can be made
_HELD_OUT = 10  # one in so many identities validates, and as many test


@dataclasses.dataclass(frozen=True)
class People:
    """The content of a table.

    Attributes:
      splits: records by split, in the order of the table.
      seed: what the splits were drawn with; None where the table gives them.
      person_names: name of each person_id from 0; none where the table numbers them itself.
      camera_names: likewise of each camera_id.
      notes: what is unusual but usable, one line each.
      faults: why it cannot be built, each with what is accepted and what to do.
    """

    splits: Mapping[str, tuple[Record, ...]]
    seed: int | None
    person_names: tuple[str, ...]
    camera_names: tuple[str, ...]
    notes: tuple[str, ...]
    faults: tuple[str, ...]


def gather(table: Table, seed: int) -> People:
    """Joins the rows of each image, numbers identities and cameras, and finds the splits.

    Args:
      table: the checked rows.
      seed: of the splits, should the table not give them.

    Returns:
      The records of each split, notes and faults.
    """
    images, notes = _joined(table.rows)
    faults = list(_conflicts(table))
    persons, person_names = _numbered([image.person for image in images])
    cameras, camera_names = _numbered([image.camera for image in images if image.camera])
    faults += _double_numbers(table, "person_id", persons, person_names)
    faults += _double_numbers(table, "camera_id", cameras, camera_names)
    given = any(image.split for image in images)
    if given:
        split_of = {image.file: image.split for image in images}
        faults += _split_faults(table, images)
    else:
        by_person, problem = _made_splits({image.person for image in images}, seed, table)
        split_of = {image.file: by_person.get(image.person, "") for image in images}
        faults += [] if table.faults else problem  # wrong rows have people, too
        notes += [f"the table gives no splits: made by identity with seed {seed}"]
    splits: dict[str, list[Record]] = {name: [] for name in SPLIT_NAMES}
    for image in images:
        camera = cameras.get(image.camera, UNKNOWN_CAMERA)
        record = Record(image.file, persons[image.person], image.captions, camera)
        splits.get(split_of[image.file], []).append(record)
    found = {name: tuple(records) for name, records in splits.items() if records}
    for what, names in (("person_id", person_names), ("camera_id", camera_names)):
        notes += named_line(f"values of {what}, numbered from 0 in sorted order", names)
    return People(
        splits=found,
        seed=None if given else seed,
        person_names=person_names,
        camera_names=camera_names,
        notes=(*table.notes, *notes, *_notes(found)),
        faults=(*table.faults, *faults, *_without_captions(table, found)),
    )


def _joined(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Makes one row of those of each image; of fields that differ, the first given one stays."""
    images: dict[str, Row] = {}
    repeated: list[str] = []
    for row in rows:
        first = images.setdefault(row.file, row)
        if first is row:
            continue
        new = tuple(caption for caption in row.captions if caption not in first.captions)
        if len(new) < len(row.captions):
            repeated.append(f"line {row.line} ({row.file})")
        images[row.file] = dataclasses.replace(
            first,
            captions=first.captions + new,
            camera=first.camera or row.camera,
            split=first.split or row.split,
        )
    notes = named_line("rows with a caption that their image has already, kept once", repeated)
    return list(images.values()), notes


def _conflicts(table: Table) -> Iterator[str]:
    """Yields a fault for each field in which rows of one image differ."""
    for name, read in _FIELDS_OF_IMAGE.items():
        first: dict[str, Row] = {}
        differing = []
        for row in table.rows:
            before = first.setdefault(row.file, row) if read(row) else row
            if read(before) != read(row):
                differing.append(
                    f"  {row.file}: {shown(read(before))} in line {before.line}, "
                    f"{shown(read(row))} in line {row.line}"
                )
        if differing:
            yield (
                f"{len(differing):,} rows of {table.path} give their image another {name} than a "
                f"row before:\n{_first_lines(differing)}\n"
                f"Accepted: one {name} for each file. What to do: correct these lines."
            )


_FIELDS_OF_IMAGE = {
    "person_id": lambda row: row.person,
    "camera_id": lambda row: row.camera,
    "split": lambda row: row.split,
}


def _first_lines(lines: Sequence[str], limit: int = 5) -> str:
    more = [f"  and {len(lines) - limit:,} more"] if len(lines) > limit else []
    return "\n".join([*lines[:limit], *more])


def _numbered(labels: Iterable[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Gives each label its number, and returns the names if the labels are not numbers already."""
    distinct = sorted(set(labels))
    if all(_INTEGER.fullmatch(label) and int(label) in _INT64 for label in distinct):
        return {label: int(label) for label in distinct}, ()
    return {label: number for number, label in enumerate(distinct)}, tuple(distinct)


def _double_numbers(
    table: Table, field: str, numbers: Mapping[str, int], names: Collection[str]
) -> list[str]:
    """Refuses 7 beside 007: one person, or two?"""
    spellings: dict[int, list[str]] = collections.defaultdict(list)
    for label, number in numbers.items():
        spellings[number].append(label)
    double = [" and ".join(labels) for labels in spellings.values() if len(labels) > 1]
    if names or not double:
        return []
    return [
        f"{table.path}: {len(double):,} values of {field} are written in several ways: "
        f"{first_names(double)}; accepted: one way for each number. What to do: write the same "
        "number in the same way, or give names instead of numbers."
    ]


def _split_faults(table: Table, images: Sequence[Row]) -> Iterator[str]:
    """Yields what is wrong with the splits that a table gives."""
    lacking = [f"line {image.line} ({image.file})" for image in images if not image.split]
    if lacking:
        yield (
            f"{table.path}: {len(lacking):,} of {len(images):,} images have no split, others have "
            f"one: {first_names(lacking)}; accepted: {', '.join(SPLIT_NAMES)} for every image, or "
            "for none (then splits are made by identity). What to do: fill these cells, or empty "
            "the column."
        )
    places: dict[str, dict[str, Row]] = collections.defaultdict(dict)
    for image in images:
        if image.split:
            places[image.person].setdefault(_side(image.split), image)
    shared = [
        f"  person_id {shown(person)}: "
        + ", ".join(f"{image.split} in line {image.line}" for image in found.values())
        for person, found in places.items()
        if len(found) > 1
    ]
    if shared:
        yield (
            f"{len(shared):,} ids of {table.path} stand in more than one split, which would spoil "
            f"any measurement:\n{_first_lines(shared)}\nAccepted: one split for all images of a "
            "person (query and gallery count as one). What to do: correct these lines."
        )


def _side(split: str) -> str:
    return "query" if split == "gallery" else split


def _made_splits(
    persons: Collection[str], seed: int, table: Table
) -> tuple[dict[str, str], list[str]]:
    """Draws the split of each person: about 80% train, 10% val, 10% test, one at least."""
    if len(persons) < _FEWEST:
        return dict.fromkeys(persons, "train"), [
            f"{table.path} has {len(persons)} identities and no splits; accepted: {_FEWEST} "
            "identities or more, of which train, val and test are made, or a column split. What to "
            f"do: add people, or fill the column split with {', '.join(SPLIT_NAMES)} (for "
            "photographs that are only to be searched: gallery)."
        ]
    held_out = max(1, round(len(persons) / _HELD_OUT))
    ordered = seeded_order(persons, seed, "split")
    split_of = dict.fromkeys(ordered, "train")
    split_of |= dict.fromkeys(ordered[:held_out], "val")
    split_of |= dict.fromkeys(ordered[held_out : 2 * held_out], "test")
    return split_of, []


def _without_captions(table: Table, splits: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    """Yields a fault for each split that has to do with words and has none."""
    for name in ("train", "val", "test"):
        records = splits.get(name, ())
        if records and not any(record.captions for record in records):
            yield (
                f"{table.path}: none of the {len(records):,} images of split {name} has a caption; "
                "accepted: at least one (query and gallery may have none). What to do: fill the "
                "column caption; look whether it has another name in your table."
            )


def _notes(splits: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    """Yields what a reader of the numbers should know about each split."""
    for name, records in splits.items():
        images = collections.Counter(record.person_id for record in records)
        silent = [record.file_path for record in records if not record.captions]
        single = [person for person, number in images.items() if number == 1]
        yield from named_line(f"{name} images without a caption", silent)
        yield from named_line(f"{name} ids with one image", single)
    gallery = {record.person_id for record in splits.get("gallery", ())}
    query = dict.fromkeys(record.person_id for record in splits.get("query", ()))
    alone = [person for person in query if person not in gallery]
    yield from named_line("query ids without an image in gallery, never to be found", alone)

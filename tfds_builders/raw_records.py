"""One record of the JSON family: what it must hold, and the forms it may have."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from tfds_builders.base import SPLITS, UNKNOWN_CAMERA, named_line
from tfds_builders.manual import Record

IMAGES = "imgs"

_SHOWN = 5
_LONGEST = 80  # letters of a value shown in a message
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")  # JSON may hold it, UTF-8 not


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the folder of a dataset looks.

    Attributes:
      name: of the dataset and of its folder; found whatever its case, "-", "_" and " ".
      files: accepted names of the annotation file, the usual one first.
      tree: the folder as drawn in messages.
      path_field: field of a record that holds the image's path under `imgs/`.
      splits: accepted values of the field "split".
      file_without_splits: name of a distribution that cannot be used for lack of splits, if any.
      camera_id: reads the camera from that path.
    """

    name: str
    files: tuple[str, ...]
    tree: str
    path_field: str = "file_path"
    splits: tuple[str, ...] = SPLITS
    file_without_splits: str = ""
    camera_id: Callable[[str], int] = lambda _: UNKNOWN_CAMERA


@dataclasses.dataclass(frozen=True)
class RawRecord:
    """A record as it stands in a file; `split` is that of its file, if it has one."""

    content: Any
    place: str
    split: str | None


def check_records(raw: Sequence[RawRecord], layout: Layout) -> tuple[list[RawRecord], list[str]]:
    """Tells usable records from others.

    Args:
      raw: records of all files.
      layout: of the dataset.

    Returns:
      The usable ones, and one fault that names the first five of the others, if there are any.
    """
    wrong = {item.place: fault for item in raw if (fault := _fault(item, layout))}
    if not wrong:
        return list(raw), []
    lines = [f"  {place}: {fault}" for place, fault in wrong.items()]
    more = [f"  and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
    message = [
        f"{len(lines):,} of {len(raw):,} records are not as they should be (records are counted "
        "from 0):",
        *lines[:_SHOWN],
        *more,
        "What to do: correct these records, or ask the authors for the original file.",
    ]
    return [item for item in raw if item.place not in wrong], ["\n".join(message)]


def _fault(item: RawRecord, layout: Layout) -> str | None:
    """Says what is wrong with a raw record, None if nothing is."""
    record = item.content
    if not isinstance(record, dict):
        accepted = f"an object with {layout.path_field}, id, captions"
        return f"{shown(record)} is no object; accepted: {accepted}"
    needed = [layout.path_field, "id", "captions"] + ([] if item.split else ["split"])
    for field in needed:
        if field not in record:
            return f"{field} is missing; the record has {', '.join(sorted(record)) or 'no field'}"
    path = record[layout.path_field]
    rules = {
        layout.path_field: (_is_path(path), f"a path under {IMAGES}/ as text"),
        "id": (_is_int64(record["id"]), "an integer"),
        "captions": (_captions(record["captions"]) is not None, "a list of texts, or one text"),
    }
    if item.split is None:
        rules["split"] = (record["split"] in layout.splits, ", ".join(layout.splits))
    elif "split" in record:
        rules["split"] = (record["split"] == item.split, f"{item.split}, as the file's name says")
    for field, (good, accepted) in rules.items():
        if not good:
            return f"{field} = {shown(record[field])}; accepted: {accepted}"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not _HALF_A_PAIR.search(value)


def _is_int64(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_path(value: Any) -> bool:
    if not _is_text(value) or not value.strip() or "\0" in value:
        return False
    path = _normal_path(value)
    return path != "" and not path.startswith("/") and ".." not in path.split("/")


def _normal_path(path: str) -> str:
    """Returns a path relative to `imgs/`, with "/"."""
    parts = pathlib.PurePosixPath(path.replace("\\", "/")).parts
    return "/".join(parts[1:] if parts[:1] == (IMAGES,) else parts)


def _captions(value: Any) -> tuple[str, ...] | None:
    """Returns captions given as a list, as one text or in lists of a list; None for others."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        return None
    flat = [text for part in value for text in (part if isinstance(part, list) else [part])]
    return tuple(flat) if all(map(_is_text, flat)) else None


def to_record(item: RawRecord, layout: Layout) -> tuple[str, Record]:
    """Returns the split of a usable record, and the record."""
    path = _normal_path(item.content[layout.path_field])
    captions = _captions(item.content["captions"])
    return item.split or item.content["split"], Record(
        file_path=path,
        person_id=item.content["id"],
        captions=captions or (),
        camera_id=layout.camera_id(path),
    )


def odd_forms(usable: Sequence[RawRecord], layout: Layout) -> list[str]:
    """Notes records that are written in another way than usual."""
    paths, single, nested, tokens = [], [], [], []
    for item in usable:
        given = item.content[layout.path_field]
        captions = item.content["captions"]
        path = _normal_path(given)
        if path != given:
            paths.append(given)
        if isinstance(captions, str):
            single.append(path)
        elif any(isinstance(part, list) for part in captions):
            nested.append(path)
        if _is_deep(item.content.get("processed_tokens")):
            tokens.append(path)
    notes = named_line(
        f'paths written with "\\", a leading "{IMAGES}/" or "./", read as if without', paths
    )
    notes += named_line("records whose captions are one text, read as a list of it", single)
    notes += named_line("records whose captions are nested one level deeper, flattened", nested)
    return notes + named_line(
        "records whose processed_tokens are nested one level deeper (they are not used)", tokens
    )


def _is_deep(tokens: Any) -> bool:
    """Whether the tokens of a record are lists in lists of a list."""
    parts = [tokens]
    for _ in range(3):
        parts = [inner for part in parts if isinstance(part, list) for inner in part]
    return any(isinstance(part, str) for part in parts)


def shown(value: Any) -> str:
    """Returns a value as a message shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."

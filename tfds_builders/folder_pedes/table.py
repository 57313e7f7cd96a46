"""Reads the table of a folder of one's own, as JSON lines or CSV, and checks it row by row."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tfds_builders.base import first_names, named_line
from tfds_builders.raw_records import shown
from tfds_builders.records import listing

NAME = "captions"
SUFFIXES = (".jsonl", ".csv")
SPLIT_NAMES = ("train", "val", "test", "query", "gallery")
EXPECTED_TREE = """\
expected:
  FOLDER/                manual_dir, of any name
    captions.csv         or captions.jsonl, or the only other *.csv or *.jsonl file;
                         columns file, person_id, caption, and if you like camera_id, split
    ...                  images, at the paths in "file": under FOLDER/, FOLDER/images/
                         or FOLDER/imgs/"""

_NEEDED = ("file", "person_id")
_KNOWN = (*_NEEDED, "camera_id", "split", "caption", "captions")
_DELIMITERS = ",;\t"
_SHOWN = 5
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_WHOLE_AS_DECIMAL = re.compile(r"([+-]?\d+)\.0+", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Row:
    """One checked row.

    Attributes:
      line: where it begins in the file, from 1.
      file: path of the image, with "/".
      person: person_id as text.
      camera: camera_id as text, "" where not given.
      split: one of `SPLIT_NAMES`, "" where not given.
      captions: sentences as given; empty ones left out.
    """

    line: int
    file: str
    person: str
    camera: str
    split: str
    captions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """All rows of a file.

    Attributes:
      path: the file.
      rows: the good ones, in order.
      notes: what is unusual but usable, one line each.
      faults: what is wrong with the others: nothing, or one message that names the first of them.
    """

    path: pathlib.Path
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    faults: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Raw:
    """A row as it stands in the file; `fault` if it cannot even be taken apart."""

    line: int
    fields: dict[str, Any]
    fault: str = ""


def find_table(folder: pathlib.Path) -> pathlib.Path:
    """Returns the table of a folder: `captions.csv` or `.jsonl`, or the only file of that kind.

    Args:
      folder: what the user gave as manual_dir.

    Raises:
      ValueError: there is no such folder, no such file, or several to choose from.
    """
    if not folder.is_dir():
        raise ValueError(
            f"manual_dir = {folder} is no folder.\n{EXPECTED_TREE}\n"
            "What to do: pass the folder that holds your table and your images."
        )
    files = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and p.is_file()]
    tables = [p for p in files if not p.name.startswith((".", "~"))]  # locks of office programs
    chosen = [p for p in tables if p.stem.lower() == NAME] or tables
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise ValueError(
            f"{folder} holds {len(chosen)} tables: {first_names(p.name for p in chosen)}; "
            f"accepted: one. What to do: name the right one {NAME}.csv or {NAME}.jsonl, or move "
            "the others out of this folder."
        )
    raise ValueError(
        f"no table (*.csv or *.jsonl) in {folder}\n{EXPECTED_TREE}\n"
        f"found in {folder}: {listing(folder)}\n"
        "What to do: put the table there, beside or above the images."
    )


def read_table(path: pathlib.Path) -> Table:
    """Reads and checks a table.

    Args:
      path: JSON lines or CSV, by its suffix.

    Returns:
      The rows that are as they should be, and what is wrong with the others.

    Raises:
      ValueError: the file as a whole cannot be read: no text, no header, no row.
    """
    text = _text(path)
    is_csv = path.suffix.lower() == ".csv"
    raw = list(_csv_rows(path, text) if is_csv else _json_rows(path, text))
    if not raw:
        raise ValueError(f"{path} has no row; accepted: one row or more. Write one for each image.")
    rows, faults = [], []
    for item in raw:
        fault = item.fault or _fault(item.fields)
        if fault:
            faults.append(f"  line {item.line}: {fault}")
        else:
            rows.append(_row(item))
    return Table(path, tuple(rows), tuple(_notes(raw)), tuple(_faults(path, len(raw), faults)))


def _text(path: pathlib.Path) -> str:
    data = path.read_bytes()
    if data.startswith(_UTF16):
        raise ValueError(
            f"{path} is UTF-16 text; accepted: UTF-8. Save it again as UTF-8 (in a spreadsheet: "
            '"CSV UTF-8").'
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte {data[error.start]:#04x} is no UTF-8 text; accepted: "
            'UTF-8. Save the file again as UTF-8 (in a spreadsheet: "CSV UTF-8").'
        ) from error


def _csv_rows(path: pathlib.Path, text: str) -> Iterator[_Raw]:
    """Yields the rows of a CSV file with a header; blank rows are passed over."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    header: list[str] = []
    while True:
        line = lines.line_num + 1
        try:
            cells = next(lines, None)
        except csv.Error as error:
            raise ValueError(
                f"{path}, row that begins in line {line}: {error}; accepted: CSV, in which a text "
                'that holds a separator, a line break or a " stands between two ", and a " inside '
                'it is doubled. Look for a single " in this row.'
            ) from error
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = _header(path, cells)
        elif len(cells) != len(header):
            yield _Raw(line, {}, _uneven(len(cells), len(header)))
        else:
            given = zip(header, cells, strict=True)
            yield _Raw(line, {name: cell for name, cell in given if cell.strip()})


def _delimiter(text: str) -> str:
    """Returns the separator by which the first line has most of the columns that we know."""
    first = text.lstrip().split("\n", 1)[0]

    def known(delimiter: str) -> int:
        return sum(name.strip(' "\r').lower() in _KNOWN for name in first.split(delimiter))

    return max(_DELIMITERS, key=known)


def _header(path: pathlib.Path, cells: Sequence[str]) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    accepted = (
        f"accepted: a first line with the columns {', '.join(_NEEDED)}, caption and, if you like, "
        "camera_id and split, separated by comma, semicolon or tab"
    )
    for name in _NEEDED:
        if name not in header:
            raise ValueError(
                f"{path}, line 1: no column {name!r}; the columns are "
                f"{shown(list(cells))}; {accepted}. Add or rename the column."
            )
    double = [name for name in _KNOWN if header.count(name) > 1]
    if double:
        raise ValueError(f"{path}, line 1: column {double[0]!r} stands twice. Keep one of them.")
    return header


def _uneven(cells: int, columns: int) -> str:
    return (
        f"{cells} cells, but the header has {columns}; accepted: as many. A caption that holds the "
        'separator or a line break must stand between two "'
    )


def _json_rows(path: pathlib.Path, text: str) -> Iterator[_Raw]:
    """Yields the rows of a JSON-lines file; blank lines are passed over."""
    if text.lstrip().startswith("["):
        raise ValueError(
            f"{path} begins with '['; accepted: JSON lines, one object "
            '{"file": .., "person_id": .., "caption": ..} on each line, without a list around them '
            "and without commas between them. Write it again in this form."
        )
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _json_row(number, line)


def _json_row(number: int, line: str) -> _Raw:
    accepted = "accepted: one whole object on each line"
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:  # also of numbers of thousands of digits
        return _Raw(number, {}, f"{shown(line.strip())} is not valid JSON ({error}); {accepted}")
    if not isinstance(fields, dict):
        return _Raw(number, {}, f"{shown(fields)} is no object; {accepted}")
    return _Raw(number, {name: value for name, value in fields.items() if value not in (None, "")})


def _fault(fields: dict[str, Any]) -> str | None:
    """Says what is wrong with the fields of a row, None if nothing is."""
    for name in _NEEDED:
        if name not in fields:
            return f"{name} is missing or empty; the row has {', '.join(fields) or 'nothing'}"
    if "caption" in fields and "captions" in fields:
        return "it has both caption and captions; accepted: one of them"
    rules = {
        "file": (_is_path, 'a path relative to the images\' folder, without ".."'),
        "person_id": (_label, "a whole number, or a text"),
        "camera_id": (_label, "a whole number, a text, or nothing"),
        "split": (_split, f"{', '.join(SPLIT_NAMES)}, or nothing"),
        "caption": (_is_captions, "a text, or in JSON lines a list of texts"),
        "captions": (_is_captions, "a text, or in JSON lines a list of texts"),
    }
    for name, (accepts, accepted) in rules.items():
        if name in fields and not accepts(fields[name]):
            return f"{name} = {shown(fields[name])}; accepted: {accepted}"
    return None


def _row(raw: _Raw) -> Row:
    captions = raw.fields.get("caption", raw.fields.get("captions", ()))
    listed = (captions,) if isinstance(captions, str) else captions
    return Row(
        line=raw.line,
        file=str(_path(raw.fields["file"])),
        person=_label(raw.fields["person_id"]),
        camera=_label(raw.fields.get("camera_id", "")),
        split=_split(raw.fields.get("split", "")),
        captions=tuple(caption for caption in listed if caption.strip()),
    )


def _is_text(value: Any) -> bool:
    """Whether the value is text that can be stored: JSON may hold half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _path(value: str) -> pathlib.PurePosixPath:
    return pathlib.PurePosixPath(value.strip().replace("\\", "/"))


def _is_path(value: Any) -> bool:
    if not _is_text(value) or "\0" in value:
        return False
    path = _path(value)
    if not path.parts or path.parts[0][1:] == ":":  # no name at all, or C:\photos
        return False
    return not path.is_absolute() and ".." not in path.parts


def _label(value: Any) -> str:
    """Returns a number or name as text, "" for what is neither.

    Tables with gaps often hold 12.0 for 12: programs that have no whole numbers with gaps write so.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is int:
        return str(value)
    if not _is_text(value):
        return ""
    text = value.strip()
    decimal = _WHOLE_AS_DECIMAL.fullmatch(text)
    return decimal[1] if decimal else text


def _split(value: Any) -> str:
    name = value.strip().lower() if isinstance(value, str) else ""
    return name if name in SPLIT_NAMES else ""


def _is_captions(value: Any) -> bool:
    return all(map(_is_text, value)) if isinstance(value, list) else _is_text(value)


def _notes(raw: Sequence[_Raw]) -> list[str]:
    """Notes what was read in another way than it stands there, or not read at all."""
    unread = dict.fromkeys(str(n) for item in raw for n in item.fields if n not in _KNOWN)
    backward = [f"line {r.line}" for r in raw if "\\" in str(r.fields.get("file"))]
    empty = [f"line {r.line}" for r in raw if not r.fault and _lacks_caption(r.fields)]
    return [
        *named_line("columns that are not read", unread),
        *named_line('rows whose file has "\\", read as "/"', backward),
        *named_line("rows without a caption, or with an empty one, left out", empty),
    ]


def _lacks_caption(fields: dict[str, Any]) -> bool:
    captions = fields.get("caption", fields.get("captions"))
    listed = captions if isinstance(captions, list) else [captions]
    return not listed or any(not str(caption or "").strip() for caption in listed)


def _faults(path: pathlib.Path, total: int, faults: Sequence[str]) -> list[str]:
    if not faults:
        return []
    more = f"\n  and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
    return [
        f"{len(faults):,} of {total:,} rows of {path} are not as they should be:\n"
        + "\n".join(faults[:_SHOWN])
        + more
        + "\nWhat to do: correct these lines."
    ]

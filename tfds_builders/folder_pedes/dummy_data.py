"""Writes a small made-up folder of images with a table: our own pictures, our own sentences.

Identities by name, one row for each caption, a caption over two lines, images without a caption or
a camera, paths with a backslash, JPEG, PNG and BMP, an upper-case suffix, an image that no row
names.

  python -m tfds_builders.folder_pedes.dummy_data FOLDER    # writes FOLDER/captions.csv
"""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from tfds_builders import dummy

_PERSONS = ("anna", "björn", "chloe", "dana", "emil", "fatma", "goran", "hana", "igor", "jun")
_SUFFIXES = (".jpg", ".png", ".bmp", ".JPG")
_IMAGES_PER_PERSON = 3
_SILENT = 4  # image without a caption
_NO_CAMERA = 7
_BACKWARD = 2  # image whose path has a backslash
_SPLITS = {"anna": "val", "björn": "test", "chloe": "query", "dana": "gallery"}
UNNAMED = "unnamed.jpg"


def rows(splits: bool = False) -> list[dict[str, Any]]:
    """Returns one row for each image, its captions as a list.

    Args:
      splits: give each person a split.
    """
    made = []
    for index in range(len(_PERSONS) * _IMAGES_PER_PERSON):
        person, camera = _PERSONS[index // _IMAGES_PER_PERSON], index % _IMAGES_PER_PERSON
        name = f"{person}/{camera}{_SUFFIXES[index % len(_SUFFIXES)]}"
        row: dict[str, Any] = {
            "file": name.replace("/", "\\") if index == _BACKWARD else name,
            "person_id": person,
            "camera_id": "" if index == _NO_CAMERA else camera,
            "captions": dummy.captions(index, 0 if index == _SILENT else 1 + index % 2),
        }
        made.append(row | ({"split": _SPLITS.get(person, "train")} if splits else {}))
    return made


def make(folder: pathlib.Path, *, suffix: str = ".csv", splits: bool = False) -> pathlib.Path:
    """Writes the folder.

    Args:
      folder: where to make it; serves as manual_dir.
      suffix: kind of the table, ".csv" or ".jsonl".
      splits: with a column split: train, val, test, query and gallery.

    Returns:
      The folder.

    Raises:
      ValueError: another kind of table.
    """
    writers = {".csv": write_csv, ".jsonl": write_json_lines}
    if suffix not in writers:
        raise ValueError(f"suffix = {suffix!r}; accepted: {', '.join(writers)}. Use one of them.")
    folder = pathlib.Path(folder)
    made = rows(splits)
    for seed, row in enumerate(made):
        dummy.write_image(folder / "images" / row["file"].replace("\\", "/"), seed)
    dummy.write_image(folder / "images" / UNNAMED, len(made))
    writers[suffix](folder / f"captions{suffix}", made)
    return folder


def write_csv(path: pathlib.Path, content: Sequence[dict[str, Any]], delimiter: str = ",") -> None:
    """Writes rows as CSV with a header, one line for each caption."""
    fields = [name for name in content[0] if name != "captions"]
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, [*fields, "caption"], delimiter=delimiter)
        writer.writeheader()
        for row in content:
            rest = {name: row[name] for name in fields}
            writer.writerows({**rest, "caption": text} for text in row["captions"] or [""])


def write_json_lines(path: pathlib.Path, content: Sequence[dict[str, Any]]) -> None:
    """Writes rows as JSON lines, one for each image."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in content]
    path.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    dummy.main(make)

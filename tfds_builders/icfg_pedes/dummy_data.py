"""Writes a small made-up folder in the layout of ICFG-PEDES: our own pictures, our own sentences.

Folders train/ and test/ that are not the split, tokens of the test nested one level deeper, an
identity with one image, a caption over several lines, a name that does not tell its camera, a
double and an upper-case suffix on disk.

  python -m tfds_builders.icfg_pedes.dummy_data FOLDER    # writes FOLDER/ICFG-PEDES
"""

from __future__ import annotations

import pathlib
from typing import Any

from tfds_builders import dummy

FOLDER = "ICFG-PEDES"
FILE = "ICFG-PEDES.json"
# (split, id, file path)
IMAGES = [
    ("train", 0, "train/0000/0000_000_01_0303morning_0008_0.jpg"),
    ("train", 0, "train/0000/0000_012_14_0303noon_0245_2.jpg"),
    ("train", 1, "test/0007/0007_003_05_0113afternoon_1591_0.jpg"),
    ("train", 1, "test/0007/0007_004_05_0113afternoon_1592_1.jpg"),
    ("train", 2, "test/0011/0011_000_08_0302noon_0412_0.jpg"),
    ("train", 3, "train/0020/0020_001_02_0114morning_0033_1.jpg"),
    ("train", 3, "train/0020/0020.jpg"),
    ("test", 3102, "test/1200/1200_000_03_0114noon_0001_0.jpg"),
    ("test", 3102, "train/1041/1041_009_15_0302afternoon_0900_0.jpg"),
    ("test", 3103, "test/1201/1201_002_10_0302morning_0077_0.jpg"),
]
# Annotated name -> name on disk.
OTHER_SUFFIX = {
    "train/0020/0020.jpg": "train/0020/0020.jpg.jpg",
    "test/0011/0011_000_08_0302noon_0412_0.jpg": "test/0011/0011_000_08_0302noon_0412_0.JPG",
}


def records() -> list[dict[str, Any]]:
    """Returns the records of ICFG-PEDES.json."""
    made: list[dict[str, Any]] = []
    for index, (split, person, path) in enumerate(IMAGES):
        captions = dummy.captions(index, 1)
        tokens: list[Any] = dummy.processed_tokens(captions)
        made.append(
            {
                "split": split,
                "captions": captions,
                "file_path": path,
                "processed_tokens": [tokens] if split == "test" else tokens,
                "id": person,
            }
        )
    return made


def on_disk(file_path: str) -> str:
    """Returns the name under `imgs/` that the image of a record has."""
    return OTHER_SUFFIX.get(file_path, file_path)


def change(folder: pathlib.Path, index: int, **fields: Any) -> None:
    """Rewrites one record of ICFG-PEDES.json; a field that is None is removed."""
    dummy.change(folder / FILE, index, **fields)


def make(folder: pathlib.Path) -> pathlib.Path:
    """Writes the folder.

    Args:
      folder: where to make it.

    Returns:
      folder/ICFG-PEDES.
    """
    root = pathlib.Path(folder) / FOLDER
    for seed, (_, _, path) in enumerate(IMAGES):
        dummy.write_image(root / "imgs" / on_disk(path), seed)
    dummy.write_json(root / FILE, records())
    return root


if __name__ == "__main__":
    dummy.main(make)

"""Writes a small made-up CUHK-PEDES folder with several images of each identity and view.

That of `cuhk_pedes` and further images, so that query and gallery have something in them: pictures
and sentences are our own, names are as in the real set.

  python -m tfds_builders.cross_re_id.dummy_data FOLDER    # writes FOLDER/CUHK-PEDES
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from tfds_builders import dummy
from tfds_builders.cuhk_pedes import dummy_data as cuhk_pedes

SPLIT_FILE = "cross_re_id_split.json"


def market(pid: str, *cameras: int) -> list[str]:
    """Names images of Market-1501.

    Args:
      pid: first part of the names, "0002" for example.
      *cameras: camera of each image.
    """
    return [f"Market/{pid}_c{cam}s1_{frame:06d}_00.jpg" for frame, cam in enumerate(cameras, 1)]


def _sysu(folder: str, person: int, *scenes: int) -> list[str]:
    return [f"{folder}/p{person}_s{scene}.jpg" for scene in scenes]


# (split, id): file paths.
IMAGES: dict[tuple[str, int], list[str]] = {
    ("test", 12006): ["cam_a/010_45.bmp", "cam_b/010_90.bmp"],
    ("test", 12007): [f"CUHK01/0003{index:03d}.png" for index in (1, 2, 3, 4)],
    ("test", 12008): [f"CUHK03/20_{index}.jpg" for index in (1, 2, 3, 4)],
    ("test", 12009): market("0600", 1, 1, 2, 3, 5, 6),
    ("test", 12010): ["CUHK03/21_1.jpg", "CUHK03/21_2.jpg"],  # one view only
    ("test", 12011): [*market("-1", 1), *market("0000", 2), *market("0700", 3, 4)],
    # In both folders of CUHK-SYSU, which the real set has not.
    ("test", 12012): [*_sysu("train_query", 500, 900), *_sysu("test_query", 500, 901, 902)],
    ("test", 12013): [*market("0800", 1, 2), "Market/odd name.jpg"],
    ("val", 11006): market("0100", 1, 2, 2),
    ("val", 11007): _sysu("test_query", 600, 1000, 1001, 1002),
    ("train", 31): market("0200", 1, 3),
    ("train", 32): _sysu("test_query", 601, 1010, 1011, 1012, 1013),
    **{
        ("train", 40 + person): _sysu("train_query", 700 + person, 2 * person, 2 * person + 1)
        for person in range(20)
    },
}


def make(folder: pathlib.Path, own_split: bool = False) -> pathlib.Path:
    """Writes the folder.

    Args:
      folder: where to make it; serves as manual_dir.
      own_split: write a division of one's own too.

    Returns:
      folder/CUHK-PEDES.
    """
    root = cuhk_pedes.make(folder)
    records = [*cuhk_pedes.records(), *_records()]
    for seed, record in enumerate(_records(), 100):
        dummy.write_image(root / "imgs" / record["file_path"], seed)
    cuhk_pedes.write_json(root, records)
    if own_split:
        viper, market_images = IMAGES["test", 12006], IMAGES["test", 12009]
        write_split(folder / SPLIT_FILE, [viper[1], market_images[2]], [viper[0], market_images[0]])
    return root


def write_split(path: pathlib.Path, query: Sequence[str], gallery: Sequence[str]) -> None:
    """Writes a division of one's own.

    Args:
      path: the file.
      query: image paths under `imgs/`.
      gallery: likewise.
    """
    dummy.write_json(path, {"query": list(query), "gallery": list(gallery)})


def _records() -> list[dict[str, Any]]:
    """Returns the further records, two captions to an image."""
    named = [(key, path) for key, paths in IMAGES.items() for path in paths]
    return [
        {"split": split, "id": person, "file_path": path, "captions": dummy.captions(index, 2)}
        for index, ((split, person), path) in enumerate(named)
    ]


if __name__ == "__main__":
    dummy.main(make)

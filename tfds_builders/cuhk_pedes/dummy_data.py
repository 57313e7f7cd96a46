"""Writes a small made-up folder in the layout of CUHK-PEDES: our own pictures, our own sentences.

Every source folder and file format, images with 1, 2, 4 and 10 captions, identities with one image,
captions over several lines and with stray blanks, an upper-case suffix, a double suffix, boxes that
Market-1501 numbers -1 and 0000, tokens nested one level deeper than usual.

  python -m tfds_builders.cuhk_pedes.dummy_data FOLDER    # writes FOLDER/CUHK-PEDES
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

from tfds_builders import dummy

FOLDER = "CUHK-PEDES"
WHOLE_FILE = "reid_raw.json"
# (split, id, file path, number of captions)
IMAGES = [
    ("train", 1, "cam_a/001_45.bmp", 2),
    ("train", 1, "cam_b/001_90.bmp", 2),
    ("train", 2, "CUHK01/0002001.png", 2),
    ("train", 2, "CUHK01/0002004.png", 1),
    ("train", 3, "Market/0003_c1s1_000451_00.jpg", 2),
    ("train", 3, "Market/0003_c6s3_066223_00.jpg", 4),
    ("train", 3, "Market/0003_c6s3_066224_00.JPG", 2),
    ("train", 1369, "train_query/p11600_s14885.jpg", 2),
    ("val", 11004, "CUHK03/11_1.jpg", 2),
    ("val", 11004, "CUHK03/11_4.jpg", 2),
    ("val", 11005, "test_query/p2701_s3520.jpg", 2),
    ("test", 12004, "test_query/p2703_s3526.jpg", 10),
    ("test", 12004, "test_query/p2703_s3527.jpg", 2),
    ("test", 12005, "Market/0509_c4s2_066223_00.jpg", 4),
    ("test", 12005, "CUHK01/0971003.png", 1),
    ("test", 12303, "cam_b/632_90.bmp", 2),
    ("train", 3, "Market/-1_c2s1_000501_00.jpg", 2),
    ("train", 3, "Market/0000_c3s2_000601_00.jpg", 2),
    ("train", 3, "Market/0003_c2s1_000701_00.jpg", 2),
    ("train", 1369, "CUHK03/1369_2.png", 2),
]
# Annotated name -> name on disk.
OTHER_SUFFIX = {
    "Market/0003_c2s1_000701_00.jpg": "Market/0003_c2s1_000701_00.jpg.jpg",
    "CUHK03/1369_2.png": "CUHK03/1369_2.PNG",
}
_DEEPER = 7  # record whose processed_tokens are nested one level deeper

# Of a larger folder: sources of 100 identities, about as in the real set.
_SOURCES = (
    *("train_query",) * 28,
    *("test_query",) * 17,
    *("CUHK01",) * 10,
    *("CUHK03",) * 20,
    *("Market",) * 22,
    *("VIPeR",) * 3,
)
_IMAGES_PER_ID = 3
_IDS_TO_ONE_OF_VAL = 13  # and of test; the others train


def records() -> list[dict[str, Any]]:
    """Returns the records of reid_raw.json."""
    made = [
        _record(split, dummy.captions(index, number), path, person)
        for index, (split, person, path, number) in enumerate(IMAGES)
    ]
    made[_DEEPER]["processed_tokens"] = [made[_DEEPER]["processed_tokens"]]
    return made


def _record(split: str, captions: list[str], path: str, person: int) -> dict[str, Any]:
    return {
        "split": split,
        "captions": captions,
        "file_path": path,
        "processed_tokens": dummy.processed_tokens(captions),
        "id": person,
    }


def on_disk(file_path: str) -> str:
    """Returns the name under `imgs/` that the image of a record has."""
    return OTHER_SUFFIX.get(file_path, file_path)


def write_json(folder: pathlib.Path, content: Any, name: str = WHOLE_FILE) -> None:
    """Writes an annotation file."""
    dummy.write_json(folder / name, content)


def change(folder: pathlib.Path, index: int, **fields: Any) -> None:
    """Rewrites one record of reid_raw.json; a field that is None is removed."""
    dummy.change(folder / WHOLE_FILE, index, **fields)


def make(folder: pathlib.Path, num_images: int | None = None) -> pathlib.Path:
    """Writes the folder.

    Args:
      folder: where to make it.
      num_images: None for the small folder with every oddity; a number for that many plain images
        of JPEG, PNG and BMP over splits and sub-folders much as in the real set.

    Returns:
      folder/CUHK-PEDES.

    Raises:
      ValueError: num_images is too small for one identity in each split.
    """
    root = pathlib.Path(folder) / FOLDER
    made = records() if num_images is None else list(_many(num_images))
    for seed, record in enumerate(made):
        dummy.write_image(root / "imgs" / on_disk(record["file_path"]), seed)
    write_json(root, made)
    return root


def _many(num_images: int) -> Iterator[dict[str, Any]]:
    """Yields the records of a larger folder, three images to an identity."""
    ids = -(-num_images // _IMAGES_PER_ID)
    val = max(1, ids // _IDS_TO_ONE_OF_VAL)
    train = ids - 2 * val
    if train < 1:
        raise ValueError(
            f"num_images = {num_images}; accepted: None, or at least {2 * _IMAGES_PER_ID + 1}, "
            "which gives each split an identity."
        )
    for index in range(num_images):
        person = index // _IMAGES_PER_ID
        split = "train" if person < train else "val" if person < train + val else "test"
        path = _path(person, index % _IMAGES_PER_ID)
        yield _record(split, dummy.captions(index, 2), path, person + 1)


def _path(person: int, index: int) -> str:
    """Names an image of a larger folder, as the source dataset would."""
    hundred, rest = divmod(person, len(_SOURCES))
    place = rest * 37 % len(_SOURCES)  # 37 has no divisor with 100: it visits them all
    source = _SOURCES[place]
    number = hundred * _SOURCES.count(source) + place - _SOURCES.index(source) + 1
    count = index + 1
    names = {
        "CUHK01": f"CUHK01/{number:04d}{count:03d}.png",
        "CUHK03": f"CUHK03/{number}_{count}.jpg",
        "Market": f"Market/{number:04d}_c{count}s1_{index:06d}_00.jpg",
        "VIPeR": f"cam_{'ab'[index % 2]}/{number:03d}_{45 * index}.bmp",
    }
    return names.get(source, f"{source}/p{number}_s{_IMAGES_PER_ID * number + index}.jpg")


if __name__ == "__main__":
    dummy.main(make)

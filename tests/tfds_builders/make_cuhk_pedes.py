"""Writes a small made-up folder in the layout of CUHK-PEDES: our own pictures, our own sentences.

Every source folder and file format, images with 1, 2, 4 and 10 captions, identities with one image,
captions over several lines and with stray blanks, an upper-case suffix.

  python tests/tfds_builders/make_cuhk_pedes.py FOLDER    # writes FOLDER/CUHK-PEDES
"""

import json
import pathlib
import sys

import cv2
import numpy as np

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
]
_SENTENCES = (
    "A man wearing a red t-shirt,dark trousers and white shoes.",
    "The woman has long black hair;  she carries a brown bag\nover her shoulder.",
    " A person in a blue coat, walking away from the camera. ",
    "He wears a grey shirt, black pants and a backpack.",
)


def captions(index: int, number: int) -> list[str]:
    """Returns so many captions for the image of that index."""
    return [_SENTENCES[(index + i) % len(_SENTENCES)] for i in range(number)]


def records() -> list[dict]:
    """Returns the records of reid_raw.json."""
    return [
        {
            "split": split,
            "captions": captions(index, number),
            "file_path": path,
            "processed_tokens": [["unused"]] * number,
            "id": person,
        }
        for index, (split, person, path, number) in enumerate(IMAGES)
    ]


def write_json(folder: pathlib.Path, content, name: str = "reid_raw.json") -> None:
    """Writes an annotation file."""
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def change(folder: pathlib.Path, index: int, **fields) -> None:
    """Rewrites one record of reid_raw.json; a field that is None is removed."""
    changed = records()
    changed[index] |= fields
    changed[index] = {key: value for key, value in changed[index].items() if value is not None}
    write_json(folder, changed)


def write_image(path: pathlib.Path, seed: int, size: tuple[int, int] = (48, 16)) -> None:
    """Writes a picture of random colour bands, in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = np.random.default_rng(seed).integers(0, 256, (6, 1, 3), np.uint8)
    picture = cv2.resize(bands, size[::-1], interpolation=cv2.INTER_NEAREST)
    _, data = cv2.imencode(path.suffix.lower(), picture)
    path.write_bytes(data.tobytes())


def make(manual_dir: pathlib.Path) -> pathlib.Path:
    """Writes the folder.

    Args:
      manual_dir: where to make it.

    Returns:
      manual_dir/CUHK-PEDES.
    """
    folder = manual_dir / "CUHK-PEDES"
    for seed, (_, _, path, _) in enumerate(IMAGES):
        write_image(folder / "imgs" / path, seed)
    write_json(folder, records())
    return folder


if __name__ == "__main__":
    print(make(pathlib.Path(sys.argv[1])))

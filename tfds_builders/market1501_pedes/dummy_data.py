"""Writes a small made-up CUHK-PEDES folder, and what tells the test ids of Market-1501.

python -m tfds_builders.market1501_pedes.dummy_data FOLDER    # writes FOLDER/CUHK-PEDES
"""

from __future__ import annotations

import pathlib
from typing import Literal

from tfds_builders import dummy
from tfds_builders.cross_re_id import dummy_data as cross_re_id

SPLIT_FILE = "market1501_pedes_split.json"
LIST = "market1501_test_ids.txt"
# Of train, val and test of CUHK-PEDES; the person of 509 has an image from CUHK01 too, 900 none.
TEST_IDS = (100, 200, 509, 600, 700, 900)
# As in a copy of Market-1501: a double ending, junk, distractors, a file that is no image.
COPY = (
    "bounding_box_test/0100_c1s1_000001_01.jpg",
    "bounding_box_test/0200_c1s1_000002_01.jpg.jpg",
    "bounding_box_test/0600_c2s1_000003_01.JPG",
    "bounding_box_test/0700_c2s1_000004_01.jpg",
    "bounding_box_test/-1_c3s1_000005_01.jpg",
    "bounding_box_test/0000_c3s1_000006_01.jpg.jpg",
    "bounding_box_train/0800_c3s1_000007_01.jpg",
    "query/0509_c1s1_000009_00.jpg",
    "query/0900_c1s1_000008_00.jpg",
)


def make(
    folder: pathlib.Path,
    own_split: bool = False,
    test_ids: Literal["list", "copy", "none"] = "list",
) -> pathlib.Path:
    """Writes the folder.

    Args:
      folder: where to make it; serves as manual_dir.
      own_split: write a division of one's own too.
      test_ids: whether a list tells the test ids, or a copy of Market-1501, or nothing.

    Returns:
      folder/CUHK-PEDES.
    """
    root = cross_re_id.make(folder)
    if test_ids == "list":
        (folder / LIST).write_text("".join(f"{pid}\n" for pid in TEST_IDS))
    if test_ids == "copy":
        for seed, name in enumerate(COPY):
            dummy.write_image(folder / "Market-1501-v15.09.15" / name, seed)
        (folder / "Market-1501-v15.09.15/bounding_box_test/Thumbs.db").write_bytes(b"")
    if own_split:
        images = cross_re_id.IMAGES["test", 12009]
        cross_re_id.write_split(folder / SPLIT_FILE, images[:1], images[2:])
    return root


if __name__ == "__main__":
    dummy.main(make)

"""Writes a small made-up CUHK-PEDES folder with several scenes of each identity of CUHK-SYSU.

python -m tfds_builders.cuhk_sysu_pedes.dummy_data FOLDER    # writes FOLDER/CUHK-PEDES
"""

from __future__ import annotations

import pathlib

from tfds_builders import dummy
from tfds_builders.cross_re_id import dummy_data as cross_re_id

SPLIT_FILE = "cuhk_sysu_pedes_split.json"


def make(folder: pathlib.Path, own_split: bool = False) -> pathlib.Path:
    """Writes the folder.

    Args:
      folder: where to make it; serves as manual_dir.
      own_split: write a division of one's own too.

    Returns:
      folder/CUHK-PEDES.
    """
    root = cross_re_id.make(folder)
    if own_split:
        images = cross_re_id.IMAGES["train", 32]
        cross_re_id.write_split(folder / SPLIT_FILE, images[:1], images[2:])
    return root


if __name__ == "__main__":
    dummy.main(make)

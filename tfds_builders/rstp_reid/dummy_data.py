"""Writes a small made-up folder in the layout of RSTPReid: our own pictures, our own sentences.

Five images of each identity in one flat folder, no tokens, a caption with letters that are not
ASCII, one sentence on two identities, an image that is annotated with `.JPG`.

  python -m tfds_builders.rstp_reid.dummy_data FOLDER    # writes FOLDER/RSTPReid
"""

from __future__ import annotations

import pathlib
from typing import Any

from tfds_builders import dummy

FOLDER = "RSTPReid"
FILE = "data_captions.json"
SPLIT_OF_ID = {0: "train", 1: "train", 2: "train", 3701: "val", 3901: "test", 3902: "test"}
CAMERAS = (1, 5, 7, 12, 15)
SHARED = "A man in a grey coat who looks down at the road he walks on."
NOT_ASCII = "A woman in a beige caf\u00e9 apron\uff0c carrying a tray with both hands."
_ODD = {1: [SHARED, NOT_ASCII], 6: [SHARED, "He has a red umbrella in his right hand."]}
_UPPER_CASE = 7  # record whose name is written with .JPG


def records() -> list[dict[str, Any]]:
    """Returns the records of data_captions.json."""
    made: list[dict[str, Any]] = []
    for person, split in SPLIT_OF_ID.items():
        for camera in CAMERAS:
            index = len(made)
            suffix = ".JPG" if index == _UPPER_CASE else ".jpg"
            name = f"{person:04d}_c{camera}_{index:04d}{suffix}"
            own = [f"{text} Picture {index}." for text in dummy.captions(index, 2)]
            captions = _ODD.get(index, own)
            made.append({"id": person, "img_path": name, "captions": captions, "split": split})
    return made


def change(folder: pathlib.Path, index: int, **fields: Any) -> None:
    """Rewrites one record of data_captions.json; a field that is None is removed."""
    dummy.change(folder / FILE, index, **fields)


def make(folder: pathlib.Path) -> pathlib.Path:
    """Writes the folder.

    Args:
      folder: where to make it.

    Returns:
      folder/RSTPReid.
    """
    root = pathlib.Path(folder) / FOLDER
    for seed, record in enumerate(records()):
        dummy.write_image(root / "imgs" / record["img_path"], seed)
    dummy.write_json(root / FILE, records())
    return root


if __name__ == "__main__":
    dummy.main(make)

"""What the file names of CUHK-PEDES tell: source dataset, camera, view, Market-1501 identity.

Paths are those of the annotations, under `imgs/`: the folder that holds a file names the source.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from tfds_builders.base import UNKNOWN_CAMERA

Domain = Literal["sysu", "cuhk01", "cuhk03", "market", "viper"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)

_FOLDERS: dict[str, Domain] = {
    "train_query": "sysu",
    "test_query": "sysu",
    "CUHK01": "cuhk01",
    "CUHK03": "cuhk03",
    "Market": "market",
    "cam_a": "viper",
    "cam_b": "viper",
}
_VIPER = {"cam_a": 0, "cam_b": 1}
_CAMERA = {
    "Market": re.compile(r"-?\d+_c(\d+)s\d+_"),
    "CUHK01": re.compile(r"\d{4}(\d{3})\."),
    "CUHK03": re.compile(r"\d+_(\d+)\."),
}
# Both have two images of each person from one camera, then two from the other.
_HALVES = {1: "1-2", 2: "1-2", 3: "3-4", 4: "3-4"}
_SCENE = re.compile(r"p\d+_(s\d+)\.")
# A detected box that shows no identity of Market-1501 has the number -1 or 0000.
_MARKET_PID = re.compile(r"(-1|\d{4})_c\d+s\d+_.*\.(?:jpg|jpeg|png)$", re.IGNORECASE)


def source_domain(file_path: str) -> Domain | None:
    """Returns the dataset that an image of CUHK-PEDES was taken from.

    Args:
      file_path: path under `imgs/`.

    Returns:
      sysu (CUHK-SYSU), cuhk01, cuhk03, market or viper; None for a folder of none of them.
    """
    return _FOLDERS.get(source_folder(file_path))


def source_folder(file_path: str) -> str:
    """Returns the name of the folder that holds the file, "" for a bare name."""
    return file_path.rpartition("/")[0].rpartition("/")[2]


def camera_id(file_path: str) -> int:
    """Reads the camera from a file name, by the rules of the dataset it comes from.

    Market: the number after "c". cam_a and cam_b (VIPeR): 0 and 1. CUHK01 and CUHK03: the index of
    the image among those of its person, which stands for the view. CUHK-SYSU (test_query,
    train_query) does not tell.

    Args:
      file_path: path under `imgs/`.

    Returns:
      The camera; -1 where the name does not say it.
    """
    folder, name = source_folder(file_path), file_path.rpartition("/")[2]
    if folder in _VIPER:
        return _VIPER[folder]
    match = _CAMERA[folder].match(name) if folder in _CAMERA else None
    return int(match[1]) if match else UNKNOWN_CAMERA


def view_key(file_path: str) -> str:
    """Names the view of an image: two images of a person with other keys were seen differently.

    Market: the camera, "c1" .. "c6". CUHK01 and CUHK03: "1-2" or "3-4", the index of the image
    among those of its person. VIPeR: "cam_a" or "cam_b". CUHK-SYSU: the scene, "s14885"; each of
    its images is a scene of its own, so that other views are likely there but not certain.

    Args:
      file_path: path under `imgs/`.

    Returns:
      The key; "" where the name does not say it.
    """
    domain = source_domain(file_path)
    if domain == "viper":
        return source_folder(file_path)
    if domain == "sysu":
        match = _SCENE.match(file_path.rpartition("/")[2])
        return match[1] if match else ""
    camera = camera_id(file_path)
    if camera == UNKNOWN_CAMERA:
        return ""
    return f"c{camera}" if domain == "market" else _HALVES.get(camera, "")


def market_pid(file_path: str) -> int | None:
    """Reads the identity from a file name of Market-1501; the folder does not matter.

    Args:
      file_path: for example "Market/0002_c1s1_000451_00.jpg"; the ending may be doubled
        (".jpg.jpg"), as in some copies.

    Returns:
      1 .. 1501; -1 for a junk box and 0 for a distractor, which are no identities; None where the
      name is none of Market-1501.
    """
    match = _MARKET_PID.match(file_path.rpartition("/")[2])
    return int(match[1]) if match else None


def shows_no_identity(file_path: str) -> bool:
    """Whether an image of CUHK-PEDES is one that Market-1501 gives to nobody: -1 or 0000."""
    return source_domain(file_path) == "market" and market_pid(file_path) in (-1, 0)

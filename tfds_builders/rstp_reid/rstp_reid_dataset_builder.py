"""RSTPReid with its official splits, from the user's folder."""

from __future__ import annotations

import pathlib
import re

import tensorflow_datasets as tfds

from tfds_builders.base import UNKNOWN_CAMERA, SplitCounts
from tfds_builders.manual import Contents, ManualBuilder, count_parts, differing
from tfds_builders.oddities import unusual
from tfds_builders.records import IMAGES, Layout, read_annotations

NAME = "RSTPReid"
EXPECTED_TREE = f"""\
expected:
  {NAME}/
    data_captions.json   list of {{"split", "captions", "img_path", "id"}}
    {IMAGES}/                all images, without sub-folders"""

PUBLISHED = {
    "train": SplitCounts(images=18_505, captions=37_010, ids=3_701),
    "val": SplitCounts(images=1_000, captions=2_000, ids=200),
    "test": SplitCounts(images=1_000, captions=2_000, ids=200),
}
_CAMERA = re.compile(r"\d+_c(\d+)_\d+\.")


def camera_id(file_path: str) -> int:
    """Reads the camera from a file name, the number after "c".

    Args:
      file_path: path under `imgs/`, such as `0000_c5_0022.jpg`.

    Returns:
      The camera, 1 .. 15; -1 where the name has another form.
    """
    match = _CAMERA.match(file_path.rpartition("/")[2])
    return int(match[1]) if match else UNKNOWN_CAMERA


LAYOUT = Layout(
    name=NAME,
    files=("data_captions.json",),
    tree=EXPECTED_TREE,
    path_field="img_path",
    camera_id=camera_id,
)


class Builder(ManualBuilder):
    """RSTPReid (Zhu et al., ACM Multimedia 2021)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Official splits."}
    HOMEPAGE = "https://github.com/NjtechCVLab/RSTPReid-Dataset"
    HOW_TO_GET = (
        f"RSTPReid comes from its authors' page, {HOMEPAGE}; its photographs are of MSMT17, whose "
        "licence holds. Put the folder under manual_dir."
    )
    EXPECTED_TREE = EXPECTED_TREE
    USUAL_CAPTIONS = 2

    def read(self, manual_dir: pathlib.Path) -> Contents:
        """Reads the annotations; see `ManualBuilder.read`."""
        found = read_annotations(manual_dir, LAYOUT)
        counts = count_parts(found.splits, PUBLISHED)
        return Contents(
            folder=found.folder,
            image_root=found.folder / IMAGES,
            files=found.files,
            splits=found.splits,
            counts=counts,
            differences=tuple(differing(counts)),
            notes=(
                *found.notes,
                *unusual(found.splits, self.USUAL_CAPTIONS, lambda _: True),
            ),
            faults=found.faults,
        )

"""ICFG-PEDES with its official splits and a seeded validation split, from the user's folder."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence

import tensorflow_datasets as tfds

from tfds_builders.base import UNKNOWN_CAMERA, SplitCounts
from tfds_builders.manual import Contents, ManualBuilder, Record, count_parts, differing
from tfds_builders.oddities import unusual
from tfds_builders.protocols import choose_validation
from tfds_builders.records import IMAGES, Layout, read_annotations

NAME = "ICFG-PEDES"
EXPECTED_TREE = f"""\
expected:
  {NAME}/
    {NAME}.json   list of {{"split", "captions", "file_path", "id"}}; also ICFG_PEDES.json
    {IMAGES}/             train/ test/ (of MSMT17: not the split, which only the file tells)"""

PUBLISHED = {
    "train": SplitCounts(images=34_674, captions=34_674, ids=3_102),
    "test": SplitCounts(images=19_848, captions=19_848, ids=1_000),
}
VAL_IDS = 200
VAL_SEED = 0

# MSMT17: person, index of the image, camera (1-15), day and part of it, frame, box.
_MSMT17 = re.compile(r"\d+_\d+_(\d+)_\d{4}(?:morning|noon|afternoon)_\d+_")


def camera_id(file_path: str) -> int:
    """Reads the camera from a file name of MSMT17, its third number.

    Args:
      file_path: path under `imgs/`, such as `train/0000/0000_000_01_0303morning_0008_0.jpg`.

    Returns:
      The camera, 1 .. 15; -1 where the name has another form.
    """
    match = _MSMT17.match(file_path.rpartition("/")[2])
    return int(match[1]) if match else UNKNOWN_CAMERA


LAYOUT = Layout(
    name=NAME,
    files=(f"{NAME}.json", "ICFG_PEDES.json"),
    tree=EXPECTED_TREE,
    splits=("train", "test"),
    camera_id=camera_id,
)


class Builder(ManualBuilder):
    """ICFG-PEDES (Ding et al., 2021)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Official splits; train also as train_minus_val and val."}
    HOMEPAGE = "https://github.com/zifyloo/SSAN"
    HOW_TO_GET = (
        "ICFG-PEDES is licensed, for academic use: ask its authors for it by mail from your "
        f"university's address (see {HOMEPAGE}), and put the folder under manual_dir."
    )
    EXPECTED_TREE = EXPECTED_TREE
    USUAL_CAPTIONS = 1

    def read(self, manual_dir: pathlib.Path) -> Contents:
        """Reads the annotations; see `ManualBuilder.read`."""
        found = read_annotations(manual_dir, LAYOUT)
        counts = count_parts(found.splits, PUBLISHED)
        made = _with_validation(found.splits)
        ours = {name: part for name, part in made.items() if name not in PUBLISHED}
        return Contents(
            folder=found.folder,
            image_root=found.folder / IMAGES,
            files=found.files,
            splits=made,
            counts=(*counts, *count_parts(ours, {})),
            differences=tuple(differing(counts)),
            notes=(
                *found.notes,
                *unusual(found.splits, self.USUAL_CAPTIONS, lambda _: True),
            ),
            faults=found.faults,
        )


def _with_validation(
    splits: Mapping[str, Sequence[Record]],
) -> dict[str, tuple[Record, ...]]:
    """Returns the official splits, and train once more as train_minus_val and val."""
    train = splits.get("train", ())
    chosen = choose_validation({record.person_id for record in train}, VAL_IDS, seed=VAL_SEED)
    made = {name: tuple(part) for name, part in splits.items()}
    made["train_minus_val"] = tuple(r for r in train if r.person_id not in chosen)
    made["val"] = tuple(r for r in train if r.person_id in chosen)
    return {name: part for name, part in made.items() if part}

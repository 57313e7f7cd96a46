"""CUHK-PEDES with its official splits, from a folder that the user has got from the authors."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from tfds_builders.base import (
    SPLITS,
    UNKNOWN_CAMERA,
    ArrayRecordBuilder,
    SplitCounts,
    count_lines,
    named_line,
    person_features,
)
from tfds_builders.cuhk_pedes import annotations as annotations_lib
from tfds_builders.images import Located, check_images, locate

PUBLISHED = {
    "train": SplitCounts(images=34_054, captions=68_126, ids=11_003),
    "val": SplitCounts(images=3_078, captions=6_158, ids=1_000),
    "test": SplitCounts(images=3_074, captions=6_156, ids=1_000),
}
PUBLISHED_IDS = {
    "train": range(1, 11_004),
    "val": range(11_004, 12_004),
    "test": range(12_004, 13_004),
}
# (images, ids) of each source folder in val and test: says which folder a copy falls short in.
_PUBLISHED_FOLDERS = {
    ("val", "train_query"): (1_134, 421),
    ("val", "test_query"): (632, 220),
    ("val", "CUHK01"): (332, 83),
    ("val", "CUHK03"): (375, 97),
    ("val", "Market"): (495, 124),
    ("val", "VIPeR"): (110, 55),
    ("test", "train_query"): (1_110, 411),
    ("test", "test_query"): (653, 230),
    ("test", "CUHK01"): (320, 80),
    ("test", "CUHK03"): (480, 126),
    ("test", "Market"): (413, 104),
    ("test", "VIPeR"): (98, 49),
}
_VIPER = {"cam_a": 0, "cam_b": 1}
_CAMERA = {
    "Market": re.compile(r"-?\d+_c(\d+)s\d+_"),
    "CUHK01": re.compile(r"\d{4}(\d{3})\."),
    "CUHK03": re.compile(r"\d+_(\d+)\."),
}


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
    folder, _, name = file_path.rpartition("/")
    folder = folder.rpartition("/")[2]
    if folder in _VIPER:
        return _VIPER[folder]
    match = _CAMERA[folder].match(name) if folder in _CAMERA else None
    return int(match[1]) if match else UNKNOWN_CAMERA


class Builder(ArrayRecordBuilder):
    """CUHK-PEDES (Li et al., CVPR 2017)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Official splits."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "CUHK-PEDES is licensed: ask its authors for it, and put the folder under manual_dir.\n"
        + annotations_lib.EXPECTED_TREE
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=person_features(),
            homepage="https://github.com/ShuangLI59/Person-Search-with-Natural-Language-Description",
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        try:
            manual_dir = pathlib.Path(dl_manager.manual_dir)
        except AssertionError as error:  # TFDS: the folder is missing or empty
            raise ValueError(str(error)) from error
        folder = annotations_lib.find_folder(manual_dir)
        annotations = annotations_lib.read_annotations(folder)
        logging.info("read %s", ", ".join(str(path) for path in annotations.files))
        images = folder / annotations_lib.IMAGES
        located = locate(images, [record.file_path for record in annotations.records])
        check_images(located)
        self._report(annotations)
        splits = _by_split(annotations.records)
        return {name: self._generate_examples(located, part) for name, part in splits.items()}

    def _generate_examples(
        self, located: Located, records: Sequence[annotations_lib.Record]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for record in records:
            yield (
                record.file_path,
                {
                    "image": located.paths[record.file_path],
                    "image_id": record.file_path,
                    "person_id": record.person_id,
                    "camera_id": camera_id(record.file_path),
                    "captions": list(record.captions),
                },
            )

    def _report(self, annotations: annotations_lib.Annotations) -> None:
        """Logs what differs from the published dataset, and keeps it with the data."""
        differences = differences_from_published(annotations.records)
        notes = list(annotations.notes) + _unread_cameras(annotations.records)
        if differences:
            logging.warning(
                "this copy of CUHK-PEDES differs from the published one (it is built as it is):"
                "\n  %s",
                "\n  ".join(differences),
            )
        if notes:
            logging.warning("worth knowing about this copy:\n  %s", "\n  ".join(notes))
        self.info.metadata["differences"] = differences
        self.info.metadata["notes"] = notes


def differences_from_published(records: Sequence[annotations_lib.Record]) -> list[str]:
    """Compares the records with the published numbers.

    Args:
      records: all images of all splits.

    Returns:
      One line for each difference: what, how many, the first five names. None if all agrees.
    """
    splits = _by_split(records)
    found = {name: annotations_lib.count(part) for name, part in splits.items()}
    lines = count_lines(PUBLISHED, found)
    for name in SPLITS:
        ids = {record.person_id for record in splits.get(name, [])}
        published = set(PUBLISHED_IDS[name])
        lines += named_line(f"published {name} ids without an image", sorted(published - ids))
        lines += named_line(f"{name} ids that are not published ones", sorted(ids - published))
    return lines + _folder_differences(splits)


def _folder_differences(splits: dict[str, list[annotations_lib.Record]]) -> list[str]:
    """Compares images and ids of each source folder in val and test, as far as a split exists."""
    published, found = {}, {}
    for (split, folder), (images, ids) in _PUBLISHED_FOLDERS.items():
        if split in splits:
            name = f"{split}, folder {folder}"
            part = [r for r in splits[split] if _source(r.file_path) == folder]
            counts = annotations_lib.count(part)
            published[name] = SplitCounts(images, counts.captions, ids)
            found[name] = counts
    return count_lines(published, found)


def _source(file_path: str) -> str:
    folder = file_path.split("/", 1)[0]
    return "VIPeR" if folder in _VIPER else folder


def _by_split(
    records: Sequence[annotations_lib.Record],
) -> dict[str, list[annotations_lib.Record]]:
    """Groups the records by split; a split without records is left out."""
    groups = {name: [record for record in records if record.split == name] for name in SPLITS}
    return {name: group for name, group in groups.items() if group}


def _unread_cameras(records: Sequence[annotations_lib.Record]) -> list[str]:
    """Names files that should tell their camera but do not."""
    unread = [
        record.file_path
        for record in records
        if _source(record.file_path) in _CAMERA and camera_id(record.file_path) == UNKNOWN_CAMERA
    ]
    return named_line("file names that do not tell the camera, stored as -1", unread)

"""CUHK-SYSU with the captions of CUHK-PEDES: train_query trains, test_query is divided by views."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import tensorflow_datasets as tfds

from tfds_builders import query_gallery
from tfds_builders.base import SplitCounts
from tfds_builders.domains import source_folder
from tfds_builders.manual import Contents, count_parts
from tfds_builders.protocols import LeftOut, SplitFile

SPLIT_FILE = "cuhk_sysu_pedes_split.json"
TRAIN_FOLDER = "train_query"
TEST_FOLDER = "test_query"
VALIDATION_IDS = 200
# Images and captions were published for the divided test only.
PUBLISHED = {
    TRAIN_FOLDER: SplitCounts(images=None, captions=None, ids=5_532),
    TEST_FOLDER: SplitCounts(images=None, captions=None, ids=2_900),
}


class Builder(query_gallery.QueryGalleryBuilder):
    """CUHK-SYSU's part of CUHK-PEDES, by its own division into training and test."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Views of the ids of test_query divided by a seed."}
    BUILDER_CONFIGS = query_gallery.configs(SPLIT_FILE)
    SPLIT_FILE = SPLIT_FILE
    PUBLISHED_SIDES = {
        "query": SplitCounts(images=3_271, captions=6_550, ids=2_900),
        "gallery": SplitCounts(images=5_070, captions=10_140, ids=2_900),
    }
    HOW_TO_GET = query_gallery.HOW_TO_GET
    EXPECTED_TREE = query_gallery.tree({SPLIT_FILE: "only for the config own_split"})

    def plan(
        self, source: Contents, places: Sequence[pathlib.Path], own: SplitFile | None
    ) -> query_gallery.Plan:
        """Takes the folders of CUHK-SYSU; see `QueryGalleryBuilder.plan`.

        An identity with images in both folders is one of the test: its others train nothing.
        """
        del places, own
        records = query_gallery.everything(source)
        folders = {
            name: tuple(r for r in records if source_folder(r.file_path) == name)
            for name in (TRAIN_FOLDER, TEST_FOLDER)
        }
        tested = {record.person_id for record in folders[TEST_FOLDER]}
        shared = [record for record in folders[TRAIN_FOLDER] if record.person_id in tested]
        rest = [record for record in folders[TRAIN_FOLDER] if record.person_id not in tested]
        train, val, notes = query_gallery.partition(
            rest, VALIDATION_IDS, seed=self.builder_config.seed
        )
        return query_gallery.Plan(
            train=train,
            val=val,
            test=folders[TEST_FOLDER],
            accepted=f"images in {TEST_FOLDER}/",
            left_out=(
                LeftOut(
                    f"test ids with images in {TRAIN_FOLDER}/ too, those",
                    tuple(dict.fromkeys(record.person_id for record in shared)),
                    len(shared),
                ),
            ),
            counts=count_parts({"train": train, "val": val, **folders}, PUBLISHED),
            notes=tuple(notes),
        )

"""CrossRe-ID: the test split of CUHK-PEDES, divided into queries and gallery by views."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import tensorflow_datasets as tfds

from tfds_builders import query_gallery
from tfds_builders.base import SPLITS, SplitCounts
from tfds_builders.cuhk_pedes.annotations import PUBLISHED
from tfds_builders.domains import shows_no_identity
from tfds_builders.manual import Contents, count_parts
from tfds_builders.protocols import SplitFile

SPLIT_FILE = "cross_re_id_split.json"


class Builder(query_gallery.QueryGalleryBuilder):
    """CrossRe-ID (Farooq et al., IJCB 2020) by a rule of our own, or by your split file."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Views of the official test split divided by a seed."}
    BUILDER_CONFIGS = query_gallery.configs(SPLIT_FILE)
    SPLIT_FILE = SPLIT_FILE
    PUBLISHED_SIDES = {
        "query": SplitCounts(images=1_096, captions=2_200, ids=824),
        "gallery": SplitCounts(images=1_511, captions=3_022, ids=824),
    }
    HOW_TO_GET = query_gallery.HOW_TO_GET
    EXPECTED_TREE = query_gallery.tree({SPLIT_FILE: "only for the config own_split"})

    def plan(
        self, source: Contents, places: Sequence[pathlib.Path], own: SplitFile | None
    ) -> query_gallery.Plan:
        """Takes the official splits; see `QueryGalleryBuilder.plan`."""
        del places, own
        train, val, test = (source.splits.get(name, ()) for name in SPLITS)
        published = {name: PUBLISHED[name] for name in ("train", "val")}
        return query_gallery.Plan(
            train=train,
            val=val,
            test=tuple(record for record in test if not shows_no_identity(record.file_path)),
            accepted='images with "split": "test", but for Market/-1_.. and Market/0000_..',
            left_out=(query_gallery.no_identity(test),),
            counts=count_parts({"train": train, "val": val}, published),
        )

"""What builders of licensed sets share."""

import dataclasses
import pathlib
import shutil

import pytest
import tensorflow_datasets as tfds

from tfds_builders.base import SplitCounts
from tfds_builders.build import available_builders, build
from tfds_builders.cuhk_pedes import dummy_data as dummy
from tfds_builders.cuhk_pedes.cuhk_pedes_dataset_builder import Builder
from tfds_builders.manual import (
    Contents,
    ManualBuilder,
    Record,
    count,
    count_parts,
    differing,
)

A = Record("a.jpg", 1, ("one", "two"), 3)
B = Record("b.jpg", 1, ("three",), -1)
C = Record("c.jpg", 2, (), -1)


def contents(*files, **fields):
    folder = pathlib.Path("folder")
    return Contents(folder, folder / "imgs", tuple(files), fields.pop("splits", {}), **fields)


# --- contents ---


def test_counts():
    assert count([A, B, C]) == SplitCounts(images=3, captions=3, ids=2)
    assert count([]) == SplitCounts(0, 0, 0)


def test_counts_beside_published_ones():
    published = {"train": SplitCounts(2, None, 1), "test": SplitCounts(1, 1, 1)}
    parts = count_parts({"train": [A, B, C], "val": [C]}, published)
    assert [(part.name, part.found.images) for part in parts] == [
        ("train", 3),
        ("test", 0),
        ("val", 1),
    ]
    assert [part.published for part in parts] == [*published.values(), None]
    assert differing(parts) == [
        "train: 3 images, published 2 (+1)",
        "train: 2 ids, published 1 (+1)",
        "test: 0 images, published 1 (-1)",
        "test: 0 captions, published 1 (-1)",
        "test: 0 ids, published 1 (-1)",
    ]


def test_names_of_images_in_several_splits_stand_once():
    splits = {"train": (A, B), "val": (B,), "test": (C,)}
    assert contents(splits=splits).names() == ["a.jpg", "b.jpg", "c.jpg"]


def test_fingerprint_is_of_the_files(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    digests = {contents(*files).fingerprint() for files in [(one,), (two,), (one, two), (two, one)]}
    assert len(digests) == 4
    copy = shutil.copy(one, tmp_path / "copy")
    assert contents(tmp_path / copy).fingerprint() == contents(one).fingerprint()


# --- the builder ---


def test_every_licensed_set_says_how_to_get_it_and_writes_its_dummy_data(tmp_path):
    licensed = [cls for cls, _ in available_builders().values() if issubclass(cls, ManualBuilder)]
    assert {"cuhk_pedes", "icfg_pedes", "rstp_reid"} <= {cls.name for cls in licensed}
    for cls in licensed:
        assert cls.HOW_TO_GET in cls.MANUAL_DOWNLOAD_INSTRUCTIONS
        assert cls.EXPECTED_TREE in cls.MANUAL_DOWNLOAD_INSTRUCTIONS
        folder = cls.write_dummy_data(tmp_path / cls.name)
        assert folder.is_relative_to(tmp_path / cls.name)
        found = cls(data_dir=tmp_path / "data").read(tmp_path / cls.name)
        assert found.faults == ()
        assert found.names()


def test_dummy_data_takes_options(tmp_path):
    Builder.write_dummy_data(tmp_path, num_images=30)
    assert len(Builder(data_dir=tmp_path).read(tmp_path).names()) == 30


def test_the_report_and_the_source_are_kept(folder, tmp_path):
    builder = build("cuhk_pedes", str(tmp_path / "data"), str(folder))
    metadata = tfds.builder("cuhk_pedes", data_dir=tmp_path / "data").info.metadata
    found = builder.read(folder)
    assert metadata["differences"] == list(found.differences)
    assert metadata["notes"][:-1] == list(found.notes)
    assert "2 images found under another suffix than annotated" in metadata["notes"][-1]
    assert metadata["source"] == found.fingerprint()


def test_faults_are_raised_joined(folder, tmp_path):
    dummy.change(folder, 8, id=3)
    dummy.change(folder, 3, id="2")
    with pytest.raises(ValueError, match=r"1 of 20 records[\s\S]*1 ids stand in more than one"):
        build("cuhk_pedes", str(tmp_path / "data"), str(folder))
    assert not list((tmp_path / "data").rglob("*array_record*"))


def test_a_set_that_was_built_from_other_files(folder, tmp_path):
    data_dir = str(tmp_path / "data")
    build("cuhk_pedes", data_dir, str(folder))
    build("cuhk_pedes", data_dir, str(folder))
    dummy.change(folder, 0, captions=["Another."])
    with pytest.raises(ValueError, match=r"built from other files than .*PEDES.* python -m"):
        build("cuhk_pedes", data_dir, str(folder))
    build("cuhk_pedes", data_dir)
    build("cuhk_pedes", data_dir, str(tmp_path / "nowhere"))
    (tmp_path / "of_another_set" / "imgs").mkdir(parents=True)
    build("cuhk_pedes", data_dir, str(tmp_path / "of_another_set"))
    build("cuhk_pedes", data_dir, str(folder), overwrite=True)
    build("cuhk_pedes", data_dir, str(folder))


def test_a_set_that_does_not_say_what_it_was_built_from(folder, tmp_path):
    build("cuhk_pedes", str(tmp_path), str(folder))
    path = next(tmp_path.rglob("metadata.json"))
    path.write_text(path.read_text().replace('"source"', '"other"'))
    dummy.change(folder, 0, captions=["Another."])
    build("cuhk_pedes", str(tmp_path), str(folder))


def test_a_record_may_stand_in_several_splits_and_empty_splits_are_left_out(folder, tmp_path):
    class Twice(Builder, skip_registration=True):
        def read(self, manual_dir):
            found = super().read(manual_dir)
            splits = {"all": found.splits["val"], "val": found.splits["val"], "none": ()}
            return dataclasses.replace(found, splits=splits)

    builder = Twice(data_dir=tmp_path / "data")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {"all": 3, "val": 3}

"""cuhk_sysu_pedes on a small made-up folder."""

import json
import shutil

import pytest
import tensorflow_datasets as tfds

from tfds_builders.build import build, make_builder
from tfds_builders.cross_re_id.dummy_data import IMAGES
from tfds_builders.cuhk_sysu_pedes import dummy_data

RAW = {"image": tfds.decode.SkipDecoding()}
# Of every official split.
TESTED = {32, 11007, 12004, 12012}


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manual")
    dummy_data.make(folder, own_split=True)
    # The other sources are not needed.
    for name in ("Market", "CUHK01", "CUHK03", "cam_a", "cam_b"):
        shutil.rmtree(folder / "CUHK-PEDES/imgs" / name)
    return folder


@pytest.fixture(scope="module")
def data_dir(manual, tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    for name in ("cuhk_sysu_pedes", "cuhk_sysu_pedes/own_split"):
        build(name, str(path), str(manual))
    return path


def read_back(data_dir, split, name="cuhk_sysu_pedes"):
    source = tfds.data_source(name, split=split, data_dir=data_dir, decoders=RAW)
    return {example["image_id"].decode(): example for example in source}


def people(examples):
    return {int(example["person_id"]) for example in examples.values()}


def contents(folder, config="seed0"):
    return make_builder(f"cuhk_sysu_pedes/{config}", str(folder / "none")).read(folder)


def test_the_folder_is_the_split_whatever_the_official_one(data_dir):
    train, val, query, gallery = (
        read_back(data_dir, split) for split in ("train", "val", "query", "gallery")
    )
    assert all(path.startswith("train_query/") for path in [*train, *val])
    assert all(path.startswith("test_query/") for path in [*query, *gallery])
    assert people(query) == people(gallery) == TESTED
    assert people(train) | people(val) == {1369, *range(40, 60)}
    assert not people(train) & people(val)
    # A tenth of the 21 ids of train_query that are not tested.
    assert len(people(val)) == 2
    assert {example["view"] for example in {**train, **val}.values()} == {b""}
    for path, example in {**query, **gallery}.items():
        assert example["view"].decode() == path.removesuffix(".jpg").rpartition("_")[2]


def test_each_scene_is_a_view(data_dir):
    query, gallery = (read_back(data_dir, split) for split in ("query", "gallery"))
    scenes = set(IMAGES["train", 32])
    assert len(scenes & set(query)) == len(scenes & set(gallery)) == 2
    assert set(query).isdisjoint(gallery)


def test_an_id_of_both_folders_trains_nothing(data_dir):
    builder = tfds.builder("cuhk_sysu_pedes", data_dir=data_dir)
    assert builder.info.metadata["left_out"] == {
        "test ids with images in train_query/ too, those": {
            "count": 1,
            "images": 1,
            "first": [12012],
        },
        "test ids seen in one view only": {"count": 1, "images": 1, "first": [11005]},
    }
    notes = builder.info.metadata["notes"]
    assert "1 test ids with images in train_query/ too, those (1 images), left out: 12012" in notes


def test_what_is_published_stands_beside_what_was_found(manual, data_dir):
    metadata = tfds.builder("cuhk_sysu_pedes", data_dir=data_dir).info.metadata
    assert "train_query: 22 ids, published 5,532 (-5,510)" in metadata["differences"]
    assert "test_query: 5 ids, published 2,900 (-2,895)" in metadata["differences"]
    assert "query: 4 ids, published 2,900 (-2,896)" in metadata["differences"]
    assert not [line for line in metadata["differences"] if line.startswith(("train:", "val:"))]
    assert (
        "val has 2 ids instead of 200: at most a tenth of the 21 ids that are not in the test, of "
        "two or more at least one" in metadata["notes"]
    )
    sizes = {count.name: count.published for count in contents(manual).counts}
    assert (sizes["query"].images, sizes["query"].captions) == (3_271, 6_550)
    assert (sizes["gallery"].images, sizes["gallery"].captions) == (5_070, 10_140)
    assert sizes["train"] is sizes["val"] is None


def test_a_seed_draws_the_validation_too(manual):
    parts = [contents(manual, f"seed{seed}").splits for seed in (0, 0, 1, 2, 3)]
    assert parts[0] == parts[1]
    assert len({part["val"] for part in parts}) > 2
    assert len({part["query"] for part in parts}) > 2


def test_an_own_split_file_decides(data_dir):
    name = "cuhk_sysu_pedes/own_split"
    scenes = IMAGES["train", 32]
    assert set(read_back(data_dir, "query", name)) == {scenes[0]}
    assert set(read_back(data_dir, "gallery", name)) == {scenes[2], scenes[3]}
    assert set(read_back(data_dir, "train", name)) == set(read_back(data_dir, "train"))


def test_an_own_split_keeps_to_the_test_folder(tmp_path):
    dummy_data.make(tmp_path)
    path = tmp_path / dummy_data.SPLIT_FILE
    path.write_text(
        json.dumps({"query": IMAGES["train", 40][:1], "gallery": IMAGES["train", 32][:1]})
    )
    (fault,) = contents(tmp_path, "own_split").faults
    assert "1 images that are not of the test set; accepted: images in test_query/: " in fault


def test_no_image_of_cuhk_sysu_is_a_fault(tmp_path):
    root = dummy_data.make(tmp_path)
    path = root / "reid_raw.json"
    records = [r for r in json.loads(path.read_text()) if "_query/" not in r["file_path"]]
    path.write_text(json.dumps(records))
    (fault,) = contents(tmp_path).faults
    assert fault.startswith("train and query and gallery would be empty")

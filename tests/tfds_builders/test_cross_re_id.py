"""cross_re_id on a small made-up folder."""

import collections
import json

import pytest
import tensorflow_datasets as tfds

from tfds_builders.build import build, make_builder
from tfds_builders.cross_re_id import dummy_data
from tfds_builders.cuhk_pedes import dummy_data as cuhk_pedes
from tfds_builders.domains import camera_id, view_key

RAW = {"image": tfds.decode.SkipDecoding()}
SPLITS = ("train", "val", "query", "gallery")


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manual")
    dummy_data.make(folder, own_split=True)
    return folder


@pytest.fixture(scope="module")
def data_dir(manual, tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    for name in ("cross_re_id", "cross_re_id/own_split"):
        build(name, str(path), str(manual))
    return path


def read_back(data_dir, split, name="cross_re_id"):
    source = tfds.data_source(name, split=split, data_dir=data_dir, decoders=RAW)
    return {example["image_id"].decode(): example for example in source}


def annotated(manual):
    records = json.loads((manual / "CUHK-PEDES/reid_raw.json").read_text())
    return {record["file_path"]: record for record in records}


def sides(manual, config):
    return make_builder(f"cross_re_id/{config}", str(manual / "none")).read(manual).splits


def test_round_trip(manual, data_dir):
    records = annotated(manual)
    found = {split: read_back(data_dir, split) for split in SPLITS}
    for split, examples in found.items():
        for path, example in examples.items():
            image = manual / "CUHK-PEDES/imgs" / cuhk_pedes.on_disk(path)
            assert example["image"] == image.read_bytes()
            assert example["person_id"] == records[path]["id"]
            assert example["camera_id"] == camera_id(path)
            assert [text.decode() for text in example["captions"]] == records[path]["captions"]
            tested = split in ("query", "gallery")
            assert example["view"].decode() == (view_key(path) if tested else "")
    for split in ("train", "val"):
        assert set(found[split]) == {p for p, r in records.items() if r["split"] == split}


def test_images_decode(data_dir):
    for example in tfds.data_source("cross_re_id", split="query", data_dir=data_dir):
        assert example["image"].shape == (48, 16, 3)


def test_query_and_gallery_show_the_same_people_from_other_views(data_dir):
    views = {}
    for split in ("query", "gallery"):
        views[split] = collections.defaultdict(set)
        for example in read_back(data_dir, split).values():
            views[split][int(example["person_id"])].add(example["view"].decode())
    query, gallery = views["query"], views["gallery"]
    assert set(query) == set(gallery)
    assert set(query) == {12004, 12005, 12006, 12007, 12008, 12009, 12011, 12012, 12013}
    for person, keys in query.items():
        assert keys
        assert gallery[person]
        assert not keys & gallery[person]
    assert query[12006] | gallery[12006] == {"cam_a", "cam_b"}
    assert query[12007] | gallery[12007] == {"1-2", "3-4"}
    assert query[12012] | gallery[12012] == {"s900", "s901", "s902"}
    # 1 of 2, 1 of 3, 2 of 5 views.
    assert [len(query[person]) for person in (12006, 12012, 12009)] == [1, 1, 2]


def test_all_images_of_a_view_go_together(data_dir):
    query, gallery = (set(read_back(data_dir, split)) for split in ("query", "gallery"))
    for person in ((12007, 0, 1), (12007, 2, 3), (12008, 0, 1), (12009, 0, 1)):
        pair = {dummy_data.IMAGES["test", person[0]][index] for index in person[1:]}
        assert pair <= query or pair <= gallery


def test_what_is_left_out_is_counted_and_named(data_dir):
    builder = tfds.builder("cross_re_id", data_dir=data_dir)
    assert builder.info.metadata["seed"] == 0
    assert builder.info.metadata["left_out"] == {
        "images in Market/ of no identity (-1 junk, 0000 distractor)": {
            "count": 2,
            "images": 2,
            "first": ["Market/-1_c1s1_000001_00.jpg", "Market/0000_c2s1_000001_00.jpg"],
        },
        "test ids seen in one view only": {"count": 2, "images": 3, "first": [12303, 12010]},
        "test images whose name does not tell the view": {
            "count": 1,
            "images": 1,
            "first": ["Market/odd name.jpg"],
        },
    }
    notes = builder.info.metadata["notes"]
    assert "2 test ids seen in one view only (3 images), left out: 12303, 12010" in notes


def test_sizes_stand_beside_the_published_ones(manual, data_dir):
    differences = tfds.builder("cross_re_id", data_dir=data_dir).info.metadata["differences"]
    assert "query: 9 ids, published 824 (-815)" in differences
    assert "train: 58 images, published 34,054 (-33,996)" in differences
    builder = make_builder("cross_re_id", str(data_dir))
    sizes = {c.name: c.published for c in builder.read(manual).counts}
    assert list(sizes) == ["train", "val", "query", "gallery"]
    assert (sizes["query"].images, sizes["query"].captions) == (1_096, 2_200)
    assert (sizes["gallery"].images, sizes["gallery"].captions) == (1_511, 3_022)
    assert sizes["val"].ids == 1_000


def test_a_seed_divides_and_leaves_training_alone(manual):
    first = sides(manual, "seed0")
    assert first == sides(manual, "seed0")
    others = [sides(manual, f"seed{seed}") for seed in range(1, 10)]
    assert all(other["train"] == first["train"] for other in others)
    assert all(other["val"] == first["val"] for other in others)
    assert len({other["query"] for other in others}) > 5
    images = {r.file_path for r in first["query"] + first["gallery"]}
    for other in others:
        assert {r.file_path for r in other["query"] + other["gallery"]} == images


def test_an_own_split_file_decides(data_dir):
    name = "cross_re_id/own_split"
    viper, market = dummy_data.IMAGES["test", 12006], dummy_data.IMAGES["test", 12009]
    assert set(read_back(data_dir, "query", name)) == {viper[1], market[2]}
    gallery = read_back(data_dir, "gallery", name)
    assert set(gallery) == {viper[0], market[0]}
    assert gallery[market[0]]["view"] == b"c1"
    assert set(read_back(data_dir, "train", name)) == set(read_back(data_dir, "train"))
    left_out = tfds.builder(name, data_dir=data_dir).info.metadata["left_out"]
    assert left_out["test images that cross_re_id_split.json does not name"]["count"] == 27

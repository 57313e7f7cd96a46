import hashlib
import string
import threading

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

import tfds_builders  # noqa: F401  (registers the builders)
from tfds_builders.synth_pedes.attributes import ATTRIBUTES, REGIONS, WORD_REGIONS
from tfds_builders.synth_pedes.synth_pedes_dataset_builder import Builder

IDS = {"train": 16, "val": 8, "test": 8}
SKIP_DECODING = {"image": tfds.decode.SkipDecoding()}


def build(data_dir):
    builder = Builder(config="tiny", data_dir=data_dir)
    builder.download_and_prepare()
    return builder


def read(builder, split):
    return list(builder.as_data_source(split, decoders=SKIP_DECODING))


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    return build(tmp_path_factory.mktemp("synth_pedes"))


@pytest.fixture(scope="module")
def examples(builder):
    return {split: read(builder, split) for split in IDS}


def test_splits_have_their_identities(examples):
    ids = {split: [int(e["person_id"]) for e in examples[split]] for split in IDS}
    assert {split: len(set(ids[split])) for split in IDS} == IDS
    assert sorted(ids["train"] + ids["val"] + ids["test"]) == [i // 4 for i in range(4 * 32)]
    assert max(ids["train"]) < min(ids["val"]) <= max(ids["val"]) < min(ids["test"])


def test_image_ids_are_unique_paths(examples):
    names = [e["image_id"].decode() for split in IDS for e in examples[split]]
    assert len(set(names)) == len(names)
    assert names[0].startswith("train/00000_c")
    assert all(name.endswith(".jpg") for name in names)


def test_each_identity_has_four_cameras(examples):
    cameras = {}
    for example in examples["train"]:
        cameras.setdefault(int(example["person_id"]), set()).add(int(example["camera_id"]))
    assert all(len(seen) == 4 and seen <= set(range(6)) for seen in cameras.values())


def test_images_are_jpeg_at_full_size(examples):
    for example in examples["test"]:
        assert example["image"].startswith(b"\xff\xd8\xff")
        image = cv2.imdecode(np.frombuffer(example["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
        assert image.shape == (384, 128, 3)
        assert image.std() > 10


def test_truth_about_pictures(examples):
    for example in (e for split in IDS for e in examples[split]):
        assert example["attributes"].dtype == np.int32
        assert all(
            0 <= i < len(v) for i, v in zip(example["attributes"], ATTRIBUTES.values(), strict=True)
        )
        assert example["shown"].shape == (len(ATTRIBUTES),)
        boxes = example["region_boxes"]
        assert boxes.shape == (len(REGIONS), 4)
        hidden = (boxes == -1).all(axis=1)
        y0, x0, y1, x1 = boxes[~hidden].T
        assert np.all((y0 >= 0) & (y0 < y1) & (y1 <= 1) & (x0 >= 0) & (x0 < x1) & (x1 <= 1))


def test_one_identity_has_one_bundle(examples):
    for split in IDS:
        bundles = {}
        for example in examples[split]:
            bundles.setdefault(int(example["person_id"]), set()).add(tuple(example["attributes"]))
        assert all(len(bundle) == 1 for bundle in bundles.values())


def test_truth_about_captions(examples):
    delete = str.maketrans("", "", string.punctuation)
    for example in (e for split in IDS for e in examples[split]):
        assert len(example["captions"]) == 2
        assert example["caption_mentions"].shape == (2, len(ATTRIBUTES))
        assert np.all(example["caption_mentions"] <= example["shown"])
        assert example["caption_regions"].shape == (2, 64)
        for caption, regions in zip(example["captions"], example["caption_regions"], strict=True):
            count = len(caption.decode().lower().translate(delete).split())
            assert 20 <= count <= 40
            assert np.all(regions[count:] == -1)
            assert np.all((regions[:count] >= -1) & (regions[:count] < len(REGIONS)))


def test_metadata_name_the_indices(builder):
    metadata = builder.info.metadata
    assert {name: tuple(values) for name, values in metadata["attributes"].items()} == ATTRIBUTES
    assert tuple(metadata["attributes"]) == tuple(ATTRIBUTES)
    assert tuple(metadata["regions"]) == REGIONS
    assert tuple(metadata["word_regions"]) == WORD_REGIONS


def test_metadata_are_read_back_from_disk(builder):
    again = tfds.builder_from_directory(builder.data_dir)
    assert list(again.info.metadata["attributes"]) == list(ATTRIBUTES)
    assert list(again.info.metadata["regions"]) == list(REGIONS)


def test_found_under_its_name(builder):
    folder = builder.data_path.parent.parent.parent
    source = tfds.data_source("synth_pedes/tiny", split="val", data_dir=folder)
    assert len(source) == 32
    assert source[0]["image"].shape == (384, 128, 3)


def checksum(examples):
    digest = hashlib.sha256()
    for split in IDS:
        for example in examples[split]:
            for name in sorted(example):
                value = example[name]
                digest.update(np.asarray(value).tobytes() if name != "image" else value)
    return digest.hexdigest()


def test_two_builds_have_the_same_contents(examples, tmp_path):
    """The second one from another thread, in which no event loop and no signal handler exists."""
    built = []
    thread = threading.Thread(target=lambda: built.append(build(tmp_path)))
    thread.start()
    thread.join()
    again = {split: read(built[0], split) for split in IDS}
    assert checksum(again) == checksum(examples)


def test_the_seed_comes_with_the_name():
    plain = [config for config in Builder.BUILDER_CONFIGS if not config.by_camera]
    assert len({config.seed for config in plain}) == len(plain) == 3
    with pytest.raises(TypeError, match="seed"):
        Builder(config="tiny", seed=5)

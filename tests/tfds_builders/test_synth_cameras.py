"""The drawn test pictures divided by camera: nothing is drawn anew, nothing is lost."""

import collections

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders.base import person_features
from tfds_builders.build import build, make_builder
from tfds_builders.protocols import SIDES
from tfds_builders.synth_pedes.cameras import side_shots
from tfds_builders.synth_pedes.synth_pedes_dataset_builder import Builder

PLAIN = ["quickstart", "full", "tiny"]
CONFIGS = {config.name: config for config in Builder.BUILDER_CONFIGS}


def read(data_dir, name, splits):
    """Examples of a set by image id, for each split in the order of the files."""
    builder = build(f"synth_pedes/{name}", str(data_dir))
    decoders = {"image": tfds.decode.SkipDecoding()}
    assert set(builder.info.splits) == set(splits)
    return {
        split: {e["image_id"].decode(): e for e in builder.as_data_source(split, decoders=decoders)}
        for split in splits
    }


@pytest.fixture(scope="module")
def plain(tiny_data_dir):
    return read(tiny_data_dir, "tiny", ("train", "val", "test"))


@pytest.fixture(scope="module")
def divided(tiny_data_dir):
    return read(tiny_data_dir, "tiny_cameras", ("train", "val", *SIDES))


def assert_same(found, wanted):
    """The same examples, but for their view."""
    assert found.keys() == wanted.keys()
    for name, example in found.items():
        assert example.keys() == wanted[name].keys() | {"view"}
        for key, value in wanted[name].items():
            np.testing.assert_array_equal(example[key], value, err_msg=f"{name} {key}")


@pytest.mark.parametrize("split", ["train", "val"])
def test_training_and_validation_are_those_of_the_plain_set(plain, divided, split):
    assert_same(divided[split], plain[split])
    assert list(divided[split]) == list(plain[split])
    assert {example["view"] for example in divided[split].values()} == {b""}


def test_the_two_sides_are_the_test_pictures_of_the_plain_set(plain, divided):
    query, gallery = (divided[side] for side in SIDES)
    assert len(query) + len(gallery) == len(plain["test"])
    assert_same({**query, **gallery}, plain["test"])
    assert list(query) == [name for name in plain["test"] if name in query]


def test_every_identity_is_on_both_sides_and_none_of_its_cameras_is(divided):
    seen = {side: collections.defaultdict(set) for side in SIDES}
    for side in SIDES:
        for example in divided[side].values():
            assert example["view"].decode() == f"c{example['camera_id']}"
            seen[side][int(example["person_id"])].add(int(example["camera_id"]))
    assert seen["query"].keys() == seen["gallery"].keys() == set(range(24, 32))
    for pid in seen["query"]:
        assert len(seen["query"][pid]) == len(seen["gallery"][pid]) == 2
        assert not seen["query"][pid] & seen["gallery"][pid]


def test_the_division_is_this_one():
    """The same everywhere and for ever: a score is only comparable on the same queries."""
    cameras = [[s.camera for s in side_shots(3, pid, "query")] for pid in range(24, 30)]
    assert cameras == [[4, 0], [5, 1], [4, 5], [4, 2], [1, 0], [4, 2]]


@pytest.mark.parametrize("name", PLAIN)
def test_a_divided_set_has_seed_and_sizes_of_the_plain_one(name, tmp_path):
    config, other = CONFIGS[name], CONFIGS[f"{name}_cameras"]
    for field in ("seed", "train", "val", "test"):
        assert getattr(other, field) == getattr(config, field)
    assert (config.by_camera, other.by_camera) == (False, True)
    features = make_builder(f"synth_pedes/{name}", str(tmp_path)).info.features
    more = make_builder(f"synth_pedes/{name}_cameras", str(tmp_path)).info.features
    assert set(features) > set(person_features())
    assert set(more) - set(features) == {"view"}
    assert "view" not in features


def test_without_a_config_it_is_the_plain_quickstart(tmp_path):
    assert make_builder("synth_pedes", str(tmp_path)).builder_config.name == "quickstart"

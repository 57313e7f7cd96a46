"""A split of a TFDS dataset as arrays."""

import io
import json
import shutil

import cv2
import numpy as np
import pytest

import tfds_builders.build
from jaxreid.data import cache, source
from tfds_builders import base

SIZE = (48, 16)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def load(name="synth_pedes/tiny", split="train", *, register="tfds_builders", **fields):
    return source.load_split(name, split, image_size=SIZE, register=register, **fields)


@pytest.fixture(scope="module")
def train(tiny_data_dir, cache_dir):
    return load(data_dir=tiny_data_dir, cache_dir=cache_dir)


def test_a_missing_synthetic_set_is_built(tmp_path, cache_dir, monkeypatch):
    """Drawing itself is tested elsewhere: here, that it is asked for."""
    asked = []
    builder = source.find_builder("synth_pedes/tiny", data_dir=tmp_path, register="tfds_builders")
    monkeypatch.setattr(builder, "download_and_prepare", lambda **fields: asked.append(fields))
    source.prepare(builder)
    assert len(asked) == 1
    assert builder.info.file_format.value == "array_record"


def test_what_is_built_is_not_built_again(tiny_data_dir, monkeypatch):
    builder = source.find_builder(
        "synth_pedes/tiny", data_dir=tiny_data_dir, register="tfds_builders"
    )
    monkeypatch.setattr(builder, "download_and_prepare", lambda **_: pytest.fail("built again"))
    source.prepare(builder)


@pytest.mark.parametrize("manual_dir", ["~/photographs", "/data/photographs"])
def test_the_builder_of_a_finished_set_may_object_to_other_files(
    tiny_data_dir, monkeypatch, manual_dir
):
    monkeypatch.setenv("HOME", "/home/somebody")
    builder = source.find_builder(
        "synth_pedes/tiny", data_dir=tiny_data_dir, register="tfds_builders"
    )
    asked = []

    def object_to(*, download_config):
        asked.append(str(download_config.manual_dir))
        raise ValueError("built from other files")

    monkeypatch.setattr(builder, "download_and_prepare", object_to)
    with pytest.raises(ValueError, match="built from other files"):
        source.prepare(builder, manual_dir=manual_dir)
    assert asked == [manual_dir.replace("~", "/home/somebody")]


class ViewsBuilder(base.ArrayRecordBuilder, skip_registration=True):
    """A set divided by views, whose pictures are of one colour."""

    VERSION = source.tfds.core.Version("1.0.0")

    def _info(self):
        features = base.person_features(view=source.tfds.features.Text())
        return source.tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(""), "query": self._generate_examples("c{}")}

    def _generate_examples(self, view):
        for index in range(5):
            picture = cv2.imencode(".png", np.full((4, 4, 3), index, np.uint8))[1].tobytes()
            yield (
                index,
                {
                    "image": io.BytesIO(picture),
                    "image_id": f"{index}.png",
                    "person_id": index,
                    "camera_id": -1,
                    "captions": [],
                    "view": view.format(index % 3),
                },
            )


def test_views(tmp_path, train):
    builder = ViewsBuilder(data_dir=tmp_path / "data")
    source.prepare(builder)
    splits = [
        source.read_split(builder, name, image_size=(4, 4), cache_dir=tmp_path / "cache")
        for name in ("train", "query")
    ]
    assert splits[0].views == ("",) * 5
    assert splits[1].views == tuple(f"c{pid % 3}" for pid in splits[1].pids)
    np.testing.assert_array_equal(splits[1].images[:, 0, 0, 0], splits[1].pids)
    assert splits[1].captions == ()
    assert train.views is None


def test_resizes_as_asked(tiny_data_dir, cache_dir, train):
    area = load(data_dir=tiny_data_dir, cache_dir=cache_dir, resize="area")
    assert not np.array_equal(area.images, train.images)  # with Pillow's bicubic filter
    difference = np.abs(area.images.astype(int) - train.images)
    assert difference.mean() < 8


def test_an_unknown_way_of_resizing_is_said_before_anything_is_built(tmp_path):
    message = refused(data_dir=tmp_path, resize="nearest")
    assert "config.data.resize is 'nearest'; it takes one of bicubic, bilinear, area" in message
    assert not list(tmp_path.iterdir())


def test_arrays_of_a_synthetic_split(train):
    assert train.name == "synth_pedes/tiny:train"
    assert train.images.shape == (64, *SIZE, 3)
    assert len(set(train.image_ids)) == 64
    assert len(train.captions) == len(train.caption_image) == 128
    np.testing.assert_array_equal(train.caption_image, np.arange(128) // 2)
    assert len(train.identities) == 16
    np.testing.assert_array_equal(train.identities[train.labels], train.pids)
    np.testing.assert_array_equal(train.caption_pids, train.pids[np.arange(128) // 2])
    assert train.labels.dtype == np.int32
    assert np.all(train.camids >= 0)
    assert all(text.strip() for text in train.captions)


def test_images_are_those_of_their_ids(train, tiny_data_dir):
    from jaxreid.data.decode import decode_image

    builder = source.find_builder("synth_pedes/tiny", data_dir=tiny_data_dir)
    raw = {"image": source.tfds.decode.SkipDecoding()}
    for record in list(builder.as_data_source("train", decoders=raw))[::17]:
        place = train.image_ids.index(record["image_id"].decode())
        np.testing.assert_array_equal(
            train.images[place], decode_image(record["image"], SIZE, name="")
        )
        assert train.pids[place] == record["person_id"]
        assert [train.captions[i] for i in np.flatnonzero(train.caption_image == place)] == [
            caption.decode() for caption in record["captions"]
        ]


def test_truth(train):
    truth = train.truth
    images, captions = len(train.images), len(train.captions)
    attributes, regions = truth.attributes.shape[1], len(truth.regions)
    assert truth.attributes.shape == truth.shown.shape == (images, attributes)
    assert truth.region_boxes.shape == (images, regions, 4)
    assert truth.mentions.shape == (captions, attributes)
    assert len(truth.caption_regions) == captions
    assert truth.caption_regions.min() == -1
    assert truth.caption_regions.max() < regions
    assert set(truth.word_regions) <= set(truth.regions)
    for person in train.identities:  # attributes belong to the person
        assert len(np.unique(truth.attributes[train.pids == person], axis=0)) == 1
    # What a caption mentions, its own image shows.
    assert np.all(truth.mentions <= truth.shown[train.caption_image])


def test_the_second_load_decodes_nothing(train, tiny_data_dir, cache_dir, monkeypatch):
    monkeypatch.setattr(cache.decode, "decode_image", lambda *_, **__: pytest.fail("decoded"))
    again = load(data_dir=tiny_data_dir, cache_dir=cache_dir)
    np.testing.assert_array_equal(again.images, train.images)


def test_a_rebuilt_set_has_its_own_cache(tiny_data_dir, cache_dir, tmp_path, train):
    copy = shutil.copytree(tiny_data_dir, tmp_path / "data", copy_function=shutil.copy)
    before = len(list(cache_dir.glob("*.npy")))
    load(data_dir=copy, cache_dir=cache_dir)
    assert len(list(cache_dir.glob("*.npy"))) == before + 1


@pytest.fixture(scope="module")
def cuhk(tmp_path_factory, cuhk_pedes_manual_dir, cache_dir):
    """The made-up folder, built by the loader from the licensed files."""
    data_dir = tmp_path_factory.mktemp("cuhk")
    return {
        split: load(
            "cuhk_pedes",
            split,
            data_dir=data_dir,
            cache_dir=cache_dir,
            manual_dir=cuhk_pedes_manual_dir,
        )
        for split in ("train", "val", "test")
    }


def test_photographs_with_any_number_of_captions(cuhk, cuhk_pedes_manual_dir):
    records = json.loads((cuhk_pedes_manual_dir / "CUHK-PEDES" / "reid_raw.json").read_text())
    numbers = set()
    for name, split in cuhk.items():
        wanted = {r["file_path"]: r for r in records if r["split"] == name}
        assert set(split.image_ids) == set(wanted)
        assert split.truth is None
        for place, image_id in enumerate(split.image_ids):
            own = np.flatnonzero(split.caption_image == place)
            assert [split.captions[i] for i in own] == wanted[image_id]["captions"]
            assert split.pids[place] == wanted[image_id]["id"]
            numbers.add(len(own))
    assert numbers == {1, 2, 4, 10}
    assert cuhk["train"].identities.tolist() == [1, 2, 3, 1369]


def refused(*args, **fields):
    with pytest.raises(ValueError, match=".") as error:
        load(*args, **fields)
    return str(error.value)


@pytest.mark.parametrize(
    "name", ["synth_pedess", "synth_pedes/tini", "synth_pedes/tiny:7.0.0", "", "a b/c"]
)
def test_unknown_datasets(name, tmp_path):
    message = refused(name, data_dir=tmp_path)
    assert message.startswith(f"config.data.name is {name!r}: ")
    available = tfds_builders.build.available_builders().items()
    offered = [key for key, (cls, _) in available if cls.__module__.startswith("tfds_builders.")]
    if name.startswith("synth_pedes/"):
        offered = [f"synth_pedes/{config}" for config in dict(available)["synth_pedes"][1]]
    assert message.split(" offers: ")[1].rstrip(".").split(", ") == offered
    assert len(message.replace(str(tmp_path), "")) < 450  # a few lines, not a page
    assert not list(tmp_path.iterdir())


def test_unknown_split(tiny_data_dir):
    message = refused(split="tset", data_dir=tiny_data_dir)
    assert message == "dataset 'synth_pedes/tiny' has no split 'tset'; it has: test, train, val."


@pytest.mark.parametrize("register", ["no_such_package", ".relative"])
def test_register_package_that_is_missing(register, tmp_path):
    message = refused(register=register, data_dir=tmp_path)
    assert f"config.data.register = {register!r} cannot be imported" in message


def test_nothing_registered(tmp_path):
    message = refused("my_set", register="", data_dir=tmp_path)
    assert "No package (config.data.register) offers: none" in message


def test_licensed_set_without_its_files(tmp_path):
    message = refused("cuhk_pedes", data_dir=tmp_path)
    assert "is not built in" in message
    assert "config.data.manual_dir" in message
    assert "reid_raw.json" in message  # what the folder must look like


def test_licensed_set_with_the_wrong_folder(tmp_path):
    message = refused("cuhk_pedes", data_dir=tmp_path, manual_dir=tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message


def test_a_folder_without_a_finished_set(tmp_path):
    (tmp_path / "synth_pedes" / "tiny" / "1.0.0").mkdir(parents=True)
    message = refused(data_dir=tmp_path)
    assert "holds no finished dataset" in message
    assert "config.data.data_dir" in message


def test_a_set_in_another_file_format(tiny_data_dir, tmp_path):
    copy = shutil.copytree(tiny_data_dir, tmp_path / "data")
    path = copy / "synth_pedes" / "tiny" / "1.0.0" / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fileFormat": "tfrecord"}))
    assert "holds tfrecord files; only array_record is read" in refused(data_dir=copy)


def test_a_data_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    message = refused(data_dir=tmp_path / "file")
    assert "cannot be built in" in message
    assert "config.data.data_dir" in message


def test_a_broken_image_names_itself(tiny_data_dir, tmp_path, monkeypatch):
    real = cache.decode.decode_image
    some = load(data_dir=tiny_data_dir, cache_dir=tmp_path / "whole").image_ids[5]
    monkeypatch.setattr(
        cache.decode,
        "decode_image",
        lambda data, size, *, name, **how: real(
            data[:500] if name == some else data, size, name=name, **how
        ),
    )
    message = refused(data_dir=tiny_data_dir, cache_dir=tmp_path / "cache")
    assert "1 of 64 images are broken" in message
    assert some in message

"""For those who have TensorFlow: a tfrecord copy, read by plain `tfds.load`."""

import pathlib

import pytest
import tensorflow_datasets as tfds

import tfds_builders
from tfds_builders.build import build
from tfds_builders.cuhk_pedes import dummy_data

tf = pytest.importorskip("tensorflow")

# TensorFlow and what it brings warn of their own doings.
pytestmark = pytest.mark.filterwarnings("default")


def test_a_tfrecord_copy_reads_the_same_through_tfds_load(tmp_path, monkeypatch):
    dummy_data.make(tmp_path / "downloads")
    monkeypatch.setenv("HOME", str(tmp_path))
    text = (pathlib.Path(tfds_builders.__file__).parent / "README.md").read_text()
    code = next(part for part in text.split("```python\n") if "tfds.load" in part).split("```")[0]
    names = {}
    exec(code, names)
    assert names["builder"].info.file_format.value == "tfrecord"

    build("cuhk_pedes", str(tmp_path / "data"), str(tmp_path / "downloads"))
    for split in ("train", "val", "test"):
        dataset = tfds.load("cuhk_pedes", split=split, data_dir=tmp_path / "tfrecords")
        through_tensorflow = list(tfds.as_numpy(dataset))
        source = tfds.data_source("cuhk_pedes", split=split, data_dir=tmp_path / "data")
        assert len(source) == len(through_tensorflow) == len(dataset) > 0
        for plain, example in zip(source, through_tensorflow, strict=True):
            assert plain.keys() == example.keys()
            assert (plain["image"] == example["image"]).all()
            assert list(plain["captions"]) == list(example["captions"])
            for feature in ("image_id", "person_id", "camera_id"):
                assert plain[feature] == example[feature]
    assert isinstance(next(iter(names["dataset"]))["image"], tf.Tensor)

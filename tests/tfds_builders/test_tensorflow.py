"""For those who have TensorFlow: a tfrecord copy, read by plain `tfds.load`."""

import pathlib
import re

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
    code = next(
        code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if ".load" in code
    )
    names = {}
    exec(code, names)
    assert names["builder"].info.file_format.value == "tfrecord"

    build("cuhk_pedes", str(tmp_path / "data"), str(tmp_path / "downloads"))
    raw = {"image": tfds.decode.SkipDecoding()}
    for split in ("train", "val", "test"):
        arguments = {"split": split, "decoders": raw}
        dataset = tfds.load("cuhk_pedes", data_dir=tmp_path / "tfrecords", **arguments)
        source = tfds.data_source("cuhk_pedes", data_dir=tmp_path / "data", **arguments)
        assert len(source) == len(dataset) > 0
        for plain, example in zip(source, tfds.as_numpy(dataset), strict=True):
            assert plain.keys() == example.keys()
            assert list(plain["captions"]) == list(example["captions"])
            for feature in plain.keys() - {"captions"}:
                assert plain[feature] == example[feature]

    decoded = tfds.data_source("cuhk_pedes", split="test", data_dir=tmp_path / "data")
    for plain, example in zip(decoded, names["dataset"], strict=True):
        assert isinstance(example["image"], tf.Tensor)
        # Two decoders of JPEG round differently, by a few of 255 levels.
        difference = plain["image"].astype(int) - example["image"].numpy().astype(int)
        assert abs(difference).max() <= 8

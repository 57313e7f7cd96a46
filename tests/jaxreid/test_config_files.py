"""Files that hold no configuration, and places where a run may lie."""

import json

import pytest
from ml_collections import ConfigDict

from jaxreid import config as config_lib


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ValueError, match=r"is not a run: it has no config\.json"):
        config_lib.load(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b""])
def test_a_broken_file(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json .*restore it from a copy"):
        config_lib.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        ({}, "data"),
        ({"model": {}}, "data"),
        ({"data": {}}, "model"),
        ({"data": {}, "model": 1}, "model"),
    ],
)
def test_a_file_of_something_else_is_no_run(tmp_path, content, missing):
    (tmp_path / "config.json").write_text(json.dumps(content))
    told = rf"config\.json is not the configuration of a run: it has no section '{missing}'"
    with pytest.raises(ValueError, match=told):
        config_lib.load(tmp_path)


def test_a_run_in_a_bucket_that_is_none(bucket):
    with pytest.raises(ValueError, match="'gs://bucket/nothing' is not a run"):
        config_lib.load("gs://bucket/nothing")


def test_images_are_decoded_to_a_local_disk():
    fields = ConfigDict({"data": {"cache_dir": "gs://bucket/images"}})
    with pytest.raises(ValueError, match="config.data.cache_dir is 'gs://bucket/images'; caches"):
        config_lib.check(fields)

"""Local copies of what lies in a bucket: made once, whole, and again when that changes."""

import pathlib
import shutil

import numpy as np
import pytest

from jaxreid import paths
from jaxreid.data import remote, source

NAME = "synth_pedes/tiny"
FOLDER = "data/synth_pedes/tiny/1.0.0"


@pytest.fixture
def dataset(bucket, tiny_data_dir):
    """The objects of the tiny set in the bucket, and an older version of it."""
    folder = tiny_data_dir / "synth_pedes" / "tiny" / "1.0.0"
    for file in folder.iterdir():
        bucket.put(f"{FOLDER}/{file.name}", file.read_bytes())
    bucket.put("data/synth_pedes/tiny/0.9.0/dataset_info.json", b"{}")
    bucket.uploads.clear()
    return bucket


def find(name=NAME):
    return source.find_builder(name, data_dir="gs://bucket/data", register="tfds_builders")


def downloads(monkeypatch):
    """Gathers the names of the files that are copied."""
    found, download = [], paths.download

    def counted(file, target):
        found.append(file.name)
        download(file, target)

    monkeypatch.setattr(paths, "download", counted)
    return found


def test_a_dataset_is_copied_once(dataset, tiny_data_dir, tmp_path, monkeypatch):
    copied = downloads(monkeypatch)
    builder = find()
    folder = pathlib.Path(builder.data_path)
    assert folder.is_relative_to(tmp_path / "cache" / "datasets")
    assert folder.parts[-3:] == ("synth_pedes", "tiny", "1.0.0")
    names = sorted(name.removeprefix(f"{FOLDER}/") for name in dataset.below(FOLDER))
    assert sorted(copied) == sorted(file.name for file in folder.iterdir()) == names
    assert copied[-1] == "dataset_info.json"
    assert pathlib.Path(find().data_path) == folder
    assert len(copied) == len(names)

    (tmp_path / "images").mkdir()
    where = {"image_size": (24, 8), "cache_dir": tmp_path / "images", "register": "tfds_builders"}
    found = source.load_split(NAME, "train", data_dir="gs://bucket/data", **where)
    local = source.load_split(NAME, "train", data_dir=tiny_data_dir, **where)
    assert np.array_equal(found.images, local.images)
    assert found.captions == local.captions
    assert not dataset.uploads  # nothing is written beside the set


def test_a_copy_goes_on_where_it_was_killed(dataset, monkeypatch):
    class Killed(BaseException):
        pass

    download, done = paths.download, []

    def killed(file, target):
        if len(done) == 2:
            target.with_name(f"{target.name}.partial").write_bytes(b"half")
            raise Killed
        done.append(file.name)
        download(file, target)

    monkeypatch.setattr(remote, "_COPIES_AT_A_TIME", 1)
    monkeypatch.setattr(paths, "download", killed)
    with pytest.raises(Killed):
        find()
    monkeypatch.setattr(paths, "download", download)
    copied = downloads(monkeypatch)
    folder = pathlib.Path(find().data_path)
    names = {name.removeprefix(f"{FOLDER}/") for name in dataset.below(FOLDER)}
    assert sorted([*done, *copied]) == sorted(names)
    assert {file.name for file in folder.iterdir()} == names  # and no ".partial"


def test_a_set_that_is_built_anew_is_copied_anew(dataset):
    first = find().data_path
    content, generation, changed = dataset.objects[f"{FOLDER}/features.json"]
    dataset.objects[f"{FOLDER}/features.json"] = (content, generation, changed + 10)
    assert find().data_path != first


def test_a_second_copy_has_the_times_of_the_first(dataset, tmp_path):
    """So that the images decoded from it are found again."""
    times = []
    for _ in range(2):
        folder = pathlib.Path(find().data_path)
        times.append({file.name: file.stat().st_mtime_ns for file in folder.iterdir()})
        shutil.rmtree(tmp_path / "cache" / "datasets")
    assert times[0] == times[1]


def test_a_set_that_is_not_there(bucket):
    bucket.put("data/other/readme.txt", b"")
    message = (
        r"'synth_pedes/tiny' is not built in gs://bucket/data/synth_pedes/tiny/1\.0\.0.*"
        r"jaxreid data synth_pedes/tiny --data_dir DIR, then gcloud storage cp --recursive "
        r"DIR/synth_pedes gs://bucket/data/"
    )
    with pytest.raises(ValueError, match=message):
        find()
    assert bucket.below("") == ["data/other/readme.txt"]


def test_a_disk_without_room(dataset, monkeypatch):
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(OSError, match=r"0\.0 GiB are free\. Name a folder with room in JAXREID"):
        find()


def test_a_file_that_comes_short_is_no_copy(dataset, monkeypatch):
    monkeypatch.setattr(paths, "download", lambda file, target: target.write_bytes(b"x"))
    with pytest.raises(ValueError, match=r"config.data.data_dir .* came as 1 bytes of \d+"):
        find()


def test_files_of_a_bucket_are_fetched_and_others_taken_as_they_are(bucket, tmp_path, monkeypatch):
    bucket.put("words/vectors.txt", b"red 1 2\n")
    copy = remote.as_local("gs://bucket/words/vectors.txt", "config.data.word_vectors")
    assert copy.name == "vectors.txt"
    assert copy.read_bytes() == b"red 1 2\n"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert remote.as_local("~/vectors.txt", "") == tmp_path / "vectors.txt"
    with pytest.raises(ValueError, match=r"words is 'gs://bucket/none', which cannot be used"):
        remote.as_local("gs://bucket/none", "words")

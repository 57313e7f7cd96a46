"""Damaged checkpoints, and what kills leave behind."""

import json
import logging
import shutil

import pytest
from etils import epath
from orbax.checkpoint._src.path import deleter

from jaxreid import integrity, sharding
from jaxreid.checkpoint import Checkpoints
from tests.jaxreid.test_checkpoint import kept, save


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run with checkpoints 1 (the best), 2 and 3."""
    workdir = tmp_path_factory.mktemp("run")
    with Checkpoints(workdir, create=True, keep=2) as checkpoints:
        for step, score in {1: 60.0, 2: None, 3: 40.0}.items():
            save(checkpoints, step, score)
    return workdir


@pytest.fixture
def folder(written, tmp_path):
    """Its checkpoints, to be damaged."""
    return shutil.copytree(written / "checkpoints", tmp_path / "checkpoints")


def data_file(folder, item="variables"):
    """The largest file of an item: arrays."""
    files = [p for p in (folder / item).rglob("*") if p.is_file() and p.suffix != ".txt"]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(path):
    path.unlink()


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_last_ones_and_the_best_are_kept(written):
    assert kept(written) == [1, 2, 3]


def test_whole_checkpoints_are_left_alone(folder, caplog):
    integrity.mend(folder)
    assert kept(folder.parent) == [1, 2, 3]
    assert warnings(caplog) == []
    manifest = json.loads((folder / "3" / integrity.MANIFEST).read_text())
    items = {name.split("/")[0] for name in manifest}
    assert items == {"variables", "optimizer", "meta", "metrics"}


@pytest.mark.parametrize(
    ("harm", "words"),
    [(flip, "has changed"), (cut, "bytes instead of"), (delete, "is missing")],
)
@pytest.mark.parametrize("item", ["variables", "optimizer", "meta", "metrics"])
def test_a_damaged_last_checkpoint_is_set_aside_for_the_one_before(
    folder, caplog, harm, words, item
):
    broken = data_file(folder / "3", item)
    harm(broken)
    integrity.mend(folder)
    assert kept(folder.parent) == [1, 2]
    assert (folder / "damaged-3").is_dir()
    (warning,) = warnings(caplog)
    assert f"{folder / '3'} is damaged: {broken.relative_to(folder / '3')}" in warning
    assert words in warning
    with Checkpoints(folder.parent, create=True) as checkpoints:
        assert (checkpoints.last, checkpoints.best) == (2, 1)
        save(checkpoints, 3)
        checkpoints.wait()
        assert checkpoints.last == 3
    assert not integrity.damage(folder / "3")


def test_set_aside_twice(folder):
    flip(data_file(folder / "3"))
    shutil.copytree(folder / "3", folder / "damaged-3")
    integrity.mend(folder)
    assert (folder / "damaged-3-2").is_dir()


def test_none_is_whole(folder):
    for step in "123":
        flip(data_file(folder / step))
    for _ in range(2):  # the second time there are but those set aside
        with pytest.raises(ValueError, match=r"no checkpoint in .* is whole: damaged-1, .*-3"):
            integrity.mend(folder)
    shutil.rmtree(folder / "damaged-1")
    shutil.rmtree(folder / "damaged-2")
    shutil.rmtree(folder / "damaged-3")
    integrity.mend(folder)


def test_what_kills_leave_is_removed_and_named(folder, caplog):
    caplog.set_level(logging.INFO, "absl")
    torn = folder / "4.orbax-checkpoint-tmp" / "variables.orbax-checkpoint-tmp"
    torn.mkdir(parents=True)
    integrity.unseal(folder / "2")  # its deletion had begun when the kill came
    (folder / "2" / "optimizer" / "_METADATA").unlink()
    integrity.mend(folder)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["1", "3"]
    told = [record.getMessage() for record in caplog.records]
    assert f"removing {folder / '4.orbax-checkpoint-tmp'}, a save that was cut short" in told
    assert f"removing {folder / '2'}, whose deletion was cut short" in told


def test_a_deletion_takes_the_checksums_first(tmp_path, monkeypatch):
    """So that what a kill leaves of it is known for what it is."""
    found = []

    def look(self, path, **_):
        found.append({item.name for item in path.iterdir()})

    monkeypatch.setattr(deleter.PathDeleter, "delete", look)
    with Checkpoints(tmp_path, create=True) as checkpoints:
        save(checkpoints, 1)
        save(checkpoints, 2)
    (left,) = found
    assert {"variables", "optimizer", "meta"} <= left
    assert integrity.MANIFEST not in left


def test_an_older_checkpoint_that_lost_a_file_is_set_aside_not_removed(folder, caplog):
    data_file(folder / "1").unlink()  # of the best
    integrity.mend(folder)
    assert kept(folder.parent) == [2, 3]
    assert (folder / "damaged-1" / "optimizer" / "_METADATA").exists()
    assert "1 is damaged: variables/" in caplog.text


def test_a_folder_of_another_origin_is_set_aside_with_what_it_holds(folder):
    (folder / "0").mkdir()
    (folder / "0" / "my_notes.txt").write_text("mine")
    integrity.mend(folder)
    assert kept(folder.parent) == [1, 2, 3]
    assert (folder / "damaged-0" / "my_notes.txt").read_text() == "mine"


def test_names_that_are_no_step_are_left_alone(folder):
    for name in ("007", "\u0664", "\u00b2", "notes"):
        (folder / name).mkdir()
    integrity.mend(folder)
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    assert names == {"1", "2", "3", "007", "\u0664", "\u00b2", "notes"}


@pytest.mark.parametrize(
    "content", ["{", "null", "[]", '{"a": 1}', '{"a": [1]}', '{"a": ["1", 2]}', '{"a": [1, null]}']
)
def test_a_manifest_that_is_broken(folder, content):
    (folder / "3" / integrity.MANIFEST).write_text(content)
    assert "checksums.json cannot be read (" in integrity.damage(folder / "3")
    integrity.mend(folder)
    assert kept(folder.parent) == [1, 2]


def test_checkpoints_of_older_versions_have_no_checksums(folder):
    (folder / "3" / integrity.MANIFEST).unlink()
    assert not integrity.damage(folder / "3")
    (folder / "3" / "optimizer" / "manifest.ocdbt").unlink()
    assert integrity.damage(folder / "3") == "optimizer/manifest.ocdbt is missing"
    assert not integrity.damage(folder / "3", "variables")
    (folder / "2" / integrity.MANIFEST).unlink()
    (folder / "2" / "meta" / "metadata").write_text('{"stage')
    assert "meta/metadata is no JSON" in integrity.damage(folder / "2")


def test_search_does_not_read_damaged_weights(folder):
    flip(data_file(folder / "1"))
    with (
        Checkpoints(folder.parent) as checkpoints,
        pytest.raises(ValueError, match=r"checkpoints/1 is damaged: variables/.* has changed"),
    ):
        checkpoints.restore_variables(1, sharding.replicated(sharding.make_mesh(1)))


def test_in_a_bucket_sizes_are_compared_and_a_save_cut_short_has_no_last_file(bucket, caplog):
    place = epath.Path("gs://bucket/run/checkpoints")
    for name in ("meta/metadata", "variables/_METADATA", "optimizer/d/1"):
        for step in (1, 2, 3):
            bucket.put(f"run/checkpoints/{step}/{name}", b"{}")
    for step in (1, 2):
        integrity.seal(place / str(step))
        bucket.put(f"run/checkpoints/{step}/commit_success.txt", b"")
    assert not integrity.damage(place / "2")
    bucket.put("run/checkpoints/2/optimizer/d/1", b"{")
    integrity.mend(place)
    assert not bucket.below("run/checkpoints/3/")
    assert not bucket.below("run/checkpoints/2/")
    assert bucket.below("run/checkpoints/1/")
    assert "2 is damaged: optimizer/d/1 has 1 bytes instead of 2" in caplog.text


def _upload(folder, bucket, without=()):
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in without:
            name = path.relative_to(folder).as_posix()
            bucket.put(f"run/checkpoints/{name}", path.read_bytes())


def test_a_run_copied_into_a_bucket_keeps_its_checkpoints(folder, bucket, caplog):
    caplog.set_level(logging.INFO, "absl")
    cut(data_file(folder / "2"))
    (folder / "1" / "my_notes.txt").write_text("mine")
    _upload(folder, bucket, without=["commit_success.txt"])
    place = epath.Path("gs://bucket/run/checkpoints")
    integrity.mend(place)
    assert f"{place / '3'} is whole, but for commit_success.txt" in caplog.text
    assert sorted(path.name for path in place.iterdir()) == ["1", "3", "damaged-2"]
    with Checkpoints("gs://bucket/run", create=True) as checkpoints:
        assert (checkpoints.last, checkpoints.best) == (3, 1)
        place = sharding.replicated(sharding.make_mesh(1))
        assert checkpoints.restore_variables(3, place)["params"]
        save(checkpoints, 4)


def test_in_a_bucket_a_folder_of_another_origin_is_set_aside(bucket):
    bucket.put("run/checkpoints/5/my_notes.txt", b"mine")
    place = epath.Path("gs://bucket/run/checkpoints")
    with pytest.raises(ValueError, match=r"whole: damaged-5 were set aside"):
        integrity.mend(place)
    assert bucket.get("run/checkpoints/damaged-5/my_notes.txt") == b"mine"


def test_in_a_bucket_a_first_save_that_was_cut_short_leaves_nothing(bucket):
    bucket.put("run/checkpoints/1/variables/_METADATA", b"{}")
    integrity.mend("gs://bucket/run/checkpoints")
    assert not bucket.below("run/checkpoints")


def test_no_checkpoints_yet(tmp_path):
    integrity.mend(tmp_path / "checkpoints")
    assert not list(tmp_path.iterdir())

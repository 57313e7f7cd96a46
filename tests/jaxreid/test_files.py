"""Files that are there whole or not at all."""

import fcntl
import pathlib

import pytest

from jaxreid import files, paths


def test_text_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.json"
    files.write_atomically(path, "first")
    files.write_atomically(str(path), "café –\n")
    assert path.read_bytes() == "café –\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_atomically(path, "old")

    def killed(self, text, **options):
        with self.open("w") as file:
            file.write(text[:2])
        raise KeyboardInterrupt

    monkeypatch.setattr(pathlib.Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(path, "newer")
    assert path.read_text() == "old"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write_atomically(tmp_path / "no" / "a.json", "text")


def test_an_object_is_written_at_once(bucket):
    files.write_atomically("gs://bucket/a.json", "café\n")
    assert bucket.uploads == ["a.json"]
    assert bucket.get("a.json") == "café\n".encode()


def _write_half(path):
    with files.whole(path) as partial:
        partial.write_bytes(b"ha")
        raise KeyboardInterrupt


def test_a_file_appears_when_it_is_whole(bucket, tmp_path):
    for path in (tmp_path / "out" / "a.bin", paths.as_path("gs://bucket/out/a.bin")):
        with pytest.raises(KeyboardInterrupt):
            _write_half(path)
        assert not path.exists()
        with files.whole(path) as partial:
            partial.write_bytes(b"all")
        assert [file.name for file in path.parent.iterdir()] == ["a.bin"]
        assert path.read_bytes() == b"all"


def test_one_process_at_a_time(tmp_path):
    with (tmp_path / ".lock").open("w") as other:
        with files.locked(tmp_path / ".lock", "tests"), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

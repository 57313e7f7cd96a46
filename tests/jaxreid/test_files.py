"""Files that are there whole or not at all."""

import pathlib

import pytest

from jaxreid import files


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

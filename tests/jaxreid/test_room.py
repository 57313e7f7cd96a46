"""Room on the disk, and what is said when there is none."""

import errno

import pytest

from jaxreid import room


def test_free_bytes_of_a_folder_that_is_not_there_yet(tmp_path):
    assert room.free(tmp_path / "a" / "b") > 0
    assert room.free("gs://bucket/run") is None


def test_warned_before_a_save_that_hardly_fits(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(room, "free", lambda _: 100 * 2**20)
    assert not room.warn_if_short(tmp_path, 90 * 2**20)
    assert caplog.text == ""
    assert room.warn_if_short(tmp_path, 95 * 2**20)
    assert f"{tmp_path} has 100.0 MiB free" in caplog.text
    assert "takes up to 95.0 MiB" in caplog.text
    monkeypatch.setattr(room, "free", lambda _: None)
    assert not room.warn_if_short("gs://bucket/run", 2**60)


def test_a_full_disk_is_explained_and_other_errors_pass(tmp_path):
    with (
        pytest.raises(OSError, match=f"no room is left for the run in '{tmp_path}'.*MiB are free"),
        room.explained(tmp_path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), room.explained(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_the_words_of_a_full_disk():
    assert room.is_full(OSError(errno.EDQUOT, "quota"))
    assert room.is_full(ValueError("RESOURCE_EXHAUSTED: ... [OS error 28: ENOSPC No space]"))
    assert not room.is_full(ValueError("NOT_FOUND"))

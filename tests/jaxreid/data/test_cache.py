"""The cache of decoded images: once, whole or not at all."""

import errno
import os
import pathlib
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest

from jaxreid.data import cache

SIZE = (6, 4)


class Files:
    """Image files of one colour each, which count how often they are read."""

    def __init__(self, number, broken=()):
        self.number, self.broken, self.reads = number, broken, 0

    def __call__(self, index):
        self.reads += 1
        name = f"{index:03d}.png"
        if index in self.broken:
            return name, b"no image"
        picture = np.full((*SIZE, 3), index % 256, np.uint8)
        return name, cv2.imencode(".png", picture)[1].tobytes()


def images(files, folder, *, size=SIZE, **key):
    return cache.cached_images(files, files.number, size, key=key, cache_dir=folder)


def expected(number, size=SIZE):
    return np.arange(number).astype(np.uint8)[:, None, None, None] * np.ones((*size, 3), np.uint8)


def arrays(folder):
    return sorted(folder.glob("*.npy"))


def test_decodes_once_into_a_memory_map(tmp_path):
    files = Files(300)  # more than a chunk
    first = images(files, tmp_path)
    np.testing.assert_array_equal(first, expected(300))
    assert files.reads == 300
    second = images(files, tmp_path)
    assert files.reads == 300
    np.testing.assert_array_equal(second, first)
    assert isinstance(second, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        second[0] = 0


def test_another_size_key_or_number_is_another_file(tmp_path):
    images(Files(3), tmp_path, split="train")
    small = images(Files(3), tmp_path, split="train", size=(3, 2))
    assert small.shape == (3, 3, 2, 3)
    images(Files(3), tmp_path, split="test")
    images(Files(4), tmp_path, split="train")
    assert len(arrays(tmp_path)) == 4


def test_another_version_of_the_decoder_is_another_file(tmp_path, monkeypatch):
    images(Files(3), tmp_path)
    monkeypatch.setattr(cache, "DECODER_VERSION", cache.DECODER_VERSION + 1)
    files = Files(3)
    images(files, tmp_path)
    assert files.reads == 3


def test_what_a_killed_build_left_is_not_used(tmp_path):
    images(Files(3), tmp_path)
    (finished,) = arrays(tmp_path)
    left = finished.with_suffix(".partial")
    finished.rename(left)  # as if killed one instant before the end
    with left.open("r+b") as file:
        file.truncate(150)
    files = Files(3)
    np.testing.assert_array_equal(images(files, tmp_path), expected(3))
    assert files.reads == 3
    assert not left.exists()


def test_broken_images_are_counted_and_named_and_nothing_is_kept(tmp_path):
    broken = (1, 2, 5, 8, 13, 21, 34)
    with pytest.raises(ValueError, match="7 of 40 images are broken") as error:
        images(Files(40, broken), tmp_path)
    named = [f"{index:03d}.png" in str(error.value) for index in broken]
    assert named == [True] * 5 + [False] * 2
    assert not arrays(tmp_path)
    assert not list(tmp_path.glob("*.partial"))
    np.testing.assert_array_equal(images(Files(40), tmp_path), expected(40))


def test_several_at_once_decode_once(tmp_path):
    files = Files(50)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(images(files, tmp_path))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files.reads == 50
    assert len(arrays(tmp_path)) == 1
    for array in found:
        np.testing.assert_array_equal(array, expected(50))
    assert len(found) == 6


def test_processes_at_once_give_one_right_file(tmp_path):
    program = (
        "import pathlib, sys; from test_cache import *\n"
        "found = images(Files(400), pathlib.Path(sys.argv[1]))\n"
        "sys.exit(not np.array_equal(found, expected(400)))"
    )
    paths = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[3])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", program, str(tmp_path)]
    children = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    assert len(arrays(tmp_path)) == 1


def test_a_disk_without_room_is_named_before_anything_is_decoded(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 200})
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: usage)
    files = Files(3)
    with pytest.raises(OSError, match=r"GiB are needed.*config\.data\.cache_dir") as error:
        images(files, tmp_path)
    assert str(tmp_path) in str(error.value)
    assert files.reads == 0


def test_room_taken_by_a_killed_build_counts_as_free(tmp_path, monkeypatch):
    images(Files(3), tmp_path)
    (finished,) = arrays(tmp_path)
    left = finished.with_suffix(".partial")
    finished.rename(left)

    def usage(folder):
        return type("Usage", (), {"free": 0 if left.exists() else 10**6})

    monkeypatch.setattr(cache.shutil, "disk_usage", usage)
    np.testing.assert_array_equal(images(Files(3), tmp_path), expected(3))


def test_a_disk_that_runs_full_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.os, "pwrite", full)
    with pytest.raises(OSError, match=r"No space left.*config\.data\.cache_dir"):
        images(Files(3), tmp_path)
    assert not arrays(tmp_path)
    assert not list(tmp_path.glob("*.partial"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/cache .*config\.data\.cache_dir"):
        images(Files(1), tmp_path / "file" / "cache")


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    images(Files(1), "~/cache")
    assert len(arrays(tmp_path / "cache")) == 1


def test_default_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_cache_dir() == tmp_path / "jaxreid"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(cache.default_cache_dir()) == "/home/somebody/.cache/jaxreid"

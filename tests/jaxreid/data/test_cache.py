"""The cache of decoded images: once, whole or not at all."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

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


def images(files, folder, *, size=SIZE, resize="bicubic", **key):
    return cache.cached_images(files, files.number, size, resize=resize, key=key, cache_dir=folder)


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
    images(Files(3), tmp_path, split="train", resize="area")
    assert len(arrays(tmp_path)) == 5
    described = [json.loads(path.with_suffix(".json").read_text()) for path in arrays(tmp_path)]
    assert sorted(one["resize"] for one in described) == ["area"] + ["bicubic"] * 4


@pytest.mark.parametrize("resize", ["bicubic", "area"])
def test_resizes_as_asked(tmp_path, resize):
    edge = np.zeros((6, 4, 3), np.uint8)
    edge[:, 2:] = 200
    data = cv2.imencode(".png", edge)[1].tobytes()
    found = cache.cached_images(
        lambda index: ("a", data), 1, (9, 6), resize=resize, key={}, cache_dir=tmp_path
    )
    wanted = cache.decode.decode_image(data, (9, 6), name="a", resize=resize)
    np.testing.assert_array_equal(found[0], wanted)


def test_says_what_it_made_and_what_lies_there(tmp_path, caplog):
    with caplog.at_level("INFO"):
        images(Files(300), tmp_path)
        images(Files(3), tmp_path)
        images(Files(3), tmp_path)  # finds it, and says nothing
    made = [line for line in caplog.messages if line.startswith("cache of decoded images: ")]
    assert [str(path) in line for path in arrays(tmp_path) for line in made].count(True) == 2
    assert "files in that folder: 1, " in made[0]
    assert "files in that folder: 2, " in made[1]
    progress = [line for line in caplog.messages if line.startswith("decoding images: ")]
    assert all("images/s" in line and "left" in line for line in progress)


def test_another_version_of_the_decoder_is_another_file(tmp_path, monkeypatch):
    images(Files(3), tmp_path)
    monkeypatch.setattr(cache.decode, "VERSION", cache.decode.VERSION + 1)
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


def start(program, *arguments):
    """Runs a program that knows what stands here."""
    paths = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[3])]
    return subprocess.Popen(
        [sys.executable, "-c", "from test_cache import *\n" + program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )


USUAL = """
found = images(Files(400), pathlib.Path(sys.argv[1]))
sys.exit(not np.array_equal(found, expected(400)))
"""


def test_processes_at_once_give_one_right_file(tmp_path):
    children = [start(USUAL, tmp_path) for _ in range(2)]
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    assert len(arrays(tmp_path)) == 1


STUCK = """
class Slow(Files):
    def __call__(self, index):
        if index == 300:
            pathlib.Path(sys.argv[2]).touch()
            time.sleep(600)
        return super().__call__(index)

images(Slow(400), pathlib.Path(sys.argv[1]))
"""


def test_a_process_killed_half_way_leaves_the_next_ones_to_it(tmp_path):
    folder, mark = tmp_path / "cache", tmp_path / "half_way"
    killed = start(STUCK, folder, mark)
    until = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert mark.exists()
    children = [start(USUAL, folder) for _ in range(2)]  # they wait for the first
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    assert len(arrays(folder)) == 1
    assert not list(folder.glob("*.partial"))
    files = Files(400)
    np.testing.assert_array_equal(images(files, folder), expected(400))
    assert files.reads == 0


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
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAXREID_CACHE", "~/mine")
    assert str(cache.default_cache_dir()) == "/home/somebody/mine"
    monkeypatch.delenv("JAXREID_CACHE")
    assert cache.default_cache_dir() == tmp_path / "jaxreid"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert str(cache.default_cache_dir()) == "/home/somebody/.cache/jaxreid"


def test_the_cache_folder_is_local(monkeypatch):
    monkeypatch.setenv("JAXREID_CACHE", "gs://bucket/cache")
    with pytest.raises(ValueError, match="JAXREID_CACHE is 'gs://bucket/cache'; caches are"):
        cache.default_cache_dir()
    with pytest.raises(ValueError, match="config.data.cache_dir is 'gs://b/images'; caches are"):
        cache.cached_images(lambda _: ("", b""), 1, (4, 2), key={}, cache_dir="gs://b/images")

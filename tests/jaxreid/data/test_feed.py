"""Resident images or streamed ones: the same batches."""

import dataclasses
import inspect
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxreid import sharding
from jaxreid.data import feed
from jaxreid.data.sampler import PairSampler
from jaxreid.data.source import Split

IMAGES, LENGTH = 13, 5
COUNTS = np.array([1, 2, 4, 10, 2, 2, 1, 1, 2, 2, 2, 2, 2])
BATCH = 8


def mesh(devices):
    return jax.make_mesh(
        (devices, 1),
        sharding.BATCH_AXES,
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
        devices=jax.devices()[:devices],
    )


@pytest.fixture(scope="module")
def split():
    random = np.random.default_rng(0)
    captions = COUNTS.sum()
    return Split(
        name="made-up:train",
        images=random.integers(0, 256, (IMAGES, 6, 4, 3), np.uint8),
        image_ids=tuple(f"{i}.png" for i in range(IMAGES)),
        pids=np.arange(IMAGES) // 3 + 100,
        camids=np.full(IMAGES, -1),
        captions=("a",) * captions,
        caption_image=np.repeat(np.arange(IMAGES, dtype=np.int32), COUNTS),
    )


@pytest.fixture(scope="module")
def words():
    random = np.random.default_rng(1)
    lengths = random.integers(0, LENGTH + 1, COUNTS.sum()).astype(np.int32)
    tokens = random.integers(1, 50, (COUNTS.sum(), LENGTH)).astype(np.int32)
    return tokens * (np.arange(LENGTH) < lengths[:, None]), lengths


def make(split, words, kind, devices=1, *, seed=0, captions_per_pair=2):
    pairs = PairSampler(
        split.caption_image,
        split.labels,
        batch_size=BATCH,
        captions_per_pair=captions_per_pair,
        seed=seed,
    )
    here = mesh(devices)
    return feed.make_feed(
        split,
        *words,
        pairs,
        kind=kind,
        replicated=sharding.replicated(here),
        by_batch=sharding.by_batch(here),
    )


gather = jax.jit(feed.gather)


def gathered(made, start, stop):
    return [
        (jax.device_get(gather(made.resident, batch)), lengths)
        for batch, lengths in made.batches(start, stop)
    ]


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("kind", ["device", "host"])
@pytest.mark.parametrize("captions_per_pair", [1, 2])
def test_batches_are_those_of_the_sampler(split, words, kind, devices, captions_per_pair):
    made = make(split, words, kind, devices, captions_per_pair=captions_per_pair)
    tokens, all_lengths = words
    assert made.kind == kind
    found = gathered(made, 0, 11)  # beyond two epochs
    assert len(found) == 11
    for step, (batch, lengths) in enumerate(found):
        wanted = made.sampler(step)
        np.testing.assert_array_equal(batch["images"], split.images[wanted.image])
        np.testing.assert_array_equal(batch["tokens"], tokens[wanted.caption])
        np.testing.assert_array_equal(batch["lengths"], all_lengths[wanted.caption])
        np.testing.assert_array_equal(batch["valid"], wanted.valid)
        np.testing.assert_array_equal(batch["labels"], split.labels[wanted.image])
        np.testing.assert_array_equal(lengths, batch["lengths"].reshape(-1))
        np.testing.assert_array_equal(lengths, made.lengths(step))
        assert batch["images"].dtype == np.uint8
        assert batch["labels"].dtype == batch["tokens"].dtype == np.int32


@pytest.mark.parametrize("kind", ["device", "host"])
def test_begins_anywhere(split, words, kind):
    made = make(split, words, kind)
    whole, rest = gathered(made, 0, 9), gathered(make(split, words, kind), 6, 9)
    assert len(rest) == 3
    for (batch, _), (again, _) in zip(whole[6:], rest, strict=True):
        jax.tree.map(np.testing.assert_array_equal, batch, again)
    assert gathered(made, 4, 4) == []


def test_another_seed_is_another_order(split, words):
    (one, _), (other, _) = (gathered(make(split, words, "host", seed=s), 0, 1)[0] for s in (0, 1))
    assert not np.array_equal(one["images"], other["images"])


@pytest.mark.parametrize("kind", ["device", "host"])
def test_how_arrays_lie_on_eight_devices(split, words, kind):
    made = make(split, words, kind, 8)
    assert all(array.sharding.is_fully_replicated for array in made.resident.values())
    assert ("images" in made.resident) == (kind == "device")
    batch, _ = next(made.batches(0, 1))
    assert ("images" in batch) == (kind == "host")
    for array in batch.values():
        assert [shard.data.shape[0] for shard in array.addressable_shards] == [1] * 8


def test_what_is_not_there_is_refused(split, words):
    with pytest.raises(ValueError, match="config.data.feed is 'disk'; it takes one of auto, dev"):
        make(split, words, "disk")
    made = make(split, words, "device")
    with pytest.raises(ValueError, match="on the devices, not on the host"):
        made._read(made.sampler(0))


@pytest.mark.parametrize(("times", "kind"), [(3.9, "host"), (4.1, "device")])
def test_auto_gives_images_a_quarter_of_the_free_memory(
    split, words, monkeypatch, caplog, times, kind
):
    free = type("Memory", (), {"available": int(times * split.images.nbytes)})
    monkeypatch.setattr(feed.psutil, "virtual_memory", lambda: free)
    with caplog.at_level("INFO"):
        made = make(split, words, "auto")
    assert made.kind == kind
    assert f"feed: {kind} (images take" in caplog.text


def test_auto_counts_the_copies_of_all_virtual_devices(split, words, monkeypatch):
    free = type("Memory", (), {"available": 31 * split.images.nbytes})
    monkeypatch.setattr(feed.psutil, "virtual_memory", lambda: free)
    assert make(split, words, "auto", 1).kind == "device"
    assert make(split, words, "auto", 8).kind == "host"


@dataclasses.dataclass
class Accelerator:
    limit: int
    used: int = 0
    platform: str = "gpu"
    device_kind: str = "Some GPU"

    def memory_stats(self):
        return {"bytes_limit": self.limit, "bytes_in_use": self.used} if self.limit else None


@pytest.mark.parametrize(
    ("devices", "free"),
    [
        ([Accelerator(100, 40), Accelerator(100, 70)], 30),
        ([Accelerator(100), Accelerator(0)], 0),  # one that does not say
    ],
)
def test_the_fullest_accelerator_decides(devices, free):
    place = type("S", (), {"mesh": type("M", (), {"local_devices": devices})})
    unchecked = inspect.unwrap(feed._free_memory)  # the mesh is not one of JAX
    assert unchecked(place) == (free, "Some GPU")


ABANDON = """
import jax, numpy as np
from test_feed import *
split = Split("s", np.zeros((IMAGES, 6, 4, 3), np.uint8), ("x",) * IMAGES, np.arange(IMAGES),
              np.arange(IMAGES), ("a",) * IMAGES, np.arange(IMAGES, dtype=np.int32))
words = np.ones((IMAGES, 3), np.int32), np.full(IMAGES, 3, np.int32)
batches = make(split, words, "host").batches(0, 10**6)
next(batches)
raise SystemExit(7)
"""


def test_a_program_that_stops_in_the_middle_ends_at_once_and_quietly():
    here = pathlib.Path(__file__)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ABANDON],
        env={"PYTHONPATH": f"{here.parent}:{here.parents[3]}", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (7, "")

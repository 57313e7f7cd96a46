"""Resident images or streamed ones: the same batches."""

import dataclasses
import inspect
import pathlib
import re
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


COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
)
KINDS = ("device", "sharded", "host")


def mesh(devices, model=1):
    return jax.make_mesh(
        (devices // model, model),
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


def make(split, words, kind, devices=1, *, model=1, seed=0, captions_per_pair=2):
    pairs = PairSampler(
        split.caption_image,
        split.labels,
        batch_size=BATCH,
        captions_per_pair=captions_per_pair,
        seed=seed,
    )
    here = mesh(devices, model)
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
@pytest.mark.parametrize("kind", KINDS)
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


def test_all_feeds_give_the_same_batches_to_the_bit(split, words):
    found = {kind: gathered(make(split, words, kind, 8, model=4), 0, 11) for kind in KINDS}
    for kind in ("sharded", "host"):
        for (batch, lengths), (other, other_lengths) in zip(
            found["device"], found[kind], strict=True
        ):
            assert batch.keys() == other.keys()
            jax.tree.map(np.testing.assert_array_equal, batch, other)
            np.testing.assert_array_equal(lengths, other_lengths)


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("kind", KINDS)
def test_how_arrays_lie_on_eight_devices(split, words, kind):
    made = make(split, words, kind, 8)
    images = made.resident.pop("images", None)
    assert all(array.sharding.is_fully_replicated for array in made.resident.values())
    assert (images is None) == (kind == "host")
    if kind == "device":
        assert images.sharding.is_fully_replicated
    if kind == "sharded":  # 13 images: seven on each of two devices, the last of them padded
        rows = [shard.data.shape[0] for shard in images.parts.addressable_shards]
        assert rows == [7] * 8
        np.testing.assert_array_equal(np.asarray(images.parts)[:IMAGES], split.images)
    batch, _ = next(made.batches(0, 1))
    assert ("images" in batch) == (kind == "host")
    for array in batch.values():
        assert [shard.data.shape[0] for shard in array.addressable_shards] == [1] * 8
    assert made.batch_shapes() == {
        key: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
        for key, array in batch.items()
    }


@pytest.mark.parametrize(("times", "group", "part"), [(0, 8, 2), (33, 2, 7), (10, 4, 4)])
def test_split_images_stay_where_they_are(split, words, times, group, part, monkeypatch):
    """Only batches cross the devices, inside of groups as small as memory allows, as uint8."""
    free = type("Memory", (), {"available": int(times * split.images.nbytes)})
    monkeypatch.setattr(feed.psutil, "virtual_memory", lambda: free)
    made = make(split, words, "sharded", 8, model=2)
    batch, _ = next(made.batches(0, 1))
    text = gather.lower(made.resident, batch).compile().as_text()
    found = re.findall(r"= (\(.*?\)|\S+) ([a-z-]+)\(", text)
    moved = [
        (kind, shape)
        for shapes, kind in found
        for shape in re.findall(r"\w+\[[^]]*6,4,3\]", shapes)
    ]
    between = {(kind, shape) for kind, shape in moved if kind in COLLECTIVES}
    assert between == {("all-to-all", "u8[1,6,4,3]")}
    rows = [int(re.findall(r"\[(\d+)", shape)[0]) for kind, shape in moved if kind != "parameter"]
    assert max(rows) == BATCH * group // 8  # a group's share of the batch
    parts = made.resident["images"].parts
    assert [len(shard.data) for shard in parts.addressable_shards] == [part] * 8


def test_images_lie_in_rows_of_a_tile(split, words):
    images = np.random.default_rng(0).integers(0, 256, (len(split.images), 16, 8, 3), np.uint8)
    larger = dataclasses.replace(split, images=images)
    made = make(larger, words, "device")
    assert made.resident["images"].shape == (len(images), 3, 128)
    assert feed.resident_shape((7, 5, 3, 3)) == (7, 5, 3, 3)  # cannot
    (ours, _), (others, _) = (gathered(make(larger, words, k), 0, 1)[0] for k in ("device", "host"))
    assert ours["images"].shape[1:] == (16, 8, 3)
    np.testing.assert_array_equal(ours["images"], others["images"])


def test_what_is_not_there_is_refused(split, words):
    with pytest.raises(ValueError, match="config.data.feed is 'disk'; it takes one of auto, dev"):
        make(split, words, "disk")
    made = make(split, words, "device")
    with pytest.raises(ValueError, match="on the devices, not on the host"):
        made._read(made.sampler(0))


@pytest.mark.parametrize(
    ("devices", "times", "kind", "why"),
    [
        (1, 4.1, "device", "a copy on each fits"),
        (1, 3.9, "host", "they do not fit, and are streamed"),
        # Virtual devices share the host's memory: eight copies take eight times as much.
        (8, 33, "device", "a copy on each fits"),
        (8, 31, "sharded", "a copy on each does not fit, a part of 0.00 GiB does"),
        # 13 images are padded to 16, two on each device: 2 / 13 of them.
        (8, 5.0, "sharded", "a copy on each does not fit, a part of 0.00 GiB does"),
        (8, 4.8, "host", "they do not fit, and are streamed"),
    ],
)
def test_auto_gives_images_a_quarter_of_the_free_memory(
    split, words, monkeypatch, caplog, devices, times, kind, why
):
    free = type("Memory", (), {"available": int(times * split.images.nbytes)})
    monkeypatch.setattr(feed.psutil, "virtual_memory", lambda: free)
    with caplog.at_level("INFO"):
        made = make(split, words, "auto", devices)
    assert made.kind == kind
    assert f"feed: {kind} (images take 0.00 GiB; each of {devices} x CPU device has" in caplog.text
    assert why in caplog.text


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

"""Splits written with flat memory, as TFDS would write them."""

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from tfds_builders.base import ArrayRecordBuilder
from tfds_builders.cuhk_pedes import dummy_data
from tfds_builders.spool import Spool

ARGUMENTS = {"split": "train", "decoders": {"image": tfds.decode.SkipDecoding()}}


def test_examples_come_back_in_the_order_of_tfds(tmp_path):
    examples = [(f"image {i}", bytes([i]) * (i % 7)) for i in range(100)]
    tfds_shuffler, spool = shuffle.Shuffler(tmp_path, "val"), Spool(tmp_path, "val")
    for key, data in examples:
        tfds_shuffler.add(key, data)
        spool.add(key, data)
    assert list(spool) == list(tfds_shuffler) == list(spool)
    assert [data for _, data in spool] != [data for _, data in examples]
    assert len(spool) == 100
    assert spool.size == sum(len(data) for _, data in examples)
    spool.close()


def test_examples_may_keep_their_order(tmp_path):
    spool = Spool(tmp_path, "val", keep_order=True)
    for i in range(100):
        spool.add(f"image {i}", bytes([i]))
    assert [data for _, data in spool] == [bytes([i]) for i in range(100)]
    spool.close()


def test_a_key_that_stands_twice(tmp_path):
    spool = Spool(tmp_path, "val")
    spool.add("a.jpg", b"1")
    with pytest.raises(ValueError, match=r"two examples have the key 'a.jpg'; accepted: one"):
        spool.add("a.jpg", b"2")
    spool.close()


def test_nothing_is_left_where_the_examples_waited(tmp_path):
    spool = Spool(tmp_path, "val")
    spool.add("a", b"1")
    assert not list(tmp_path.iterdir())  # so a killed process leaves nothing either
    spool.close()


@pytest.fixture
def build(tmp_path):
    dummy_data.make(tmp_path / "manual", 60)

    def build(name, **options):
        builder = tfds.builder("cuhk_pedes", data_dir=tmp_path / name)
        config = tfds.download.DownloadConfig(manual_dir=tmp_path / "manual", **options)
        builder.download_and_prepare(download_config=config)
        return builder

    return build


def test_a_split_is_that_of_tfds_but_for_memory(build, monkeypatch):
    # TFDS puts examples aside through TensorFlow, beyond a size that a licensed split exceeds.
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    ours = build("ours", num_shards=3)
    monkeypatch.undo()
    monkeypatch.delattr(ArrayRecordBuilder, "_generate_splits")
    theirs = build("theirs", num_shards=3)
    found, expected = (list(b.as_data_source(**ARGUMENTS)) for b in (ours, theirs))
    assert [e["image_id"] for e in found] == [e["image_id"] for e in expected]
    assert [e["image"] for e in found] == [e["image"] for e in expected]
    for split, info in theirs.info.splits.items():
        assert ours.info.splits[split].shard_lengths == info.shard_lengths
        assert ours.info.splits[split].num_bytes == info.num_bytes
    assert len(ours.info.splits["train"].shard_lengths) == 3


def test_the_first_examples_of_each_split(build):
    assert build("few", max_examples_per_split=2).info.splits["train"].num_examples == 2

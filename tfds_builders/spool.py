"""Writes a split as ArrayRecord files, in TFDS's order, with flat memory and without TensorFlow.

TFDS keeps all examples of a split in memory to sort them, and beyond 1 GB needs TensorFlow to put
them aside. Here they wait in a temporary file.
"""

from __future__ import annotations

import itertools
import pathlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import (
    example_serializer,
    file_adapters,
    hashing,
    naming,
    splits,
    writer,
)
from tensorflow_datasets.core.utils import shard_utils, tqdm_utils


class Spool:
    """Serialised examples on their way to disk.

    They are read back in the order of their hashed keys, or as they came.

    Attributes:
      size: bytes of all examples.
    """

    def __init__(self, folder: pathlib.Path | None, salt: str, *, keep_order: bool = False):
        """Opens the file.

        Args:
          folder: where the temporary file is made, None for the system's place; it has no name
            there, so a killed process leaves nothing behind.
          salt: of the hash; TFDS takes the split's name.
          keep_order: read them back as they came.
        """
        self.size = 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by `close`)
        self._hasher = hashing.Hasher(salt)
        self._keep_order = keep_order
        self._places: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, key: str | int, example: bytes) -> None:
        """Appends an example.

        Args:
          key: tells it from the others.
          example: serialised.

        Raises:
          ValueError: there is one of this key already.
        """
        hashed = self._hasher.hash_key(key)
        if hashed in self._places:
            raise ValueError(f"two examples have the key {key!r}; accepted: one for each key")
        self._places[hashed] = self.size, len(example)
        self._file.write(example)
        self.size += len(example)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        places = self._places.items()
        for hashed, (start, length) in places if self._keep_order else sorted(places):
            self._file.seek(start)
            yield hashed, self._file.read(length)

    def close(self) -> None:
        """Removes the file."""
        self._file.close()


def write_split(
    name: str,
    examples: Iterable[tuple[str | int, Any]],
    info: tfds.core.DatasetInfo,
    template: naming.ShardedFileTemplate,
    shard_config: shard_utils.ShardConfig,
    spool_folder: pathlib.Path | None,
) -> splits.SplitInfo:
    """Writes the examples of a split, with a progress bar.

    Args:
      name: of the split.
      examples: (key, example) of each.
      info: features of an example, and whether examples are shuffled by their keys.
      template: names of the files.
      shard_config: how many files.
      spool_folder: where the examples wait, None for the system's place of temporary files.

    Returns:
      What was written.

    Raises:
      ValueError: there are no examples, or two of one key.
    """
    features = info.features
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    spool = Spool(spool_folder, name, keep_order=info.disable_shuffling)
    try:
        for key, example in _progress(examples, f"Generating {name} examples..."):
            spool.add(key, serializer.serialize_example(features.encode_example(example)))
        if not len(spool):
            raise ValueError(f"split {name} has no examples; accepted: at least one")
        lengths = _write_shards(spool, template, shard_config)
        return splits.SplitInfo(
            name=name, shard_lengths=lengths, num_bytes=spool.size, filename_template=template
        )
    finally:
        spool.close()


def _write_shards(
    spool: Spool, template: naming.ShardedFileTemplate, shard_config: shard_utils.ShardConfig
) -> list[int]:
    """Writes the files and returns the number of examples in each."""
    number = shard_config.get_number_shards(spool.size, len(spool))
    ends = shard_utils.get_shard_boundaries(len(spool), number)
    lengths = [end - start for start, end in itertools.pairwise([0, *ends])]
    example_writer = writer.ExampleWriter(file_adapters.FileFormat.ARRAY_RECORD)
    everything = iter(_progress(spool, f"Writing {template.split} examples...", len(spool)))
    for index, length in enumerate(lengths):
        path = template.sharded_filepath(shard_index=index, num_shards=number)
        example_writer.write(path, itertools.islice(everything, length))
    return lengths


def _progress(items: Iterable[Any], what: str, total: int | None = None) -> Iterable[Any]:
    return tqdm_utils.tqdm(
        items, desc=what, unit=" examples", total=total, leave=False, mininterval=1.0
    )

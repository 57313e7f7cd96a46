"""A split of a TFDS dataset as arrays."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import inspect
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from jaxtyping import Float, Int, UInt8

from jaxreid.data import cache

_FILE_FORMAT = "array_record"  # the one that TFDS can read at random, and without TensorFlow


@dataclasses.dataclass(frozen=True)
class Truth:
    """What a synthetic set knows of N images, M captions, A attributes and R regions.

    Attributes:
      attributes: [N, A] value of each attribute of the person.
      shown: [N, A] 1 where the picture shows the attribute.
      region_boxes: [N, R, 4] y0, x0, y1, x1 as fractions of the picture; -1 where not shown.
      mentions: [M, A] 1 where the caption mentions the attribute.
      caption_regions: [M, W] region of each word (default tokeniser), -1 for none.
      regions: names of the R regions.
      word_regions: names of the regions that count for word-part accuracy.
    """

    attributes: Int[np.ndarray, "N A"]
    shown: UInt8[np.ndarray, "N A"]
    region_boxes: Float[np.ndarray, "N R 4"]
    mentions: UInt8[np.ndarray, "M A"]
    caption_regions: Int[np.ndarray, "M W"]
    regions: tuple[str, ...]
    word_regions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Split:
    """N images and M captions of one split, in the dataset's order.

    Attributes:
      name: ``dataset/config:split``.
      images: [N, H, W, 3] uint8, a memory map.
      image_ids: N file names relative to the dataset's image folder.
      pids: [N] published identity of each image.
      camids: [N] camera, -1 unknown.
      captions: M sentences as given.
      caption_image: [M] position of the image that each caption describes.
      truth: the synthetic set's truth, None for photographs.
    """

    name: str
    images: UInt8[np.ndarray, "N H W 3"]
    image_ids: tuple[str, ...]
    pids: Int[np.ndarray, " N"]
    camids: Int[np.ndarray, " N"]
    captions: tuple[str, ...]
    caption_image: Int[np.ndarray, " M"]
    truth: Truth | None = None

    @functools.cached_property
    def identities(self) -> Int[np.ndarray, " I"]:
        """Sorted distinct pids; a dense label is a position in here."""
        return np.unique(self.pids)

    @functools.cached_property
    def labels(self) -> Int[np.ndarray, " N"]:
        """Dense identity label of each image, 0 .. I-1."""
        return np.searchsorted(self.identities, self.pids).astype(np.int32)

    @property
    def caption_pids(self) -> Int[np.ndarray, " M"]:
        """Identity of each caption."""
        return self.pids[self.caption_image]


def load_split(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike[str],
    image_size: tuple[int, int],
    cache_dir: str | os.PathLike[str] = "",
    manual_dir: str | os.PathLike[str] = "",
    register: str = "",
) -> Split:
    """Reads a split, building a dataset that draws itself where it is missing.

    Args:
      name: TFDS name, ``dataset`` or ``dataset/config``.
      split: split of it, ``train`` for example.
      data_dir: TFDS folder.
      image_size: (height, width) in pixels to decode to.
      cache_dir: local folder of decoded images; empty for the user's cache folder.
      manual_dir: folder of the licensed files, should the set have to be built from them.
      register: package whose import registers builders.

    Returns:
      The split as arrays.

    Raises:
      ValueError: no such dataset or split, nothing built yet and no files to build from, or broken
        images.
    """
    builder = find_builder(name, data_dir=data_dir, register=register)
    prepare(builder, manual_dir=manual_dir)
    if split not in builder.info.splits:
        known = ", ".join(sorted(builder.info.splits))
        raise ValueError(f"dataset {name!r} has no split {split!r}; it has: {known}.")
    decoders = {"image": tfds.decode.SkipDecoding()}
    records = builder.as_data_source(split=split, decoders=decoders)
    return _to_split(builder, split, records, image_size, cache_dir or cache.default_cache_dir())


def find_builder(
    name: str, *, data_dir: str | os.PathLike[str], register: str = ""
) -> tfds.core.DatasetBuilder:
    """Finds a dataset by its TFDS name.

    Args:
      name: ``dataset`` or ``dataset/config``.
      data_dir: TFDS folder; ``~`` is expanded.
      register: package whose import registers builders; empty for none.

    Raises:
      ValueError: the package cannot be imported, or no builder has this name.
    """
    if register:
        try:
            importlib.import_module(register)
        except (ImportError, TypeError, ValueError) as error:
            raise ValueError(
                f"config.data.register = {register!r} cannot be imported ({error}). It names the "
                "package that registers dataset builders; install it, or leave the field empty."
            ) from error
    try:
        return tfds.builder(name, data_dir=os.path.expanduser(data_dir))
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
        unknown = isinstance(error, tfds.core.DatasetNotFoundError)
        reason = "no builder has this name" if unknown else str(error).split("\n", 1)[0]
        raise ValueError(
            f"config.data.name is {name!r}: {reason}. {register or 'No package'} "
            f"(config.data.register) offers: {', '.join(_offered(register)) or 'none'}."
        ) from error


def _offered(register: str) -> list[str]:
    """Lists what a package registers, each dataset with each of its configs."""
    found, classes = [], [tfds.core.DatasetBuilder]
    while classes:
        builder = classes.pop()
        classes += builder.__subclasses__()
        if register and builder.__module__.startswith(register) and not inspect.isabstract(builder):
            configs = [config.name for config in builder.BUILDER_CONFIGS]
            found += [f"{builder.name}/{config}" for config in configs] or [builder.name]
    return sorted(found)


def prepare(builder: tfds.core.DatasetBuilder, *, manual_dir: str | os.PathLike[str] = "") -> None:
    """Builds a dataset that is not built yet, if what it is made from is at hand.

    Args:
      builder: from `find_builder`.
      manual_dir: folder of the licensed files; a set that draws itself needs none.

    Raises:
      ValueError: the set is made from licensed files and no folder is given, its folder holds
        something else, or it cannot be written.
    """
    if (builder.data_path / "dataset_info.json").exists():
        found = builder.info.file_format
        if found is None or found.value != _FILE_FORMAT:
            raise ValueError(
                f"{builder.data_path} holds {found and found.value} files; only {_FILE_FORMAT} is "
                "read. Remove that folder, or name another one in config.data.data_dir."
            )
        return
    if builder.data_path.exists():  # TFDS would take it for the dataset
        raise ValueError(
            f"{builder.data_path} exists but holds no finished dataset (no dataset_info.json). "
            "Remove that folder, or name another one in config.data.data_dir."
        )
    if getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None) and not manual_dir:
        raise ValueError(
            f"dataset {builder.info.full_name!r} is not built in {builder.data_path}. It is made "
            "from licensed files: set config.data.manual_dir to the folder that holds them, or "
            f"config.data.data_dir to where it is built.\n{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )
    logging.info("building %s in %s", builder.info.full_name, builder.data_path)
    config = tfds.download.DownloadConfig(
        manual_dir=os.path.expanduser(manual_dir) if manual_dir else None
    )
    try:
        builder.info.set_file_format(_FILE_FORMAT, override=True)
        builder.download_and_prepare(download_config=config)
    except OSError as error:
        raise ValueError(
            f"dataset {builder.info.full_name!r} cannot be built in {builder.data_path} ({error}). "
            "config.data.data_dir names the folder to build in."
        ) from error


def _to_split(
    builder: tfds.core.DatasetBuilder,
    split: str,
    records: Sequence[dict[str, Any]],
    image_size: tuple[int, int],
    cache_dir: str | os.PathLike[str],
) -> Split:
    fields: dict[str, list[Any]] = (
        {key: [] for key in records[0] if key != "image"} if len(records) else {}
    )
    for record in records:
        for key, values in fields.items():
            values.append(record[key])
    if not fields:
        raise ValueError(f"split {split!r} of {builder.info.full_name!r} holds no image.")
    image_ids = tuple(_text(value) for value in fields["image_id"])
    counts = [len(captions) for captions in fields["captions"]]
    images = cache.cached_images(
        lambda index: (image_ids[index], bytes(records[index]["image"])),
        len(records),
        image_size,
        key=_fingerprint(builder, split),
        cache_dir=cache_dir,
    )
    return Split(
        name=f"{builder.info.full_name.rsplit('/', 1)[0]}:{split}",
        images=images,
        image_ids=image_ids,
        pids=np.asarray(fields["person_id"], np.int64),
        camids=np.asarray(fields["camera_id"], np.int64),
        captions=tuple(_text(text) for captions in fields["captions"] for text in captions),
        caption_image=np.repeat(np.arange(len(records), dtype=np.int32), counts),
        truth=_truth(builder, fields) if "caption_mentions" in fields else None,
    )


def _text(value: bytes | str) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _fingerprint(builder: tfds.core.DatasetBuilder, split: str) -> dict[str, Any]:
    """Names what the pixels come from: a rebuilt or replaced set gets a cache of its own."""
    digest = hashlib.sha256()
    for file in sorted(pathlib.Path(builder.data_path).iterdir()):
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return {"dataset": builder.info.full_name, "split": split, "files": digest.hexdigest()}


def _truth(builder: tfds.core.DatasetBuilder, fields: dict[str, list[Any]]) -> Truth:
    metadata = builder.info.metadata
    return Truth(
        attributes=np.asarray(fields["attributes"], np.int32),
        shown=np.asarray(fields["shown"], np.uint8),
        region_boxes=np.asarray(fields["region_boxes"], np.float32),
        mentions=np.concatenate(fields["caption_mentions"]).astype(np.uint8),
        caption_regions=np.concatenate(fields["caption_regions"]).astype(np.int8),
        regions=tuple(metadata["regions"]),
        word_regions=tuple(metadata["word_regions"]),
    )

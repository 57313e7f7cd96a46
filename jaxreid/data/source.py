"""A split of a TFDS dataset as arrays."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from jaxtyping import Float, Int, UInt8

from jaxreid import paths
from jaxreid.data import cache, decode, remote

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
      views: key of each image's view, for sets divided by views; "" in their splits that are not
        divided, None for other sets.
    """

    name: str
    images: UInt8[np.ndarray, "N H W 3"]
    image_ids: tuple[str, ...]
    pids: Int[np.ndarray, " N"]
    camids: Int[np.ndarray, " N"]
    captions: tuple[str, ...]
    caption_image: Int[np.ndarray, " M"]
    truth: Truth | None = None
    views: tuple[str, ...] | None = None

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
    resize: str = "bicubic",
    cache_dir: str | os.PathLike[str] = "",
    manual_dir: str | os.PathLike[str] = "",
    register: str = "",
) -> Split:
    """Reads a split, building the dataset where it is missing.

    Args:
      name: TFDS name, ``dataset`` or ``dataset/config``.
      split: split of it, ``train`` for example.
      data_dir: TFDS folder.
      image_size: (height, width) in pixels to decode to.
      resize: how, see `decode.decode_image`.
      cache_dir: local folder of decoded images; empty for the user's cache folder.
      manual_dir: folder of the files that the set is built from, or was built from.
      register: package whose import registers builders.

    Returns:
      The split as arrays.

    Raises:
      ValueError: no such dataset or split, nothing built yet and no files to build from, a set
        that was built from other files, broken images, or an unknown ``resize``.
    """
    decode.check_resize(resize)  # before anything is built
    builder = finished(name, (split,), data_dir=data_dir, manual_dir=manual_dir, register=register)
    return read_split(builder, split, image_size=image_size, resize=resize, cache_dir=cache_dir)


def finished(
    name: str,
    splits: Iterable[str],
    *,
    data_dir: str | os.PathLike[str],
    manual_dir: str | os.PathLike[str] = "",
    register: str = "",
) -> tfds.core.DatasetBuilder:
    """Finds a dataset, builds it where it is missing, and makes sure that it has some splits.

    Args:
      name: TFDS name, ``dataset`` or ``dataset/config``.
      splits: their names.
      data_dir: TFDS folder.
      manual_dir: folder of the files that the set is built from, or was built from.
      register: package whose import registers builders.

    Raises:
      ValueError: no such dataset or split, nothing built yet and no files to build from, or a set
        that was built from other files.
    """
    builder = find_builder(name, data_dir=data_dir, register=register)
    prepare(builder, manual_dir=manual_dir)
    for split in splits:
        if split not in builder.info.splits:
            known = ", ".join(sorted(builder.info.splits))
            raise ValueError(f"dataset {name!r} has no split {split!r}; it has: {known}.")
    return builder


def read_split(
    builder: tfds.core.DatasetBuilder,
    split: str,
    *,
    image_size: tuple[int, int],
    resize: str = "bicubic",
    cache_dir: str | os.PathLike[str] = "",
) -> Split:
    """Reads a split of a finished dataset.

    Args:
      builder: of the dataset.
      split: one that it has.
      image_size: (height, width) in pixels to decode to.
      resize: how, see `decode.decode_image`.
      cache_dir: local folder of decoded images; empty for the user's cache folder.

    Returns:
      The split as arrays.

    Raises:
      ValueError: the split holds no image, or broken ones.
    """
    records = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    fields = _fields(records)
    if not fields:
        raise ValueError(f"split {split!r} of {builder.info.full_name!r} holds no image.")
    image_ids = _texts(fields["image_id"])
    counts = [len(captions) for captions in fields["captions"]]
    images = cache.cached_images(
        lambda index: (image_ids[index], bytes(records[index]["image"])),
        len(records),
        image_size,
        resize=resize,
        key=_fingerprint(builder, split),
        cache_dir=cache_dir or cache.default_cache_dir(),
    )
    return Split(
        name=f"{builder.info.full_name.rsplit('/', 1)[0]}:{split}",
        images=images,
        image_ids=image_ids,
        pids=np.asarray(fields["person_id"], np.int64),
        camids=np.asarray(fields["camera_id"], np.int64),
        captions=_texts(text for captions in fields["captions"] for text in captions),
        caption_image=np.repeat(np.arange(len(records), dtype=np.int32), counts),
        truth=_truth(builder, fields) if "caption_mentions" in fields else None,
        views=_texts(fields["view"]) if "view" in fields else None,
    )


def find_builder(
    name: str, *, data_dir: str | os.PathLike[str], register: str = ""
) -> tfds.core.DatasetBuilder:
    """Finds a dataset by its TFDS name.

    Args:
      name: ``dataset`` or ``dataset/config``.
      data_dir: TFDS folder; ``~`` is expanded. Of one in a bucket the dataset is copied to the
        local disk, once, and the builder is of that copy.
      register: package whose import registers builders; empty for none.

    Raises:
      ValueError: the package cannot be imported, no builder has this name, or the bucket does not
        hold the dataset.
    """
    if register:
        try:
            importlib.import_module(register)
        except (ImportError, TypeError, ValueError) as error:
            raise ValueError(
                f"config.data.register = {register!r} cannot be imported ({error}). It names the "
                "package that registers dataset builders; install it, or leave the field empty."
            ) from error
    if not paths.is_remote(data_dir):
        return _builder(name, os.path.expanduser(data_dir), register)
    where = paths.as_path(data_dir, "config.data.data_dir")
    with paths.explained(where, "config.data.data_dir"):
        folder = paths.as_path(_builder(name, os.fspath(where), register).data_path)
        is_built = (folder / remote.INFO_FILE).exists()
    if not is_built:
        dataset = name.partition("/")[0]
        raise ValueError(
            f"dataset {name!r} is not built in {folder}, and datasets are not built in a bucket. "
            f"Build it on a local disk and copy it: jaxreid data {name} --data_dir DIR, then "
            f"gcloud storage cp --recursive DIR/{dataset} {where}/"
        )
    return _builder(
        name, os.fspath(remote.local_data_dir(folder, folder.relative_to(where))), register
    )


def _builder(name: str, data_dir: str, register: str) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
        unknown = isinstance(error, tfds.core.DatasetNotFoundError)
        reason = "no builder has this name" if unknown else str(error).split("\n", 1)[0]
        raise ValueError(
            f"config.data.name is {name!r}: {reason}. {register or 'No package'} "
            f"(config.data.register) offers: {_offered(register, name)}."
        ) from error


def _offered(register: str, name: str) -> str:
    """Lists the datasets of a package, or the configs of the one that is named.

    Only builders with a version count: others are bases of theirs.
    """
    found: dict[str, list[str]] = {}
    classes = [tfds.core.DatasetBuilder]
    while classes:
        builder = classes.pop()
        classes += builder.__subclasses__()
        if register and builder.__module__.startswith(register) and builder.VERSION is not None:
            found[builder.name] = [config.name for config in builder.BUILDER_CONFIGS]
    dataset = name.partition("/")[0]
    if found.get(dataset):
        return ", ".join(f"{dataset}/{config}" for config in found[dataset])
    return ", ".join(sorted(found)) or "none"


def prepare(builder: tfds.core.DatasetBuilder, *, manual_dir: str | os.PathLike[str] = "") -> None:
    """Builds a dataset that is not built yet, if what it is made from is at hand.

    Args:
      builder: from `find_builder`.
      manual_dir: folder of the licensed files; a set that draws itself needs none. A set that is
        built already is left as it is, but its builder gets to say that it was built from others.

    Raises:
      ValueError: the set is made from licensed files and no folder is given, it was built from
        other files, its folder holds something else, or it cannot be written.
    """
    config = tfds.download.DownloadConfig(
        manual_dir=os.path.expanduser(manual_dir) if manual_dir else None
    )
    if (builder.data_path / "dataset_info.json").exists():
        found = builder.info.file_format
        if found is None or found.value != _FILE_FORMAT:
            raise ValueError(
                f"{builder.data_path} holds {found and found.value} files; only {_FILE_FORMAT} is "
                "read. Remove that folder, or name another one in config.data.data_dir."
            )
        if manual_dir:
            builder.download_and_prepare(download_config=config)
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
    try:
        builder.info.set_file_format(_FILE_FORMAT, override=True)
        builder.download_and_prepare(download_config=config)
    except OSError as error:
        raise ValueError(
            f"dataset {builder.info.full_name!r} cannot be built in {builder.data_path} ({error}). "
            "config.data.data_dir names the folder to build in."
        ) from error


def _fields(records: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Gathers the values of each feature but the image, whose bytes would fill the memory."""
    fields: dict[str, list[Any]] = {}
    for record in records:
        for key, value in record.items():
            if key != "image":
                fields.setdefault(key, []).append(value)
    return fields


def _texts(values: Iterable[bytes | str]) -> tuple[str, ...]:
    return tuple(v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values)


def _fingerprint(builder: tfds.core.DatasetBuilder, split: str) -> dict[str, Any]:
    """Names what the pixels come from: a rebuilt or replaced set gets a cache of its own.

    Files are told apart by size and time of change, since to read them takes longer than to decode
    what a smoke run needs. A copy with other times costs a cache of its own, never wrong pixels.
    """
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

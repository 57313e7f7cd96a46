"""What all builders of this package share: file format, features, counts against published ones."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from tfds_builders import spool

FILE_FORMAT = "array_record"
SPLITS = ("train", "val", "test")
UNKNOWN_CAMERA = -1


def person_features(**extra: Any) -> tfds.features.FeaturesDict:
    """Returns the features of one example, the same for every dataset: one image and its captions.

    Args:
      **extra: further features by name, for datasets that know more.

    Returns:
      image (file bytes as they are), image_id, person_id, camera_id, captions, and the extra ones.

    Raises:
      ValueError: an extra feature has the name of a common one.
    """
    common = {
        "image": tfds.features.Image(doc="File bytes, encoding untouched."),
        "image_id": tfds.features.Text(doc="File path relative to the image root; unique."),
        "person_id": tfds.features.Scalar(np.int64, doc="Identity, as published."),
        "camera_id": tfds.features.Scalar(np.int64, doc="Camera; -1 where unknown."),
        "captions": tfds.features.Sequence(
            tfds.features.Text(), doc="Raw sentences, any number, as given."
        ),
    }
    taken = sorted(common.keys() & extra.keys())
    if taken:
        raise ValueError(f"extra features {taken}: accepted are names other than {list(common)}")
    return tfds.features.FeaturesDict({**common, **extra})


class ArrayRecordBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A builder that writes ArrayRecord files unless told otherwise.

    TFDS writes tfrecord files by default, which need TensorFlow to be read. Besides, memory stays
    flat, and a build is safe to repeat: two builds of one dataset wait for each other, and what a
    killed one left behind is removed by the next.
    """

    def __init__(self, *, data_dir: Any = None, file_format: Any = None, **kwargs: Any):
        """Makes the builder.

        Args:
          data_dir: where datasets lie; None for TFDS's default.
          file_format: None for that of the data on disk, ArrayRecord where there is none yet.
          **kwargs: config and version, see `tfds.core.DatasetBuilder`.
        """
        # TFDS would make a folder named "~".
        data_dir = os.path.expanduser(data_dir) if data_dir else None
        super().__init__(data_dir=data_dir, file_format=file_format, **kwargs)
        if file_format is None and not self._is_finished():
            self.info.set_file_format(FILE_FORMAT, override=True)

    def _is_finished(self) -> bool:
        # is_prepared() says the same with a warning for each dataset that is not there yet.
        return (self.data_path / "dataset_info.json").exists()

    def download_and_prepare(self, *, download_config: Any = None, **kwargs: Any) -> None:
        """Builds the dataset unless it is there already.

        Args:
          download_config: `tfds.download.DownloadConfig`.
          **kwargs: see `tfds.core.DatasetBuilder.download_and_prepare`.

        Raises:
          ValueError: the folder of the dataset exists but holds no finished dataset.
        """
        config = download_config or tfds.download.DownloadConfig()
        reuse = config.download_mode == tfds.GenerateMode.REUSE_DATASET_IF_EXISTS
        if reuse and self._is_finished():  # needs no lock, so a read-only folder will do
            self.info.read_from_directory(self.data_dir)
            return
        with _only_build(self.data_dir):
            if reuse and self._is_finished():  # another process has built it meanwhile
                self.info.read_from_directory(self.data_dir)
                return
            # TFDS would take any folder of that name, even an empty one, for the dataset.
            if reuse and self.data_path.exists():
                raise ValueError(
                    f"{self.data_dir} exists but holds no finished dataset (no dataset_info.json). "
                    "Remove that folder or choose another data_dir."
                )
            super().download_and_prepare(download_config=config, **kwargs)

    def _generate_splits(self, dl_manager: Any, download_config: Any) -> Sequence[Any]:
        found = self.info.file_format
        if found is None or found.value != FILE_FORMAT or download_config.max_examples_per_split:
            return super()._generate_splits(dl_manager, download_config)
        generators = self._split_generators(dl_manager)
        folder = None if "://" in self.data_dir else pathlib.Path(self.data_dir)
        return [
            spool.write_split(
                split,
                examples,
                self.info,
                self._get_filename_template(split),
                download_config.get_shard_config(),
                folder,
            )
            for split, examples in generators.items()
        ]


@contextlib.contextmanager
def _only_build(data_dir: str) -> Iterator[None]:
    """Keeps other builds of this dataset waiting, and removes what killed ones left behind."""
    if "://" in data_dir:  # a bucket: no locks there
        yield
        return
    folder = pathlib.Path(data_dir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f".{folder.name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            logging.warning("no lock on %s (%s): do not build it twice at once", folder, error)
        else:
            # Under the lock no build is alive, so such folders are of killed ones.
            for left in folder.parent.glob(f"incomplete.*_{folder.name}"):
                logging.warning("removing what a killed build left behind: %s", left)
                shutil.rmtree(left, ignore_errors=True)
        yield


@dataclasses.dataclass(frozen=True)
class SplitCounts:
    """Size of a split, or of a part of one.

    Attributes:
      images: number of images.
      captions: number of captions.
      ids: number of identities.

    A published number that is not known is None.
    """

    images: int | None
    captions: int | None
    ids: int | None


def count_lines(
    published: Mapping[str, SplitCounts], found: Mapping[str, SplitCounts]
) -> list[str]:
    """Compares sizes with the published ones.

    Args:
      published: sizes by name.
      found: sizes by name; a missing name means that nothing was found.

    Returns:
      One line for each number that differs, none if all agree.
    """
    nothing = SplitCounts(0, 0, 0)
    lines = []
    for name in [*published, *(name for name in found if name not in published)]:
        want, got = (dataclasses.asdict(d.get(name, nothing)) for d in (published, found))
        lines += [
            f"{name}: {got[what]:,} {what}, published {want[what]:,} ({got[what] - want[what]:+,})"
            for what in want
            if want[what] is not None and got[what] != want[what]
        ]
    return lines


def first_names(names: Iterable[Any], limit: int = 5) -> str:
    """Lists the first few names and says how many more there are.

    Args:
      names: what to list.
      limit: how many to show.

    Returns:
      For example "a, b, c, d, e and 7 more".
    """
    everything = [str(name) for name in names]
    more = len(everything) - limit
    shown = ", ".join(everything[:limit])
    return f"{shown} and {more:,} more" if more > 0 else shown


def named_line(what: str, names: Collection[Any]) -> list[str]:
    """Returns a report line with count and first five names; no line where there are no names.

    Args:
      what: the finding, for example "images without captions".
      names: whom it concerns.
    """
    return [f"{len(names):,} {what}: {first_names(names)}"] if names else []

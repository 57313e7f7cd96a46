"""What the builders share whose files a user has to fetch: read, check, report, then write."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import tensorflow_datasets as tfds
from absl import logging

from tfds_builders import images
from tfds_builders.base import ArrayRecordBuilder, SplitCounts, count_lines, person_features

if TYPE_CHECKING:
    from tfds_builders import doctor


@dataclasses.dataclass(frozen=True)
class Record:
    """One image with its captions.

    Attributes:
      file_path: path of the image under the image root, with "/"; becomes `image_id`.
      person_id: identity, as published.
      captions: sentences as given, line breaks and blanks included.
      camera_id: camera, -1 where unknown.
      view: name of the view, for sets divided by views; "" elsewhere.
    """

    file_path: str
    person_id: int
    captions: tuple[str, ...]
    camera_id: int
    view: str = ""


@dataclasses.dataclass(frozen=True)
class Counts:
    """Found against published size of a split, or of a part of one.

    Attributes:
      name: for example "test" or "test, folder Market".
      found: what is there.
      published: what should be there; None where nothing was published.
    """

    name: str
    found: SplitCounts
    published: SplitCounts | None = None


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a builder finds in a user's folder, before it looks at a single image.

    Attributes:
      folder: the dataset's folder.
      image_root: what `Record.file_path` is relative to.
      files: the files read, annotations first.
      splits: records by name of the split; a record may stand in several.
      counts: sizes beside the published ones.
      differences: how this copy differs from the published set; one line each.
      notes: what is unusual but usable: one line each, with count and first five names.
      faults: why nothing can be built; each says what is accepted and what to do.
    """

    folder: pathlib.Path
    image_root: pathlib.Path
    files: tuple[pathlib.Path, ...]
    splits: Mapping[str, tuple[Record, ...]]
    counts: tuple[Counts, ...] = ()
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """Returns the images of all splits, each once, in order."""
        return list(dict.fromkeys(r.file_path for part in self.splits.values() for r in part))

    def fingerprint(self) -> str:
        """Returns a digest of the files read: it tells one user's copy from another."""
        digest = hashlib.sha256()
        for path in self.files:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def count(records: Iterable[Record]) -> SplitCounts:
    """Returns the numbers of images, captions and identities among the records."""
    records = list(records)
    return SplitCounts(
        images=len(records),
        captions=sum(len(record.captions) for record in records),
        ids=len({record.person_id for record in records}),
    )


def count_parts(
    parts: Mapping[str, Sequence[Record]], published: Mapping[str, SplitCounts]
) -> tuple[Counts, ...]:
    """Counts splits, or parts of them, beside the published sizes.

    Args:
      parts: records by name.
      published: sizes by name; one that has no records counts as empty.

    Returns:
      The counts, those that were published first.
    """
    names = dict.fromkeys([*published, *parts])
    return tuple(Counts(name, count(parts.get(name, ())), published.get(name)) for name in names)


def differing(counts: Iterable[Counts]) -> list[str]:
    """Returns one line for each number that is not the published one."""
    counts = [part for part in counts if part.published is not None]
    return count_lines(
        {part.name: part.published for part in counts if part.published},
        {part.name: part.found for part in counts},
    )


class ManualBuilder(ArrayRecordBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A builder of a set that a user fetches; derived classes say how a folder is read.

    A derived class lives in a package of its own, beside a module `dummy_data`, and defines `read`
    and these class attributes:

    Attributes:
      HOMEPAGE: page of the dataset.
      HOW_TO_GET: whom to ask, one sentence.
      EXPECTED_TREE: the folder as drawn in messages.
      USUAL_CAPTIONS: captions of an ordinary image, None where any number is.
    """

    HOMEPAGE: ClassVar[str]
    HOW_TO_GET: ClassVar[str]
    EXPECTED_TREE: ClassVar[str]
    USUAL_CAPTIONS: ClassVar[int | None] = None

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "HOW_TO_GET") and hasattr(cls, "EXPECTED_TREE"):
            cls.MANUAL_DOWNLOAD_INSTRUCTIONS = f"{cls.HOW_TO_GET}\n{cls.EXPECTED_TREE}"

    def read(self, manual_dir: pathlib.Path) -> Contents:
        """Reads and checks everything but the images.

        Args:
          manual_dir: what the user gave: the folder that holds the dataset's, or that itself.

        Returns:
          What was found; `faults` lists what forbids a build.

        Raises:
          ValueError: there is nothing to read: no such folder, no annotation file, no JSON.
        """
        raise NotImplementedError

    def examine(
        self, manual_dir: pathlib.Path, *, progress: Callable[..., Any] | None = None
    ) -> doctor.Examination:
        """Checks a user's folder, images included, without building anything.

        Args:
          manual_dir: what the user gave.
          progress: see `tfds_builders.doctor.examine`.

        Returns:
          What was found, what is wrong and what to do next.
        """
        from tfds_builders import doctor  # which imports this module

        return doctor.examine(self, manual_dir, progress)

    @classmethod
    def write_dummy_data(cls, folder: pathlib.Path, **options: Any) -> pathlib.Path:
        """Writes a small made-up copy of the dataset, oddities included.

        Args:
          folder: where to; serves as manual_dir.
          **options: see `make` in the module `dummy_data` beside the builder.

        Returns:
          The dataset's folder.
        """
        package = cls.__module__.rpartition(".")[0]
        return importlib.import_module(f"{package}.dummy_data").make(folder, **options)

    def download_and_prepare(self, *, download_config: Any = None, **kwargs: Any) -> None:
        """Builds the dataset unless it is there already.

        Args:
          download_config: `tfds.download.DownloadConfig`, whose `manual_dir` is the user's folder.
          **kwargs: see `tfds.core.DatasetBuilder.download_and_prepare`.

        Raises:
          ValueError: the folder is not as it should be, the dataset's folder exists but holds no
            finished dataset, or it holds one that was built from other files.
        """
        was_finished = self._is_finished()
        super().download_and_prepare(download_config=download_config, **kwargs)
        manual_dir = getattr(download_config, "manual_dir", None)
        folder = pathlib.Path(os.path.expanduser(manual_dir or ""))
        if was_finished and manual_dir and folder.is_dir():
            self._check_source(folder)

    def _check_source(self, manual_dir: pathlib.Path) -> None:
        """Raises ValueError if the finished dataset was built from other files than these."""
        try:
            built_from = self.info.metadata["source"]
        except KeyError:  # built before this was kept
            return
        try:
            contents = self.read(manual_dir)
        except ValueError:  # the folder of another dataset, say, of the run's training set
            logging.info("%s is built; nothing of it was found in %s", self.name, manual_dir)
            return
        if contents.fingerprint() != built_from:
            raise ValueError(
                f"{self.data_dir} was built from other files than those in {contents.folder} "
                f"({', '.join(path.name for path in contents.files)} differ). Leave out manual_dir "
                "to use it as it is, name another data_dir, or build it anew by python -m "
                "tfds_builders.build with --overwrite."
            )

    def _features(self) -> tfds.features.FeaturesDict:
        return person_features()

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=self._features(),
            homepage=self.HOMEPAGE,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        try:
            manual_dir = pathlib.Path(dl_manager.manual_dir)
        except AssertionError as error:  # TFDS: the folder is missing or empty
            raise ValueError(str(error)) from error
        except NotADirectoryError as error:
            raise ValueError(
                f"manual_dir = {error.filename} is a file, not a folder\n{self.EXPECTED_TREE}\n"
                "What to do: pass the folder."
            ) from error
        contents = self.read(manual_dir)
        logging.info("read %s", ", ".join(map(str, contents.files)))
        if contents.faults:
            raise ValueError("\n".join(contents.faults))
        located = images.locate(contents.image_root, contents.names())
        images.check_images(located)
        self._report(contents, located)
        return {
            name: self._generate_examples(located, part)
            for name, part in contents.splits.items()
            if part
        }

    def _generate_examples(
        self, located: images.Located, records: Sequence[Record]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for record in records:
            yield record.file_path, self._example(record, located.paths[record.file_path])

    def _example(self, record: Record, path: pathlib.Path) -> dict[str, Any]:
        return {
            "image": path,
            "image_id": record.file_path,
            "person_id": record.person_id,
            "camera_id": record.camera_id,
            "captions": list(record.captions),
        }

    def _report(self, contents: Contents, located: images.Located) -> None:
        """Logs what differs from the published set, and keeps it with the data."""
        notes = [*contents.notes, *located.notes()]
        if contents.differences:
            logging.warning(
                "this copy of %s differs from the published one (it is built as it is):\n  %s",
                self.name,
                "\n  ".join(contents.differences),
            )
        if notes:
            logging.warning("worth knowing about this copy:\n  %s", "\n  ".join(notes))
        self.info.metadata["differences"] = list(contents.differences)
        self.info.metadata["notes"] = notes
        self.info.metadata["source"] = contents.fingerprint()

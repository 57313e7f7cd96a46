"""What is in a built dataset: people, images, sentences, words and image sizes of each split."""

from __future__ import annotations

import collections
import dataclasses
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import PIL.Image
import tensorflow_datasets as tfds
from absl import logging

from jaxreid import tables, text

MIN_COUNT = 2  # occurrences that `text.Vocabulary.from_captions` asks of a word
_VOCABULARY_SPLIT = "train"
_ORDER = ("train", "train_minus_val", "val", "test", "query", "gallery")  # then any other
_NUM_SIZES = 5

_EXIF_ORIENTATION = 0x0112
_LYING = range(5, 9)  # its values for pictures stored on their side


@dataclasses.dataclass(frozen=True)
class Spread:
    """A distribution of whole numbers, in four.

    Attributes:
      min: the smallest.
      mean: their mean.
      median: the one in the middle, the mean of the two where their number is even.
      max: the largest.
    """

    min: int
    mean: float
    median: float
    max: int

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> Spread | None:
        """Sums up numbers that occur so often each; None if there are none.

        >>> Spread.of({2: 3, 10: 1})
        Spread(min=2, mean=4.0, median=2.0, max=10)
        """
        total = sum(counts.values())
        if not total:
            return None
        order = sorted(counts)
        mean = sum(value * count for value, count in counts.items()) / total
        middle, seen, median = ((total - 1) // 2, total // 2), 0, 0.0
        for value in order:
            median += value * sum(seen <= place < seen + counts[value] for place in middle) / 2
            seen += counts[value]
        return cls(order[0], mean, median, order[-1])


@dataclasses.dataclass(frozen=True)
class SplitStatistics:
    """What a split holds.

    Attributes:
      identities: distinct people.
      images: photographs.
      captions: sentences.
      cameras: distinct cameras, among the images whose camera is known.
      images_without_camera: images whose camera is not known.
      images_without_caption: images that no sentence describes.
      images_per_identity: None in an empty split.
      captions_per_image: likewise.
      words_per_caption: None without sentences.
      words: words of all sentences, by the default tokeniser.
      distinct_words: different ones among these.
      cover: percent of the words that the vocabulary knows; None without words or vocabulary.
      height: of the images in pixels, upright.
      width: likewise.
      sizes: the commonest sizes, as height, width and number of images.
    """

    identities: int
    images: int
    captions: int
    cameras: int
    images_without_camera: int
    images_without_caption: int
    images_per_identity: Spread | None
    captions_per_image: Spread | None
    words_per_caption: Spread | None
    words: int
    distinct_words: int
    cover: float | None
    height: Spread | None
    width: Spread | None
    sizes: tuple[tuple[int, int, int], ...]


@dataclasses.dataclass(frozen=True)
class Exploration:
    """What a dataset holds.

    Attributes:
      name: ``dataset/config/version``.
      folder: where it lies.
      vocabulary: words that occur `MIN_COUNT` times or more in the training sentences; None for a
        set without a split ``train``.
      splits: by name, see `split_names`.
    """

    name: str
    folder: str
    vocabulary: int | None
    splits: Mapping[str, SplitStatistics]

    def to_json(self, **more: Any) -> str:
        """Writes all numbers as one JSON object.

        Args:
          **more: further fields of it.
        """
        return json.dumps(dataclasses.asdict(self) | {"min_count": MIN_COUNT} | more, indent=2)

    def text(self) -> str:
        """Writes the numbers as a table for the screen, a column for each split."""
        rows = [["", *self.splits]]
        for label, cell in _ROWS.items():
            rows.append([label, *map(cell, self.splits.values())])
        for place in range(max(len(split.sizes) for split in self.splits.values())):
            label = "" if place else "commonest sizes (height x width)"
            rows.append([label, *(_size(split, place) for split in self.splits.values())])
        lines = [f"{self.name}, in {self.folder}", "", *tables.align(rows)]
        if self.vocabulary is not None:
            lines += [
                "",
                f"vocabulary: {self.vocabulary:,} words, those that occur {MIN_COUNT} times or "
                f"more in {_VOCABULARY_SPLIT}",
            ]
        return "\n".join(lines)


def _three(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.min:,} / {spread.mean:,.1f} / {spread.max:,}"


def _words(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.mean:.1f} / {spread.median:g} / {spread.max:,}"


def _range(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return f"{spread.min:,}" + (f" to {spread.max:,}" if spread.max > spread.min else "")


def _size(split: SplitStatistics, place: int) -> str:
    if place >= len(split.sizes):
        return ""
    height, width, count = split.sizes[place]
    return f"{height} x {width}: {count:,}"


_ROWS: dict[str, Callable[[SplitStatistics], str]] = {
    "identities": lambda split: f"{split.identities:,}",
    "images": lambda split: f"{split.images:,}",
    "captions": lambda split: f"{split.captions:,}",
    "cameras": lambda split: f"{split.cameras:,}",
    "images of unknown camera": lambda split: f"{split.images_without_camera:,}",
    "images without caption": lambda split: f"{split.images_without_caption:,}",
    "images an identity (min / mean / max)": lambda split: _three(split.images_per_identity),
    "captions an image (min / mean / max)": lambda split: _three(split.captions_per_image),
    "words a caption (mean / median / max)": lambda split: _words(split.words_per_caption),
    "distinct words": lambda split: f"{split.distinct_words:,}",
    "words in the vocabulary, percent": lambda split: (
        "-" if split.cover is None else f"{split.cover:.2f}"
    ),
    "image heights, pixels": lambda split: _range(split.height),
    "image widths, pixels": lambda split: _range(split.width),
}


def explore(builder: tfds.core.DatasetBuilder) -> Exploration:
    """Counts what a built dataset holds, reading one image file at a time and decoding none.

    Args:
      builder: of the dataset, which is built.

    Raises:
      ValueError: an image cannot be read.
    """
    tallies = {}
    for split in split_names(builder):
        records = open_split(builder, split)
        logging.info("reading %d images of %s", len(records), split)
        tallies[split] = _Tally.of(records)
    known = None
    if _VOCABULARY_SPLIT in tallies:
        counts = tallies[_VOCABULARY_SPLIT].words
        known = {word for word, count in counts.items() if count >= MIN_COUNT}
    return Exploration(
        name=builder.info.full_name,
        folder=os.fspath(builder.data_path),
        vocabulary=None if known is None else len(known),
        splits={split: tally.statistics(known) for split, tally in tallies.items()},
    )


def split_names(builder: tfds.core.DatasetBuilder) -> list[str]:
    """Lists the splits of a dataset, training first."""
    names = list(builder.info.splits)
    return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


def open_split(builder: tfds.core.DatasetBuilder, split: str) -> Any:
    """Opens the records of a split, with images as the bytes of their files.

    Args:
      builder: of a dataset that is built.
      split: one that it has.

    Returns:
      A sequence of dictionaries, each read when it is asked for.
    """
    return builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})


def image_size(data: bytes, *, name: str) -> tuple[int, int]:
    """Reads the size of a picture from the head of its file.

    Args:
      data: the file.
      name: what to call the image in an error.

    Returns:
      Height and width in pixels, of the picture turned upright as its Exif data say.

    Raises:
      ValueError: it is no image.
    """
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            # Other formats would be decoded to look for Exif data behind the picture.
            turned = image.format in ("JPEG", "MPO") and (
                image.getexif().get(_EXIF_ORIENTATION) in _LYING
            )
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(
            f"image {name!r} cannot be read ({error}; {len(data)} bytes). Replace the file by an "
            "intact copy and build the dataset again."
        ) from error
    return (width, height) if turned else (height, width)


class _Tally:
    """Numbers gathered record by record; what it holds grows with people and words, not images."""

    def __init__(self) -> None:
        self.pids: collections.Counter[int] = collections.Counter()
        self.cameras: collections.Counter[int] = collections.Counter()
        self.captions: collections.Counter[int] = collections.Counter()  # by number an image
        self.lengths: collections.Counter[int] = collections.Counter()
        self.words: collections.Counter[str] = collections.Counter()
        self.sizes: collections.Counter[tuple[int, int]] = collections.Counter()

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> _Tally:
        tally = cls()
        for record in records:
            tally.add(record)
        return tally

    def add(self, record: Mapping[str, Any]) -> None:
        self.pids[int(record["person_id"])] += 1
        self.cameras[int(record["camera_id"])] += 1
        self.captions[len(record["captions"])] += 1
        for caption in record["captions"]:
            words = text.tokenize(as_text(caption))
            self.lengths[len(words)] += 1
            self.words.update(words)
        name = as_text(record["image_id"])
        self.sizes[image_size(bytes(record["image"]), name=name)] += 1

    def statistics(self, known: set[str] | None) -> SplitStatistics:
        """Sums up.

        Args:
          known: words of the vocabulary, None without one.
        """
        words = self.words.total()
        covered = sum(self.words[word] for word in self.words.keys() & (known or set()))
        heights: collections.Counter[int] = collections.Counter()
        widths: collections.Counter[int] = collections.Counter()
        for (height, width), count in self.sizes.items():
            heights[height] += count
            widths[width] += count
        # Equally common ones in the order of their size, not of the records.
        sizes = sorted(self.sizes.items(), key=lambda item: (-item[1], item[0]))
        return SplitStatistics(
            identities=len(self.pids),
            images=self.pids.total(),
            captions=self.lengths.total(),
            cameras=len(self.cameras.keys() - {-1}),
            images_without_camera=self.cameras[-1],
            images_without_caption=self.captions[0],
            images_per_identity=Spread.of(collections.Counter(self.pids.values())),
            captions_per_image=Spread.of(self.captions),
            words_per_caption=Spread.of(self.lengths),
            words=words,
            distinct_words=len(self.words),
            cover=100 * covered / words if words and known is not None else None,
            height=Spread.of(heights),
            width=Spread.of(widths),
            sizes=tuple((*size, count) for size, count in sizes[:_NUM_SIZES]),
        )


def as_text(value: bytes | str) -> str:
    """Decodes a text as TFDS gives it."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)

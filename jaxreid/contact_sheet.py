"""A picture of a dataset: some of its images, drawn by lot, with what is said of them."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.style
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from jaxreid import explore, figures
from jaxreid.data import decode

# All in pixels.
_COLUMNS = 3
_CARD = (310, 560)  # height, width
_PHOTO = (286, 150)  # most that a photograph takes
_GAP = 18  # between photograph and text, and between cards
_MARGIN = 40
_HEADER = 84
_DPI = 100
_LINE_HEIGHT = 1.4  # of the size of the letters
_INK, _SOFT = "#1b1e23", "#6a717c"


@dataclasses.dataclass(frozen=True)
class Style:
    """How letters look.

    Attributes:
      size: in points.
      color: as matplotlib takes it.
      weight: likewise.
    """

    size: float
    color: str = _INK
    weight: str = "normal"

    @property
    def font(self) -> FontProperties:
        """What matplotlib draws with."""
        return FontProperties(size=self.size, weight=self.weight)

    @property
    def step(self) -> float:
        """Pixels from line to line."""
        return _LINE_HEIGHT * self.size * _DPI / 72


_TITLE, _SUBTITLE = Style(17.0, weight="bold"), Style(11.0, _SOFT)
_PERSON, _FILE, _CAPTION = Style(11.0), Style(8.5, _SOFT), Style(10.5)


@dataclasses.dataclass(frozen=True)
class Card:
    """An image and what is said of it.

    Attributes:
      split: that it belongs to.
      picture: [h, w, 3] uint8, to be shown at this size.
      image_id: file name.
      person_id: identity, as published.
      camera_id: -1 unknown.
      captions: sentences.
    """

    split: str
    picture: UInt8[np.ndarray, "h w 3"]
    image_id: str
    person_id: int
    camera_id: int
    captions: tuple[str, ...]


def write_contact_sheet(
    builder: tfds.core.DatasetBuilder,
    path: str | os.PathLike[str],
    *,
    count: int = 12,
    seed: int = 0,
) -> None:
    """Draws images by lot, as many from each split, and writes them with their captions.

    Args:
      builder: of a dataset that is built.
      path: PNG file to write; its folder must exist.
      count: images shown.
      seed: of the lot.

    Raises:
      ValueError: the file cannot be written, or an image is broken.
    """
    splits = builder.info.splits
    sizes = {split: splits[split].num_examples for split in explore.split_names(builder)}
    cards = []
    for split, rows in choose(sizes, count=count, seed=seed).items():
        records = explore.open_split(builder, split)
        cards += [_read_card(split, records[row]) for row in rows.tolist()]
    subtitle = f"{len(cards)} of {sum(sizes.values()):,} images, drawn by lot"
    with matplotlib.style.context("default"), warnings.catch_warnings():
        # Captions may hold letters that the font does not have: a box stands for them.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure = _draw(builder.info.full_name, subtitle, cards, tuple(sizes))
        try:
            figure.savefig(path, format="png", dpi=_DPI)
        except OSError as error:
            raise ValueError(
                f"the contact sheet {os.fspath(path)!r} cannot be written ({error.strerror}); name "
                "a file in an existing folder that you may write to."
            ) from error


def choose(sizes: dict[str, int], *, count: int, seed: int) -> dict[str, Int[np.ndarray, " _"]]:
    """Draws images by lot.

    Args:
      sizes: number of images by split.
      count: images wanted.
      seed: of the lot.

    Returns:
      Positions in each split, in order: as many from each as there are, within one.
    """
    random = np.random.default_rng(seed)
    wanted = dict.fromkeys(sizes, 0)
    for _ in range(min(count, sum(sizes.values()))):
        # The least served split that has more to give; the first of these.
        split = min((s for s in sizes if wanted[s] < sizes[s]), key=lambda s: wanted[s])
        wanted[split] += 1
    return {
        split: np.sort(random.choice(sizes[split], number, replace=False))
        for split, number in wanted.items()
        if number
    }


def _read_card(split: str, record: dict[str, Any]) -> Card:
    name, data = explore.as_text(record["image_id"]), bytes(record["image"])
    height, width = explore.image_size(data, name=name)
    scale = min(_PHOTO[0] / height, _PHOTO[1] / width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return Card(
        split,
        decode.decode_image(data, size, name=name),
        name,
        int(record["person_id"]),
        int(record["camera_id"]),
        tuple(map(explore.as_text, record["captions"])),
    )


class _Pen:
    """Writes and places pictures on a page, by pixels from its top left."""

    def __init__(self, width: int, height: int) -> None:
        self.figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        self._width, self._height = width, height
        self._renderer = FigureCanvasAgg(self.figure).get_renderer()

    def place(self, picture: UInt8[np.ndarray, "h w 3"], left: int, top: int) -> None:
        self.figure.figimage(picture, left, self._height - top - len(picture), origin="upper")

    def write(self, line: str, left: float, top: float, style: Style) -> None:
        self.figure.text(
            left / self._width,
            1 - top / self._height,
            line,
            color=style.color,
            font=style.font,
            va="top",
            parse_math=False,
        )

    def width(self, line: str, style: Style) -> float:
        return self._renderer.get_text_width_height_descent(line, style.font, False)[0]

    def wrap(self, sentence: str, room: float, style: Style) -> list[str]:
        """Breaks a sentence into lines no wider than `room`."""
        return wrap(sentence, lambda line: self.width(line, style) <= room)


def wrap(sentence: str, fits: Callable[[str], bool]) -> list[str]:
    """Breaks a sentence into lines, at blanks, and within a word that is too long for a line.

    Args:
      sentence: whatever its blanks and line breaks.
      fits: whether a line is short enough.

    Returns:
      Lines that fit, or of a single letter.

    >>> wrap("a red  hat", lambda line: len(line) <= 5)
    ['a red', 'hat']
    """
    lines = [""]
    for word in sentence.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if fits(longer):
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and not fits(lines[-1] + letter):
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]


def fit(paragraphs: Sequence[list[str]], limit: int) -> list[list[str]]:
    """Cuts captions to the room there is, and says how many were left out.

    Args:
      paragraphs: lines of each caption.
      limit: lines that there is room for, at least one.

    Returns:
      The captions that fit, the last one cut if need be.

    >>> fit([["a red", "hat"], ["a bag"]], 2)
    [['a red …'], ['a bag']]
    """
    shown: list[list[str]] = []
    room = limit
    for place, lines in enumerate(paragraphs):
        rest = len(paragraphs) - place - 1
        # The line that says how many more there are.
        free = room - (1 if rest else 0)
        if free < min(2, len(lines)) and shown:
            return [*shown, [f"and {rest + 1} more"]]
        if len(lines) > free:
            kept = lines[: max(free, 1)]
            shown.append([*kept[:-1], f"{kept[-1]} …"])
        else:
            shown.append(lines)
        room -= len(shown[-1])
    return shown


def _draw(title: str, subtitle: str, cards: Sequence[Card], splits: Sequence[str]) -> Figure:
    rows = max(1, math.ceil(len(cards) / _COLUMNS))
    height, width = _CARD
    pen = _Pen(
        2 * _MARGIN + _COLUMNS * width + (_COLUMNS - 1) * _GAP, _MARGIN + _HEADER + rows * height
    )
    pen.write(title, _MARGIN, _MARGIN - 8, _TITLE)
    pen.write(subtitle, _MARGIN, _MARGIN + 24, _SUBTITLE)
    colors = figures.THEMES["light"].lines
    widest = max((card.picture.shape[1] for card in cards), default=0)
    for place, card in enumerate(cards):
        row, column = divmod(place, _COLUMNS)
        color = colors[splits.index(card.split) % len(colors)]
        left, top = _MARGIN + column * (width + _GAP), _HEADER + 16 + row * height
        # Small pictures in the middle of their place, at its upper edge.
        pen.place(card.picture, left + (widest - card.picture.shape[1]) // 2, top)
        _describe(pen, card, left + widest + _GAP, top, width - widest - _GAP, color)
    return pen.figure


def _describe(pen: _Pen, card: Card, left: float, top: float, room: float, color: str) -> None:
    bottom, label = top + _PHOTO[0], Style(11.0, color, "bold")
    pen.write(card.split, left, top, label)
    camera = "" if card.camera_id < 0 else f", camera {card.camera_id}"
    beside = left + pen.width(f"{card.split}  ", label)
    pen.write(f"person {card.person_id}{camera}", beside, top, _PERSON)
    top += label.step
    for line in fit([pen.wrap(card.image_id, room, _FILE)], 2)[0]:
        pen.write(line, left, top, _FILE)
        top += _FILE.step
    top += _CAPTION.step / 3
    paragraphs = [pen.wrap(caption, room, _CAPTION) for caption in card.captions]
    paragraphs = [lines or ["(empty)"] for lines in paragraphs] or [["(no caption)"]]
    gaps = (min(len(paragraphs), 4) - 1) / 3
    for lines in fit(paragraphs, max(1, int((bottom - top) / _CAPTION.step - gaps))):
        for line in lines:
            pen.write(line, left, top, _CAPTION)
            top += _CAPTION.step
        top += _CAPTION.step / 3

"""What the made-up folders of all datasets share: our own pictures, our own sentences.

Such a folder has the layout of a licensed dataset and its oddities, so that readers, builders and
everything behind them can be tried without the licensed files.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np

SIZE = (48, 16)
_COLOURINGS = 64
# Sentences, and their words as the authors of CUHK-PEDES cut them: lower case, punctuation deleted.
_SENTENCES = {
    "A man wearing a red t-shirt,dark trousers and white shoes.": (
        "a man wearing a red tshirtdark trousers and white shoes"
    ),
    "The woman has long black hair;  she carries a brown bag\nover her shoulder.": (
        "the woman has long black hair she carries a brown bag over her shoulder"
    ),
    " A person in a blue coat, walking away from the camera. ": (
        "a person in a blue coat walking away from the camera"
    ),
    "He wears a grey shirt, black pants and a backpack.": (
        "he wears a grey shirt black pants and a backpack"
    ),
}


def captions(index: int, number: int) -> list[str]:
    """Returns captions of an image; some span lines or have stray blanks.

    Args:
      index: which image; chooses the first sentence.
      number: how many captions.
    """
    sentences = list(_SENTENCES)
    return [sentences[(index + i) % len(sentences)] for i in range(number)]


def processed_tokens(sentences: Iterable[str]) -> list[list[str]]:
    """Returns the words of sentences from `captions`, as the field "processed_tokens" has them."""
    return [_SENTENCES[sentence].split(" ") for sentence in sentences]


@functools.cache
def _picture(colouring: int, suffix: str, size: tuple[int, int]) -> bytes:
    bands = np.random.default_rng(colouring).integers(0, 256, (6, 1, 3), np.uint8)
    picture = cv2.resize(bands, size[::-1], interpolation=cv2.INTER_NEAREST)
    return cv2.imencode(suffix, picture)[1].tobytes()


def write_image(path: pathlib.Path, seed: int, size: tuple[int, int] = SIZE) -> None:
    """Writes a picture of random colour bands.

    Args:
      path: where to; its suffix (bmp, jpg, png in upper or lower case) is the format.
      seed: which colours; those of seed and seed + 64 are the same, for speed.
      size: (height, width) in pixels.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_picture(seed % _COLOURINGS, path.suffix.lower(), size))


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def change(path: pathlib.Path, index: int, **fields: Any) -> None:
    """Rewrites one record of an annotation file.

    Args:
      path: a JSON file with a list of records.
      index: which record.
      **fields: new values; a field that is None is removed.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    content[index] |= fields
    content[index] = {key: value for key, value in content[index].items() if value is not None}
    write_json(path, content)


def main(make: Callable[[pathlib.Path], pathlib.Path], argv: Sequence[str] | None = None) -> None:
    """Runs `python -m tfds_builders.NAME.dummy_data FOLDER`.

    Args:
      make: writes the folder of a dataset into the given one and returns it.
      argv: arguments without the program's name; None for those of the process.
    """
    parser = argparse.ArgumentParser(description="Writes a small made-up copy of a dataset.")
    parser.add_argument("folder", type=pathlib.Path, help="where to; serves as manual_dir")
    sys.stdout.write(f"{make(parser.parse_args(argv).folder)}\n")

"""From a seed to examples: draws the pictures of a split and writes their captions."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import cv2
import numpy as np

from tfds_builders.synth_pedes.attributes import ATTRIBUTES, REGIONS
from tfds_builders.synth_pedes.draw import Drawing, draw_person
from tfds_builders.synth_pedes.grammar import CAPTION_WORDS, Caption, describe, is_describable
from tfds_builders.synth_pedes.identities import (
    Shot,
    caption_rng,
    draw_shots,
    drawing_rng,
    value_indices,
)

CAPTIONS_PER_IMAGE = 2
IMAGE_SIZE = (384, 128)
JPEG_QUALITY = 92

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def _flags(names: Iterable[str]) -> np.ndarray:
    present = set(names)
    return np.array([name in present for name in ATTRIBUTES], np.uint8)


def _word_regions(caption: Caption) -> np.ndarray:
    row = np.full(CAPTION_WORDS, -1, np.int8)
    row[: len(caption.regions)] = caption.regions
    return row


def _boxes(boxes: Mapping[str, tuple[float, float, float, float]]) -> np.ndarray:
    hidden = (-1.0, -1.0, -1.0, -1.0)
    return np.array([boxes.get(region, hidden) for region in REGIONS], np.float32)


def _jpeg(image: np.ndarray) -> io.BytesIO:
    parameters = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return io.BytesIO(cv2.imencode(".jpg", image[:, :, ::-1], parameters)[1].tobytes())


def _draw(seed: int, values: Mapping[str, str], shot: Shot) -> Drawing:
    """Takes a picture, and again if too little of the person can be seen."""
    for attempt in itertools.count():
        drawing = draw_person(
            values,
            view=shot.view,
            camera=shot.camera,
            rng=drawing_rng(seed, shot.index, attempt),
            size=IMAGE_SIZE,
        )
        if is_describable(values, drawing.shown):
            break
    return drawing


def make_example(
    seed: int, split: str, person_id: int, values: Mapping[str, str], shot: Shot
) -> dict[str, Any]:
    """Draws one picture and describes it.

    Args:
      seed: seed of the dataset.
      split: name of the split, only for the file name.
      person_id: number of the identity.
      values: attribute name -> value name of the identity.
      shot: which picture of the identity to draw.

    Returns:
      The example as the builder's features expect it. It depends on nothing but the arguments.
    """
    drawing = _draw(seed, values, shot)
    rng = caption_rng(seed, shot.index)
    captions = [describe(values, drawing.shown, rng) for _ in range(CAPTIONS_PER_IMAGE)]
    return {
        "image": _jpeg(drawing.image),
        "image_id": f"{split}/{person_id:05d}_c{shot.camera}_{shot.number}.jpg",
        "person_id": person_id,
        "camera_id": shot.camera,
        "captions": [caption.text for caption in captions],
        "attributes": value_indices(values),
        "shown": _flags(drawing.shown),
        "region_boxes": _boxes(drawing.boxes),
        "caption_mentions": np.stack([_flags(caption.mentions) for caption in captions]),
        "caption_regions": np.stack([_word_regions(caption) for caption in captions]),
    }


def make_examples(
    seed: int,
    split: str,
    identities: Mapping[int, Mapping[str, str]],
    plan: Callable[[int, int], Iterable[Shot]] = draw_shots,
) -> Iterator[dict[str, Any]]:
    """Draws pictures of some identities, on all cores, in order.

    Args:
      seed: seed of the dataset.
      split: name of the split.
      identities: person id -> attribute name -> value name.
      plan: from seed and person id to the pictures wanted; all of them unless told otherwise.

    Yields:
      One example per picture.
    """
    tasks = (
        (person_id, values, shot)
        for person_id, values in identities.items()
        for shot in plan(seed, person_id)
    )
    yield from _map_ahead(lambda task: make_example(seed, split, *task), tasks)


@contextlib.contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """One thread per picture: OpenCV's own threads would fight those that draw other pictures."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _map_ahead(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Maps on threads, in order, with few results waiting, so that memory stays flat.

    Threads and not processes: drawing is NumPy and OpenCV, which release the interpreter, and
    threads need neither a fork beside JAX nor a main module that can be imported again.
    """
    workers = os.cpu_count() or 1
    with _one_opencv_thread(), concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque[concurrent.futures.Future[_Result]] = collections.deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

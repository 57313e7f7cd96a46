"""Backgrounds: painted once per process and cut out anew per picture."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from tfds_builders.synth_pedes.clutter import PLATE_HEIGHT, PLATE_WIDTH, Rng
from tfds_builders.synth_pedes.scenes import SCENES

PLATES_PER_CAMERA = 4


def background(camera: int, height: int, width: int, rng: Rng) -> np.ndarray:
    """Returns a random cut of a street of a camera, uint8 [height, width, 3].

    Args:
      camera: index; scene families repeat after `len(SCENES)`.
      height: rows, at most `PLATE_HEIGHT`.
      width: columns, at most `PLATE_WIDTH`.
      rng: draws plate, place and mirror image.
    """
    plate = _plate(camera % len(SCENES), int(rng.integers(PLATES_PER_CAMERA)))
    y = int(rng.integers(0, PLATE_HEIGHT - height + 1))
    x = int(rng.integers(0, PLATE_WIDTH - width + 1))
    cut = plate[y : y + height, x : x + width]
    return cv2.flip(cut, 1) if rng.random() < 0.5 else cut.copy()


@functools.lru_cache(maxsize=64)
def _plate(scene: int, index: int) -> np.ndarray:
    rng = np.random.default_rng([scene, index, 77])
    plate = SCENES[scene](rng)
    return _depth_blur(_grain(plate, rng))


def _depth_blur(plate: np.ndarray) -> np.ndarray:
    far = cv2.GaussianBlur(plate, (0, 0), 2.2)
    near = cv2.GaussianBlur(plate, (0, 0), 0.9)
    ramp = np.clip((np.arange(PLATE_HEIGHT) - 0.62 * PLATE_HEIGHT) / (0.25 * PLATE_HEIGHT), 0, 1)
    weight = ramp[:, None, None]
    return (far * (1 - weight) + near * weight).astype(np.uint8)


def _grain(plate: np.ndarray, rng: Rng) -> np.ndarray:
    coarse = cv2.GaussianBlur(rng.standard_normal(plate.shape[:2]), (0, 0), 24) * 24 * 3.5
    fine = cv2.GaussianBlur(rng.standard_normal(plate.shape[:2]), (0, 0), 1.2) * 1.2 * 3.5
    gain = 1 + 0.06 * coarse + 0.022 * fine
    return np.clip(plate * gain[..., None], 0, 255).astype(np.uint8)

"""Pieces of streets: ground with perspective, people far away, cars, bins."""

from __future__ import annotations

import cv2
import numpy as np

PLATE_HEIGHT, PLATE_WIDTH = 540, 340
"""Size of a painted background in pixels."""

Rng = np.random.Generator
Rgb = tuple[int, ...]


def muted(low: int, high: int, rng: Rng) -> Rgb:
    """A random colour of the kind that does not draw the eye away from the figure."""
    color = rng.integers(low, high, 3)
    return tuple(int(c) for c in 0.55 * color + 0.45 * color.mean())


def blank(wall: Rgb) -> np.ndarray:
    """Returns a plate of one colour, uint8."""
    return np.full((PLATE_HEIGHT, PLATE_WIDTH, 3), wall, np.uint8)


def box(plate: np.ndarray, x0: float, y0: float, x1: float, y1: float, color: Rgb) -> None:
    """Fills an upright rectangle."""
    cv2.rectangle(plate, (int(x0), int(y0)), (int(x1), int(y1)), color, -1)


def poly(plate: np.ndarray, points: object, color: Rgb) -> None:
    """Fills a polygon."""
    cv2.fillPoly(plate, [np.asarray(points, np.int32)], color, cv2.LINE_AA)


def paint_ground(plate: np.ndarray, horizon: int, color: Rgb, rng: Rng, tile: int = 0) -> None:
    """Paints ground below `horizon`, brighter near the viewer, with joints of tiles."""
    rows = np.linspace(0.82, 1.06, PLATE_HEIGHT - horizon)[:, None, None]
    below = plate[horizon:]
    below[:] = np.clip(rows * np.asarray(color, float), 0, 255).astype(np.uint8)
    if not tile:
        return
    joint = tuple(int(0.80 * c) for c in color)
    vanish = (int(rng.integers(0, PLATE_WIDTH)), -130)
    for x in range(-6 * PLATE_WIDTH, 7 * PLATE_WIDTH, tile * 2):
        cv2.line(below, vanish, (x, PLATE_HEIGHT - horizon + 40), joint, 1, cv2.LINE_AA)
    y, step = 0.0, 5.0
    while y < len(below):
        cv2.line(below, (0, int(y)), (PLATE_WIDTH, int(y)), joint, 1, cv2.LINE_AA)
        y, step = y + step, step * 1.14


def strangers(plate: np.ndarray, ground: int, rng: Rng, count: int) -> None:
    """Paints small people far away, who are out of focus in the end."""
    for _ in range(count):
        x, size = int(rng.integers(0, PLATE_WIDTH)), float(rng.uniform(110, 160))
        coat = muted(30, 130, rng)
        legs = muted(25, 80, rng)
        top = ground - size
        for side in (-1, 1):
            foot = x + side * 0.06 * size
            poly(
                plate,
                [
                    (x - 0.08 * size * (side < 0), top + 0.48 * size),
                    (x + 0.08 * size * (side > 0), top + 0.48 * size),
                    (foot + 0.035 * size, ground),
                    (foot - 0.035 * size, ground),
                ],
                legs,
            )
        poly(
            plate,
            [
                (x - 0.12 * size, top + 0.18 * size),
                (x + 0.12 * size, top + 0.18 * size),
                (x + 0.10 * size, top + 0.54 * size),
                (x - 0.10 * size, top + 0.54 * size),
            ],
            coat,
        )
        cv2.ellipse(
            plate,
            (x, int(top + 0.08 * size)),
            (int(0.05 * size), int(0.075 * size)),
            0,
            0,
            360,
            (186, 148, 124),
            -1,
            cv2.LINE_AA,
        )
        cv2.ellipse(
            plate,
            (x, int(top + 0.055 * size)),
            (int(0.055 * size), int(0.06 * size)),
            0,
            180,
            360,
            (50, 40, 36),
            -1,
            cv2.LINE_AA,
        )


def car(plate: np.ndarray, x: int, ground: int, rng: Rng) -> None:
    """Paints a car seen from the side."""
    color = muted(60, 210, rng)
    poly(
        plate,
        [
            (x, ground - 14),
            (x + 4, ground - 44),
            (x + 40, ground - 52),
            (x + 62, ground - 84),
            (x + 130, ground - 84),
            (x + 156, ground - 50),
            (x + 178, ground - 42),
            (x + 180, ground - 12),
        ],
        color,
    )
    poly(
        plate,
        [
            (x + 50, ground - 52),
            (x + 68, ground - 78),
            (x + 124, ground - 78),
            (x + 144, ground - 52),
        ],
        (60, 72, 84),
    )
    for wheel in (38, 142):
        cv2.circle(plate, (x + wheel, ground - 10), 17, (28, 28, 30), -1, cv2.LINE_AA)
        cv2.circle(plate, (x + wheel, ground - 10), 8, (150, 152, 154), -1, cv2.LINE_AA)


def litter_bin(plate: np.ndarray, x: int, ground: int, color: Rgb) -> None:
    """Paints a litter bin."""
    """Paints a car seen from the side."""
    """Fills a polygon."""
    """Fills an upright rectangle."""
    """Returns a plate of one colour, uint8."""
    poly(plate, [(x, ground - 62), (x + 36, ground - 62), (x + 32, ground), (x + 4, ground)], color)
    box(plate, x - 2, ground - 68, x + 38, ground - 60, tuple(int(0.7 * c) for c in color))

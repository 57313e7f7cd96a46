"""Things between the camera and the figure: poles, bollards, hedges, cars, passers-by."""

from __future__ import annotations

import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes.canvas import Canvas, Look, smooth, tube

Rng = np.random.Generator
Window = tuple[float, float, float, float]


def occlude(canvas: Canvas, window: Window, rng: Rng) -> None:
    """Paints one random thing in front of everything.

    Args:
      canvas: what is painted on; covered pixels get the label `canvas.OCCLUDER`.
      window: y0, x0, y1, x1 of the part of the canvas that the picture will show, pixels.
      rng: draws kind, place and colour.
    """
    draw = (_pole, _bollard, _hedge, _car, _passer_by)[int(rng.integers(5))]
    draw(canvas, window, rng)


def _pole(canvas: Canvas, window: Window, rng: Rng) -> None:
    y0, x0, y1, x1 = window
    scale = (y1 - y0) / 384
    x = float(rng.uniform(x0 + 0.15 * (x1 - x0), x1 - 0.15 * (x1 - x0)))
    half = float(rng.uniform(5, 9)) * scale
    outline = np.array(
        [
            (x - half, y0 - 30),
            (x + half, y0 - 30),
            (x + half * 1.1, y1 + 30),
            (x - half * 1.1, y1 + 30),
        ]
    )
    color = np.asarray(rng.uniform(60, 130)) + rng.uniform(-8, 8, 3)
    canvas.paint(
        outline,
        color,
        paint.OCCLUDER,
        Look(roundness=6, relief=0.4, edge=0.4, folds="drape", fold_strength=0.04),
    )


def _bollard(canvas: Canvas, window: Window, rng: Rng) -> None:
    y0, x0, y1, x1 = window
    height = y1 - y0
    x = float(rng.uniform(x0 + 0.2 * (x1 - x0), x1 - 0.2 * (x1 - x0)))
    half = float(rng.uniform(0.035, 0.05)) * height
    top = y1 - float(rng.uniform(0.20, 0.30)) * height
    post = [
        (x - half, top),
        (x, top - half * 0.7),
        (x + half, top),
        (x + half, y1 + 20),
        (x - half, y1 + 20),
    ]
    color = np.asarray(rng.uniform(45, 120)) + rng.uniform(-6, 6, 3)
    canvas.paint(np.asarray(post), color, paint.OCCLUDER, Look(roundness=7, relief=0.4, edge=0.4))
    band = np.array(
        [
            (x - half, top + half),
            (x + half, top + half),
            (x + half, top + 2 * half),
            (x - half, top + 2 * half),
        ]
    )
    canvas.paint(band, (206, 204, 196), paint.OCCLUDER, Look(roundness=7, relief=0.4, edge=0.4))


def _hedge(canvas: Canvas, window: Window, rng: Rng) -> None:
    y0, x0, y1, x1 = window
    top = y1 - float(rng.uniform(0.10, 0.24)) * (y1 - y0)
    xs = np.linspace(x0 - 45, x1 + 45, 16)
    edge = np.stack([xs, top + rng.normal(0, 5, 16)], axis=1)
    outline = np.concatenate([smooth(edge, closed=False), [(x1 + 45, y1 + 45), (x0 - 45, y1 + 45)]])
    look = Look(roundness=6, relief=0.3, edge=0.3, folds="crumple", fold_strength=0.25)
    canvas.paint(outline, (62, 92, 50), paint.OCCLUDER, look)
    for _ in range(26):
        center = rng.uniform((x0 - 30, top - 2), (x1 + 30, y1 + 10))
        tone = float(rng.uniform(0.6, 1.25))
        leaf = paint.oval(center, rng.uniform(3, 9, 2), float(rng.uniform(0, 3)))
        canvas.paint(leaf, np.array([66, 100, 52]) * tone, paint.OCCLUDER, Look(roundness=3))


def _car(canvas: Canvas, window: Window, rng: Rng) -> None:
    y0, x0, y1, x1 = window
    height, width = y1 - y0, x1 - x0
    sign = -1.0 if rng.random() < 0.5 else 1.0
    corner = x0 if sign < 0 else x1
    reach = float(rng.uniform(0.36, 0.52)) * width
    top = y1 - float(rng.uniform(0.16, 0.26)) * height

    def at(points: list[tuple[float, float]]) -> np.ndarray:
        return np.array([(corner - sign * a * reach, top + b * (y1 - top)) for a, b in points])

    body = at(
        [
            (-0.8, -0.15),
            (0.3, -0.05),
            (0.85, 0.12),
            (1.0, 0.35),
            (1.0, 0.8),
            (0.9, 0.9),
            (-0.8, 0.9),
        ]
    )
    tint = rng.uniform(40, 210, 3)
    canvas.paint(
        smooth(body),
        0.5 * tint + 0.5 * tint.mean(),
        paint.OCCLUDER,
        Look(roundness=8, relief=0.4, edge=0.25),
    )
    lamp = at([(0.86, 0.25), (0.98, 0.36), (0.97, 0.5), (0.8, 0.42)])
    canvas.paint(smooth(lamp), (236, 230, 204), paint.OCCLUDER, Look(roundness=2))
    wheel = at([(0.45, 0.78)])[0]
    for radius, color in ((0.20, (26, 26, 28)), (0.10, (140, 142, 146))):
        tyre = paint.oval(wheel, (radius * (y1 - top) * 1.2, radius * (y1 - top) * 1.2))
        canvas.paint(tyre, color, paint.OCCLUDER, Look(roundness=4))


def _passer_by(canvas: Canvas, window: Window, rng: Rng) -> None:
    """Paints somebody who is closer to the camera and half outside of the picture."""
    y0, x0, y1, x1 = window
    height, width = y1 - y0, x1 - x0
    sign = -1.0 if rng.random() < 0.5 else 1.0
    x = (x0 if sign < 0 else x1) + sign * float(rng.uniform(-0.02, 0.10)) * width
    top, size = y0 + float(rng.uniform(-0.02, 0.06)) * height, 1.06 * height
    coat = rng.uniform(35, 120) + rng.uniform(-12, 12, 3)
    legs = rng.uniform(25, 70) + rng.uniform(-6, 6, 3)

    def at(a: float, b: float) -> tuple[float, float]:
        return x + sign * a * size, top + b * size

    cloth = Look(roundness=10, relief=0.3, edge=0.4, folds="drape", fold_strength=0.08)
    canvas.paint(
        tube(
            [at(0.0, 0.45), at(-0.01, 0.75), at(0.02, 1.0)], np.array([0.085, 0.06, 0.045]) * size
        ),
        legs,
        paint.OCCLUDER,
        cloth,
    )
    canvas.paint(
        paint.oval(at(0, 0.075), (0.05 * size, 0.07 * size)),
        (172, 130, 106),
        paint.OCCLUDER,
        Look(roundness=5),
    )
    canvas.paint(
        paint.oval(at(0.01, 0.055), (0.056 * size, 0.06 * size)),
        (44, 36, 32),
        paint.OCCLUDER,
        Look(roundness=5),
    )
    canvas.paint(
        tube(
            [at(0, 0.15), at(0, 0.2), at(0, 0.36), at(0, 0.54)],
            np.array([0.03, 0.10, 0.095, 0.10]) * size,
        ),
        coat,
        paint.OCCLUDER,
        cloth,
    )

"""Colours of cloth, hair and skin, and patterns that follow the body."""

from __future__ import annotations

import numpy as np

from tfds_builders.synth_pedes.attributes import COLORS
from tfds_builders.synth_pedes.canvas import Color, Pattern

HAIR_COLORS: dict[str, Color] = {
    "black": (32, 27, 26),
    "brown": (92, 58, 36),
    "blond": (216, 180, 108),
    "grey": (158, 158, 160),
    "red": (172, 74, 30),
}
"""RGB of each hair colour before light and shading."""

_LIGHT_COLORS = ("white", "yellow", "pink", "orange")


def cloth_color(name: str) -> np.ndarray:
    """Returns the RGB of a named clothing colour, float64 [3]."""
    return np.asarray(COLORS[name], float)


def hair_color(name: str) -> np.ndarray:
    """Returns the RGB of a named hair colour, float64 [3]."""
    return np.asarray(HAIR_COLORS[name], float)


def mix(first: Color, second: Color, weight: float) -> np.ndarray:
    """Returns `first` moved by `weight` towards `second`."""
    start = np.asarray(first, float)
    return start + weight * (np.asarray(second, float) - start)


def darker(color: Color, amount: float) -> np.ndarray:
    """Returns a color moved towards black, keeping a trace of light for black cloth."""
    return mix(color, (8, 8, 10), amount)


def contrast(name: str) -> np.ndarray:
    """Returns the colour of stripes, checks, dots or a logo on cloth of a named colour."""
    if name in _LIGHT_COLORS:
        return mix(COLORS[name], (34, 34, 44), 0.82)
    return mix(COLORS[name], (240, 240, 236), 0.84)


def detail(color: Color) -> np.ndarray:
    """Returns a colour for seams and collars that can be seen on `color`."""
    if float(np.mean(color)) < 60:
        return mix(color, (150, 150, 155), 0.42)
    return darker(color, 0.42)


def skin_tone(rng: np.random.Generator) -> np.ndarray:
    """Returns a skin colour of one picture, independent of who is drawn."""
    tone = mix((238, 200, 174), (172, 122, 92), float(rng.uniform(0, 1)))
    return np.clip(tone + rng.normal(0, 3, 3), 0, 255)


def pattern(
    kind: str, origin: np.ndarray, axis: np.ndarray, scale: float, bend: float = 0.0
) -> Pattern | None:
    """Returns the pattern of cloth in the frame of a body part, or None for plain cloth.

    Args:
      kind: value of the attribute ``top_pattern``.
      origin: [2] point of the part, pixels (x, y).
      axis: [2] direction along the part.
      scale: pixels per pixel of a 384 pixel high picture.
      bend: how much stripes sag around the body, per pixel.
    """
    field = {"striped": _stripes, "checked": _checks, "dotted": _dots}.get(kind)
    if field is None:
        return None
    along = np.asarray(axis, np.float32) / (float(np.hypot(*axis)) + 1e-6)

    def weight(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y = (x - np.float32(origin[0])) / scale, (y - np.float32(origin[1])) / scale
        across = along[1] * x - along[0] * y
        down = along[0] * x + along[1] * y + np.float32(bend) * across**2
        return field(across, down)

    return weight


def _stripes(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    del across
    return np.clip(2.6 * np.sin(down * np.float32(2 * np.pi / 18)) - 0.4, 0, 1)


def _checks(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    turn = np.float32(2 * np.pi / 19)
    columns = np.clip(2.5 * np.sin(across * turn) - 1.1, 0, 1)
    rows = np.clip(2.5 * np.sin(down * turn) - 1.1, 0, 1)
    return 0.55 * (columns + rows) - 0.1 * columns * rows


def _dots(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    pitch = np.float32(14.5)
    row = np.floor(down / pitch)
    x = np.mod(across + row * (pitch / 2), pitch) - pitch / 2
    y = np.mod(down, pitch) - pitch / 2
    return np.clip(4.6 - np.sqrt(x * x + y * y), 0, 1)

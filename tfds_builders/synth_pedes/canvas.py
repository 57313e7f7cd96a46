"""A small painter: filled outlines with rounded shading, folds and patterns on a uint8 picture.

Every painted part also writes a label, so that what is visible in the end can be counted in pixels.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import cv2
import numpy as np

BACKGROUND, SKIN, FACE, HAIR, HAT, GLASSES, TOP, EMBLEM = range(8)
BOTTOM, LEG, SHOE, BAG, STRAP = range(8, 13)
OCCLUDER = 255

Color = Sequence[float]
Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]

_SUBPIXEL_BITS = 4
_TEXTURE_SIZE = 512


@dataclasses.dataclass(frozen=True)
class Look:
    """How a painted part reacts to light.

    Attributes:
      roundness: radius in pixels over which the part turns away from the viewer.
      relief: strength of the light from the side.
      edge: darkening towards the outline.
      folds: name of a texture of `texture`, or None.
      fold_strength: relative change of brightness by one standard deviation of the texture.
      offset: where in the texture the part lies.
      pattern: maps pixel coordinates to the weight of `second` in [0, 1].
      second: second colour of the pattern.
      opacity: 1 covers what lies below.
    """

    roundness: int = 5
    relief: float = 0.22
    edge: float = 0.3
    folds: str | None = None
    fold_strength: float = 0.0
    offset: tuple[int, int] = (0, 0)
    pattern: Pattern | None = None
    second: Color = (255, 255, 255)
    opacity: float = 1.0


FLAT = Look(relief=0.0, edge=0.0)


class Canvas:
    """A picture that is painted part by part, with the label of the topmost part per pixel."""

    def __init__(self, image: np.ndarray, light: tuple[float, float]) -> None:
        """Paints on `image` (uint8 [H, W, 3], changed in place); `light` points to the light."""
        self.image = image
        self.labels = np.zeros(image.shape[:2], np.uint8)
        self.top_area = np.zeros(image.shape[:2], bool)
        self.light = light

    def paint(
        self,
        outlines: np.ndarray | Sequence[np.ndarray],
        color: Color,
        label: int | None,
        look: Look = FLAT,
    ) -> None:
        """Paints the union of outlines ([N, 2] x, y in pixels) as one part."""
        parts = [outlines] if isinstance(outlines, np.ndarray) else list(outlines)
        window = self._window(parts, look.roundness + 1)
        if window is None:
            return
        rows, columns = window
        mask = _fill(parts, rows, columns)
        shade = self._shade(mask, rows, columns, look)
        paint = np.empty((*mask.shape, 3), np.float32)
        paint[:] = np.asarray(color, np.float32)
        if look.pattern is not None:
            weight = look.pattern(*_grid(rows, columns)).astype(np.float32)
            paint += weight[..., None] * (np.asarray(look.second, np.float32) - paint)
        if shade is not None:
            paint *= shade[..., None]
        self._blend(rows, columns, mask, paint, look.opacity)
        self._mark(rows, columns, mask, label)

    def line(self, points: np.ndarray, color: Color, thickness: float, opacity: float = 1.0) -> None:
        """Draws a thin line through points ([N, 2], pixels); labels stay as they are."""
        window = self._window([points], int(thickness) + 2)
        if window is None:
            return
        rows, columns = window
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        thick = max(1, round(thickness))
        cv2.polylines(
            mask, [_fixed(points, rows, columns)], False, 255, thick, cv2.LINE_AA, _SUBPIXEL_BITS
        )
        opacity *= min(1.0, thickness)
        self._blend(rows, columns, mask, np.asarray(color, np.float32), opacity)

    def _window(self, parts: Sequence[np.ndarray], pad: int) -> tuple[slice, slice] | None:
        low = np.min([part.min(axis=0) for part in parts], axis=0)
        high = np.max([part.max(axis=0) for part in parts], axis=0)
        height, width = self.labels.shape
        x0, y0 = max(0, int(low[0]) - pad), max(0, int(low[1]) - pad)
        x1, y1 = min(width, int(high[0]) + pad + 2), min(height, int(high[1]) + pad + 2)
        if x1 <= x0 or y1 <= y0:
            return None
        return slice(y0, y1), slice(x0, x1)

    def _shade(self, mask: np.ndarray, rows: slice, columns: slice, look: Look) -> np.ndarray | None:
        if not (look.relief or look.edge or look.folds):
            return None
        size = 2 * look.roundness + 1
        height = mask.astype(np.float32) * (1 / 255)
        height = cv2.blur(height, (size, size), borderType=cv2.BORDER_CONSTANT)
        height = cv2.blur(height, (size, size), borderType=cv2.BORDER_CONSTANT)
        shade = (1 - look.edge) + look.edge * height
        slope = look.relief * size / 8
        shade -= cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=slope * self.light[0])
        shade -= cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=slope * self.light[1])
        if look.folds is not None:
            y, x = look.offset
            h, w = mask.shape
            shade += look.fold_strength * texture(look.folds)[y : y + h, x : x + w]
        return shade

    def _blend(
        self, rows: slice, columns: slice, mask: np.ndarray, paint: np.ndarray, opacity: float
    ) -> None:
        below = self.image[rows, columns].astype(np.float32)
        weight = mask.astype(np.float32) * (opacity / 255)
        below += weight[..., None] * (paint - below)
        np.clip(below, 0, 255, out=below)
        self.image[rows, columns] = below

    def _mark(self, rows: slice, columns: slice, mask: np.ndarray, label: int | None) -> None:
        if label is None:
            return
        inside = mask > 127
        self.labels[rows, columns][inside] = label
        if label == TOP:
            self.top_area[rows, columns] |= inside


def _fixed(points: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    shifted = (points - (columns.start, rows.start)) * (1 << _SUBPIXEL_BITS)
    return np.round(shifted).astype(np.int32)


def _fill(parts: Sequence[np.ndarray], rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    for part in parts:
        cv2.fillPoly(mask, [_fixed(part, rows, columns)], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return mask


@functools.lru_cache(maxsize=1)
def _axes() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:1024, 0:1024].astype(np.float32)
    return x, y


def _grid(rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    x, y = _axes()
    return x[rows, columns], y[rows, columns]


@functools.lru_cache(maxsize=8)
def texture(name: str) -> np.ndarray:
    """Returns a cached field of mean 0 and deviation 1, float32 [512, 512].

    Args:
      name: "drape" (long creases that hang), "crumple" (short ones in all directions),
        "strands" (hair) or "grain" (noise of a sensor).

    Raises:
      ValueError: for another name.
    """
    spreads = {"drape": (16.0, 5.0), "crumple": (7.0, 6.0), "strands": (12.0, 0.9),
               "grain": (0.6, 0.7)}
    if name not in spreads:
        raise ValueError(f"texture name={name!r}; accepted: {sorted(spreads)}")
    noise = np.random.default_rng(len(name)).standard_normal((_TEXTURE_SIZE,) * 2)
    down, across = spreads[name]
    field = cv2.GaussianBlur(noise, (0, 0), sigmaX=across, sigmaY=down)
    field /= field.std()
    if name in ("drape", "crumple"):
        # A crease is a sharp valley between broad hills, which the absolute value gives.
        field = 0.75 * np.abs(field) + 0.5 * field
    return ((field - field.mean()) / field.std()).astype(np.float32)


def smooth(points: Sequence[Sequence[float]] | np.ndarray, *, closed: bool = True) -> np.ndarray:
    """Returns a Catmull-Rom curve through points ([N, 2]), five samples a segment."""
    knots = np.asarray(points, np.float64)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([knots[:1], knots, knots[-1:]])
    curve = np.einsum("tk,nkd->ntd", _basis(), _quads(padded)).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-1:]])


def tube(
    points: Sequence[Sequence[float]] | np.ndarray, half_widths: Sequence[float]
) -> np.ndarray:
    """Returns the outline of a limb along points with a half width at each of them."""
    joined = np.concatenate([np.asarray(points, float), np.asarray(half_widths)[:, None]], axis=1)
    padded = np.concatenate([joined[:1], joined, joined[-1:]])
    curve = np.einsum("tk,nkd->ntd", _basis(), _quads(padded)).reshape(-1, 3)
    curve = np.concatenate([curve, joined[-1:]])
    step = np.gradient(curve[:, :2], axis=0)
    step /= np.linalg.norm(step, axis=1, keepdims=True) + 1e-9
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1) * curve[:, 2:]
    return np.concatenate([curve[:, :2] + normal, (curve[:, :2] - normal)[::-1]])


def oval(center: Sequence[float], radii: Sequence[float], tilt: float = 0.0) -> np.ndarray:
    """Returns an ellipse with `radii` (x, y) turned by `tilt` radians."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    cos, sin = np.cos(tilt), np.sin(tilt)
    return np.stack([center[0] + x * cos - y * sin, center[1] + x * sin + y * cos], axis=1)


@functools.lru_cache(maxsize=1)
def _basis() -> np.ndarray:
    t = np.linspace(0, 1, 5, endpoint=False)[:, None]
    matrix = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])
    return np.concatenate([np.ones_like(t), t, t**2, t**3], axis=1) @ matrix


def _quads(padded: np.ndarray) -> np.ndarray:
    return np.stack([padded[i : len(padded) - 3 + i] for i in range(4)], axis=1)

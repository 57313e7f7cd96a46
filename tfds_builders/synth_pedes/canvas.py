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

Color = Sequence[float] | np.ndarray
Point = Sequence[float] | np.ndarray
Points = Sequence[Point] | np.ndarray
Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]

_SUBPIXEL_BITS = 4
_TEXTURE_SIZE = 512
_SLOPE_X = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
_SAMPLES = 5
_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_QUARTER_TURN = np.array([-1.0, 1.0])


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
      soft: pixels over which the outline fades.
      shadow: darkening of the figure next to the part.
      shadow_size: pixels that this shadow reaches.
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
    soft: int = 0
    shadow: float = 0.0
    shadow_size: int = 3


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
        fixed = [_fixed(part) for part in parts]
        window = self._window(fixed, look.roundness + 1 + 2 * max(look.soft, look.shadow_size))
        if window is None:
            return
        mask = _empty(window)
        for part in fixed:
            _shift(part, window)
            cv2.fillPoly(mask, [part], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        if look.shadow:
            self._cast(window, mask, look)
        if look.soft:
            mask = cv2.blur(cv2.blur(mask, (2 * look.soft + 1,) * 2), (2 * look.soft + 1,) * 2)
        self._blend(window, mask, self._colors(window, mask, color, look), look.opacity)
        self._mark(window, mask, label)

    def line(
        self, points: np.ndarray, color: Color, thickness: float, opacity: float = 1.0
    ) -> None:
        """Draws a thin line through points ([N, 2], pixels); labels stay as they are."""
        fixed = _fixed(points)
        window = self._window([fixed], int(thickness) + 2)
        if window is None:
            return
        mask = _empty(window)
        _shift(fixed, window)
        thick = max(1, round(thickness))
        cv2.polylines(mask, [fixed], False, 255, thick, cv2.LINE_AA, _SUBPIXEL_BITS)
        flat = np.empty((*mask.shape, 3), np.uint8)
        flat[:] = np.clip(color, 0, 255)
        self._blend(window, mask, flat, opacity * min(1.0, thickness))

    def creases(
        self, lines: Sequence[np.ndarray], label: int, width: float, strength: float
    ) -> None:
        """Darkens soft valleys along lines (pixels) within a label, and lights their upper edge."""
        fixed = [_fixed(line) for line in lines]
        window = self._window(fixed, int(3 * width) + 2)
        if window is None:
            return
        mask = _empty(window)
        for line in fixed:
            _shift(line, window)
        thick = max(1, round(width))
        cv2.polylines(mask, fixed, False, 255, thick, cv2.LINE_AA, _SUBPIXEL_BITS)
        size = 2 * thick + 1
        valley = cv2.blur(cv2.blur(mask, (size, size)), (size, size)).astype(np.float32)
        valley *= strength / 255
        move = _translation(0.9 * width * self.light[0], -1.1 * width)
        ridge = cv2.warpAffine(valley, move, (mask.shape[1], mask.shape[0]))
        gain = 1 - valley + 0.5 * ridge
        rows, columns = window
        gain[self.labels[rows, columns] != label] = 1
        self._multiply(window, gain)

    def _window(self, parts: Sequence[np.ndarray], pad: int) -> tuple[slice, slice] | None:
        x0, y0, x1, y1 = 1 << 30, 1 << 30, -(1 << 30), -(1 << 30)
        for part in parts:
            x, y, w, h = cv2.boundingRect(part)
            x0, y0, x1, y1 = min(x0, x), min(y0, y), max(x1, x + w), max(y1, y + h)
        height, width = self.image.shape[:2]
        x0, y0 = max(0, (x0 >> _SUBPIXEL_BITS) - pad), max(0, (y0 >> _SUBPIXEL_BITS) - pad)
        x1 = min(width, (x1 >> _SUBPIXEL_BITS) + pad + 2)
        y1 = min(height, (y1 >> _SUBPIXEL_BITS) + pad + 2)
        if x1 <= x0 or y1 <= y0:
            return None
        return slice(y0, y1), slice(x0, x1)

    def _colors(
        self, window: tuple[slice, slice], mask: np.ndarray, color: Color, look: Look
    ) -> np.ndarray:
        """Shaded colour of every pixel of the window, uint8."""
        shade = self._shade(mask, look)
        if look.pattern is None:
            if shade is None:
                flat = np.empty((*mask.shape, 3), np.uint8)
                flat[:] = np.clip(color, 0, 255)
                return flat
            return cv2.merge([cv2.convertScaleAbs(shade, alpha=float(value)) for value in color])
        weight = look.pattern(*_grid(*window))
        planes = []
        for first, second in zip(color, look.second, strict=True):
            plane = np.float32(first) + weight * np.float32(second - first)
            planes.append(cv2.convertScaleAbs(plane if shade is None else plane * shade))
        return cv2.merge(planes)

    def _shade(self, mask: np.ndarray, look: Look) -> np.ndarray | None:
        if not (look.relief or look.edge or look.folds):
            return None
        size = 2 * look.roundness + 1
        height = cv2.boxFilter(mask, cv2.CV_32F, (size, size), borderType=cv2.BORDER_CONSTANT)
        height = cv2.blur(height, (size, size), borderType=cv2.BORDER_CONSTANT)
        slope = look.relief * size / 8
        # One filter for both: brightness by height, and by the slope towards the light.
        kernel = -slope * (self.light[0] * _SLOPE_X + self.light[1] * _SLOPE_X.T)
        kernel[1, 1] += look.edge
        shade: np.ndarray = cv2.filter2D(
            height, -1, kernel * np.float32(1 / 255), delta=1 - look.edge
        )
        if look.folds is not None:
            y, x = look.offset
            h, w = mask.shape
            shade += look.fold_strength * texture(look.folds)[y : y + h, x : x + w]
        return np.maximum(shade, 0.0, out=shade)

    def _cast(self, window: tuple[slice, slice], mask: np.ndarray, look: Look) -> None:
        """Darkens what lies next to a part, on the figure only."""
        rows, columns = window
        size = 2 * look.shadow_size + 1
        soft = cv2.blur(cv2.blur(mask, (size, size)), (size, size))
        move = _translation(-1.5 * self.light[0], 1.5)
        soft = cv2.warpAffine(soft, move, (mask.shape[1], mask.shape[0]))
        gain = 1 - np.float32(look.shadow / 255) * soft
        gain[self.labels[rows, columns] == BACKGROUND] = 1
        self._multiply(window, gain)

    def _multiply(self, window: tuple[slice, slice], gain: np.ndarray) -> None:
        part = self.image[window[0], window[1]]
        part[:] = cv2.multiply(part, cv2.merge([gain] * 3), dtype=cv2.CV_8U)

    def _blend(
        self, window: tuple[slice, slice], mask: np.ndarray, paint: np.ndarray, opacity: float
    ) -> None:
        rows, columns = window
        weight = mask.astype(np.float32) * np.float32(opacity / 255)
        below = self.image[rows, columns]
        self.image[rows, columns] = cv2.blendLinear(paint, below, weight, 1 - weight)

    def _mark(self, window: tuple[slice, slice], mask: np.ndarray, label: int | None) -> None:
        if label is None:
            return
        rows, columns = window
        inside = mask > 127
        self.labels[rows, columns][inside] = label
        if label == TOP:
            self.top_area[rows, columns] |= inside


def _translation(right: float, down: float) -> np.ndarray:
    return np.array([[1, 0, right], [0, 1, down]], np.float32)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.rint(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _shift(fixed: np.ndarray, window: tuple[slice, slice]) -> None:
    fixed -= np.array([window[1].start, window[0].start], np.int32) << _SUBPIXEL_BITS


def _empty(window: tuple[slice, slice]) -> np.ndarray:
    rows, columns = window
    return np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)


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
    spreads = {
        "drape": (22.0, 7.0),
        "crumple": (8.0, 9.0),
        "strands": (12.0, 0.9),
        "grain": (0.45, 0.5),
    }
    if name not in spreads:
        raise ValueError(f"texture name={name!r}; accepted: {sorted(spreads)}")
    noise = np.random.default_rng(len(name)).standard_normal((_TEXTURE_SIZE,) * 2)
    down, across = spreads[name]
    field = cv2.GaussianBlur(noise, (0, 0), sigmaX=across, sigmaY=down)
    field = field / field.std()
    if name in ("drape", "crumple"):
        # A crease is a sharp valley between broad hills, which the absolute value gives.
        field = 0.75 * np.abs(field) + 0.5 * field
    return ((field - field.mean()) / field.std()).astype(np.float32)


def smooth(points: Points, *, closed: bool = True) -> np.ndarray:
    """Returns a Catmull-Rom curve through points ([N, 2]), five samples a segment."""
    knots = np.asarray(points, np.float64)
    return _spline(len(knots), closed) @ knots


def tube(points: Points, half_widths: Point) -> np.ndarray:
    """Returns the outline of a limb along points with a half width at each of them."""
    spline = _spline(len(points), False)
    curve, half = spline @ np.asarray(points, float), spline @ np.asarray(half_widths, float)
    step = np.empty_like(curve)
    step[1:-1] = curve[2:] - curve[:-2]
    step[0], step[-1] = curve[1] - curve[0], curve[-1] - curve[-2]
    step *= (half / np.sqrt(np.einsum("nd,nd->n", step, step) + 1e-12))[:, None]
    normal = step[:, ::-1] * _QUARTER_TURN
    return np.concatenate([curve + normal, (curve - normal)[::-1]])


def oval(center: Point, radii: Point, tilt: float = 0.0) -> np.ndarray:
    """Returns an ellipse with `radii` (x, y) turned by `tilt` radians."""
    x, y = radii[0] * _CIRCLE[:, 0], radii[1] * _CIRCLE[:, 1]
    cos, sin = np.cos(tilt), np.sin(tilt)
    return np.stack([center[0] + x * cos - y * sin, center[1] + x * sin + y * cos], axis=1)


@functools.lru_cache(maxsize=64)
def _spline(knots: int, closed: bool) -> np.ndarray:
    """Matrix [samples, knots] of a Catmull-Rom curve; the ends of an open one are repeated."""
    t = np.linspace(0, 1, _SAMPLES, endpoint=False)[:, None]
    cubic = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])
    basis = np.concatenate([np.ones_like(t), t, t**2, t**3], axis=1) @ cubic
    segments = knots if closed else knots - 1
    matrix = np.zeros((_SAMPLES * segments + (not closed), knots))
    for segment in range(segments):
        rows = slice(_SAMPLES * segment, _SAMPLES * (segment + 1))
        for k in range(4):
            knot = segment + k - 1
            knot = knot % knots if closed else min(max(knot, 0), knots - 1)
            matrix[rows, knot] += basis[:, k]
    if not closed:
        matrix[-1, -1] = 1
    return matrix

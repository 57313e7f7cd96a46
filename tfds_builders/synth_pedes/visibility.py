"""What a picture shows: attributes and region boxes, counted in visible pixels."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes.figure import Figure
from tfds_builders.synth_pedes.garments import HEMS

Box = tuple[float, float, float, float]

ENOUGH = 0.5
MIN_PIXELS = {
    paint.HAIR: 70,
    paint.HAT: 120,
    paint.GLASSES: 30,
    paint.SHOE: 120,
    paint.BAG: 260,
    paint.STRAP: 170,
    paint.EMBLEM: 220,
    paint.BOTTOM: 900,
}
"""Pixels of a 384 x 128 picture below which a part is too small to be told."""

NECK, HIP_LINE, MID_SHIN = 0.165, 0.52, 0.82


@dataclasses.dataclass(frozen=True)
class Window:
    """The part of the canvas that the picture shows, pixels."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def rows(self) -> slice:
        """Rows of the canvas."""
        return slice(self.y0, self.y1)

    @property
    def columns(self) -> slice:
        """Columns of the canvas."""
        return slice(self.x0, self.x1)

    @property
    def floats(self) -> Box:
        """The four borders."""
        return float(self.y0), float(self.x0), float(self.y1), float(self.x1)


class _Visible:
    """Counts pixels by label, in the complete figure and in the picture."""

    def __init__(self, figure: Figure, complete: np.ndarray, window: Window) -> None:
        seen = figure.canvas.labels[window.rows, window.columns]
        self._all = _histogram(complete)
        self._seen = _histogram(np.ascontiguousarray(seen))

    def count(self, *labels: int) -> int:
        return int(self._seen[list(labels)].sum())

    def share(self, *labels: int) -> float:
        total = int(self._all[list(labels)].sum())
        return self.count(*labels) / total if total else 0.0

    def enough(self, *labels: int) -> bool:
        small = sum(MIN_PIXELS.get(label, 0) for label in labels[:1])
        return self.share(*labels) >= ENOUGH and self.count(*labels) >= small


def _histogram(labels: np.ndarray) -> np.ndarray:
    return cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()


def shown_of(figure: Figure, complete: np.ndarray, window: Window) -> frozenset[str]:
    """Returns the attributes that the picture shows.

    Args:
      figure: the drawn figure; its canvas holds what is visible now.
      complete: labels before anything came in front of the figure.
      window: what the picture shows of the canvas.
    """
    visible = _Visible(figure, complete, window)
    body = [label for label in range(1, 256) if label != paint.OCCLUDER]
    shown: set[str] = set()
    if visible.share(*body) >= ENOUGH:
        shown |= {"person", "build"}
    shown |= _shown_head(figure, visible)
    shown |= _shown_top(figure, visible)
    if visible.enough(paint.BOTTOM):
        shown |= {"bottom_color"}
        if visible.enough(paint.BOTTOM, paint.LEG):
            shown |= {"bottom"}
    if visible.enough(paint.SHOE):
        shown |= {"shoes", "shoes_color"}
    return frozenset(shown | _shown_bag(figure, visible))


def _shown_head(figure: Figure, visible: _Visible) -> set[str]:
    values, shown = figure.values, set()
    head = visible.enough(paint.FACE, paint.HAIR, paint.HAT, paint.GLASSES)
    if visible.enough(paint.HAIR):
        shown |= {"hair_color", "hair_length"}
    if values["hat"] == "none":
        shown |= {"hat"} if head else set()
    elif visible.enough(paint.HAT):
        shown |= {"hat", "hat_color"}
    if figure.view != "back":
        seen = head if values["glasses"] == "none" else visible.enough(paint.GLASSES)
        shown |= {"glasses"} if seen else set()
    return shown


def _shown_top(figure: Figure, visible: _Visible) -> set[str]:
    painted = int(figure.canvas.top_area.sum())
    seen = visible.count(paint.TOP, paint.EMBLEM)
    if seen < 0.45 * painted:
        return set()
    shown = {"top_color"} if _hood_is_covered(figure) else {"top", "top_color"}
    kind = figure.values["top_pattern"]
    if kind in ("plain", "logo"):
        # Whether there is a logo can be told where the chest can be seen.
        if figure.view == "front" and (kind == "plain" or visible.enough(paint.EMBLEM)):
            shown |= {"top_pattern"}
    else:
        shown |= {"top_pattern"}
    return shown


def _hood_is_covered(figure: Figure) -> bool:
    """Whether what makes a hoodie lies under a backpack or hair."""
    values = figure.values
    covered = values["bag"] == "backpack" or values["hair_length"] == "long"
    return values["top"] == "hoodie" and figure.view == "back" and covered


def _shown_bag(figure: Figure, visible: _Visible) -> set[str]:
    kind = figure.values["bag"]
    if kind == "none":
        return {"bag"} if visible.enough(paint.TOP, paint.EMBLEM) else set()
    carrier = (paint.STRAP,) if kind == "backpack" and figure.view == "front" else (paint.BAG,)
    if not visible.enough(*carrier):
        return set()
    shown = {"bag", "bag_color", "bag_place"}
    if kind != "backpack" and figure.values["bag_side"] != "none":
        shown |= {"bag_side"}
    return shown


def boxes_of(figure: Figure, complete: np.ndarray, window: Window) -> dict[str, Box]:
    """Returns the boxes of visible regions as fractions of the picture; see `shown_of`."""
    boxes = {}
    for region, (y0, y1, labels) in _regions(figure).items():
        box = _pixel_box(figure, complete, y0, y1, labels)
        if box is not None and _is_visible(figure, box, window):
            boxes[region] = _fractions(box, window)
    return boxes


def _regions(figure: Figure) -> dict[str, tuple[float, float, tuple[int, ...]]]:
    values = figure.values
    hem = min(HEMS[values["top"]], HIP_LINE)
    crown = {"none": -0.012, "cap": -0.030, "beanie": -0.042, "sun hat": -0.040}[values["hat"]]
    regions = {
        "head": (crown, NECK, (paint.FACE, paint.HAIR, paint.HAT, paint.GLASSES)),
        "torso": (0.150, hem, (paint.TOP, paint.EMBLEM, paint.SKIN)),
        "legs": (0.48, MID_SHIN, (paint.BOTTOM, paint.LEG, paint.TOP, paint.SHOE)),
        "feet": (MID_SHIN, 1.005, (paint.SHOE, paint.LEG, paint.BOTTOM)),
    }
    if values["bag"] != "none" and not (values["bag"] == "backpack" and figure.view == "front"):
        regions["bag"] = (-1.0, 2.0, (paint.BAG,))
    return regions


def _pixel_box(
    figure: Figure, complete: np.ndarray, y0: float, y1: float, labels: tuple[int, ...]
) -> Box | None:
    top, bottom = (float(figure.at((0.0, y))[1]) for y in (y0, y1))
    first, last = max(0, round(top)), min(complete.shape[0], round(bottom))
    wanted = np.zeros(256, np.uint8)
    wanted[list(labels)] = 1
    mask = cv2.LUT(complete[first:last], wanted)
    columns = np.flatnonzero(cv2.reduce(mask, 0, cv2.REDUCE_MAX))
    if not columns.size:
        return None
    if y0 < -0.5:
        rows = np.flatnonzero(cv2.reduce(mask, 1, cv2.REDUCE_MAX)) + first
        top, bottom = float(rows[0]), float(rows[-1] + 1)
    return top, float(columns[0]), bottom, float(columns[-1] + 1)


def _is_visible(figure: Figure, box: Box, window: Window) -> bool:
    y0, x0, y1, x1 = box
    area = (y1 - y0) * (x1 - x0)
    rows = slice(max(window.y0, round(y0)), max(window.y0, min(window.y1, round(y1))))
    columns = slice(max(window.x0, round(x0)), max(window.x0, min(window.x1, round(x1))))
    inside = figure.canvas.labels[rows, columns]
    return bool(np.count_nonzero(inside != paint.OCCLUDER) >= ENOUGH * area)


def _fractions(box: Box, window: Window) -> Box:
    height, width = window.y1 - window.y0, window.x1 - window.x0
    y0, y1 = ((y - window.y0) / height for y in (box[0], box[2]))
    x0, x1 = ((x - window.x0) / width for x in (box[1], box[3]))
    return tuple(float(np.clip(v, 0, 1)) for v in (y0, x0, y1, x1))  # type: ignore[return-value]

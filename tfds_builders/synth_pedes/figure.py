"""The figure being drawn: who, from where, on which canvas."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes import cloth
from tfds_builders.synth_pedes.canvas import Canvas, Color, Look, Point, Points, smooth
from tfds_builders.synth_pedes.pose import Pose, Shape

SKIN_LOOK = Look(roundness=4, relief=0.2, edge=0.3)
"""How skin takes light."""


@dataclasses.dataclass
class Figure:
    """One person on a canvas.

    Attributes:
      canvas: what is painted on.
      values: attribute name -> value name.
      view: one of `attributes.VIEWS`.
      shape: half widths of the body.
      pose: joints.
      origin: [2] pixel of (0, 0) in body units.
      height: pixels of one body unit.
      skin: RGB of the skin.
      rng: draws where folds lie.
    """

    canvas: Canvas
    values: Mapping[str, str]
    view: str
    shape: Shape
    pose: Pose
    origin: np.ndarray
    height: float
    skin: np.ndarray
    rng: np.random.Generator

    @property
    def frontal(self) -> bool:
        """Whether the figure is seen from the front or the back."""
        return self.view in ("front", "back")

    @property
    def mirror(self) -> float:
        """Factor from body x to picture x."""
        return -1.0 if self.view == "left" else 1.0

    @property
    def scale(self) -> float:
        """Pixels per pixel of a figure of usual height."""
        return self.height / 345

    def at(self, points: Point | Points) -> np.ndarray:
        """Returns points in pixels from points in body units."""
        return self.origin + np.asarray(points, float) * (self.mirror * self.height, self.height)

    def color(self, attribute: str) -> np.ndarray:
        """Returns the cloth colour that an attribute names."""
        return cloth.cloth_color(self.values[attribute])

    def look(self, folds: str | None = None, strength: float = 0.0, **changes: Any) -> Look:
        """Returns a look with folds at a random place of the texture."""
        y, x = self.rng.integers(0, 150, 2)
        look = Look(folds=folds, fold_strength=strength, offset=(int(y), int(x)))
        return dataclasses.replace(look, **changes)

    def fill(
        self,
        points: Points,
        color: Color,
        label: int | None,
        look: Look = paint.FLAT,
    ) -> None:
        """Paints a smooth closed outline given in body units."""
        self.canvas.paint(self.at(smooth(points)), color, label, look)

    def seam(
        self,
        points: Points,
        color: Color,
        thickness: float = 1.0,
        opacity: float = 0.7,
    ) -> None:
        """Draws a smooth open line given in body units."""
        line = self.at(smooth(points, closed=False))
        self.canvas.line(line, color, thickness * self.scale, opacity)


def crease(
    figure: Figure, lines: Sequence[Points], label: int, width: float, strength: float
) -> None:
    """Draws valleys of cloth given in body units."""
    curves = [figure.at(smooth(line, closed=False)) for line in lines]
    figure.canvas.creases(curves, label, max(1.0, width * figure.scale), strength)


def small_jitter(figure: Figure) -> float:
    """Returns a small random length, so that no two folds are alike."""
    return float(figure.rng.uniform(-0.006, 0.006))

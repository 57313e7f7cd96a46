"""Sneakers, boots and sandals, from the front, the back and the side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes import cloth
from tfds_builders.synth_pedes.canvas import Look, smooth, tube

if TYPE_CHECKING:
    from tfds_builders.synth_pedes.figure import Figure

_LEATHER = Look(roundness=3, relief=0.28, edge=0.32)


def paint_shoe(figure: Figure, side: int) -> None:
    """Draws the shoe of one side where the ankle of the pose stands."""
    ankle = figure.pose.ankles[side]
    dark = 0.0 if figure.frontal or side else 0.22
    color = cloth.darker(figure.color("shoes_color"), dark)
    kind = figure.values["shoes"]
    if kind == "boots":
        _shaft(figure, side, color)
    draw = _frontal if figure.frontal else _profile
    draw(figure, ankle, figure.pose.feet[side], color, kind, side)


def _shaft(figure: Figure, side: int, color: np.ndarray) -> None:
    knee, ankle = figure.pose.knees[side], figure.pose.ankles[side]
    limb = figure.shape.limb
    loose = 1.18 if figure.values["bottom"] in ("trousers", "jeans") else 1.0
    line = [knee + 0.50 * (ankle - knee), knee + 0.72 * (ankle - knee), ankle + (0, 0.012)]
    widths = np.array([0.036, 0.032, 0.027]) * limb * loose
    figure.canvas.paint(
        figure.at(tube(line, widths)),
        color,
        paint.SHOE,
        figure.look("crumple", 0.05, roundness=4, relief=0.3),
    )
    rim = [line[0] - (widths[0], 0.0), line[0] + (0, 0.005), line[0] + (widths[0], 0.0)]
    figure.seam(rim, cloth.detail(color), 1.6, 0.8)


def _turned(points: list[tuple[float, float]], ankle: np.ndarray, angle: float) -> np.ndarray:
    """Foot points around the ankle, heel lifted by an angle (the toes stay low)."""
    offset = np.asarray(points, float)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = offset[:, 0], offset[:, 1]
    return ankle + np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)


def _profile(
    figure: Figure, ankle: np.ndarray, lift: float, color: np.ndarray, kind: str, side: int
) -> None:
    del side
    upper = [
        (-0.034, -0.014),
        (0.020, -0.018),
        (0.040, 0.004),
        (0.078, 0.012),
        (0.102, 0.024),
        (0.104, 0.036),
        (0.03, 0.039),
        (-0.038, 0.038),
        (-0.042, 0.012),
    ]
    sole = [
        (-0.041, 0.030),
        (0.03, 0.033),
        (0.104, 0.031),
        (0.108, 0.038),
        (0.10, 0.045),
        (0.0, 0.046),
        (-0.040, 0.045),
    ]
    place = lambda points: figure.at(smooth(_turned(points, ankle, lift)))  # noqa: E731
    if kind == "sandals":
        bare = [
            (-0.030, -0.02),
            (0.018, -0.02),
            (0.036, 0.006),
            (0.076, 0.018),
            (0.096, 0.026),
            (0.096, 0.036),
            (0.02, 0.038),
            (-0.034, 0.036),
        ]
        figure.canvas.paint(place(bare), figure.skin, paint.LEG, _LEATHER)
        for strap in (
            [(-0.036, 0.002), (-0.004, 0.0), (0.034, 0.006), (0.036, 0.018), (-0.036, 0.016)],
            [(0.046, 0.006), (0.066, 0.010), (0.074, 0.036), (0.046, 0.036)],
        ):
            figure.canvas.paint(place(strap), color, paint.SHOE, _LEATHER)
        figure.canvas.paint(place(sole), cloth.darker(color, 0.1), paint.SHOE, _LEATHER)
        return
    figure.canvas.paint(place(upper), color, paint.SHOE, _LEATHER)
    rubber = (236, 236, 232) if kind == "sneakers" else cloth.darker(color, 0.55)
    if kind == "sneakers" and float(np.mean(color)) > 190:
        rubber = (176, 178, 180)
    figure.canvas.paint(place(sole), rubber, paint.SHOE, Look(roundness=2))
    if kind == "sneakers":
        for x in (0.026, 0.040, 0.054):
            lace = _turned(
                [(x - 0.008, 0.0 + x * 0.18), (x + 0.004, 0.010 + x * 0.18)], ankle, lift
            )
            figure.canvas.line(figure.at(lace), cloth.mix(color, (250, 250, 250), 0.8), 1.4, 0.9)
        stripe = _turned([(0.0, 0.004), (0.022, 0.026)], ankle, lift)
        figure.canvas.line(
            figure.at(stripe), cloth.contrast(figure.values["shoes_color"]), 2.0, 0.8
        )


def _frontal(
    figure: Figure, ankle: np.ndarray, lift: float, color: np.ndarray, kind: str, side: int
) -> None:
    out = -1.0 if side == 0 else 1.0
    toe = (1.0 if figure.view == "front" else 0.82) - 0.18 * lift
    width, tilt = 0.033, 0.008 * out
    shape = np.array(
        [
            (-0.024, -0.018),
            (0.024, -0.018),
            (0.030, 0.012),
            (width, 0.038),
            (0.022, 0.052),
            (-0.022, 0.052),
            (-width, 0.038),
            (-0.030, 0.012),
        ]
    )
    shape = shape * (1.0, toe) + np.stack([tilt * (shape[:, 1] > 0.02), np.zeros(8)], axis=1)
    sole = np.array(
        [(-width, 0.040), (0.0, 0.043), (width, 0.040), (0.030, 0.055), (-0.030, 0.055)]
    )
    sole = sole * (1.0, toe) + (tilt, 0.0)
    if kind == "sandals":
        _frontal_sandal(figure, ankle, shape, sole, color, toe)
        return
    figure.canvas.paint(figure.at(smooth(ankle + shape)), color, paint.SHOE, _LEATHER)
    rubber = (236, 236, 232) if kind == "sneakers" else cloth.darker(color, 0.55)
    if kind == "sneakers" and float(np.mean(color)) > 190:
        rubber = (176, 178, 180)
    figure.canvas.paint(figure.at(smooth(ankle + sole)), rubber, paint.SHOE, Look(roundness=2))
    if kind == "sneakers" and figure.view == "front":
        for y in (0.002, 0.011, 0.020):
            lace = ankle + np.array([(-0.011, y * toe), (0.011, y * toe)])
            figure.canvas.line(figure.at(lace), cloth.mix(color, (250, 250, 250), 0.85), 1.3, 0.9)
    elif kind == "sneakers":
        tab = ankle + np.array([(-0.010, -0.012), (0.010, -0.012), (0.008, 0.022), (-0.008, 0.022)])
        figure.canvas.paint(
            figure.at(tab), cloth.contrast(figure.values["shoes_color"]), paint.SHOE
        )


def _frontal_sandal(
    figure: Figure,
    ankle: np.ndarray,
    shape: np.ndarray,
    sole: np.ndarray,
    color: np.ndarray,
    toe: float,
) -> None:
    figure.canvas.paint(
        figure.at(smooth(ankle + shape * (0.9, 0.98))), figure.skin, paint.LEG, _LEATHER
    )
    figure.canvas.paint(
        figure.at(smooth(ankle + sole)), cloth.darker(color, 0.15), paint.SHOE, Look(roundness=2)
    )
    for y, half in ((-0.006, 0.027), (0.022, 0.032)):
        strap = ankle + np.array(
            [
                (-half, y * toe),
                (half, y * toe),
                (half, (y + 0.013) * toe),
                (-half, (y + 0.013) * toe),
            ]
        )
        figure.canvas.paint(figure.at(strap), color, paint.SHOE, Look(roundness=2))
    if figure.view == "front":
        for x in (-0.018, -0.006, 0.006, 0.018):
            gap = ankle + np.array([(x, 0.037 * toe), (x, 0.046 * toe)])
            figure.canvas.line(figure.at(gap), cloth.darker(figure.skin, 0.5), 1.0, 0.5)

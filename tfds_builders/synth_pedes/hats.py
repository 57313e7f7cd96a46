"""Hats and glasses, from the front, the back and the side."""

from __future__ import annotations

import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes import cloth
from tfds_builders.synth_pedes.canvas import Look, oval
from tfds_builders.synth_pedes.figure import Figure

Outline = list[tuple[float, float]]


def mirrored(right: Outline) -> Outline:
    """Closes a symmetric outline given by its right half, from the top down."""
    return right + [(-x, y) for x, y in reversed(right) if x > 1e-6]


def draw_front_glasses(figure: Figure) -> None:
    """Draws glasses on a face seen from the front."""
    kind, scale = figure.values["glasses"], figure.scale
    if kind == "none":
        return
    ink = (28, 26, 28)
    for sign in (-1, 1):
        center = figure.at((sign * 0.0215, 0.067))
        if kind == "sunglasses":
            lens = oval(center, (7.4 * scale, 5.8 * scale))
            figure.canvas.paint(lens, (24, 24, 28), paint.GLASSES)
            glint = oval(center - (2.0 * scale, 2.2 * scale), (2.4 * scale, 1.2 * scale), -0.5)
            figure.canvas.paint(glint, (120, 124, 134), None, Look(relief=0, edge=0, opacity=0.6))
        else:
            figure.canvas.paint(oval(center, (7.0 * scale, 5.6 * scale)), ink, paint.GLASSES)
            figure.canvas.paint(
                oval(center, (5.2 * scale, 3.9 * scale)),
                cloth.mix(figure.skin, (228, 236, 244), 0.24),
                paint.GLASSES,
            )
            figure.canvas.paint(oval(center, (1.6 * scale, 1.7 * scale)), (40, 32, 30), None)
        figure.seam([(sign * 0.040, 0.064), (sign * 0.052, 0.066)], ink, 1.8, 0.9)
    figure.seam([(-0.006, 0.064), (0, 0.062), (0.006, 0.064)], ink, 1.8, 0.95)


def draw_side_glasses(figure: Figure) -> None:
    """Draws glasses on a face seen from the side."""
    kind, scale = figure.values["glasses"], figure.scale
    if kind == "none":
        return
    ink = (26, 25, 28)
    center = figure.at((0.043, 0.067))
    figure.canvas.paint(oval(center, (4.6 * scale, 5.6 * scale)), ink, paint.GLASSES)
    if kind == "glasses":
        figure.canvas.paint(
            oval(center, (2.9 * scale, 3.9 * scale)),
            cloth.mix(figure.skin, (228, 236, 244), 0.45),
            paint.GLASSES,
        )
        iris = oval(figure.at((0.0435, 0.067)), (1.2 * scale, 1.5 * scale))
        figure.canvas.paint(iris, (52, 40, 34), None)
    temple = figure.at([(0.034, 0.064), (-0.008, 0.066), (-0.008, 0.071), (0.034, 0.069)])
    figure.canvas.paint(temple, ink, paint.GLASSES)


def draw_hat(figure: Figure) -> None:
    """Draws the hat, if there is one."""
    draw = {"cap": _cap, "beanie": _beanie, "sun hat": _sun_hat}.get(figure.values["hat"])
    if draw is not None:
        draw(figure, figure.color("hat_color"))


def _felt(figure: Figure) -> Look:
    return figure.look("crumple", 0.05, roundness=6, relief=0.32, edge=0.3, shadow=0.45)


def _cap(figure: Figure, color: np.ndarray) -> None:
    ink = cloth.detail(color)
    if figure.frontal:
        dome = [(0, -0.030), (0.034, -0.022), (0.056, 0.008), (0.058, 0.040), (0.0, 0.046)]
        figure.fill(mirrored(dome), color, paint.HAT, _felt(figure))
        figure.seam([(0, -0.030), (0.001, 0.04)], ink, 1.0, 0.6)
        if figure.view == "front":
            brim = [(0, 0.026), (0.040, 0.032), (0.062, 0.050), (0.036, 0.052), (0, 0.056)]
            figure.fill(mirrored(brim), cloth.darker(color, 0.16), paint.HAT, Look(roundness=2))
            figure.seam([(-0.060, 0.048), (0, 0.028), (0.060, 0.048)], ink, 1.2, 0.7)
        else:
            gap = oval(figure.at((0, 0.034)), (0.018 * figure.height, 0.012 * figure.height))
            figure.canvas.paint(
                gap, cloth.hair_color(figure.values["hair_color"]), paint.HAIR, Look(roundness=2)
            )
            figure.seam([(-0.02, 0.043), (0, 0.046), (0.02, 0.043)], color, 2.5, 1.0)
        return
    dome = [
        (0.052, 0.044),
        (0.050, 0.006),
        (0.022, -0.026),
        (-0.022, -0.028),
        (-0.060, -0.002),
        (-0.075, 0.046),
        (-0.01, 0.044),
    ]
    figure.fill(dome, color, paint.HAT, _felt(figure))
    brim = [(0.040, 0.030), (0.078, 0.034), (0.110, 0.050), (0.104, 0.056), (0.044, 0.048)]
    figure.fill(brim, cloth.darker(color, 0.16), paint.HAT, Look(roundness=2))
    figure.seam([(-0.01, -0.030), (-0.006, 0.042)], ink, 1.0, 0.6)


def _beanie(figure: Figure, color: np.ndarray) -> None:
    fold = cloth.mix(color, cloth.detail(color), 0.4)
    if figure.frontal:
        dome = mirrored([(0, -0.042), (0.034, -0.034), (0.058, 0.0), (0.060, 0.042), (0.03, 0.046)])
        band = mirrored([(0, 0.024), (0.058, 0.018), (0.063, 0.032), (0.061, 0.054), (0.0, 0.055)])
    else:
        dome = [
            (0.055, 0.040),
            (0.052, 0.0),
            (0.020, -0.036),
            (-0.030, -0.042),
            (-0.068, -0.006),
            (-0.078, 0.05),
            (-0.01, 0.05),
        ]
        band = [
            (0.058, 0.018),
            (0.060, 0.044),
            (-0.01, 0.060),
            (-0.078, 0.066),
            (-0.080, 0.036),
            (-0.01, 0.030),
        ]
    figure.fill(
        dome, color, paint.HAT, figure.look("strands", 0.06, roundness=7, relief=0.34, shadow=0.45)
    )
    figure.fill(band, fold, paint.HAT, figure.look("strands", 0.09, roundness=3, relief=0.25))


def _sun_hat(figure: Figure, color: np.ndarray) -> None:
    center = figure.at((0.0, 0.034) if figure.frontal else (-0.006, 0.032))
    wide = 0.108 if figure.frontal else 0.118
    brim = oval(center, (wide * figure.height, 0.024 * figure.height))
    figure.canvas.paint(brim, cloth.darker(color, 0.12), paint.HAT, Look(roundness=3, relief=0.2))
    if figure.frontal:
        crown = mirrored(
            [(0, -0.040), (0.036, -0.034), (0.052, -0.006), (0.056, 0.030), (0.02, 0.038)]
        )
    else:
        crown = [
            (0.052, 0.030),
            (0.048, -0.010),
            (0.024, -0.038),
            (-0.030, -0.040),
            (-0.058, -0.012),
            (-0.066, 0.030),
            (-0.006, 0.038),
        ]
    figure.fill(crown, color, paint.HAT, _felt(figure))
    half = 0.057 if figure.frontal else 0.062
    band = [
        (-half, 0.012),
        (0, 0.020),
        (half - 0.004, 0.012),
        (half - 0.002, 0.026),
        (0, 0.034),
        (-half, 0.026),
    ]
    figure.canvas.paint(figure.at(band), cloth.detail(color), paint.HAT, Look(roundness=2))

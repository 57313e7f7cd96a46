"""What tells the kinds of tops apart: collars, zips, hoods, lapels, seams, and the logo."""

from __future__ import annotations

import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes import cloth
from tfds_builders.synth_pedes.canvas import Look, tube
from tfds_builders.synth_pedes.figure import Figure

EASE = {
    "t-shirt": 0.006,
    "shirt": 0.006,
    "sweater": 0.010,
    "hoodie": 0.016,
    "jacket": 0.017,
    "coat": 0.014,
}
"""How far each top stands off the body, in body units."""


HEMS = {
    "t-shirt": 0.500,
    "shirt": 0.520,
    "sweater": 0.498,
    "hoodie": 0.505,
    "jacket": 0.492,
    "coat": 0.645,
}
"""Height of the hem of each top in body units."""


def draw_hood_behind(figure: Figure, color: np.ndarray) -> None:
    """Draws the part of a hood that shows behind the neck, from the front."""
    outline = [
        (-0.066, 0.165),
        (-0.062, 0.130),
        (-0.03, 0.112),
        (0.03, 0.112),
        (0.062, 0.130),
        (0.066, 0.165),
        (0, 0.185),
    ]
    figure.fill(outline, cloth.darker(color, 0.22), paint.TOP, figure.look("crumple", 0.06))


def draw_details(figure: Figure, color: np.ndarray) -> None:
    """Draws what only this kind of top has, and the logo where there is one."""
    draw = {"front": _front_details, "back": _back_details}.get(figure.view, _profile_details)
    draw(figure, figure.values["top"], color)
    if figure.values["top_pattern"] == "logo" and figure.view == "front":
        _logo(figure)


def _front_details(figure: Figure, top: str, color: np.ndarray) -> None:
    ink = cloth.detail(color)
    hem = HEMS[top]
    if top == "t-shirt":
        _neckline(figure, color, 0.026, 0.172)
    elif top == "sweater":
        _neckline(figure, cloth.mix(color, ink, 0.5), 0.030, 0.168, band=3.2)
    elif top == "hoodie":
        _hood_front(figure, color, ink)
    else:
        figure.seam([(0.0, 0.175), (0.002, 0.35), (0.0, hem - 0.004)], ink, 1.3, 0.85)
    if top == "shirt":
        _collar(figure, color, 0.040)
        for y in np.arange(0.205, hem - 0.02, 0.044):
            button = paint.oval(figure.at((0.0, y)), (1.9 * figure.scale,) * 2)
            figure.canvas.paint(button, cloth.contrast(figure.values["top_color"]), paint.TOP)
        figure.seam([(0.008, 0.19), (0.009, 0.35), (0.008, hem - 0.006)], ink, 1.0, 0.4)
    if top == "jacket":
        _zip(figure, hem)
        _collar(figure, cloth.mix(color, ink, 0.35), 0.030, stand=True)
        for sign in (-1, 1):
            pocket = [(sign * 0.045, 0.40), (sign * 0.062, 0.45)]
            figure.seam(pocket, ink, 2.0, 0.9)
    if top == "coat":
        _lapels(figure, color, ink)


def _neckline(
    figure: Figure, color: np.ndarray, width: float, low: float, band: float = 2.0
) -> None:
    skin = [
        (-width, 0.146),
        (width, 0.146),
        (width * 0.7, low - 0.004),
        (0, low + 0.003),
        (-width * 0.7, low - 0.004),
    ]
    figure.fill(skin, cloth.darker(figure.skin, 0.08), paint.SKIN, Look(roundness=3))
    rim = [
        (-width - 0.004, 0.150),
        (-width * 0.75, low - 0.003),
        (0, low + 0.006),
        (width * 0.75, low - 0.003),
        (width + 0.004, 0.150),
    ]
    figure.seam(rim, cloth.mix(color, cloth.detail(color), 0.5), band, 0.95)


def _hood_front(figure: Figure, color: np.ndarray, ink: np.ndarray) -> None:
    _neckline(figure, color, 0.026, 0.176, band=1.5)
    for sign in (-1, 1):
        roll = [(sign * 0.066, 0.150), (sign * 0.052, 0.176), (sign * 0.020, 0.196), (0, 0.200)]
        outline = figure.at(tube(roll, [0.010, 0.016, 0.013, 0.006]))
        figure.canvas.paint(
            outline, cloth.mix(color, ink, 0.25), paint.TOP, Look(roundness=3, relief=0.3, edge=0.4)
        )
        cord = [(sign * 0.016, 0.196), (sign * 0.019, 0.23), (sign * 0.017, 0.262)]
        figure.seam(cord, cloth.mix(color, (245, 245, 245), 0.7), 1.6, 0.95)
    pouch = [(-0.036, 0.395), (0.036, 0.395), (0.056, 0.462), (-0.056, 0.462), (-0.036, 0.395)]
    figure.canvas.line(figure.at(pouch), ink, 1.5, 0.85)


def _collar(figure: Figure, color: np.ndarray, drop: float, *, stand: bool = False) -> None:
    ink = cloth.detail(color)
    if not stand:
        figure.fill(
            [(-0.022, 0.146), (0.022, 0.146), (0, 0.185)],
            cloth.darker(figure.skin, 0.1),
            paint.SKIN,
        )
    for sign in (-1, 1):
        if stand:
            points = [
                (sign * 0.040, 0.140),
                (sign * 0.004, 0.166),
                (sign * 0.004, 0.192),
                (sign * 0.046, 0.168),
            ]
        else:
            points = [
                (sign * 0.034, 0.140),
                (sign * 0.004, 0.176),
                (sign * 0.028, 0.150 + drop),
                (sign * 0.048, 0.166),
            ]
        outline = figure.at(points)
        figure.canvas.paint(
            outline,
            cloth.mix(color, (255, 255, 255), 0.06),
            paint.TOP,
            Look(roundness=2, edge=0.35),
        )
        figure.canvas.line(outline[[1, 2, 3]], ink, 1.2, 0.8)


def _zip(figure: Figure, hem: float) -> None:
    figure.seam([(0, 0.18), (0, hem)], (188, 190, 194), 2.2, 0.95)
    figure.seam([(0, 0.18), (0, hem)], (70, 72, 76), 1.0, 0.6)
    tab = paint.oval(figure.at((0, 0.198)), (1.8 * figure.scale, 3.2 * figure.scale))
    figure.canvas.paint(tab, (205, 206, 208), paint.TOP)


def _lapels(figure: Figure, color: np.ndarray, ink: np.ndarray) -> None:
    figure.fill(
        [(-0.024, 0.146), (0.024, 0.146), (0.0, 0.225)], (222, 220, 214), None, Look(roundness=2)
    )
    for sign in (-1, 1):
        points = [
            (sign * 0.036, 0.140),
            (sign * 0.002, 0.245),
            (sign * 0.052, 0.225),
            (sign * 0.040, 0.205),
            (sign * 0.060, 0.196),
            (sign * 0.050, 0.160),
        ]
        outline = figure.at(points)
        figure.canvas.paint(
            outline,
            cloth.mix(color, (255, 255, 255), 0.07),
            paint.TOP,
            Look(roundness=3, edge=0.35),
        )
        figure.canvas.line(outline, ink, 1.2, 0.8)
        figure.seam([(sign * 0.05, 0.45), (sign * 0.085, 0.445)], ink, 2.2, 0.8)
    for y in (0.28, 0.34, 0.40, 0.46):
        button = paint.oval(figure.at((0.016, y)), (2.4 * figure.scale,) * 2)
        figure.canvas.paint(button, cloth.detail(ink), paint.TOP, Look(roundness=2))


def _back_details(figure: Figure, top: str, color: np.ndarray) -> None:
    ink = cloth.detail(color)
    wide = figure.shape.shoulder
    if top in ("jacket", "shirt"):
        figure.seam([(-wide + 0.01, 0.236), (0, 0.226), (wide - 0.01, 0.236)], ink, 1.2, 0.7)
    if top in ("shirt", "jacket", "coat"):
        collar = [(-0.042, 0.136), (0.042, 0.136), (0.048, 0.166), (0, 0.176), (-0.048, 0.166)]
        figure.canvas.paint(
            figure.at(collar), cloth.mix(color, ink, 0.25), paint.TOP, Look(roundness=3, edge=0.4)
        )
        figure.seam(collar[2:], ink, 1.3, 0.8)
    if top == "coat":
        figure.seam([(0, 0.19), (0.001, 0.4), (0, HEMS[top])], ink, 1.2, 0.6)
        figure.seam([(-0.05, 0.405), (0.05, 0.405)], ink, 3.0, 0.7)
    if top in ("sweater", "t-shirt"):
        figure.seam(
            [(-0.036, 0.150), (0, 0.164), (0.036, 0.150)], ink, 3 if top == "sweater" else 1.6, 0.7
        )
    if top == "hoodie":
        hood = [
            (-0.066, 0.150),
            (-0.03, 0.136),
            (0.03, 0.136),
            (0.066, 0.150),
            (0.058, 0.205),
            (0.0, 0.258),
            (-0.058, 0.205),
        ]
        figure.fill(
            hood,
            cloth.mix(color, ink, 0.15),
            paint.TOP,
            figure.look("crumple", 0.07, roundness=6, relief=0.3, edge=0.5),
        )
        figure.seam([(0, 0.15), (0, 0.25)], ink, 1.2, 0.6)


def _profile_details(figure: Figure, top: str, color: np.ndarray) -> None:
    ink = cloth.detail(color)
    front = figure.shape.belly + EASE[top]
    if top in ("shirt", "jacket", "coat"):
        collar = [(-0.050, 0.140), (0.018, 0.142), (0.030, 0.176), (-0.046, 0.172)]
        figure.canvas.paint(
            figure.at(collar), cloth.mix(color, ink, 0.2), paint.TOP, Look(roundness=3)
        )
        figure.seam([collar[3], collar[2]], ink, 1.2, 0.8)
    if top in ("sweater", "t-shirt"):
        figure.seam(
            [(-0.046, 0.152), (-0.01, 0.166), (0.020, 0.164)],
            ink,
            3 if top == "sweater" else 1.6,
            0.7,
        )
    if top == "hoodie":
        hood = [
            (-0.030, 0.136),
            (-0.066, 0.140),
            (-0.094, 0.175),
            (-0.088, 0.215),
            (-0.060, 0.222),
            (-0.026, 0.196),
            (0.018, 0.182),
            (0.014, 0.160),
        ]
        figure.fill(
            hood,
            cloth.mix(color, ink, 0.15),
            paint.TOP,
            figure.look("crumple", 0.06, roundness=5, relief=0.3, edge=0.5),
        )
    if top in ("jacket", "hoodie"):
        figure.seam([(front - 0.014, 0.41), (front - 0.034, 0.455)], ink, 1.8, 0.85)
    if top == "coat":
        figure.seam([(front - 0.012, 0.43), (front - 0.040, 0.44)], ink, 2.2, 0.85)


def _logo(figure: Figure) -> None:
    low = {"hoodie": 0.315, "coat": 0.30}.get(figure.values["top"], 0.27)
    center, size = figure.at((0, low)), 15.5 * figure.scale
    ink = cloth.contrast(figure.values["top_color"])
    disc = paint.oval(center, (size, size * 0.92))
    figure.canvas.paint(disc, ink, paint.EMBLEM, Look(relief=0.08, edge=0.05))
    turns = np.linspace(0, 2 * np.pi, 10, endpoint=False) - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, size * 0.72, size * 0.32)
    star = center + np.stack([np.cos(turns) * radius, np.sin(turns) * radius], axis=1)
    figure.canvas.paint(star, figure.color("top_color"), paint.EMBLEM)

"""Neck and top: the outline of each kind of garment and what tells the kinds apart."""

from __future__ import annotations

import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes import cloth
from tfds_builders.synth_pedes.canvas import Look, smooth, tube
from tfds_builders.synth_pedes.figure import SKIN_LOOK, Figure, crease, small_jitter

_EASE = {"t-shirt": 0.006, "shirt": 0.006, "sweater": 0.010, "hoodie": 0.016, "jacket": 0.017,
         "coat": 0.014}
HEMS = {"t-shirt": 0.500, "shirt": 0.520, "sweater": 0.498, "hoodie": 0.505, "jacket": 0.492,
        "coat": 0.645}
"""Height of the hem of each top in body units."""


def draw_neck(figure: Figure) -> None:
    """Draws the neck, which the top covers from below."""
    width = 0.030 * figure.shape.limb
    line = [(0, 0.09), (0, 0.175)] if figure.frontal else [(-0.010, 0.09), (-0.022, 0.175)]
    outline = figure.at(tube(line, [width, width * 1.15]))
    figure.canvas.paint(outline, cloth.darker(figure.skin, 0.18), paint.SKIN, SKIN_LOOK)


def draw_torso(figure: Figure) -> None:
    """Draws the top without its sleeves."""
    top = figure.values["top"]
    color = figure.color("top_color")
    if figure.frontal:
        outline, axis = _frontal_outline(figure), (0.0, 1.0)
    else:
        outline, axis = _profile_outline(figure), (0.0, 1.0)
    if top == "hoodie" and figure.view == "front":
        _hood_behind(figure, color)
    field = cloth.pattern(figure.values["top_pattern"], figure.at((0, 0.16)), np.array(axis),
                          figure.scale, 0.0018 if figure.frontal else 0.001)
    strength = {"t-shirt": 0.08, "shirt": 0.10, "sweater": 0.08}.get(top, 0.115)
    look = figure.look("drape", strength, roundness=15, relief=0.36, edge=0.28, pattern=field,
                       shadow=0.45, shadow_size=4,
                       second=cloth.contrast(figure.values["top_color"]))
    figure.fill(outline, color, paint.TOP, look)
    crease(figure, _body_creases(figure), paint.TOP, 2.4, 0.30)
    details = {"front": _front_details, "back": _back_details}.get(figure.view, _profile_details)
    _hem(figure, color)
    details(figure, top, color)
    if figure.values["top_pattern"] == "logo" and figure.view == "front":
        _logo(figure)


def _body_creases(figure: Figure) -> list[list[tuple[float, float]]]:
    """Valleys from the armpits, at the waist and above the hem."""
    shape, lines = figure.shape, []
    if not figure.frontal:
        for y in (0.36, 0.40, 0.445):
            y += small_jitter(figure)
            lines.append([(-shape.belly * 0.9, y), (-0.01, y + 0.012), (0.022, y + 0.006)])
        return lines
    for sign in (-1, 1):
        under = shape.shoulder - 0.014
        lines.append([(sign * under, 0.252), (sign * under * 0.72, 0.272), (sign * 0.035, 0.276)])
        lines.append([(sign * under, 0.262), (sign * under * 0.8, 0.31), (sign * 0.045, 0.345)])
        for y in (0.385, 0.425, 0.46):
            y += 2 * small_jitter(figure)
            reach = 0.35 + 20 * small_jitter(figure)
            lines.append([(sign * (shape.waist + 0.004), y - 0.008), (sign * shape.waist * 0.7, y),
                          (sign * shape.waist * reach, y + 0.010)])
    return lines


def _frontal_outline(figure: Figure) -> list[tuple[float, float]]:
    shape, top = figure.shape, figure.values["top"]
    ease, hem = _EASE[top], HEMS[top]
    shoulder, waist, hip = shape.shoulder + ease * 0.5, shape.waist + ease, shape.hip + ease
    waist = max(waist, 0.6 * waist + 0.4 * hip) if top in ("jacket", "hoodie", "coat") else waist
    bottom = hip + (0.018 if top == "coat" else 0.002)
    right = [(0.034, 0.148), (shoulder * 0.66, 0.167), (shoulder * 0.95, 0.193), (shoulder - 0.010, 0.25),
             (0.5 * (waist + shoulder - 0.012), 0.33), (waist, 0.405), (hip, 0.48)]
    if top == "coat":
        right += [(hip + 0.010, 0.56)]
    right += [(bottom, hem - 0.008), (bottom - 0.02, hem)]
    left = [(-x, y) for x, y in reversed(right)]
    return [(0.0, 0.158), *right, (0.0, hem + 0.004), *left]


def _profile_outline(figure: Figure) -> list[tuple[float, float]]:
    shape, top = figure.shape, figure.values["top"]
    ease, hem = _EASE[top], HEMS[top]
    chest, belly = 0.058 * shape.limb + ease + shape.bust, shape.belly + ease
    back, seat = -0.060 * shape.limb - ease, -0.056 * shape.limb - ease
    front = [(0.014, 0.156), (0.036, 0.18), (chest, 0.255), (max(belly, chest * 0.86), 0.33),
             (belly + 0.004, 0.41), (belly, 0.47)]
    rear = [(seat, 0.50), (-belly - 0.002, 0.40), (back, 0.29), (back * 0.95, 0.215), (-0.046, 0.165),
            (-0.030, 0.145)]
    if top == "coat":
        front += [(belly + 0.018, 0.58), (belly + 0.022, hem)]
        rear = [(seat - 0.016, hem), (seat - 0.012, 0.58), *rear]
    else:
        front += [(belly - 0.002, hem)]
        rear = [(seat, hem), *rear]
    return [*front, *rear]


def _hood_behind(figure: Figure, color: np.ndarray) -> None:
    outline = [(-0.066, 0.165), (-0.062, 0.130), (-0.03, 0.112), (0.03, 0.112), (0.062, 0.130),
               (0.066, 0.165), (0, 0.185)]
    figure.fill(outline, cloth.darker(color, 0.22), paint.TOP, figure.look("crumple", 0.06))


def _hem(figure: Figure, color: np.ndarray) -> None:
    top = figure.values["top"]
    hem = HEMS[top]
    ink = cloth.detail(color)
    if figure.frontal:
        half = figure.shape.hip + _EASE[top]
        left, right = -half, half
    else:
        belly, seat = figure.shape.belly, -0.056 * figure.shape.limb
        left, right = seat - _EASE[top], belly + _EASE[top]
    if top in ("sweater", "hoodie", "jacket"):
        band = [(left, hem - 0.028), (right, hem - 0.028), (right - 0.004, hem + 0.004),
                (0.5 * (left + right), hem + 0.010), (left + 0.004, hem + 0.004)]
        figure.canvas.paint(figure.at(band), cloth.mix(color, ink, 0.5), paint.TOP,
                            figure.look("strands", 0.05, roundness=3))
    else:
        figure.seam([(left + 0.004, hem - 0.012), (0.5 * (left + right), hem - 0.006),
                     (right - 0.004, hem - 0.012)], ink, 1.0, 0.55)


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


def _neckline(figure: Figure, color: np.ndarray, width: float, low: float, band: float = 2.0) -> None:
    skin = [(-width, 0.146), (width, 0.146), (width * 0.7, low - 0.004), (0, low + 0.003),
            (-width * 0.7, low - 0.004)]
    figure.fill(skin, cloth.darker(figure.skin, 0.08), paint.SKIN, Look(roundness=3))
    rim = [(-width - 0.004, 0.150), (-width * 0.75, low - 0.003), (0, low + 0.006),
           (width * 0.75, low - 0.003), (width + 0.004, 0.150)]
    figure.seam(rim, cloth.mix(color, cloth.detail(color), 0.5), band, 0.95)


def _hood_front(figure: Figure, color: np.ndarray, ink: np.ndarray) -> None:
    _neckline(figure, color, 0.026, 0.176, band=1.5)
    for sign in (-1, 1):
        roll = [(sign * 0.066, 0.150), (sign * 0.052, 0.176), (sign * 0.020, 0.196), (0, 0.200)]
        outline = figure.at(tube(roll, [0.010, 0.016, 0.013, 0.006]))
        figure.canvas.paint(outline, cloth.mix(color, ink, 0.25), paint.TOP,
                            Look(roundness=3, relief=0.3, edge=0.4))
        cord = [(sign * 0.016, 0.196), (sign * 0.019, 0.23), (sign * 0.017, 0.262)]
        figure.seam(cord, cloth.mix(color, (245, 245, 245), 0.7), 1.6, 0.95)
    pouch = [(-0.036, 0.395), (0.036, 0.395), (0.056, 0.462), (-0.056, 0.462), (-0.036, 0.395)]
    figure.canvas.line(figure.at(pouch), ink, 1.5, 0.85)


def _collar(figure: Figure, color: np.ndarray, drop: float, *, stand: bool = False) -> None:
    ink = cloth.detail(color)
    if not stand:
        figure.fill([(-0.022, 0.146), (0.022, 0.146), (0, 0.185)], cloth.darker(figure.skin, 0.1),
                    paint.SKIN)
    for sign in (-1, 1):
        if stand:
            points = [(sign * 0.040, 0.140), (sign * 0.004, 0.166), (sign * 0.004, 0.192),
                      (sign * 0.046, 0.168)]
        else:
            points = [(sign * 0.034, 0.140), (sign * 0.004, 0.176), (sign * 0.028, 0.150 + drop),
                      (sign * 0.048, 0.166)]
        outline = figure.at(points)
        figure.canvas.paint(outline, cloth.mix(color, (255, 255, 255), 0.06), paint.TOP,
                            Look(roundness=2, edge=0.35))
        figure.canvas.line(outline[[1, 2, 3]], ink, 1.2, 0.8)


def _zip(figure: Figure, hem: float) -> None:
    figure.seam([(0, 0.18), (0, hem)], (188, 190, 194), 2.2, 0.95)
    figure.seam([(0, 0.18), (0, hem)], (70, 72, 76), 1.0, 0.6)
    tab = paint.oval(figure.at((0, 0.198)), (1.8 * figure.scale, 3.2 * figure.scale))
    figure.canvas.paint(tab, (205, 206, 208), paint.TOP)


def _lapels(figure: Figure, color: np.ndarray, ink: np.ndarray) -> None:
    figure.fill([(-0.024, 0.146), (0.024, 0.146), (0.0, 0.225)], (222, 220, 214), None, Look(roundness=2))
    for sign in (-1, 1):
        points = [(sign * 0.036, 0.140), (sign * 0.002, 0.245), (sign * 0.052, 0.225),
                  (sign * 0.040, 0.205), (sign * 0.060, 0.196), (sign * 0.050, 0.160)]
        outline = figure.at(points)
        figure.canvas.paint(outline, cloth.mix(color, (255, 255, 255), 0.07), paint.TOP,
                            Look(roundness=3, edge=0.35))
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
        figure.canvas.paint(figure.at(collar), cloth.mix(color, ink, 0.25), paint.TOP,
                            Look(roundness=3, edge=0.4))
        figure.seam(collar[2:], ink, 1.3, 0.8)
    if top == "coat":
        figure.seam([(0, 0.19), (0.001, 0.4), (0, HEMS[top])], ink, 1.2, 0.6)
        figure.seam([(-0.05, 0.405), (0.05, 0.405)], ink, 3.0, 0.7)
    if top in ("sweater", "t-shirt"):
        figure.seam([(-0.036, 0.150), (0, 0.164), (0.036, 0.150)], ink, 3 if top == "sweater" else 1.6, 0.7)
    if top == "hoodie":
        hood = [(-0.066, 0.150), (-0.03, 0.136), (0.03, 0.136), (0.066, 0.150), (0.058, 0.205),
                (0.0, 0.258), (-0.058, 0.205)]
        figure.fill(hood, cloth.mix(color, ink, 0.15), paint.TOP,
                    figure.look("crumple", 0.07, roundness=6, relief=0.3, edge=0.5))
        figure.seam([(0, 0.15), (0, 0.25)], ink, 1.2, 0.6)


def _profile_details(figure: Figure, top: str, color: np.ndarray) -> None:
    ink = cloth.detail(color)
    front = figure.shape.belly + _EASE[top]
    if top in ("shirt", "jacket", "coat"):
        collar = [(-0.050, 0.140), (0.018, 0.142), (0.030, 0.176), (-0.046, 0.172)]
        figure.canvas.paint(figure.at(collar), cloth.mix(color, ink, 0.2), paint.TOP, Look(roundness=3))
        figure.seam([collar[3], collar[2]], ink, 1.2, 0.8)
    if top in ("sweater", "t-shirt"):
        figure.seam([(-0.046, 0.152), (-0.01, 0.166), (0.020, 0.164)], ink,
                    3 if top == "sweater" else 1.6, 0.7)
    if top == "hoodie":
        hood = [(-0.030, 0.136), (-0.066, 0.140), (-0.094, 0.175), (-0.088, 0.215), (-0.060, 0.222),
                (-0.026, 0.196), (0.018, 0.182), (0.014, 0.160)]
        figure.fill(hood, cloth.mix(color, ink, 0.15), paint.TOP,
                    figure.look("crumple", 0.06, roundness=5, relief=0.3, edge=0.5))
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

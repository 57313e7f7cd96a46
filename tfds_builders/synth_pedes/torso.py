"""Neck and top: the outline of each kind of garment."""

from __future__ import annotations

import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes import cloth
from tfds_builders.synth_pedes.canvas import tube
from tfds_builders.synth_pedes.figure import SKIN_LOOK, Figure, crease, small_jitter
from tfds_builders.synth_pedes.garments import EASE, HEMS, draw_details, draw_hood_behind


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
        draw_hood_behind(figure, color)
    field = cloth.pattern(
        figure.values["top_pattern"],
        figure.at((0, 0.16)),
        np.array(axis),
        figure.scale,
        0.0018 if figure.frontal else 0.001,
    )
    strength = {"t-shirt": 0.08, "shirt": 0.10, "sweater": 0.08}.get(top, 0.115)
    look = figure.look(
        "drape",
        strength,
        roundness=15,
        relief=0.36,
        edge=0.28,
        pattern=field,
        shadow=0.45,
        shadow_size=4,
        second=cloth.contrast(figure.values["top_color"]),
    )
    figure.fill(outline, color, paint.TOP, look)
    crease(figure, _body_creases(figure), paint.TOP, 2.4, 0.30)
    _hem(figure, color)
    draw_details(figure, color)


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
            lines.append(
                [
                    (sign * (shape.waist + 0.004), y - 0.008),
                    (sign * shape.waist * 0.7, y),
                    (sign * shape.waist * reach, y + 0.010),
                ]
            )
    return lines


def _frontal_outline(figure: Figure) -> list[tuple[float, float]]:
    shape, top = figure.shape, figure.values["top"]
    ease, hem = EASE[top], HEMS[top]
    shoulder, waist, hip = shape.shoulder + ease * 0.5, shape.waist + ease, shape.hip + ease
    waist = max(waist, 0.6 * waist + 0.4 * hip) if top in ("jacket", "hoodie", "coat") else waist
    bottom = hip + (0.018 if top == "coat" else 0.002)
    right = [
        (0.034, 0.148),
        (shoulder * 0.66, 0.167),
        (shoulder * 0.95, 0.193),
        (shoulder - 0.010, 0.25),
        (0.5 * (waist + shoulder - 0.012), 0.33),
        (waist, 0.405),
        (hip, 0.48),
    ]
    if top == "coat":
        right += [(hip + 0.010, 0.56)]
    right += [(bottom, hem - 0.008), (bottom - 0.02, hem)]
    left = [(-x, y) for x, y in reversed(right)]
    return [(0.0, 0.158), *right, (0.0, hem + 0.004), *left]


def _profile_outline(figure: Figure) -> list[tuple[float, float]]:
    shape, top = figure.shape, figure.values["top"]
    ease, hem = EASE[top], HEMS[top]
    chest, belly = 0.058 * shape.limb + ease + shape.bust, shape.belly + ease
    back, seat = -0.060 * shape.limb - ease, -0.056 * shape.limb - ease
    front = [
        (0.014, 0.156),
        (0.036, 0.18),
        (chest, 0.255),
        (max(belly, chest * 0.86), 0.33),
        (belly + 0.004, 0.41),
        (belly, 0.47),
    ]
    rear = [
        (seat, 0.50),
        (-belly - 0.002, 0.40),
        (back, 0.29),
        (back * 0.95, 0.215),
        (-0.046, 0.165),
        (-0.030, 0.145),
    ]
    if top == "coat":
        front += [(belly + 0.018, 0.58), (belly + 0.022, hem)]
        rear = [(seat - 0.016, hem), (seat - 0.012, 0.58), *rear]
    else:
        front += [(belly - 0.002, hem)]
        rear = [(seat, hem), *rear]
    return [*front, *rear]


def _hem(figure: Figure, color: np.ndarray) -> None:
    top = figure.values["top"]
    hem = HEMS[top]
    ink = cloth.detail(color)
    if figure.frontal:
        half = figure.shape.hip + EASE[top]
        left, right = -half, half
    else:
        belly, seat = figure.shape.belly, -0.056 * figure.shape.limb
        left, right = seat - EASE[top], belly + EASE[top]
    if top in ("sweater", "hoodie", "jacket"):
        band = [
            (left, hem - 0.028),
            (right, hem - 0.028),
            (right - 0.004, hem + 0.004),
            (0.5 * (left + right), hem + 0.010),
            (left + 0.004, hem + 0.004),
        ]
        figure.canvas.paint(
            figure.at(band),
            cloth.mix(color, ink, 0.5),
            paint.TOP,
            figure.look("strands", 0.05, roundness=3),
        )
    else:
        figure.seam(
            [
                (left + 0.004, hem - 0.012),
                (0.5 * (left + right), hem - 0.006),
                (right - 0.004, hem - 0.012),
            ],
            ink,
            1.0,
            0.55,
        )

"""Legs and what covers them: trousers, jeans, leggings, shorts, skirt."""

from __future__ import annotations

import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes import cloth
from tfds_builders.synth_pedes.canvas import Look, smooth, tube
from tfds_builders.synth_pedes.figure import SKIN_LOOK, Figure, crease, small_jitter
from tfds_builders.synth_pedes.shoes import paint_shoe

KNEE_HEM = 0.705
"""Height of the hem of a skirt and of shorts in body units."""


def draw_legs(figure: Figure) -> None:
    """Draws shoes, legs and what covers them, the far leg first."""
    if figure.frontal:
        order = (0, 1) if figure.pose.feet[0] > figure.pose.feet[1] else (1, 0)
        _cover_legs(figure, order, (0, 1))
    else:
        _cover_legs(figure, (0,), (0,))
        _cover_legs(figure, (1,), (1,))
    if figure.values["bottom"] == "skirt":
        _skirt(figure)


def _cover_legs(figure: Figure, order: tuple[int, ...], sides: tuple[int, ...]) -> None:
    """Draws some legs: trousers cover shoes, boots cover trousers."""
    boots = figure.values["shoes"] == "boots"
    for side in order:
        if figure.values["bottom"] in ("shorts", "skirt"):
            _bare_leg(figure, side)
        if not boots:
            paint_shoe(figure, side)
    if figure.values["bottom"] != "skirt":
        _trouser_legs(figure, sides)
        if 1 in sides:
            _bottom_details(figure)
    if boots:
        for side in order:
            paint_shoe(figure, side)


def _leg_line(figure: Figure, side: int) -> np.ndarray:
    pose = figure.pose
    hip, knee, ankle = pose.hips[side], pose.knees[side], pose.ankles[side]
    calf = knee + 0.4 * (ankle - knee)
    if not figure.frontal:
        calf = calf + (-0.006, 0.0)
    return np.array([hip, hip + 0.5 * (knee - hip), knee, calf, ankle])


def _leg_widths(figure: Figure) -> np.ndarray:
    limb, hip = figure.shape.limb, figure.shape.hip
    wide = np.array([0.55 * hip, 0.047 * limb, 0.036 * limb, 0.033 * limb, 0.022 * limb])
    if not figure.frontal:
        wide[:2] = 0.060 * limb, 0.050 * limb
    return wide


def _bare_leg(figure: Figure, side: int) -> None:
    widths = _leg_widths(figure)
    widths[3] *= 1.06
    color = figure.skin if side or figure.frontal else cloth.darker(figure.skin, 0.18)
    outline = figure.at(tube(_leg_line(figure, side), widths * 0.9))
    figure.canvas.paint(outline, color, paint.LEG, SKIN_LOOK)
    knee = figure.pose.knees[side]
    if figure.view != "back":
        figure.seam(
            [knee + (-0.014, 0.006), knee + (0.0, 0.014), knee + (0.014, 0.006)],
            cloth.darker(figure.skin, 0.5),
            1.0,
            0.35,
        )


def _trouser_widths(figure: Figure) -> np.ndarray:
    ease = {
        "trousers": (1.06, 1.06, 1.18, 1.22, 1.75),
        "jeans": (1.02, 1.00, 1.06, 1.04, 1.40),
        "leggings": (0.97, 0.93, 0.92, 0.92, 0.98),
        "shorts": (1.04, 1.02, 1.06, 1.0, 1.0),
    }[figure.values["bottom"]]
    if figure.values["shoes"] == "boots" and figure.values["bottom"] != "shorts":
        ease = (*ease[:3], 0.98, 0.9)
    return _leg_widths(figure) * ease


def _trouser_legs(figure: Figure, sides: tuple[int, ...]) -> None:
    kind = figure.values["bottom"]
    outlines = []
    for side in sides:
        line, widths = _leg_line(figure, side), _trouser_widths(figure)
        if kind == "shorts":
            line = line[:3].copy()
            line[2] = line[1] + (line[2] - line[1]) * 0.86
            if figure.frontal:
                line[2, 0] += 0.007 * (-1 if side == 0 else 1)
            widths = widths[:3]
        elif kind == "trousers":
            line[4, 1] += 0.012
        outlines.append(figure.at(tube(line, widths)))
    if sides[-1] == 1:
        outlines.append(figure.at(smooth(_pelvis(figure))))
    color = figure.color("bottom_color")
    if not figure.frontal and sides == (0,):
        color = cloth.darker(color, 0.25)
    strength = {"leggings": 0.04, "jeans": 0.09}.get(kind, 0.12)
    look = figure.look(
        "crumple" if kind == "jeans" else "drape", strength, roundness=8, relief=0.34, shadow=0.35
    )
    figure.canvas.paint(outlines, color, paint.BOTTOM, look)
    if kind == "shorts" and figure.frontal:
        crease(figure, [[(0, 0.53), (0.001, 0.60), (0, KNEE_HEM)]], paint.BOTTOM, 3.0, 0.9)
    elif figure.frontal:
        pose = figure.pose
        inseam = [(0.0, 0.545), pose.knees.mean(axis=0), pose.ankles.mean(axis=0)]
        crease(figure, [inseam], paint.BOTTOM, 2.6, 0.6)
    if kind != "shorts":
        crease(figure, _leg_creases(figure, sides), paint.BOTTOM, 2.4, 0.28)


def _leg_creases(figure: Figure, sides: tuple[int, ...]) -> list[list[np.ndarray]]:
    """Valleys at the knee and above the shoe, and those that run from the crotch."""
    lines = []
    for side in sides:
        line, widths = _leg_line(figure, side), _trouser_widths(figure)
        out = -1.0 if side == 0 and figure.frontal else 1.0
        reach, jitter = widths[2] * (0.75 + 20 * small_jitter(figure)), small_jitter(figure)
        for down in (-0.016 + jitter, 0.016 + small_jitter(figure)):
            end = (0.2 * reach * out, down + 0.010 + small_jitter(figure))
            lines.append([line[2] + (-reach * out, down), line[2] + end])
        low = line[4] - (0, 0.032 - jitter)
        lines.append(
            [low + (-widths[4] * 0.8, 0.0), low + (0, 0.008), low + (widths[4] * 0.6, 0.002)]
        )
        if figure.frontal:
            lines.append(
                [np.array([0.010 * out, 0.540]), line[1] + (0.3 * widths[1] * out, -0.035)]
            )
    return lines


def _pelvis(figure: Figure) -> list[tuple[float, float]]:
    hip, waist, belly = figure.shape.hip, figure.shape.waist, figure.shape.belly
    if figure.frontal:
        return [
            (-waist, 0.41),
            (waist, 0.41),
            (hip, 0.48),
            (hip * 0.98, 0.53),
            (0, 0.545),
            (-hip * 0.98, 0.53),
            (-hip, 0.48),
        ]
    return [
        (-belly, 0.41),
        (belly, 0.41),
        (belly, 0.49),
        (0.045, 0.54),
        (-0.04, 0.55),
        (-0.062 * figure.shape.limb, 0.51),
        (-0.058 * figure.shape.limb, 0.46),
    ]


def _skirt(figure: Figure) -> None:
    hip, pose = figure.shape.hip, figure.pose
    if figure.frontal:
        flare = hip + 0.034
        outline = [
            (-hip * 0.86, 0.41),
            (hip * 0.86, 0.41),
            (hip * 1.04, 0.50),
            (flare, 0.60),
            (flare + 0.010, KNEE_HEM - 0.012),
            (0.5 * hip, KNEE_HEM),
            (-0.5 * hip, KNEE_HEM),
            (-flare - 0.010, KNEE_HEM - 0.012),
            (-flare, 0.60),
            (-hip * 1.04, 0.50),
        ]
    else:
        thick = figure.shape.belly
        reach = np.sort(pose.knees[:, 0] * 0.8)
        outline = [
            (-thick, 0.41),
            (thick, 0.41),
            (thick * 1.05, 0.50),
            (0.5 * thick + 0.045 + 0.4 * reach[1], 0.61),
            (reach[1] + 0.055, KNEE_HEM - 0.01),
            (reach.mean(), KNEE_HEM + 0.002),
            (reach[0] - 0.055, KNEE_HEM - 0.01),
            (-0.5 * thick - 0.045 + 0.4 * reach[0], 0.61),
            (-0.066 * figure.shape.limb, 0.50),
        ]
    look = figure.look("drape", 0.11, roundness=7, relief=0.30, shadow=0.5, shadow_size=4)
    figure.fill(outline, figure.color("bottom_color"), paint.BOTTOM, look)
    if figure.frontal:
        folds = [
            [(x * hip, 0.54), (x * hip * 1.3, 0.62), (x * hip * 1.45, KNEE_HEM - 0.004)]
            for x in (-0.62, -0.18, 0.30, 0.7)
        ]
        crease(figure, folds, paint.BOTTOM, 2.2, 0.45)


def _bottom_details(figure: Figure) -> None:
    kind, color = figure.values["bottom"], figure.color("bottom_color")
    ink = cloth.detail(color)
    if figure.frontal:
        figure.seam([(0, 0.50), (0.002, 0.56)], ink, 1.3, 0.8)
    if kind == "jeans":
        _jeans_details(figure, color)
    if kind == "trousers":
        for side in (0, 1) if figure.frontal else (1,):
            line = _leg_line(figure, side)
            figure.seam(line[1:], cloth.mix(color, (255, 255, 255), 0.25), 1.2, 0.35)
    if kind == "shorts":
        for side in (0, 1) if figure.frontal else (1,):
            line, width = _leg_line(figure, side), _trouser_widths(figure)[2] * 0.95
            end = line[1] + (line[2] - line[1]) * 0.80
            figure.seam([end - (width, 0), end + (width, 0)], ink, 1.0, 0.7)


def _jeans_details(figure: Figure, color: np.ndarray) -> None:
    stitch = cloth.mix(color, (226, 176, 96), 0.55)
    fade = cloth.mix(color, (235, 238, 242), 0.32)
    for side in (0, 1) if figure.frontal else (1,):
        line, widths = _leg_line(figure, side), _trouser_widths(figure)
        sign = -1 if side == 0 and figure.frontal else 1
        middle = line[1] + 0.2 * (line[2] - line[1])
        faded = paint.oval(figure.at(middle), (0.015 * figure.height, 0.065 * figure.height))
        figure.canvas.paint(faded, fade, None, Look(relief=0, edge=0, soft=5, opacity=0.6))
        offset = np.stack([sign * widths * 0.72, np.zeros(5)], axis=1)
        figure.seam((line + offset)[:4], stitch, 1.0, 0.55)
        if figure.values["shoes"] != "boots":
            cuff = tube([line[4] - (0, 0.026), line[4] - (0, 0.006)], [widths[4] * 1.12] * 2)
            figure.canvas.paint(
                figure.at(cuff),
                cloth.mix(color, (240, 242, 245), 0.35),
                paint.BOTTOM,
                Look(roundness=3),
            )
    if figure.view == "back":
        for sign in (-1, 1):
            x = sign * figure.shape.hip * 0.5
            pocket = [
                (x - 0.024, 0.508),
                (x + 0.024, 0.508),
                (x + 0.022, 0.545),
                (x, 0.556),
                (x - 0.022, 0.545),
                (x - 0.024, 0.508),
            ]
            figure.canvas.line(figure.at(pocket), stitch, 1.0, 0.8)

"""Arms with sleeves, cuffs and hands."""

from __future__ import annotations

import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes import cloth
from tfds_builders.synth_pedes.canvas import Look, tube
from tfds_builders.synth_pedes.figure import SKIN_LOOK, Figure, crease


def arm_size(figure: Figure) -> float:
    """Returns a factor for the width of arms, which change less with build than legs."""
    return 0.45 + 0.55 * figure.shape.limb


def draw_arm(figure: Figure, side: int, *, hand: bool = True) -> None:
    """Draws hand, bare arm and sleeve of one side."""
    pose = figure.pose
    shoulder, elbow, wrist = pose.shoulders[side], pose.elbows[side], pose.wrists[side]
    limb = arm_size(figure)
    dark = 0.0 if figure.frontal or side else 0.2
    skin = cloth.darker(figure.skin, dark)
    if hand:
        _hand(figure, side, skin)
    short = figure.values["top"] == "t-shirt"
    if short:
        bare = tube([shoulder, elbow, wrist], np.array([0.027, 0.021, 0.014]) * limb)
        figure.canvas.paint(figure.at(bare), skin, paint.SKIN, SKIN_LOOK)
    ease = {
        "t-shirt": 1.18,
        "shirt": 1.06,
        "sweater": 1.13,
        "hoodie": 1.22,
        "jacket": 1.26,
        "coat": 1.24,
    }[figure.values["top"]]
    inner = shoulder + (_inward(figure, side) * 0.022, -0.016)
    if short:
        end = shoulder + 0.66 * (elbow - shoulder)
        line = [inner, shoulder, 0.5 * (shoulder + end), end]
        widths = np.array([0.006, 0.0265, 0.0285, 0.0295]) * limb * ease
    else:
        cuff = wrist - 0.06 * (wrist - elbow)
        line = [inner, shoulder, 0.5 * (shoulder + elbow), elbow, 0.5 * (elbow + cuff), cuff]
        widths = np.array([0.006, 0.0260, 0.0265, 0.0235, 0.0215, 0.0185]) * limb * ease
    _sleeve(figure, line, widths, dark)
    if not short:
        _cuff(figure, elbow, wrist, float(widths[-1]))
        wide = float(widths[3]) * 0.8
        bends = [
            [elbow + (-wide, -0.012 + d), elbow + (0, d), elbow + (wide, 0.006 + d)]
            for d in (-0.016, 0.006)
        ]
        crease(figure, bends, paint.TOP, 1.6, 0.35)


def _inward(figure: Figure, side: int) -> float:
    if not figure.frontal:
        return 0.0
    return 1.0 if side == 0 else -1.0


def _sleeve(figure: Figure, line: list, widths: np.ndarray, dark: float) -> None:
    color = cloth.darker(figure.color("top_color"), dark)
    axis = figure.at(line[-1]) - figure.at(line[0])
    kind = figure.values["top_pattern"]
    field = cloth.pattern(kind, figure.at(line[0]), axis, figure.scale)
    look = figure.look(
        "crumple",
        0.10,
        roundness=5,
        relief=0.30,
        edge=0.30,
        pattern=field,
        shadow=0.45,
        shadow_size=3,
        second=cloth.darker(cloth.contrast(figure.values["top_color"]), dark),
    )
    figure.canvas.paint(figure.at(tube(line, widths)), color, paint.TOP, look)


def _cuff(figure: Figure, elbow: np.ndarray, wrist: np.ndarray, width: float) -> None:
    top, color = figure.values["top"], figure.color("top_color")
    if top not in ("sweater", "hoodie", "jacket", "shirt"):
        return
    length = {"shirt": 0.14, "jacket": 0.12}.get(top, 0.16)
    start, end = wrist - length * (wrist - elbow), wrist + 0.01 * (wrist - elbow)
    shade = cloth.detail(color) if top != "shirt" else cloth.mix(color, cloth.detail(color), 0.25)
    outline = figure.at(tube([start, end], [width * 1.02, width * 0.86]))
    figure.canvas.paint(outline, cloth.mix(color, shade, 0.6), paint.TOP, Look(roundness=3))


def _hand(figure: Figure, side: int, skin: np.ndarray) -> None:
    elbow, wrist = figure.pose.elbows[side], figure.pose.wrists[side]
    along = (wrist - elbow) / np.linalg.norm(wrist - elbow)
    along = 0.6 * along + 0.4 * np.array([0.0, 1.0])
    points = [
        wrist - 0.01 * along,
        wrist + 0.02 * along,
        wrist + 0.042 * along,
        wrist + 0.056 * along,
    ]
    outline = figure.at(tube(points, np.array([0.013, 0.017, 0.015, 0.006]) * arm_size(figure)))
    figure.canvas.paint(outline, skin, paint.SKIN, Look(roundness=3, relief=0.18, edge=0.3))
    thumb = tube([wrist + 0.008 * along, wrist + 0.034 * along + (0.010, 0)], [0.006, 0.004])
    figure.canvas.paint(figure.at(thumb), cloth.darker(skin, 0.12), paint.SKIN)

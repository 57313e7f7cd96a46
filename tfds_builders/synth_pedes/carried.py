"""Backpack, handbag and shoulder bag."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes import cloth
from tfds_builders.synth_pedes.canvas import Look
from tfds_builders.synth_pedes.figure import Figure


def picture_side(figure: Figure) -> float:
    """Returns -1 for a bag on the left of the picture, 1 for the right."""
    return -1.0 if figure.values["bag_side"] == "left" else 1.0


def carrying_side(values: Mapping[str, str], frontal: bool) -> int | None:
    """Returns the index of the arm that carries a handbag, or None."""
    if values["bag"] != "handbag":
        return None
    if not frontal:
        return 1
    return 0 if values["bag_side"] == "left" else 1


def _leather(figure: Figure) -> Look:
    return figure.look(
        "crumple", 0.05, roundness=6, relief=0.34, edge=0.32, shadow=0.5, shadow_size=3
    )


def draw_backpack(figure: Figure) -> None:
    """Draws the body of a backpack from the back or the side."""
    color = figure.color("bag_color")
    ink = cloth.detail(color)
    if figure.view == "back":
        body = [
            (-0.055, 0.176),
            (0, 0.168),
            (0.055, 0.176),
            (0.074, 0.225),
            (0.078, 0.40),
            (0.064, 0.425),
            (0, 0.432),
            (-0.064, 0.425),
            (-0.078, 0.40),
            (-0.074, 0.225),
        ]
        figure.fill(body, color, paint.BAG, _leather(figure))
        figure.seam([(-0.066, 0.235), (0, 0.215), (0.066, 0.235)], ink, 1.6, 0.9)
        pocket = [
            (-0.052, 0.315),
            (0, 0.308),
            (0.052, 0.315),
            (0.056, 0.395),
            (0, 0.406),
            (-0.056, 0.395),
        ]
        figure.fill(pocket, cloth.mix(color, ink, 0.18), paint.BAG, Look(roundness=4, edge=0.4))
        figure.seam([(-0.050, 0.328), (0, 0.322), (0.050, 0.328)], ink, 1.8, 0.9)
        loop = [(-0.012, 0.172), (0, 0.156), (0.012, 0.172)]
        figure.seam(loop, ink, 2.4, 0.95)
        return
    back = -0.060 * figure.shape.limb
    body = [
        (back + 0.024, 0.182),
        (back - 0.045, 0.186),
        (back - 0.078, 0.235),
        (back - 0.088, 0.36),
        (back - 0.074, 0.415),
        (back - 0.01, 0.425),
        (back + 0.022, 0.405),
    ]
    figure.fill(body, color, paint.BAG, _leather(figure))
    figure.seam([(back - 0.072, 0.245), (back + 0.016, 0.235)], ink, 1.5, 0.85)
    figure.seam([(back - 0.050, 0.30), (back - 0.052, 0.415)], ink, 1.5, 0.7)


def draw_backpack_straps(figure: Figure) -> None:
    """Draws the straps over the shoulders, from the front or the side."""
    color = figure.color("bag_color")
    if figure.view == "front":
        x = 0.58 * figure.shape.shoulder
        for sign in (-1, 1):
            line = [
                (sign * x * 0.86, 0.160),
                (sign * x * 1.02, 0.20),
                (sign * x * 1.04, 0.27),
                (sign * (x + 0.012), 0.335),
                (sign * (x + 0.026), 0.375),
            ]
            outline = figure.at(paint.tube(line, [0.013, 0.0145, 0.0145, 0.011, 0.008]))
            figure.canvas.paint(
                outline,
                color,
                paint.STRAP,
                Look(roundness=3, relief=0.3, edge=0.3, shadow=0.4, shadow_size=2),
            )
            buckle = figure.at(
                np.array([(-0.011, -0.006), (0.011, -0.006), (0.011, 0.006), (-0.011, 0.006)])
                + (sign * x * 1.04, 0.285)
            )
            figure.canvas.paint(buckle, cloth.detail(color), paint.STRAP)
        return
    back = -0.060 * figure.shape.limb
    line = [
        (back + 0.018, 0.185),
        (-0.02, 0.166),
        (0.022, 0.19),
        (0.030, 0.25),
        (0.008, 0.32),
        (back + 0.02, 0.37),
    ]
    outline = figure.at(paint.tube(line, [0.010, 0.011, 0.012, 0.012, 0.010, 0.008]))
    figure.canvas.paint(
        outline,
        color,
        paint.STRAP,
        Look(roundness=3, relief=0.3, edge=0.3, shadow=0.4, shadow_size=2),
    )


def draw_handbag(figure: Figure) -> None:
    """Draws a handbag below the hand that holds it."""
    side = 0 if figure.frontal and figure.values["bag_side"] == "left" else 1
    color = figure.color("bag_color")
    ink = cloth.detail(color)
    wrist = figure.pose.wrists[side]
    grip = wrist + (0.0, 0.040)
    if figure.frontal:
        # A stout figure's hand may be at the border, where half of the bag would be lost.
        grip[0] = float(np.clip(grip[0] + 0.012 * picture_side(figure), -0.125, 0.125))
    wide = 0.062
    low = grip[1] + 0.130
    handle = [
        (grip[0] - 0.040, grip[1] + 0.058),
        (grip[0] - 0.030, grip[1] + 0.014),
        (grip[0], grip[1] - 0.004),
        (grip[0] + 0.030, grip[1] + 0.014),
        (grip[0] + 0.040, grip[1] + 0.058),
    ]
    outline = figure.at(paint.tube(handle, [0.006] * 5))
    figure.canvas.paint(outline, cloth.darker(color, 0.25), paint.STRAP)
    top = grip[1] + 0.045
    body = np.array(
        [
            (grip[0] - wide * 0.80, top),
            (grip[0] + wide * 0.80, top),
            (grip[0] + wide, low - 0.01),
            (grip[0] + wide * 0.94, low),
            (grip[0] - wide * 0.94, low),
            (grip[0] - wide, low - 0.01),
        ]
    )
    figure.canvas.paint(figure.at(body), color, paint.BAG, _leather(figure))
    flap = [
        (grip[0] - wide * 0.82, top + 0.022),
        (grip[0], top + 0.034),
        (grip[0] + wide * 0.82, top + 0.022),
    ]
    figure.seam(flap, ink, 1.6, 0.9)
    clasp = paint.oval(figure.at((grip[0], top + 0.034)), (2.4 * figure.scale,) * 2)
    figure.canvas.paint(clasp, (206, 182, 110), paint.BAG)


def draw_shoulder_strap(figure: Figure) -> None:
    """Draws the strap of a shoulder bag across the body."""
    color = cloth.darker(figure.color("bag_color"), 0.12)
    hip = _hip_point(figure)
    if figure.frontal:
        side = picture_side(figure)
        line = [
            (-side * figure.shape.shoulder * 0.55, 0.160),
            (0.0, 0.28),
            (hip[0] - side * 0.02, hip[1]),
        ]
    else:
        line = [(-0.012, 0.160), (0.5 * hip[0], 0.30), (hip[0], hip[1])]
    outline = figure.at(paint.tube(line, [0.0085] * 3))
    figure.canvas.paint(
        outline,
        color,
        paint.STRAP,
        Look(roundness=2, relief=0.2, edge=0.3, shadow=0.4, shadow_size=2),
    )


def draw_shoulder_bag(figure: Figure) -> None:
    """Draws the body of a shoulder bag at the hip."""
    color = figure.color("bag_color")
    x, y = _hip_point(figure)
    wide = 0.050 if figure.frontal else 0.058
    body = [
        (x - wide, y - 0.006),
        (x + wide, y - 0.006),
        (x + wide * 1.06, y + 0.05),
        (x + wide * 0.92, y + 0.094),
        (x - wide * 0.92, y + 0.094),
        (x - wide * 1.06, y + 0.05),
    ]
    figure.canvas.paint(figure.at(body), color, paint.BAG, _leather(figure))
    flap = np.array(
        [
            (x - wide, y - 0.010),
            (x + wide, y - 0.010),
            (x + wide * 0.95, y + 0.036),
            (x, y + 0.050),
            (x - wide * 0.95, y + 0.036),
        ]
    )
    figure.canvas.paint(
        figure.at(flap),
        cloth.mix(color, (255, 255, 255), 0.06),
        paint.BAG,
        Look(roundness=3, edge=0.3),
    )
    figure.canvas.line(figure.at(flap[[1, 2, 3, 4, 0]]), cloth.detail(color), 1.3, 0.85)


def _hip_point(figure: Figure) -> tuple[float, float]:
    side = picture_side(figure)
    if figure.frontal:
        return side * min(0.120, figure.shape.hip + 0.026), 0.455
    # In profile x points forward: the near side of the body, moved to the side of the picture.
    return side * figure.mirror * (figure.shape.belly + 0.022), 0.455

"""Face and hair, from the front, the back and the side."""

from __future__ import annotations

import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes import cloth
from tfds_builders.synth_pedes.canvas import Look, oval
from tfds_builders.synth_pedes.figure import SKIN_LOOK, Figure
from tfds_builders.synth_pedes.hats import draw_front_glasses, draw_hat, draw_side_glasses, mirrored

HEAD_LOOK = Look(roundness=8, relief=0.28, edge=0.3, shadow=0.45, shadow_size=4)


_HAIR_ENDS = {"short": 0.105, "shoulder-length": 0.188, "long": 0.315}


def draw_hair_behind(figure: Figure) -> None:
    """Draws the hair that hangs behind neck and shoulders (front view)."""
    end = _HAIR_ENDS[figure.values["hair_length"]]
    if figure.view != "front" or figure.values["hair_length"] == "short":
        return
    wide = 0.066 if end < 0.2 else 0.074
    outline = [
        (0, -0.008),
        (0.05, 0.02),
        (0.060, 0.07),
        (wide, 0.14),
        (wide - 0.006, min(end, 0.2)),
        (-wide + 0.006, min(end, 0.2)),
        (-wide, 0.14),
        (-0.060, 0.07),
        (-0.05, 0.02),
    ]
    figure.fill(outline, cloth.darker(_hair(figure), 0.3), paint.HAIR, _strands(figure))


def draw_head(figure: Figure) -> None:
    """Draws the head with all that is on it."""
    if figure.view == "front":
        _front_head(figure)
    elif figure.view == "back":
        _back_head(figure)
    else:
        _side_head(figure)
    draw_hat(figure)


def _hair(figure: Figure) -> np.ndarray:
    return cloth.hair_color(figure.values["hair_color"])


def _strands(figure: Figure) -> Look:
    return figure.look(
        "strands", 0.10, roundness=5, relief=0.30, edge=0.3, shadow=0.4, shadow_size=3
    )


def _front_head(figure: Figure) -> None:
    woman = figure.values["person"] == "woman"
    jaw = 0.034 if woman else 0.039
    for sign in (-1, 1):
        ear = oval(figure.at((sign * 0.050, 0.072)), (0.008 * figure.height, 0.014 * figure.height))
        figure.canvas.paint(ear, cloth.darker(figure.skin, 0.12), paint.FACE, Look(roundness=2))
    skull = [
        (0.0, 0.0),
        (0.036, 0.012),
        (0.050, 0.05),
        (0.048, 0.085),
        (jaw, 0.114),
        (0.014, 0.135),
    ]
    figure.fill(mirrored(skull), figure.skin, paint.FACE, HEAD_LOOK)
    _features(figure, woman)
    _front_hair(figure, woman)
    draw_front_glasses(figure)


def _features(figure: Figure, woman: bool) -> None:
    skin, scale, height = figure.skin, figure.scale, figure.height
    hair = cloth.mix(_hair(figure), (40, 30, 28), 0.4)
    for sign in (-1, 1):
        socket = oval(figure.at((sign * 0.020, 0.064)), (0.012 * height, 0.009 * height))
        figure.canvas.paint(
            socket, cloth.darker(skin, 0.3), None, Look(relief=0, edge=0, soft=1, opacity=0.5)
        )
        white = oval(figure.at((sign * 0.020, 0.067)), (0.0082 * height, 0.0040 * height))
        figure.canvas.paint(white, cloth.mix(skin, (226, 222, 216), 0.75), None)
        iris = oval(figure.at((sign * 0.0195, 0.067)), (0.0042 * height, 0.0042 * height))
        figure.canvas.paint(iris, (52, 40, 34), None)
        brow = [(sign * 0.009, 0.055), (sign * 0.020, 0.052), (sign * 0.031, 0.056)]
        figure.seam(brow, hair, 1.4 if woman else 2.2, 0.75)
    figure.seam(
        [(0.004, 0.066), (0.007, 0.085), (0.006, 0.090), (-0.004, 0.092)],
        cloth.darker(skin, 0.4),
        1.4,
        0.55,
    )
    lips = cloth.mix(skin, (176, 52, 62), 0.55 if woman else 0.28)
    mouth = oval(figure.at((0, 0.109)), (0.0135 * height, (0.0058 if woman else 0.0042) * height))
    figure.canvas.paint(mouth, lips, None)
    figure.seam([(-0.013, 0.108), (0, 0.110), (0.013, 0.108)], cloth.darker(lips, 0.45), 1.0, 0.8)
    if not woman:
        chin = oval(figure.at((0, 0.122)), (0.026 * height, 0.012 * height))
        figure.canvas.paint(
            chin, cloth.darker(skin, 0.3), None, Look(relief=0, edge=0, soft=2, opacity=0.3)
        )
    shade = oval(figure.at((0, 0.139)), (0.026 * scale * 345, 0.006 * height))
    figure.canvas.paint(
        shade, cloth.darker(skin, 0.55), None, Look(relief=0, edge=0, soft=2, opacity=0.5)
    )


def _front_hair(figure: Figure, woman: bool) -> None:
    length = figure.values["hair_length"]
    part = 0.014
    if length == "short":
        outline = [
            (0, -0.013),
            (0.034, -0.008),
            (0.056, 0.022),
            (0.055, 0.062),
            (0.050, 0.070),
            (0.046, 0.042),
            (0.026, 0.026),
            (0.0, 0.030),
            (-0.028, 0.024),
            (-0.046, 0.042),
            (-0.050, 0.070),
            (-0.055, 0.062),
            (-0.056, 0.022),
            (-0.034, -0.008),
        ]
        figure.fill(outline, _hair(figure), paint.HAIR, _strands(figure))
        return
    low = _HAIR_ENDS[length] - (0.02 if length == "shoulder-length" else 0.03)
    for sign in (-1, 1):
        lock = [
            (sign * -part, -0.012),
            (sign * 0.036, -0.008),
            (sign * 0.060, 0.030),
            (sign * 0.068, 0.10),
            (sign * 0.075, 0.16),
            (sign * (0.072 - 0.1 * (low - 0.17)), low - 0.012),
            (sign * 0.050, low + 0.010),
            (sign * 0.043, 0.15),
            (sign * 0.044, 0.085),
            (sign * 0.040, 0.048),
            (sign * 0.014, 0.024),
        ]
        figure.fill(lock, _hair(figure), paint.HAIR, _strands(figure))
    if woman:
        figure.seam(
            [(part, -0.010), (part * 0.8, 0.022)], cloth.darker(_hair(figure), 0.5), 1.0, 0.5
        )


def _back_head(figure: Figure) -> None:
    length = figure.values["hair_length"]
    for sign in (-1, 1):
        ear = oval(figure.at((sign * 0.051, 0.074)), (0.007 * figure.height, 0.013 * figure.height))
        figure.canvas.paint(ear, cloth.darker(figure.skin, 0.15), paint.FACE, Look(roundness=2))
    skull = [(0.0, 0.0), (0.036, 0.012), (0.049, 0.05), (0.045, 0.09), (0.034, 0.122)]
    figure.fill(mirrored(skull), cloth.darker(figure.skin, 0.08), paint.FACE, SKIN_LOOK)
    outlines = {
        "short": [
            (0, -0.013),
            (0.036, -0.008),
            (0.056, 0.025),
            (0.055, 0.068),
            (0.044, 0.098),
            (0.026, 0.112),
        ],
        "shoulder-length": [
            (0, -0.012),
            (0.040, -0.006),
            (0.060, 0.03),
            (0.066, 0.10),
            (0.070, 0.165),
            (0.056, 0.188),
            (0.02, 0.193),
        ],
        "long": [
            (0, -0.012),
            (0.040, -0.006),
            (0.060, 0.03),
            (0.066, 0.10),
            (0.076, 0.18),
            (0.066, 0.26),
            (0.040, 0.302),
            (0.012, 0.322),
        ],
    }
    figure.fill(mirrored(outlines[length]), _hair(figure), paint.HAIR, _strands(figure))
    if length != "short":
        ink = cloth.darker(_hair(figure), 0.5)
        low = _HAIR_ENDS[length]
        for x in (-0.03, 0.002, 0.034):
            figure.seam([(x * 0.6, 0.02), (x, 0.1), (x * 1.2, low - 0.02)], ink, 1.2, 0.35)


def _side_head(figure: Figure) -> None:
    skin = figure.skin
    face = [
        (0.0, 0.0),
        (0.034, 0.010),
        (0.050, 0.034),
        (0.051, 0.054),
        (0.049, 0.064),
        (0.063, 0.086),
        (0.052, 0.093),
        (0.056, 0.103),
        (0.051, 0.111),
        (0.051, 0.126),
        (0.036, 0.134),
        (0.004, 0.120),
        (-0.02, 0.112),
        (-0.052, 0.092),
        (-0.063, 0.05),
        (-0.042, 0.010),
    ]
    figure.fill(face, skin, paint.FACE, HEAD_LOOK)
    height = figure.height
    white = oval(figure.at((0.038, 0.067)), (0.0062 * height, 0.0046 * height))
    figure.canvas.paint(white, (226, 222, 216), None)
    iris = oval(figure.at((0.041, 0.067)), (0.0036 * height, 0.0046 * height))
    figure.canvas.paint(iris, (52, 40, 34), None)
    hair = cloth.mix(_hair(figure), (40, 30, 28), 0.4)
    figure.seam([(0.028, 0.054), (0.039, 0.051), (0.048, 0.055)], hair, 1.8, 0.75)
    woman = figure.values["person"] == "woman"
    lips = cloth.mix(skin, (176, 52, 62), 0.6 if woman else 0.32)
    figure.seam(
        [(0.037, 0.1065), (0.045, 0.108), (0.053, 0.1065)], cloth.darker(lips, 0.25), 2.0, 0.85
    )
    figure.seam(
        [(0.036, 0.133), (0.004, 0.119), (-0.012, 0.102)], cloth.darker(skin, 0.5), 1.3, 0.4
    )
    _side_hair(figure)
    if figure.values["hair_length"] == "short" or not woman:
        ear = oval(figure.at((-0.010, 0.074)), (0.009 * height, 0.015 * height))
        figure.canvas.paint(ear, cloth.darker(skin, 0.1), paint.FACE, Look(roundness=2, edge=0.4))
    draw_side_glasses(figure)


def _side_hair(figure: Figure) -> None:
    top = [
        (0.040, 0.030),
        (0.044, 0.012),
        (0.022, -0.010),
        (-0.020, -0.014),
        (-0.056, 0.008),
        (-0.072, 0.05),
    ]
    ends = {
        "short": [
            (-0.066, 0.088),
            (-0.046, 0.116),
            (-0.026, 0.104),
            (-0.016, 0.066),
            (0.004, 0.080),
            (0.008, 0.046),
            (0.026, 0.034),
        ],
        "shoulder-length": [
            (-0.078, 0.12),
            (-0.080, 0.172),
            (-0.050, 0.190),
            (-0.012, 0.184),
            (0.002, 0.15),
            (0.006, 0.09),
            (0.014, 0.05),
            (0.028, 0.034),
        ],
        "long": [
            (-0.082, 0.12),
            (-0.096, 0.21),
            (-0.090, 0.29),
            (-0.060, 0.318),
            (-0.036, 0.29),
            (-0.020, 0.20),
            (0.002, 0.14),
            (0.006, 0.09),
            (0.014, 0.05),
            (0.028, 0.034),
        ],
    }
    outline = top + ends[figure.values["hair_length"]]
    figure.fill(outline, _hair(figure), paint.HAIR, _strands(figure))

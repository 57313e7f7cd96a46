"""The figure being drawn: who, from where, on which canvas; and its legs, feet, arms and hands."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes import cloth
from tfds_builders.synth_pedes.canvas import Canvas, Look, smooth, tube
from tfds_builders.synth_pedes.pose import Pose, Shape
from tfds_builders.synth_pedes.shoes import paint_shoe

LONG_HEM = 0.955
KNEE_HEM = 0.705


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

    def at(self, points: Sequence[Sequence[float]] | Sequence[float] | np.ndarray) -> np.ndarray:
        """Returns points in pixels from points in body units."""
        return self.origin + np.asarray(points, float) * (self.mirror * self.height, self.height)

    def color(self, attribute: str) -> np.ndarray:
        """Returns the cloth colour that an attribute names."""
        return cloth.cloth_color(self.values[attribute])

    def look(self, folds: str | None = None, strength: float = 0.0, **changes: object) -> Look:
        """Returns a look with folds at a random place of the texture."""
        y, x = self.rng.integers(0, 150, 2)
        return Look(folds=folds, fold_strength=strength, offset=(int(y), int(x)), **changes)  # type: ignore[arg-type]

    def fill(self, points: np.ndarray | list, color: Sequence[float] | np.ndarray, label: int | None,
             look: Look = paint.FLAT) -> None:
        """Paints a smooth closed outline given in body units."""
        self.canvas.paint(self.at(smooth(points)), color, label, look)

    def seam(self, points: np.ndarray | list, color: Sequence[float] | np.ndarray,
             thickness: float = 1.0, opacity: float = 0.7) -> None:
        """Draws a smooth open line given in body units."""
        line = self.at(smooth(points, closed=False))
        self.canvas.line(line, color, thickness * self.scale, opacity)


def crease(figure: Figure, lines: list, label: int, width: float, strength: float) -> None:
    """Draws valleys of cloth given in body units."""
    curves = [figure.at(smooth(line, closed=False)) for line in lines]
    figure.canvas.creases(curves, label, max(1.0, width * figure.scale), strength)


SKIN_LOOK = Look(roundness=4, relief=0.2, edge=0.3)


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
        figure.seam([knee + (-0.014, 0.006), knee + (0.0, 0.014), knee + (0.014, 0.006)],
                    cloth.darker(figure.skin, 0.5), 1.0, 0.35)


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
    look = figure.look("crumple" if kind == "jeans" else "drape", strength, roundness=8, relief=0.34,
                       shadow=0.35)
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
        lines.append([low + (-widths[4] * 0.8, 0.0), low + (0, 0.008), low + (widths[4] * 0.6, 0.002)])
        if figure.frontal:
            lines.append([np.array([0.010 * out, 0.540]), line[1] + (0.3 * widths[1] * out, -0.035)])
    return lines


def small_jitter(figure: Figure) -> float:
    """Returns a small random length, so that no two folds are alike."""
    return float(figure.rng.uniform(-0.006, 0.006))


def _pelvis(figure: Figure) -> list[tuple[float, float]]:
    hip, waist, belly = figure.shape.hip, figure.shape.waist, figure.shape.belly
    if figure.frontal:
        return [(-waist, 0.41), (waist, 0.41), (hip, 0.48), (hip * 0.98, 0.53), (0, 0.545),
                (-hip * 0.98, 0.53), (-hip, 0.48)]
    return [(-belly, 0.41), (belly, 0.41), (belly, 0.49), (0.045, 0.54), (-0.04, 0.55),
            (-0.062 * figure.shape.limb, 0.51), (-0.058 * figure.shape.limb, 0.46)]


def _skirt(figure: Figure) -> None:
    hip, pose = figure.shape.hip, figure.pose
    if figure.frontal:
        flare = hip + 0.034
        outline = [(-hip * 0.86, 0.41), (hip * 0.86, 0.41), (hip * 1.04, 0.50), (flare, 0.60),
                   (flare + 0.010, KNEE_HEM - 0.012), (0.5 * hip, KNEE_HEM), (-0.5 * hip, KNEE_HEM),
                   (-flare - 0.010, KNEE_HEM - 0.012), (-flare, 0.60), (-hip * 1.04, 0.50)]
    else:
        thick = figure.shape.belly
        reach = np.sort(pose.knees[:, 0] * 0.8)
        outline = [(-thick, 0.41), (thick, 0.41), (thick * 1.05, 0.50),
                   (0.5 * thick + 0.045 + 0.4 * reach[1], 0.61),
                   (reach[1] + 0.055, KNEE_HEM - 0.01), (reach.mean(), KNEE_HEM + 0.002),
                   (reach[0] - 0.055, KNEE_HEM - 0.01),
                   (-0.5 * thick - 0.045 + 0.4 * reach[0], 0.61),
                   (-0.066 * figure.shape.limb, 0.50)]
    look = figure.look("drape", 0.11, roundness=7, relief=0.30, shadow=0.5, shadow_size=4)
    figure.fill(outline, figure.color("bottom_color"), paint.BOTTOM, look)
    if figure.frontal:
        folds = [[(x * hip, 0.54), (x * hip * 1.3, 0.62), (x * hip * 1.45, KNEE_HEM - 0.004)]
                 for x in (-0.62, -0.18, 0.30, 0.7)]
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
            figure.canvas.paint(figure.at(cuff), cloth.mix(color, (240, 242, 245), 0.35),
                                paint.BOTTOM, Look(roundness=3))
    if figure.view == "back":
        for sign in (-1, 1):
            x = sign * figure.shape.hip * 0.5
            pocket = [(x - 0.024, 0.508), (x + 0.024, 0.508), (x + 0.022, 0.545), (x, 0.556),
                      (x - 0.022, 0.545), (x - 0.024, 0.508)]
            figure.canvas.line(figure.at(pocket), stitch, 1.0, 0.8)


def draw_arm(figure: Figure, side: int, *, hand: bool = True) -> None:
    """Draws hand, bare arm and sleeve of one side."""
    pose = figure.pose
    shoulder, elbow, wrist = pose.shoulders[side], pose.elbows[side], pose.wrists[side]
    limb = figure.shape.limb
    dark = 0.0 if figure.frontal or side else 0.2
    skin = cloth.darker(figure.skin, dark)
    if hand:
        _hand(figure, side, skin)
    short = figure.values["top"] == "t-shirt"
    if short:
        bare = tube([shoulder, elbow, wrist], np.array([0.027, 0.021, 0.014]) * limb)
        figure.canvas.paint(figure.at(bare), skin, paint.SKIN, SKIN_LOOK)
    ease = {"t-shirt": 1.18, "shirt": 1.06, "sweater": 1.13, "hoodie": 1.22, "jacket": 1.26,
            "coat": 1.24}[figure.values["top"]]
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
        bends = [[elbow + (-wide, -0.012 + d), elbow + (0, d), elbow + (wide, 0.006 + d)]
                 for d in (-0.016, 0.006)]
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
    look = figure.look("crumple", 0.10, roundness=5, relief=0.30, edge=0.30, pattern=field,
                       shadow=0.45, shadow_size=3,
                       second=cloth.darker(cloth.contrast(figure.values["top_color"]), dark))
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
    points = [wrist - 0.01 * along, wrist + 0.02 * along, wrist + 0.042 * along,
              wrist + 0.056 * along]
    outline = figure.at(tube(points, np.array([0.013, 0.017, 0.015, 0.006]) * figure.shape.limb))
    figure.canvas.paint(outline, skin, paint.SKIN, Look(roundness=3, relief=0.18, edge=0.3))
    thumb = tube([wrist + 0.008 * along, wrist + 0.034 * along + (0.010, 0)], [0.006, 0.004])
    figure.canvas.paint(figure.at(thumb), cloth.darker(skin, 0.12), paint.SKIN)

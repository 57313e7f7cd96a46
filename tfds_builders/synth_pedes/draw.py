"""Draws one pedestrian on a street, and tells what the picture shows and where."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import cv2
import numpy as np

from tfds_builders.synth_pedes import attributes, cloth, street
from tfds_builders.synth_pedes import canvas as paint
from tfds_builders.synth_pedes.arms import draw_arm
from tfds_builders.synth_pedes.canvas import Canvas
from tfds_builders.synth_pedes.carried import (
    carrying_side,
    draw_backpack,
    draw_backpack_straps,
    draw_handbag,
    draw_shoulder_bag,
    draw_shoulder_strap,
    picture_side,
)
from tfds_builders.synth_pedes.figure import Figure
from tfds_builders.synth_pedes.head import draw_hair_behind, draw_head
from tfds_builders.synth_pedes.legs import draw_legs
from tfds_builders.synth_pedes.occluders import occlude
from tfds_builders.synth_pedes.pose import frontal_pose, profile_pose, shape_of
from tfds_builders.synth_pedes.torso import draw_neck, draw_torso
from tfds_builders.synth_pedes.visibility import Window, boxes_of, shown_of

HEIGHT, WIDTH = 384, 128
MARGIN = 36
OCCLUSION_RATE = 0.15
MAX_OCCLUDED = 0.34

_CASTS = np.array(
    [
        (1.00, 1.00, 0.97),
        (0.97, 1.01, 0.95),
        (1.02, 0.99, 0.95),
        (1.03, 1.01, 0.93),
        (0.96, 0.99, 1.03),
        (0.98, 1.00, 1.01),
    ]
)


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A picture and the truth about it.

    Attributes:
      image: uint8 [H, W, 3], RGB.
      shown: names of the attributes that this picture shows.
      boxes: region -> (y0, x0, y1, x1) as fractions of height and width, of visible regions only.
    """

    image: np.ndarray
    shown: frozenset[str]
    boxes: dict[str, tuple[float, float, float, float]]


def draw_person(
    values: Mapping[str, str],
    *,
    view: str,
    camera: int,
    rng: np.random.Generator,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> Drawing:
    """Draws a person as one camera might catch them.

    Args:
      values: attribute name -> value name, all of `attributes.ATTRIBUTES`.
      view: one of `attributes.VIEWS`.
      camera: index; picks the kind of street and the colour cast.
      rng: draws pose, light, background, crop and occlusion; the drawing depends on nothing else.
      size: height and width of the picture in pixels.

    Returns:
      The picture, what it shows and where.

    Raises:
      ValueError: for an unknown attribute value or view.
    """
    _check(values, view)
    angle = float(rng.uniform(-1, 1))
    light = (0.9 * angle, -0.45)
    canvas = Canvas(street.background(camera, HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN, rng), light)
    figure = _place(canvas, values, view, rng)
    _ground_shadow(figure, angle)
    _draw_figure(figure)
    complete = canvas.labels.copy()
    window = Window(MARGIN, MARGIN, MARGIN + HEIGHT, MARGIN + WIDTH)
    if rng.random() < OCCLUSION_RATE:
        _occlude(canvas, complete, window, rng)
    shown = shown_of(figure, complete, window)
    boxes = boxes_of(figure, complete, window)
    image = _photograph(canvas.image[window.rows, window.columns], camera, rng)
    if size != (HEIGHT, WIDTH):
        image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return Drawing(image, shown, boxes)


def _check(values: Mapping[str, str], view: str) -> None:
    if view not in attributes.VIEWS:
        raise ValueError(f"view={view!r}; accepted: {attributes.VIEWS}")
    for name, accepted in attributes.ATTRIBUTES.items():
        if values.get(name) not in accepted:
            raise ValueError(
                f"values[{name!r}]={values.get(name)!r}; accepted: {accepted}; give every"
                " attribute of attributes.ATTRIBUTES one of its values"
            )


def _place(
    canvas: Canvas, values: Mapping[str, str], view: str, rng: np.random.Generator
) -> Figure:
    """Stands the figure into the crop as a detector would, a little off."""
    shape = shape_of(values["person"], values["build"])
    height = 346 * float(rng.uniform(0.94, 1.06))
    shift = rng.uniform(-0.02, 0.02, (2, 2)).sum(axis=0) * (WIDTH, HEIGHT)
    middle = 0.5 * (12 + 374) + MARGIN + shift[1]
    origin = np.array([MARGIN + WIDTH / 2 + shift[0], middle - 0.5 * height])
    if view in ("front", "back"):
        pose = frontal_pose(shape, carrying_side(values, True), rng)
    else:
        facing = -1.0 if view == "left" else 1.0
        side = {"left": -1.0, "right": 1.0}.get(values["bag_side"], 0.0)
        reach = side * facing if values["bag"] == "handbag" else 0.0
        pose = profile_pose(shape, reach, rng)
    return Figure(canvas, values, view, shape, pose, origin, height, cloth.skin_tone(rng), rng)


def _ground_shadow(figure: Figure, angle: float) -> None:
    feet = figure.at(figure.pose.ankles + (0.0, 0.036))
    left, right = feet[:, 0].min(), feet[:, 0].max()
    center = (0.5 * (left + right) - 16 * angle * figure.scale, feet[:, 1].max() + 1)
    wide = 0.5 * (right - left) + 26 * figure.scale
    for grow, opacity, soft in ((1.35, 0.42, 7), (0.85, 0.6, 3)):
        shadow = paint.oval(center, (wide * grow, 7 * grow * figure.scale))
        look = paint.Look(roundness=1, relief=0, edge=0, opacity=opacity, soft=soft)
        figure.canvas.paint(shadow, (20, 20, 26), None, look)


def _draw_figure(figure: Figure) -> None:
    bag = figure.values["bag"]
    draw_hair_behind(figure)
    if not figure.frontal:
        draw_arm(figure, 0)
    draw_legs(figure)
    if figure.view != "back":
        draw_neck(figure)
    if bag == "backpack" and not figure.frontal:
        draw_backpack(figure)
    if figure.view == "back":
        draw_neck(figure)
    draw_torso(figure)
    if bag == "backpack" and figure.view != "back":
        draw_backpack_straps(figure)
    if bag == "shoulder bag":
        draw_shoulder_strap(figure)
    if figure.frontal:
        for side in (0, 1):
            if not _hangs_before(figure, side):
                draw_arm(figure, side)
    if bag == "backpack" and figure.view == "back":
        draw_backpack(figure)
    draw_head(figure)
    if bag == "shoulder bag":
        draw_shoulder_bag(figure)
    if bag == "handbag":
        draw_handbag(figure)
    for side in (0, 1) if figure.frontal else (1,):
        if not figure.frontal or _hangs_before(figure, side):
            draw_arm(figure, side)


def _hangs_before(figure: Figure, side: int) -> bool:
    """Whether an arm covers the bag: the hand that holds it."""
    if figure.values["bag"] != "handbag":
        return False
    return (picture_side(figure) < 0) == (side == 0)


def _occlude(
    canvas: Canvas, complete: np.ndarray, window: Window, rng: np.random.Generator
) -> None:
    """Tries things in front of the figure until one leaves enough of it."""
    image, labels = canvas.image.copy(), canvas.labels.copy()
    body = complete > 0
    for _ in range(4):
        occlude(canvas, window.floats, rng)
        if np.mean(canvas.labels[body] == paint.OCCLUDER) <= MAX_OCCLUDED:
            return
        canvas.image[:], canvas.labels[:] = image, labels


def _photograph(image: np.ndarray, camera: int, rng: np.random.Generator) -> np.ndarray:
    """Adds what a camera adds: cast, exposure, blur and noise."""
    cast = _CASTS[camera % len(_CASTS)] * rng.normal(1, 0.012, 3) * float(rng.uniform(0.86, 1.06))
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.45, 0.85)))
    curve = np.clip(np.arange(256)[:, None] * cast, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, curve[None])
    y, x = rng.integers(0, 100, 2)
    grain = _grain(int(rng.integers(4)))[y : y + HEIGHT, x : x + WIDTH]
    return cv2.add(image, grain, dtype=cv2.CV_8U)


@functools.lru_cache(maxsize=4)
def _grain(level: int) -> np.ndarray:
    """Noise of a sensor at a level of light, int16 [H, W, 3], most of it grey."""
    field = paint.texture("grain")
    colored = np.stack([np.roll(field, 60 * k, axis=1) for k in range(3)], axis=2)
    strength = (0.7, 1.1, 1.6, 2.2)[level]
    return np.rint(strength * (0.9 * field[..., None] + 0.4 * colored)).astype(np.int16)

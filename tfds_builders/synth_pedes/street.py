"""Backgrounds: six families of streets, painted once per process and cut out anew per picture."""

from __future__ import annotations

import functools

import cv2
import numpy as np

PLATE_HEIGHT, PLATE_WIDTH = 540, 340
PLATES_PER_CAMERA = 4
NUM_SCENES = 6

Rng = np.random.Generator


def background(camera: int, height: int, width: int, rng: Rng) -> np.ndarray:
    """Returns a random cut of a street of a camera, uint8 [height, width, 3].

    Args:
      camera: index; scene families repeat after `NUM_SCENES`.
      height: rows, at most `PLATE_HEIGHT`.
      width: columns, at most `PLATE_WIDTH`.
      rng: draws plate, place and mirror image.
    """
    plate = _plate(camera % NUM_SCENES, int(rng.integers(PLATES_PER_CAMERA)))
    y = int(rng.integers(0, PLATE_HEIGHT - height + 1))
    x = int(rng.integers(0, PLATE_WIDTH - width + 1))
    cut = plate[y : y + height, x : x + width]
    return cv2.flip(cut, 1) if rng.random() < 0.5 else cut.copy()


@functools.lru_cache(maxsize=NUM_SCENES * PLATES_PER_CAMERA)
def _plate(scene: int, index: int) -> np.ndarray:
    rng = np.random.default_rng([scene, index, 77])
    painter = (_shops, _park, _bricks, _station, _crossing, _plaza)[scene]
    plate = painter(rng)
    return _depth_blur(_grain(plate, rng))


def _depth_blur(plate: np.ndarray) -> np.ndarray:
    far = cv2.GaussianBlur(plate, (0, 0), 2.2)
    near = cv2.GaussianBlur(plate, (0, 0), 0.9)
    ramp = np.clip((np.arange(PLATE_HEIGHT) - 0.62 * PLATE_HEIGHT) / (0.25 * PLATE_HEIGHT), 0, 1)
    weight = ramp[:, None, None]
    return (far * (1 - weight) + near * weight).astype(np.uint8)


def _grain(plate: np.ndarray, rng: Rng) -> np.ndarray:
    coarse = cv2.GaussianBlur(rng.standard_normal(plate.shape[:2]), (0, 0), 24) * 24 * 3.5
    fine = cv2.GaussianBlur(rng.standard_normal(plate.shape[:2]), (0, 0), 1.2) * 1.2 * 3.5
    gain = 1 + 0.06 * coarse + 0.022 * fine
    return np.clip(plate * gain[..., None], 0, 255).astype(np.uint8)


def _blank(wall: tuple[int, int, int]) -> np.ndarray:
    return np.full((PLATE_HEIGHT, PLATE_WIDTH, 3), wall, np.uint8)


def _box(plate: np.ndarray, x0: float, y0: float, x1: float, y1: float, color: object) -> None:
    cv2.rectangle(plate, (int(x0), int(y0)), (int(x1), int(y1)), color, -1)


def _poly(plate: np.ndarray, points: object, color: object) -> None:
    cv2.fillPoly(plate, [np.asarray(points, np.int32)], color, cv2.LINE_AA)


def _ground(plate: np.ndarray, horizon: int, color: tuple[int, int, int], rng: Rng, tile: int = 0) -> None:
    """Paints ground below `horizon`, brighter near the viewer, with joints of tiles."""
    rows = np.linspace(0.82, 1.06, PLATE_HEIGHT - horizon)[:, None, None]
    plate[horizon:] = np.clip(rows * np.asarray(color, float), 0, 255).astype(np.uint8)
    if not tile:
        return
    joint = tuple(int(0.80 * c) for c in color)
    vanish = (int(rng.integers(0, PLATE_WIDTH)), horizon - 130)
    for x in range(-6 * PLATE_WIDTH, 7 * PLATE_WIDTH, tile * 2):
        cv2.line(plate, vanish, (x, PLATE_HEIGHT + 40), joint, 1, cv2.LINE_AA)
    y, step = float(horizon), 5.0
    while y < PLATE_HEIGHT:
        cv2.line(plate, (0, int(y)), (PLATE_WIDTH, int(y)), joint, 1, cv2.LINE_AA)
        y, step = y + step, step * 1.14


def _keep_wall(plate: np.ndarray, wall: np.ndarray, horizon: int) -> None:
    plate[:horizon] = wall[:horizon]


def _shops(rng: Rng) -> np.ndarray:
    plate = _blank((150, 140, 128))
    horizon = int(rng.integers(300, 340))
    x = -int(rng.integers(0, 80))
    while x < PLATE_WIDTH:
        width = int(rng.integers(110, 190))
        front = tuple(int(c) for c in rng.integers(60, 190, 3))
        _box(plate, x, 0, x + width, horizon, tuple(int(0.5 * c + 90) for c in front))
        _box(plate, x + 6, 96, x + width - 6, 126, front)
        for letter in range(x + 22, x + width - 26, 13):
            _box(plate, letter, 104, letter + int(rng.integers(4, 9)), 118, (226, 222, 206))
        _box(plate, x + 10, 138, x + width - 10, horizon - 24, (52, 62, 72))
        _poly(plate, [(x + 30, 138), (x + 70, 138), (x + 20, horizon - 24), (x + 10, horizon - 24)],
              (92, 104, 114))
        for _ in range(5):
            a, b = int(rng.integers(x + 14, x + width - 30)), int(rng.integers(200, horizon - 60))
            _box(plate, a, b, a + int(rng.integers(10, 24)), horizon - 26,
                 tuple(int(c) for c in rng.integers(70, 215, 3)))
        for window in range(x + 14, x + width - 24, 44):
            _box(plate, window, 12, window + 26, 74, (72, 82, 94))
        x += width + 4
    wall = plate.copy()
    _ground(plate, horizon, (150, 147, 142), rng, tile=34)
    _keep_wall(plate, wall, horizon)
    _box(plate, 0, horizon - 6, PLATE_WIDTH, horizon, (96, 92, 88))
    _strangers(plate, horizon + 6, rng, 3)
    return plate


def _park(rng: Rng) -> np.ndarray:
    plate = _blank((186, 204, 216))
    horizon = int(rng.integers(270, 310))
    for _ in range(240):
        y = rng.uniform(-10, horizon)
        tone = rng.uniform(0.55, 1.15)
        color = tuple(int(np.clip(c * tone, 0, 255)) for c in (74, 108, 56))
        center = (int(rng.integers(0, PLATE_WIDTH)), int(y))
        cv2.ellipse(plate, center, (int(rng.integers(14, 34)), int(rng.integers(10, 26))), 0, 0, 360,
                    color, -1, cv2.LINE_AA)
    for _ in range(4):
        x = int(rng.integers(0, PLATE_WIDTH))
        _box(plate, x, 60, x + int(rng.integers(7, 16)), horizon + 14, (78, 62, 48))
    wall = plate.copy()
    _ground(plate, horizon, (98, 128, 66), rng)
    _keep_wall(plate, wall, horizon)
    middle = int(rng.integers(120, 220))
    _poly(plate, [(middle - 46, horizon), (middle + 46, horizon), (middle + 330, PLATE_HEIGHT),
                  (middle - 330, PLATE_HEIGHT)], (176, 160, 132))
    for _ in range(500):
        y = int(rng.integers(horizon + 6, PLATE_HEIGHT))
        x = int(rng.integers(0, PLATE_WIDTH))
        shade = int(rng.integers(-18, 18))
        spot = np.clip(plate[y, x].astype(int) + shade, 0, 255)
        cv2.circle(plate, (x, y), int(rng.integers(1, 4)), tuple(int(c) for c in spot), -1, cv2.LINE_AA)
    bench = int(rng.integers(10, PLATE_WIDTH - 90))
    for rail in (-36, -26, -12):
        _box(plate, bench, horizon + rail, bench + 84, horizon + rail + 6, (104, 74, 50))
    for leg in (8, 72):
        _box(plate, bench + leg, horizon - 36, bench + leg + 5, horizon + 12, (48, 46, 46))
    _strangers(plate, horizon + 10, rng, 1)
    return plate


def _bricks(rng: Rng) -> np.ndarray:
    plate = _blank((128, 112, 102))
    horizon = int(rng.integers(330, 390))
    base = np.array([138, 82, 64]) + rng.integers(-14, 14, 3)
    for row, y in enumerate(range(0, horizon, 12)):
        for x in range(-34 + 17 * (row % 2), PLATE_WIDTH, 34):
            color = tuple(int(c) for c in np.clip(base + rng.normal(0, 12), 0, 255))
            _box(plate, x, y, x + 31, y + 9, color)
    if rng.random() < 0.7:
        x = int(rng.integers(20, PLATE_WIDTH - 110))
        _box(plate, x - 5, 120, x + 89, horizon, (92, 88, 84))
        _box(plate, x, 126, x + 84, horizon, tuple(int(c) for c in rng.integers(50, 110, 3)))
        cv2.circle(plate, (x + 74, 260), 4, (190, 184, 160), -1)
    for _ in range(3):
        x, y = int(rng.integers(0, PLATE_WIDTH - 60)), int(rng.integers(120, 240))
        _box(plate, x, y, x + int(rng.integers(26, 48)), y + int(rng.integers(36, 62)),
             tuple(int(c) for c in rng.integers(110, 225, 3)))
    pipe = int(rng.integers(0, PLATE_WIDTH))
    _box(plate, pipe, 0, pipe + 8, horizon, (84, 82, 84))
    wall = plate.copy()
    _ground(plate, horizon, (132, 130, 130), rng, tile=52)
    _keep_wall(plate, wall, horizon)
    _box(plate, 0, horizon - 14, PLATE_WIDTH, horizon, (98, 88, 82))
    _bin(plate, int(rng.integers(0, PLATE_WIDTH - 40)), horizon + 10, (62, 72, 66))
    return plate


def _station(rng: Rng) -> np.ndarray:
    plate = _blank((178, 176, 164))
    horizon = int(rng.integers(250, 290))
    _box(plate, 0, 0, PLATE_WIDTH, 70, (92, 94, 96))
    for x in range(-20, PLATE_WIDTH, 70):
        _poly(plate, [(x, 10), (x + 46, 10), (x + 36, 34), (x + 8, 34)], (244, 244, 228))
    for y in range(78, horizon, 16):
        cv2.line(plate, (0, y), (PLATE_WIDTH, y), (158, 156, 146), 1)
    for x in range(0, PLATE_WIDTH, 16):
        cv2.line(plate, (x, 78), (x, horizon), (162, 160, 150), 1)
    for _ in range(3):
        x = int(rng.integers(0, PLATE_WIDTH - 70))
        color = tuple(int(c) for c in rng.integers(50, 200, 3))
        _box(plate, x, 110, x + 60, 206, (66, 66, 68))
        _box(plate, x + 4, 114, x + 56, 202, color)
        _box(plate, x + 12, 124, x + 44, 150, (226, 226, 222))
    sign = int(rng.integers(0, PLATE_WIDTH - 120))
    _box(plate, sign, 48, sign + 120, 74, (30, 54, 104))
    for letter in range(sign + 12, sign + 104, 12):
        _box(plate, letter, 55, letter + 7, 67, (236, 236, 236))
    wall = plate.copy()
    _ground(plate, horizon, (170, 166, 156), rng, tile=44)
    _keep_wall(plate, wall, horizon)
    for x in (int(rng.integers(-10, 90)), int(rng.integers(190, PLATE_WIDTH))):
        _box(plate, x, 60, x + 34, horizon + 26, (134, 134, 130))
        _box(plate, x, 60, x + 10, horizon + 26, (156, 156, 152))
    _poly(plate, [(0, horizon + 50), (PLATE_WIDTH, horizon + 40), (PLATE_WIDTH, horizon + 54),
                  (0, horizon + 66)], (208, 178, 60))
    _strangers(plate, horizon + 16, rng, 5)
    return plate


def _crossing(rng: Rng) -> np.ndarray:
    plate = _blank((196, 206, 216))
    horizon = int(rng.integers(240, 280))
    x = -10
    while x < PLATE_WIDTH:
        width, top = int(rng.integers(50, 110)), int(rng.integers(-60, 110))
        color = tuple(int(c) for c in rng.integers(110, 180) + rng.integers(-14, 14, 3))
        _box(plate, x, max(0, top), x + width, horizon, color)
        for wx in range(x + 8, x + width - 12, 20):
            for wy in range(max(8, top + 12), horizon - 40, 28):
                _box(plate, wx, wy, wx + 10, wy + 16, (84, 94, 106))
        x += width
    wall = plate.copy()
    _ground(plate, horizon, (104, 104, 108), rng)
    _keep_wall(plate, wall, horizon)
    for car in range(2):
        _car(plate, int(rng.integers(-60, PLATE_WIDTH - 40)), horizon + 22 + 12 * car, rng)
    start = int(rng.integers(60, 110))
    slant = int(rng.integers(-60, 60))
    for stripe in range(-3, 9):
        a = stripe * 62
        _poly(plate, [(a, horizon + start), (a + 26, horizon + start),
                      (a + 34 + slant, PLATE_HEIGHT), (a - 6 + slant, PLATE_HEIGHT)], (212, 212, 208))
    pole = int(rng.integers(0, PLATE_WIDTH))
    _box(plate, pole, 20, pole + 7, horizon + 40, (64, 66, 68))
    _box(plate, pole - 8, 60, pole + 15, 120, (36, 38, 38))
    cv2.circle(plate, (pole + 3, 74), 7, (196, 44, 38), -1, cv2.LINE_AA)
    _strangers(plate, horizon + 26, rng, 2)
    return plate


def _plaza(rng: Rng) -> np.ndarray:
    plate = _blank((120, 138, 150))
    horizon = int(rng.integers(300, 350))
    for x in range(0, PLATE_WIDTH, 46):
        for y in range(0, horizon, 66):
            tone = rng.uniform(0.75, 1.25)
            color = tuple(int(np.clip(c * tone, 0, 255)) for c in (118, 142, 158))
            _box(plate, x + 3, y + 3, x + 43, y + 63, color)
            _poly(plate, [(x + 8, y + 63), (x + 24, y + 3), (x + 34, y + 3), (x + 18, y + 63)],
                  tuple(min(255, c + 22) for c in color))
    for x in range(0, PLATE_WIDTH, 46):
        _box(plate, x, 0, x + 3, horizon, (66, 70, 74))
    _box(plate, 0, horizon - 30, PLATE_WIDTH, horizon, (88, 90, 92))
    wall = plate.copy()
    _ground(plate, horizon, (186, 182, 174), rng, tile=70)
    _keep_wall(plate, wall, horizon)
    for _ in range(2):
        x = int(rng.integers(0, PLATE_WIDTH - 90))
        _box(plate, x, horizon - 20, x + 84, horizon + 18, (140, 138, 134))
        for _ in range(40):
            leaf = (x + int(rng.integers(4, 80)), horizon - 22 - int(rng.integers(0, 34)))
            tone = rng.uniform(0.6, 1.2)
            cv2.circle(plate, leaf, int(rng.integers(4, 9)),
                       tuple(int(c * tone) for c in (72, 112, 60)), -1, cv2.LINE_AA)
    _strangers(plate, horizon + 8, rng, 3)
    _bin(plate, int(rng.integers(0, PLATE_WIDTH - 40)), horizon + 24, (70, 74, 80))
    return plate


def _strangers(plate: np.ndarray, ground: int, rng: Rng, count: int) -> None:
    """Paints small people far away, who are out of focus in the end."""
    for _ in range(count):
        x, size = int(rng.integers(0, PLATE_WIDTH)), float(rng.uniform(110, 160))
        coat = tuple(int(c) for c in rng.integers(30, 130, 3))
        legs = tuple(int(c) for c in rng.integers(25, 80, 3))
        top = ground - size
        for side in (-1, 1):
            foot = x + side * 0.06 * size
            _poly(plate, [(x - 0.08 * size * (side < 0), top + 0.48 * size),
                          (x + 0.08 * size * (side > 0), top + 0.48 * size),
                          (foot + 0.035 * size, ground), (foot - 0.035 * size, ground)], legs)
        _poly(plate, [(x - 0.12 * size, top + 0.18 * size), (x + 0.12 * size, top + 0.18 * size),
                      (x + 0.10 * size, top + 0.54 * size), (x - 0.10 * size, top + 0.54 * size)], coat)
        cv2.ellipse(plate, (x, int(top + 0.08 * size)), (int(0.05 * size), int(0.075 * size)), 0, 0, 360,
                    (186, 148, 124), -1, cv2.LINE_AA)
        cv2.ellipse(plate, (x, int(top + 0.055 * size)), (int(0.055 * size), int(0.06 * size)), 0, 180,
                    360, (50, 40, 36), -1, cv2.LINE_AA)


def _car(plate: np.ndarray, x: int, ground: int, rng: Rng) -> None:
    color = tuple(int(c) for c in rng.integers(60, 210, 3))
    _poly(plate, [(x, ground - 14), (x + 4, ground - 44), (x + 40, ground - 52), (x + 62, ground - 84),
                  (x + 130, ground - 84), (x + 156, ground - 50), (x + 178, ground - 42),
                  (x + 180, ground - 12)], color)
    _poly(plate, [(x + 50, ground - 52), (x + 68, ground - 78), (x + 124, ground - 78),
                  (x + 144, ground - 52)], (60, 72, 84))
    for wheel in (38, 142):
        cv2.circle(plate, (x + wheel, ground - 10), 17, (28, 28, 30), -1, cv2.LINE_AA)
        cv2.circle(plate, (x + wheel, ground - 10), 8, (150, 152, 154), -1, cv2.LINE_AA)


def _bin(plate: np.ndarray, x: int, ground: int, color: tuple[int, int, int]) -> None:
    _poly(plate, [(x, ground - 62), (x + 36, ground - 62), (x + 32, ground), (x + 4, ground)], color)
    _box(plate, x - 2, ground - 68, x + 38, ground - 60, tuple(int(0.7 * c) for c in color))

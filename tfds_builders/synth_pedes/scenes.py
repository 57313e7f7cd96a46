"""Six families of streets, painted in full focus."""

from __future__ import annotations

import cv2
import numpy as np

from tfds_builders.synth_pedes.clutter import (
    PLATE_HEIGHT,
    PLATE_WIDTH,
    Rng,
    blank,
    box,
    car,
    litter_bin,
    muted,
    paint_ground,
    poly,
    strangers,
)


def _shops(rng: Rng) -> np.ndarray:
    plate = blank((150, 140, 128))
    horizon = int(rng.integers(300, 340))
    x = -int(rng.integers(0, 80))
    while x < PLATE_WIDTH:
        width = int(rng.integers(110, 190))
        front = muted(60, 190, rng)
        box(plate, x, 0, x + width, horizon, tuple(int(0.5 * c + 90) for c in front))
        box(plate, x + 6, 96, x + width - 6, 126, front)
        for letter in range(x + 22, x + width - 26, 13):
            box(plate, letter, 104, letter + int(rng.integers(4, 9)), 118, (226, 222, 206))
        box(plate, x + 10, 138, x + width - 10, horizon - 24, (52, 62, 72))
        poly(
            plate,
            [(x + 30, 138), (x + 70, 138), (x + 20, horizon - 24), (x + 10, horizon - 24)],
            (92, 104, 114),
        )
        for _ in range(5):
            a, b = int(rng.integers(x + 14, x + width - 30)), int(rng.integers(200, horizon - 60))
            box(plate, a, b, a + int(rng.integers(10, 24)), horizon - 26, muted(70, 215, rng))
        for window in range(x + 14, x + width - 24, 44):
            box(plate, window, 12, window + 26, 74, (72, 82, 94))
        x += width + 4
    paint_ground(plate, horizon, (150, 147, 142), rng, tile=34)
    box(plate, 0, horizon - 6, PLATE_WIDTH, horizon, (96, 92, 88))
    strangers(plate, horizon + 6, rng, 3)
    return plate


def _park(rng: Rng) -> np.ndarray:
    plate = blank((186, 204, 216))
    horizon = int(rng.integers(270, 310))
    for _ in range(240):
        y = rng.uniform(-10, horizon)
        tone = rng.uniform(0.55, 1.15)
        color = tuple(int(np.clip(c * tone, 0, 255)) for c in (74, 108, 56))
        center = (int(rng.integers(0, PLATE_WIDTH)), int(y))
        cv2.ellipse(
            plate,
            center,
            (int(rng.integers(14, 34)), int(rng.integers(10, 26))),
            0,
            0,
            360,
            color,
            -1,
            cv2.LINE_AA,
        )
    for _ in range(4):
        x = int(rng.integers(0, PLATE_WIDTH))
        box(plate, x, 60, x + int(rng.integers(7, 16)), horizon + 14, (78, 62, 48))
    paint_ground(plate, horizon, (98, 128, 66), rng)
    middle = int(rng.integers(120, 220))
    poly(
        plate,
        [
            (middle - 46, horizon),
            (middle + 46, horizon),
            (middle + 330, PLATE_HEIGHT),
            (middle - 330, PLATE_HEIGHT),
        ],
        (176, 160, 132),
    )
    for _ in range(500):
        y = int(rng.integers(horizon + 6, PLATE_HEIGHT))
        x = int(rng.integers(0, PLATE_WIDTH))
        shade = int(rng.integers(-18, 18))
        spot = np.clip(plate[y, x].astype(int) + shade, 0, 255)
        cv2.circle(
            plate, (x, y), int(rng.integers(1, 4)), tuple(int(c) for c in spot), -1, cv2.LINE_AA
        )
    bench = int(rng.integers(10, PLATE_WIDTH - 90))
    for rail in (-36, -26, -12):
        box(plate, bench, horizon + rail, bench + 84, horizon + rail + 6, (104, 74, 50))
    for leg in (8, 72):
        box(plate, bench + leg, horizon - 36, bench + leg + 5, horizon + 12, (48, 46, 46))
    strangers(plate, horizon + 10, rng, 1)
    return plate


def _bricks(rng: Rng) -> np.ndarray:
    plate = blank((128, 112, 102))
    horizon = int(rng.integers(330, 390))
    base = np.array([138, 82, 64]) + rng.integers(-14, 14, 3)
    for row, y in enumerate(range(0, horizon, 12)):
        for x in range(-34 + 17 * (row % 2), PLATE_WIDTH, 34):
            color = tuple(int(c) for c in np.clip(base + rng.normal(0, 12), 0, 255))
            box(plate, x, y, x + 31, y + 9, color)
    if rng.random() < 0.7:
        x = int(rng.integers(20, PLATE_WIDTH - 110))
        box(plate, x - 5, 120, x + 89, horizon, (92, 88, 84))
        box(plate, x, 126, x + 84, horizon, muted(50, 110, rng))
        cv2.circle(plate, (x + 74, 260), 4, (190, 184, 160), -1)
    for _ in range(3):
        x, y = int(rng.integers(0, PLATE_WIDTH - 60)), int(rng.integers(120, 240))
        box(
            plate,
            x,
            y,
            x + int(rng.integers(26, 48)),
            y + int(rng.integers(36, 62)),
            muted(110, 225, rng),
        )
    pipe = int(rng.integers(0, PLATE_WIDTH))
    box(plate, pipe, 0, pipe + 8, horizon, (84, 82, 84))
    paint_ground(plate, horizon, (132, 130, 130), rng, tile=52)
    box(plate, 0, horizon - 14, PLATE_WIDTH, horizon, (98, 88, 82))
    litter_bin(plate, int(rng.integers(0, PLATE_WIDTH - 40)), horizon + 10, (62, 72, 66))
    return plate


def _station(rng: Rng) -> np.ndarray:
    plate = blank((178, 176, 164))
    horizon = int(rng.integers(250, 290))
    box(plate, 0, 0, PLATE_WIDTH, 70, (92, 94, 96))
    for x in range(-20, PLATE_WIDTH, 70):
        poly(plate, [(x, 10), (x + 46, 10), (x + 36, 34), (x + 8, 34)], (244, 244, 228))
    for y in range(78, horizon, 16):
        cv2.line(plate, (0, y), (PLATE_WIDTH, y), (158, 156, 146), 1)
    for x in range(0, PLATE_WIDTH, 16):
        cv2.line(plate, (x, 78), (x, horizon), (162, 160, 150), 1)
    for _ in range(3):
        x = int(rng.integers(0, PLATE_WIDTH - 70))
        color = muted(50, 200, rng)
        box(plate, x, 110, x + 60, 206, (66, 66, 68))
        box(plate, x + 4, 114, x + 56, 202, color)
        box(plate, x + 12, 124, x + 44, 150, (226, 226, 222))
    sign = int(rng.integers(0, PLATE_WIDTH - 120))
    box(plate, sign, 48, sign + 120, 74, (30, 54, 104))
    for letter in range(sign + 12, sign + 104, 12):
        box(plate, letter, 55, letter + 7, 67, (236, 236, 236))
    paint_ground(plate, horizon, (170, 166, 156), rng, tile=44)
    for x in (int(rng.integers(-10, 90)), int(rng.integers(190, PLATE_WIDTH))):
        box(plate, x, 60, x + 34, horizon + 26, (134, 134, 130))
        box(plate, x, 60, x + 10, horizon + 26, (156, 156, 152))
    poly(
        plate,
        [
            (0, horizon + 50),
            (PLATE_WIDTH, horizon + 40),
            (PLATE_WIDTH, horizon + 54),
            (0, horizon + 66),
        ],
        (208, 178, 60),
    )
    strangers(plate, horizon + 16, rng, 5)
    return plate


def _crossing(rng: Rng) -> np.ndarray:
    plate = blank((196, 206, 216))
    horizon = int(rng.integers(240, 280))
    x = -10
    while x < PLATE_WIDTH:
        width, top = int(rng.integers(50, 110)), int(rng.integers(-60, 110))
        color = tuple(int(c) for c in rng.integers(110, 180) + rng.integers(-14, 14, 3))
        box(plate, x, max(0, top), x + width, horizon, color)
        for wx in range(x + 8, x + width - 12, 20):
            for wy in range(max(8, top + 12), horizon - 40, 28):
                box(plate, wx, wy, wx + 10, wy + 16, (84, 94, 106))
        x += width
    paint_ground(plate, horizon, (104, 104, 108), rng)
    for lane in range(2):
        car(plate, int(rng.integers(-60, PLATE_WIDTH - 40)), horizon + 22 + 12 * lane, rng)
    start = int(rng.integers(60, 110))
    slant = int(rng.integers(-60, 60))
    for stripe in range(-3, 9):
        a = stripe * 62
        poly(
            plate,
            [
                (a, horizon + start),
                (a + 26, horizon + start),
                (a + 34 + slant, PLATE_HEIGHT),
                (a - 6 + slant, PLATE_HEIGHT),
            ],
            (212, 212, 208),
        )
    pole = int(rng.integers(0, PLATE_WIDTH))
    box(plate, pole, 20, pole + 7, horizon + 40, (64, 66, 68))
    box(plate, pole - 8, 60, pole + 15, 120, (36, 38, 38))
    cv2.circle(plate, (pole + 3, 74), 7, (196, 44, 38), -1, cv2.LINE_AA)
    strangers(plate, horizon + 26, rng, 2)
    return plate


def _plaza(rng: Rng) -> np.ndarray:
    plate = blank((120, 138, 150))
    horizon = int(rng.integers(300, 350))
    for x in range(0, PLATE_WIDTH, 46):
        for y in range(0, horizon, 66):
            tone = rng.uniform(0.75, 1.25)
            color = tuple(int(np.clip(c * tone, 0, 255)) for c in (118, 142, 158))
            box(plate, x + 3, y + 3, x + 43, y + 63, color)
            poly(
                plate,
                [(x + 8, y + 63), (x + 24, y + 3), (x + 34, y + 3), (x + 18, y + 63)],
                tuple(min(255, c + 22) for c in color),
            )
    for x in range(0, PLATE_WIDTH, 46):
        box(plate, x, 0, x + 3, horizon, (66, 70, 74))
    box(plate, 0, horizon - 30, PLATE_WIDTH, horizon, (88, 90, 92))
    paint_ground(plate, horizon, (186, 182, 174), rng, tile=70)
    for _ in range(2):
        x = int(rng.integers(0, PLATE_WIDTH - 90))
        box(plate, x, horizon - 20, x + 84, horizon + 18, (140, 138, 134))
        for _ in range(40):
            leaf = (x + int(rng.integers(4, 80)), horizon - 22 - int(rng.integers(0, 34)))
            tone = rng.uniform(0.6, 1.2)
            cv2.circle(
                plate,
                leaf,
                int(rng.integers(4, 9)),
                tuple(int(c * tone) for c in (72, 112, 60)),
                -1,
                cv2.LINE_AA,
            )
    strangers(plate, horizon + 8, rng, 3)
    litter_bin(plate, int(rng.integers(0, PLATE_WIDTH - 40)), horizon + 24, (70, 74, 80))
    return plate


SCENES = (_shops, _park, _bricks, _station, _crossing, _plaza)
"""Painters of the scene of each camera: generator -> uint8 [PLATE_HEIGHT, PLATE_WIDTH, 3]."""

"""Shape and pose of a walking figure, in units of its height.

x grows to the right of the picture, or forward for a figure seen from the side; y grows downward
from the crown (0) to the sole (1). Index 0 is the left of the picture (far side in profile) and
index 1 the right of the picture (near side in profile).
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Shape:
    """Half widths of a body seen from the front, and how thick it is from the side."""

    shoulder: float
    waist: float
    hip: float
    limb: float
    belly: float
    bust: float


_BASE = {
    "man": Shape(shoulder=0.114, waist=0.076, hip=0.082, limb=1.05, belly=0.056, bust=0.0),
    "woman": Shape(shoulder=0.098, waist=0.064, hip=0.090, limb=0.94, belly=0.048, bust=0.012),
}
_BUILD = {
    "slim": (0.92, 0.84, 0.88, 0.86, 0.82),
    "average": (1.0, 1.0, 1.0, 1.0, 1.0),
    "stout": (1.05, 1.46, 1.25, 1.20, 1.62),
}


def shape_of(person: str, build: str) -> Shape:
    """Returns the body of a ``person`` value with a ``build`` value."""
    base, factor = _BASE[person], _BUILD[build]
    return Shape(
        shoulder=base.shoulder * factor[0],
        waist=base.waist * factor[1],
        hip=base.hip * factor[2],
        limb=base.limb * factor[3],
        belly=base.belly * factor[4],
        bust=base.bust,
    )


@dataclasses.dataclass(frozen=True)
class Pose:
    """Joints [2, 2] (side, x y) and, per side, how far the foot is turned or lifted."""

    shoulders: np.ndarray
    elbows: np.ndarray
    wrists: np.ndarray
    hips: np.ndarray
    knees: np.ndarray
    ankles: np.ndarray
    feet: np.ndarray


def frontal_pose(shape: Shape, carrying: int | None, rng: np.random.Generator) -> Pose:
    """Returns a pose seen from the front or the back.

    Args:
      shape: the body.
      carrying: side whose arm hangs down with a bag, or None.
      rng: draws the stride and the swing of the arms.
    """
    stride = float(rng.uniform(-1, 1))
    sway = float(rng.normal(0, 0.006))
    sign = np.array([-1.0, 1.0])
    back = np.clip(np.array([-stride, stride]), 0, 1)
    spread = float(rng.uniform(0.0, 0.014))
    hips = np.stack([sign * shape.hip * 0.54, np.full(2, 0.49)], axis=1)
    knees = np.stack([sign * (shape.hip * 0.52 + spread / 2) + sway, 0.735 - 0.016 * back], axis=1)
    ankles = np.stack([sign * (0.042 + spread - 0.006 * back) + sway, 0.955 - 0.028 * back], axis=1)
    swing = np.array([-stride, stride]) * float(rng.uniform(0.3, 1.0))
    out = rng.uniform(0.012, 0.034, 2) + max(0.0, shape.waist - 0.08) * 0.75
    inward = rng.uniform(-0.012, 0.010, 2)
    if carrying is not None:
        swing[carrying], out[carrying], inward[carrying] = 0.0, out[carrying] + 0.008, 0.004
    lift = np.abs(swing)
    shoulders = np.stack([sign * (shape.shoulder - 0.024), np.full(2, 0.203)], axis=1)
    elbows = shoulders + np.stack([sign * out, 0.158 - 0.012 * lift], axis=1)
    wrists = elbows + np.stack([sign * inward, 0.150 - 0.030 * lift], axis=1)
    return Pose(shoulders, elbows, wrists, hips, knees, ankles, back)


def profile_pose(shape: Shape, forward: float, rng: np.random.Generator) -> Pose:
    """Returns a pose seen from the side, facing to positive x.

    Args:
      shape: the body.
      forward: direction in which the near hand reaches (+1, -1), or 0 for a free choice.
      rng: draws stride and bends.
    """
    del shape
    stride = float(rng.uniform(0.12, 0.33)) * (1 if rng.random() < 0.5 else -1)
    if forward:
        stride = -abs(stride) * forward
    thigh = np.array([-stride, stride])
    bend = np.where(thigh < 0, rng.uniform(0.12, 0.38), rng.uniform(0.02, 0.12))
    hips = np.array([[0.0, 0.49], [0.0, 0.49]])
    knees = hips + 0.245 * _direction(thigh)
    ankles = knees + 0.225 * _direction(thigh - bend)
    # The longer leg stands on the ground: stretching keeps the figure at its height.
    stretch = (0.955 - 0.49) / (ankles[:, 1].max() - 0.49)
    knees[:, 1] = 0.49 + (knees[:, 1] - 0.49) * stretch
    ankles[:, 1] = 0.49 + (ankles[:, 1] - 0.49) * stretch
    arm = -thigh * float(rng.uniform(0.5, 1.0))
    if forward:
        arm[1] = forward * float(rng.uniform(0.3, 0.45))
    flex = rng.uniform(0.12, 0.55, 2) + np.clip(arm, 0, 1) * 0.4
    if forward:
        flex[1] = 0.05 if forward < 0 else 0.2
    shoulders = np.array([[0.002, 0.200], [-0.006, 0.200]])
    elbows = shoulders + 0.158 * _direction(arm)
    wrists = elbows + 0.145 * _direction(arm + flex)
    lift = np.where(ankles[:, 1] < ankles[:, 1].max() - 0.004, 0.5 * bend + 0.1, 0.0)
    return Pose(shoulders, elbows, wrists, hips, knees, ankles, lift)


def _direction(angle: np.ndarray) -> np.ndarray:
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)

"""Pictures for the report: learning curves as SVG, photographs and maps over them as JPEG."""

from __future__ import annotations

import base64
import collections
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import matplotlib
import matplotlib.style
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

_TITLES = {
    "id": "Identity loss",
    "rank": "Ranking loss, strong captions",
    "weak": "Ranking loss, weak captions",
    "lambda": "Adaptive margin: similarity ratio λ",
}
_NOT_PARTS = ("loss", "grad_norm", "learning_rate", "pairs_per_s")
_HEAT = "inferno"  # its lightness grows evenly, so that it can be read without its hues
_HEAT_SHARE = 0.6  # of the colour in a picture under a map
_FEW_POINTS = 40  # up to so many, each gets a dot
_LETTER = 0.085  # inches; the browser chooses the font, and this is its size in a wide one


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours of a figure; those of lines are told apart by colour-blind people, too.

    Attributes:
      ink: axis labels.
      grid: lines in the background.
      lines: one colour a curve.
    """

    ink: str
    grid: str
    lines: tuple[str, ...]


# After Okabe and Ito, "Color universal design", the lines darkened or lightened for contrast.
THEMES = {
    "light": Theme("#555b66", "#e3e6ea", ("#0067a5", "#c44e00", "#00795a", "#a6488a", "#6b6b00")),
    "dark": Theme("#a9b0bc", "#33373f", ("#6cb8f0", "#ff9d5c", "#3fcfa2", "#e79ccb", "#d9d06a")),
}


@dataclasses.dataclass(frozen=True)
class Curve:
    """Values of one scalar.

    Attributes:
      name: how the figure calls it.
      steps: finished steps at each value, at least one.
      values: finite numbers.
    """

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Panel:
    """Curves that share an axis.

    Attributes:
      title: what the axis shows, with its unit.
      curves: at least one.
      last_step: where the horizontal axis ends, the same in all panels of a run.
      wide: drawn larger than the others.
      from_zero: the axis begins at 0.
      log: instead, the axis is logarithmic where the values span a decade.
    """

    title: str
    curves: tuple[Curve, ...]
    last_step: int
    wide: bool = False
    from_zero: bool = False
    log: bool = False


def training_panels(lines: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """Sorts what a run has logged into panels.

    A part of the loss called ``kind_branch`` is drawn in the panel of its kind.

    Args:
      lines: from `logbook.read`.

    Returns:
      Validation, total loss, its parts, learning rate and speed; what was never logged is left out.
    """
    curves = _curves(lines)
    last_step = max((steps[-1] for steps, _ in curves.values()), default=0)

    def panel(title: str, names: Mapping[str, str], **options: bool) -> Panel:
        found = [(label, curves[name]) for name, label in names.items() if name in curves]
        shown = tuple(Curve(label, *points) for label, points in found)
        return Panel(title, shown, last_step, **options)

    validation = {"val/t2i/rank1": "text to image", "val/i2t/rank1": "image to text"}
    panels = [
        panel("Validation Rank-1, percent", validation, wide=True, from_zero=True),
        panel("Total loss", {"train/loss": "loss"}, wide=True, from_zero=True),
    ]
    kinds: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for name in curves:
        group, _, part = name.partition("/")
        if group == "train" and part not in _NOT_PARTS:
            kind, _, branch = part.partition("_")
            kinds[kind][name] = branch or kind
    known = [*_TITLES]
    for kind in sorted(kinds, key=lambda kind: known.index(kind) if kind in known else len(known)):
        panels.append(panel(_TITLES.get(kind, kind), kinds[kind]))
    panels += [
        panel("Learning rate", {"train/learning_rate": "rate"}, from_zero=True, log=True),
        panel("Pairs per second", {"train/pairs_per_s": "pairs/s"}, from_zero=True),
    ]
    return [one for one in panels if one.curves]


def _curves(
    lines: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[tuple[int, ...], tuple[float, ...]]]:
    """Steps and values of each scalar, by name."""
    points: dict[str, list[tuple[int, float]]] = collections.defaultdict(list)
    for line in lines:
        for name, value in line.items():
            if "/" in name and isinstance(value, int | float) and math.isfinite(value):
                points[name].append((int(line["step"]), float(value)))
    return {
        name: (tuple(step for step, _ in pairs), tuple(value for _, value in pairs))
        for name, pairs in points.items()
    }


def panel_uri(panel: Panel, theme: Theme) -> str:
    """Draws a panel.

    Args:
      panel: what to draw.
      theme: in which colours; the background is transparent.

    Returns:
      Data URI of an SVG; the same panel gives the same bytes.
    """
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "jaxreid",
        "font.family": "sans-serif",
        "font.sans-serif": ["Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"],
        "font.size": 10,
        **dict.fromkeys(("text.color", "xtick.color", "ytick.color", "axes.labelcolor"), theme.ink),
        **dict.fromkeys(("axes.edgecolor", "grid.color"), theme.grid),
    }
    with matplotlib.style.context(["default", settings]):
        width, height = (4.7, 2.4) if panel.wide else (3.6, 2.1)
        longest = max(len(curve.name) for curve in panel.curves) if len(panel.curves) > 1 else 0
        right = 0.15 + min(_LETTER * longest, 0.4 * width)
        left, bottom, top = 0.55, 0.45, 0.1
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes(
            (
                left / width,
                bottom / height,
                1 - (left + right) / width,
                1 - (bottom + top) / height,
            )
        )
        _draw(axes, panel, theme)
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _data_uri("image/svg+xml", file.getvalue())


def _draw(axes: Axes, panel: Panel, theme: Theme) -> None:
    colors = [theme.lines[index % len(theme.lines)] for index in range(len(panel.curves))]
    for curve, color in zip(panel.curves, colors, strict=True):
        marker = "o" if len(curve.steps) <= _FEW_POINTS else ""
        axes.plot(curve.steps, curve.values, marker, ls="-", color=color, lw=1.8, ms=3.5)
    values = [value for curve in panel.curves for value in curve.values]
    if panel.log and min(values) > 0 and max(values) >= 10 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if panel.from_zero:
            axes.set_ylim(min(0, *values), 1.08 * max(values) or 1)
    axes.set_xlim(0, 1.02 * panel.last_step or 1)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("step")
    axes.grid(axis="y", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.tick_params(length=0)
    if len(panel.curves) > 1:
        _label_ends(axes, panel, colors)


def _label_ends(axes: Axes, panel: Panel, colors: Sequence[str]) -> None:
    """Writes each curve's name where it ends, so that no legend has to be looked up."""
    axes.get_ylim()  # settles the limits, which the transformation below depends on
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [to_axes.transform((c.steps[-1], c.values[-1])) for c in panel.curves]
    heights = spread([float(height) for _, height in ends], gap=0.13)
    for curve, height, color in zip(panel.curves, heights, colors, strict=True):
        axes.text(
            1.02,
            height,
            curve.name,
            color=color,
            va="center",
            transform=axes.transAxes,
            parse_math=False,
        )


def spread(heights: Sequence[float], *, gap: float) -> list[float]:
    """Moves labels apart that would overlap.

    Args:
      heights: wanted positions in [0, 1].
      gap: least distance of two.

    Returns:
      Positions in the same order, `gap` or more apart, within [0, 1] if there is room.

    >>> spread([0.5, 0.0, 0.5], gap=0.25)
    [0.5, 0.0, 0.75]
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = [0.0] * len(heights)
    lowest = 0.0
    for index in order:
        placed[index] = max(heights[index], lowest)
        lowest = placed[index] + gap
    highest = 1.0
    for index in reversed(order):
        placed[index] = min(placed[index], highest)
        highest = placed[index] - gap
    return placed


def jpeg_uri(image: UInt8[np.ndarray, "H W 3"], *, quality: int = 85) -> str:
    """Encodes a picture.

    Args:
      image: [H, W, 3] uint8 RGB.
      quality: of the JPEG, 1 to 100.

    Returns:
      Data URI of a JPEG.
    """
    _, file = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return _data_uri("image/jpeg", file.tobytes())


def overlay(
    image: UInt8[np.ndarray, "H W 3"], weights: Float[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Lays a map over a picture.

    Args:
      image: [H, W, 3] uint8 RGB; shown in grey, so that all colour is the map's.
      weights: [h, w] from 0, of places that divide the picture evenly; scaled to the largest.

    Returns:
      [H, W, 3] uint8 RGB.
    """
    height, width = image.shape[:2]
    scaled = (weights / (weights.max() or 1)).astype(np.float32)
    # Cubic steps beyond both ends of the range where neighbours differ much.
    smooth = cv2.resize(scaled, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None] / 255
    colours = matplotlib.colormaps[_HEAT](smooth)[:, :, :3]
    return np.round(255 * (_HEAT_SHARE * colours + (1 - _HEAT_SHARE) * grey)).astype(np.uint8)


def heat_ramp(count: int = 9) -> list[str]:
    """Colours of `overlay` from 0 to the largest weight, for CSS."""
    return [to_hex(colour) for colour in matplotlib.colormaps[_HEAT](np.linspace(0, 1, count))]


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"

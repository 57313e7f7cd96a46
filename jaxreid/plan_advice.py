"""What to change where a step does not fit, with numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from jaxreid.bench import abstract
from jaxreid.memory import gib
from jaxreid.plan_targets import Counted, Estimate, Target, counted

_MULTIPLE = 8
_TRIES = 8
_MOST_SHARING = 8


@dataclasses.dataclass(frozen=True)
class Batch:
    """The largest batch that fits.

    Attributes:
      pairs: on each device; 0 where not even one fits.
      estimate: of a step with it; None for 0.
      next_pairs: the next larger one that was tried, which does not fit.
    """

    pairs: int
    estimate: Estimate | None
    next_pairs: int


def with_batch(config: ConfigDict, pairs: int, count: int) -> ConfigDict:
    """Returns a config with another batch.

    Args:
      config: of a run; not changed.
      pairs: on each device.
      count: devices.
    """
    return _with(config, {"batch_size": pairs * count})


def _with(config: ConfigDict, values: dict[str, Any]) -> ConfigDict:
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.update_from_flattened_dict(values)
    return changed


def largest_batch(
    target: Target, config: ConfigDict, sizes: abstract.Sizes, failed: Estimate
) -> Batch:
    """Finds the largest batch that fits, below one that does not.

    Sizes are guessed by a line through what is known, and each is estimated (where there is a
    compiler: compiled) before it is believed. Multiples of 8 come first, then whole numbers
    below 8.

    Args:
      target: the devices.
      config: of the run; ``batch_size`` counts all devices together.
      sizes: of its data.
      failed: the estimate of the config as it is.
    """
    low, high = 0, config.batch_size // target.count
    limit, best = failed.usable, None
    points = {low: _fixed(failed), high: _beside(limit, failed)}
    logging.info("%d pairs on each device do not fit; looking for how many do", high)
    for unit in (_MULTIPLE, 1):
        missed = False
        for _ in range(_TRIES):
            between = range(low // unit * unit + unit, high, unit)
            if not between or (unit == 1 and low >= _MULTIPLE):
                break
            # A line to what is refused without telling why would lead back to it, and one to what a
            # compiler squeezed nearly into the limit leads on in small steps: halve then.
            told = points[high] > math.nextafter(limit, math.inf)
            guess = _guess(points, limit) if told and not missed else (low + high) / 2
            guess = int(guess) // unit * unit
            pairs = min(max(guess, between[0]), between[-1])
            found = target.estimate(with_batch(config, pairs, target.count), sizes)
            fits = "fits" if found.fits else "does not fit"
            logging.info("%d pairs on each device take %s, which %s", pairs, gib(found.total), fits)
            points[pairs] = _beside(limit, found)
            low, best, high = (pairs, found, high) if found.fits else (low, best, pairs)
            missed = not found.fits
    return Batch(low, best, high)


def _fixed(estimate: Estimate) -> float:
    return estimate.total - estimate.parts["activations"] - estimate.parts["batch"]


def _beside(limit: float, estimate: Estimate) -> float:
    """Bytes on the side of the limit that the answer says.

    What the compiler refuses may count as less, where it does not tell how much it needs.
    """
    if estimate.fits:
        return min(estimate.total, limit)
    return max(estimate.total, math.nextafter(limit, math.inf))


def _guess(points: dict[int, float], limit: float) -> float:
    """Where the line through the points next to the limit meets it; 0 if all are above."""
    start = max((pairs for pairs, total in points.items() if total <= limit), default=None)
    if start is None:
        return 0.0
    stop = min(pairs for pairs in points if pairs > start)
    slope = (points[stop] - points[start]) / (stop - start)
    return start + (limit - points[start]) / slope


@dataclasses.dataclass(frozen=True)
class Change:
    """A field to change.

    Attributes:
      option: as the command line takes it.
      what: it does.
      total: bytes of a device with it, counted from the estimate without.
      fits: those would fit.
    """

    option: str
    what: str
    total: float
    fits: bool


def changes(
    target: Target, config: ConfigDict, sizes: abstract.Sizes, now: Estimate
) -> list[Change]:
    """Says what each field that saves memory would save; what saves nothing is left out.

    Args:
      target: the devices.
      config: of the run; ``batch_size`` counts all devices together.
      sizes: of its data.
      now: the estimate of the config as it is.
    """
    before = counted(target, config, sizes)
    found = []
    for field, value, what in _options(target, config, now):
        after = counted(target, _with(config, {field: value}), sizes)
        total = _total(now, before, after)
        if total < now.total:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            option = f"--config.{field}={text}"
            found.append(Change(option, what, total, total <= now.usable))
    return found


def _options(target: Target, config: ConfigDict, now: Estimate) -> Iterator[tuple[str, Any, str]]:
    sharing = config.mesh.model
    while sharing < _MOST_SHARING and target.count % (2 * sharing) == 0:
        sharing *= 2
    if sharing > config.mesh.model:
        yield "mesh.model", sharing, f"classifiers and their optimiser state on {sharing} devices"
    if now.feed == "device" and target.count > 1:
        yield "data.feed", "sharded", "images split over the devices"
    if now.feed != "host":
        yield "data.feed", "host", "images streamed from the host"
    if config.model.get("remat") is False:
        yield "model.remat", True, "the backbone computed twice, less of it kept"
    if config.dtype == "float32":
        yield "dtype", "bfloat16", "activations in half the bytes, as the variant bfloat16"


def _total(now: Estimate, before: Counted, after: Counted) -> float:
    """Bytes with a change: what is held is known, activations change as they do when counted."""
    held = sum(after.held.values()) - sum(before.held.values())
    share = after.work.peak / before.work.peak if before.work.peak else 1.0
    return now.total + held + (share - 1) * now.parts["activations"]


def rows(batch: Batch | None, found: Sequence[Change]) -> list[tuple[str, str]]:
    """Writes advice for the screen."""
    written = []
    if batch is not None and batch.estimate is not None:
        share = 100 * batch.estimate.total / batch.estimate.usable
        written.append(
            (
                f"--config.batch_per_device={batch.pairs}",
                f"fits: {gib(batch.estimate.total)}, {share:.0f}% of what is usable "
                f"({batch.next_pairs} pairs do not fit)",
            )
        )
    elif batch is not None:
        written.append(("a smaller batch", "not even one pair on each device fits"))
    for change in found:
        fits = "fits" if change.fits else "not enough by itself"
        written.append((change.option, f"about {gib(change.total)}, {fits}: {change.what}"))
    return written

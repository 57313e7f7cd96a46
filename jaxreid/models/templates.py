"""Static plans of how many captions an LSTM still has to run, chosen from caption lengths.

Everything here runs on the host, in NumPy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

# A whole number; in a program that is exported for any number of captions, a symbol of JAX.
Size = Any


@dataclasses.dataclass(frozen=True)
class RowTemplate:
    """How many captions are still alive in each chunk of time steps.

    Captions are split in `groups` equal runs (one per device shard, so that sorting never crosses
    devices), each sorted by length, longest first. Chunk c runs steps[c] time steps on the first
    rows[c] captions of every group.

    Attributes:
      steps: time steps of each chunk.
      rows: captions per group in each chunk, never increasing.
      groups: number of groups.
    """

    steps: tuple[int, ...]
    rows: tuple[Size, ...]
    groups: int = 1

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.rows) or not self.steps:
            raise ValueError(
                f"RowTemplate steps={self.steps} and rows={self.rows}: give one of each per chunk, "
                "and at least one chunk."
            )
        if min(self.steps) < 1 or min(self.rows) < 1 or self.groups < 1:
            raise ValueError(
                f"RowTemplate steps={self.steps}, rows={self.rows}, groups={self.groups}: all of "
                "them must be at least 1; leave out empty chunks."
            )
        if any(a < b for a, b in zip(self.rows, self.rows[1:], strict=False)):
            raise ValueError(f"RowTemplate rows={self.rows} must never increase.")

    @classmethod
    def full(cls, num_rows_per_group: Size, length: int, groups: int = 1) -> RowTemplate:
        """The template of one chunk that fits captions of up to `length` tokens."""
        return cls((length,), (num_rows_per_group,), groups)

    @property
    def length(self) -> int:
        """Padded length: time steps over all chunks."""
        return sum(self.steps)

    @property
    def tokens(self) -> int:
        """Padded tokens that a step computes, over all groups."""
        return self.groups * sum(s * r for s, r in zip(self.steps, self.rows, strict=True))

    @property
    def starts(self) -> tuple[int, ...]:
        """First time step of each chunk."""
        return tuple(sum(self.steps[:chunk]) for chunk in range(len(self.steps)))


def rows_of_a_step(platform: str) -> int:
    """Captions that a time step costs as much as, besides those that it computes.

    An accelerator's time steps follow one another, and in each it takes up all recurrent weights:
    a TPU's matrix unit multiplies 128 rows in the time that it takes up a tile of them, and a GPU
    that reads them from memory (an H100: 990 TFLOP/s, 3.35 TB/s) multiplies some 300 meanwhile, or
    half as many at the speed that it reaches. By arithmetic, not measured. On a CPU the recurrence
    ends with the longest caption anyway.

    Args:
      platform: "cpu", "gpu" or "tpu".
    """
    return 0 if platform == "cpu" else 128


def fits(template: RowTemplate, lengths: Int[np.ndarray, " N"]) -> bool:
    """Whether every caption of a batch runs to its end under the template.

    Args:
      template: the template.
      lengths: tokens of each caption; N is a multiple of the template's groups.
    """
    if len(lengths) % template.groups:
        return False
    grouped = lengths.reshape(template.groups, -1)
    if grouped.max(initial=0) > template.length:
        return False
    return all(
        (grouped > start).sum(axis=1).max() <= rows
        for start, rows in zip(template.starts, template.rows, strict=True)
    )


def choose_template(templates: Sequence[RowTemplate], lengths: Int[np.ndarray, " N"]) -> int:
    """Index of the first template that fits; `make_templates` puts the cheapest first.

    Raises:
      ValueError: when none fits.
    """
    for index, template in enumerate(templates):
        if fits(template, lengths):
            return index
    raise ValueError(
        f"No template fits {len(lengths)} captions of up to {lengths.max(initial=0)} tokens "
        f"(templates reach {max(t.length for t in templates)}): end the list with "
        "RowTemplate.full(captions per group, longest caption, groups)."
    )


def make_templates(
    lengths: Int[np.ndarray, " M"],
    rows_per_group: int,
    groups: int,
    max_tokens: int,
    count: int = 4,
    *,
    seed: int = 0,
    chunk: int = 8,
    batches: int = 2000,
    platform: str = "cpu",
) -> list[RowTemplate]:
    """Choose static templates so that batches of random captions cost little.

    Random batches are drawn; candidates allow for rising quantiles of the captions alive at each
    chunk; those are taken one by one that lower the mean cost most, which is that of the padded
    tokens and of the time steps.

    Args:
      lengths: tokens of all captions that batches are drawn from.
      rows_per_group: captions of a batch on one device shard.
      groups: device shards.
      max_tokens: longest caption that may come.
      count: templates to choose, the full-size one not counted.
      seed: seed of the simulation.
      chunk: time steps per chunk.
      batches: simulated batches (fewer where groups are many).
      platform: of the devices, which says what a time step costs, see `rows_of_a_step`.

    Returns:
      At most count + 1 templates, cheapest first; the last is the full-size one.
    """
    full = RowTemplate.full(rows_per_group, max_tokens, groups)
    if lengths.size == 0 or lengths.max() > max_tokens:
        raise ValueError(
            f"lengths has {lengths.size} captions of up to {lengths.max(initial=0)} tokens: "
            f"give at least one, none above max_tokens={max_tokens}; raise max_tokens or cut them."
        )
    batches = max(100, min(batches, 4_000_000 // (rows_per_group * groups)))
    demand = _simulate_demand(lengths, rows_per_group, groups, max_tokens, seed, chunk, batches)
    candidates = _candidates(demand, full, chunk)
    costs = np.array([_cost(candidate, platform) for candidate in candidates])
    fit = np.stack([_fits_demand(candidate, demand, chunk) for candidate in candidates])
    chosen: list[int] = []
    best = np.full(len(demand), _cost(full, platform))
    for _ in range(count):
        means = np.where(fit, np.minimum(costs[:, None], best), best).mean(axis=1)
        index = int(means.argmin())
        if means[index] >= best.mean():
            break
        chosen.append(index)
        best = np.where(fit[index], np.minimum(costs[index], best), best)
    return [candidates[index] for index in sorted(chosen, key=lambda i: costs[i])] + [full]


def _cost(template: RowTemplate, platform: str) -> int:
    return template.tokens + template.groups * template.length * rows_of_a_step(platform)


def _simulate_demand(
    lengths: np.ndarray,
    rows: int,
    groups: int,
    max_tokens: int,
    seed: int,
    chunk: int,
    batches: int,
) -> Int[np.ndarray, "N C"]:
    """Captions alive at the start of each chunk, in the fullest group of each random batch."""
    drawn = np.random.default_rng(seed).choice(lengths, (batches, groups, rows))
    starts = range(0, max_tokens, chunk)
    return np.stack([(drawn > start).sum(axis=2).max(axis=1) for start in starts], axis=1)


def _candidates(demand: np.ndarray, full: RowTemplate, chunk: int) -> list[RowTemplate]:
    """Templates at rising quantiles of demand, in the body and in the tail of long captions."""
    found = []
    for body in np.linspace(0.5, 1.0, 11):
        for tail in np.linspace(0.3, 1.0, 15):
            share = np.linspace(0.0, 1.0, demand.shape[1])
            quantiles = body + (tail - body) * share
            rows = np.array(
                [
                    np.quantile(d, q, method="higher")
                    for d, q in zip(demand.T, quantiles, strict=True)
                ]
            )
            rows[0] = full.rows[0]
            found.append(_merge(np.minimum.accumulate(rows), full, chunk))
    return sorted(set(found), key=lambda t: (t.tokens, t.rows, t.steps))


def _merge(rows: np.ndarray, full: RowTemplate, chunk: int) -> RowTemplate:
    """Join neighbouring chunks of equal rows: fewer scans to compile."""
    steps: list[int] = []
    kept: list[int] = []
    for index, value in enumerate(int(row) for row in rows if row > 0):
        length = min(chunk, full.length - index * chunk)
        if kept and kept[-1] == value:
            steps[-1] += length
        else:
            steps.append(length)
            kept.append(value)
    return RowTemplate(tuple(steps), tuple(kept), full.groups)


def _fits_demand(template: RowTemplate, demand: np.ndarray, chunk: int) -> Bool[np.ndarray, " N"]:
    """Which simulated batches fit."""
    rows = np.zeros(demand.shape[1], int)
    for start, steps, value in zip(template.starts, template.steps, template.rows, strict=True):
        rows[start // chunk : -(-(start + steps) // chunk)] = value
    return np.all(demand <= rows, axis=1)

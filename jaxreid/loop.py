"""The loop around the step: what is compiled before, how steps are started, what they report."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxreid import checkpoint, compilation
from jaxreid.data.feed import Feed
from jaxreid.models.templates import RowTemplate, choose_template
from jaxreid.step import Scalars, TrainState

Program = Callable[..., tuple[TrainState, Scalars]]
Batch = Mapping[str, jax.Array]


class TrainingDivergedError(RuntimeError):
    """The loss or a gradient is no longer a finite number."""


def plan(
    programs: compilation.Programs,
    templates: Sequence[RowTemplate],
    feed: Feed,
    state: TrainState,
    start: int,
    stop: int,
) -> list[Program]:
    """Compiles what the coming steps need, before the first of them.

    The lengths of their captions are known without making their batches. So nothing compiles
    between these steps, and a template that never comes is never compiled.

    Args:
      programs: of the training step, by template.
      templates: the last one always fits.
      feed: of the run.
      state: before the first step.
      start: the first step.
      stop: the step after the last.

    Returns:
      The program of each step.
    """
    chosen = [choose_template(templates, feed.lengths(step)) for step in range(start, stop)]
    shapes = feed.batch_shapes()
    found: dict[int, Program] = {}
    for index, count in sorted(collections.Counter(chosen).items()):
        found[index] = programs.get(
            index,
            state,
            feed.resident,
            shapes,
            template=templates[index],
            note=f"row template {index + 1} of {len(templates)} "
            f"({count} of the next {stop - start} steps)",
        )
    return [found[index] for index in chosen]


def dispatch(
    state: TrainState, resident: Mapping[str, Any], work: Iterable[tuple[Program, Batch]]
) -> tuple[TrainState, list[Scalars]]:
    """Starts steps one after another and waits for none of them.

    Args:
      state: before the first; its memory is given to the new state.
      resident: what stays on the devices, see `Feed`.
      work: program and batch of each step.

    Returns:
      The state after the last step, and the scalars of each, all still being computed.
    """
    window = []
    for program, batch in work:
        state, scalars = program(state, resident, batch)
        window.append(scalars)
    return state, window


def run_steps(
    programs: Sequence[Program],
    feed: Feed,
    state: TrainState,
    start: int,
    *,
    every: int,
    report: Callable[[int, list[Scalars]], None],
    halts: Callable[[int], bool] = lambda step: False,
) -> TrainState:
    """Runs the steps from one on, one for each program; only reports wait for the devices.

    Args:
      programs: of each step.
      feed: of the run.
      state: before the first step.
      start: the first step.
      every: a report is due where the number of finished steps is a multiple of this.
      report: called with the number of finished steps and the scalars since the last report, also
        after the last step.
      halts: asked before each step is started, with its number; True ends the loop there.

    Returns:
      The state after the last step that was started.
    """
    stop = start + len(programs)
    batches = (batch for batch, _ in feed.batches(start, stop))
    work = _until(halts, start, zip(programs, batches, strict=True))
    while start < stop:
        until = min(stop, (start // every + 1) * every)
        state, window = dispatch(state, feed.resident, itertools.islice(work, until - start))
        start += len(window)
        if window:
            report(start, window)
        if start < until:
            break
    return state


def _until(
    halts: Callable[[int], bool], start: int, work: Iterable[tuple[Program, Batch]]
) -> Iterator[tuple[Program, Batch]]:
    for step, item in enumerate(work, start):
        if halts(step):
            return
        yield item


def mean_scalars(
    window: Sequence[Scalars], step: int, checkpoints: checkpoint.Checkpoints
) -> dict[str, float]:
    """Fetches the scalars of the last steps and averages them.

    Args:
      window: scalars of each of the last steps.
      step: number of finished steps.
      checkpoints: of the run, whose last one an error names.

    Raises:
      TrainingDivergedError: a loss or the norm of a gradient is not finite.
    """
    fetched = jax.device_get(window)
    for offset, scalars in enumerate(fetched):
        if not (np.isfinite(scalars["loss"]) and np.isfinite(scalars["grad_norm"])):
            checkpoints.wait()
            bad = step - len(fetched) + offset + 1
            raise TrainingDivergedError(_what_diverged(bad, scalars, checkpoints))
    return {name: float(np.mean([s[name] for s in fetched])) for name in fetched[0]}


def _what_diverged(
    step: int, scalars: Mapping[str, Any], checkpoints: checkpoint.Checkpoints
) -> str:
    good = checkpoints.last
    folder = checkpoints.directory
    return (
        f"step {step}: the loss is {scalars['loss']}, the "
        f"gradient norm {scalars['grad_norm']}. The last good checkpoint is "
        + (f"{folder / str(good)}" if good else "none, as none was due yet")
        + ". Lower the stage's learning_rate, or compute in float32 "
        "(--config.dtype=float32), and begin a new run in another --workdir"
        + (f", from these weights: --config.init_from={folder.parent}." if good else ".")
    )

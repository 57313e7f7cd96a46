"""Training as a list of stages, one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of training with an optimiser of its own.

    Attributes:
      index: 0, 1, ...
      first: its first step.
      stop: the step after its last.
      config: its fields.
    """

    index: int
    first: int
    stop: int
    config: Mapping[str, Any]

    def is_validated(self, step: int, steps_per_epoch: int) -> bool:
        """Tells whether validation is due after so many steps of the run."""
        every = self.config["validate_epochs"] * steps_per_epoch
        return step == self.stop or (step - self.first) % every == 0

    def saves(self, step: int, steps_per_epoch: int, every: int) -> list[int]:
        """Steps after this one at which to save: where it validates, and every N if asked."""
        ahead = range(step + 1, self.stop + 1)
        stops = [s for s in ahead if self.is_validated(s, steps_per_epoch)]
        if every:
            stops += [s for s in ahead if s % every == 0]
        return sorted(set(stops))


def make_stages(config: ConfigDict, steps_per_epoch: int) -> tuple[Stage, ...]:
    """Lays the stages of a config one after another.

    Args:
      config: with ``stages``.
      steps_per_epoch: of the training split.

    Raises:
      ValueError: there is no stage, or one has no step.
    """
    if not config.stages:
        raise ValueError("config.stages is empty; training takes at least one stage.")
    stages, first = [], 0
    for index, stage in enumerate(config.stages):
        steps = stage.epochs * steps_per_epoch
        if stage.max_steps:
            steps = min(steps, stage.max_steps)
        if steps < 1:
            raise ValueError(
                f"config.stages[{index}].epochs is {stage.epochs}; it takes 1 or more."
            )
        stages.append(Stage(index, first, first + steps, stage))
        first += steps
    return tuple(stages)

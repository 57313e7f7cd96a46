"""The training step of a preset on made-up data, compiled and ready to run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax

from jaxreid import flops, memory, step, train
from jaxreid.bench import roofline
from jaxreid.models.templates import RowTemplate


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled training step.

    Attributes:
      run: (state, resident, batch) -> (state, scalars); the state is donated.
      seconds: that tracing and compiling took.
      flops: of one step, padding that the template carries included.
      roofline: of the program as it was compiled; None where its text cannot be read.
    """

    run: Any
    seconds: float
    flops: flops.FlopCount
    roofline: roofline.Roofline | None


@dataclasses.dataclass
class Running:
    """The training step of a config's last stage, ready to run; the state goes from step to step.

    Attributes:
      trainer: of the run.
      stage: the last.
      optimizer: of the stage.
      state: before the next step.
      plan: templates of the batches.
      programs: compiled steps by template.
    """

    trainer: train.Trainer
    stage: train.Stage
    optimizer: optax.GradientTransformation
    state: step.TrainState
    plan: Sequence[RowTemplate] = ()
    programs: dict[RowTemplate, Program] = dataclasses.field(default_factory=dict)

    def batch(self, number: int) -> Mapping[str, jax.Array]:
        """Returns a batch of the feed, on the devices."""
        return next(self.trainer.feed.batches(number, number + 1))[0]

    def compile(self, batches: int) -> None:
        """Compiles the step for each template that so many batches need."""
        feed = self.trainer.feed
        self.plan = [self.trainer.template(feed.lengths(number)) for number in range(batches)]
        jitted: Any = self.trainer.train_step(self.stage, self.optimizer)
        model = flops.counted_form(self.trainer.model)
        as_counted = dataclasses.replace(self.trainer, model=model)
        counted: Any = as_counted.train_step(self.stage, self.optimizer)
        for template in dict.fromkeys(self.plan):
            batch = self.batch(self.plan.index(template))
            arguments = self.state, feed.resident, batch
            start = time.perf_counter()
            compiled = jitted.trace(*arguments, template=template).lower().compile()
            seconds = time.perf_counter() - start
            jaxpr = counted.trace(*arguments, template=template).jaxpr
            device = self.trainer.mesh.devices.flat[0]
            line = roofline.of_program(compiled, device.device_kind, self.trainer.mesh.size)
            work = flops.count_jaxpr(jaxpr)
            self.programs[template] = Program(compiled, seconds, work, line)

    def advance(self, number: int, batch: Mapping[str, jax.Array]) -> step.Scalars:
        """Runs the step on a batch of this number."""
        run = self.programs[self.plan[number]].run
        self.state, scalars = run(self.state, self.trainer.feed.resident, batch)
        return scalars

    def warm_up(self) -> step.Scalars:
        """Runs every program once; returns what the first step, of batch 0, says."""
        numbers = [self.plan.index(template) for template in self.programs]
        scalars = [self.advance(number, self.batch(number)) for number in numbers]
        jax.block_until_ready(self.state)
        return scalars[0]


def make_running(trainer: train.Trainer) -> Running:
    """Draws the state of the last stage, in which all is trained that the config trains at all."""
    stage = trainer.stages[-1]
    optimizer = trainer.optimizer(stage)
    state = step.init_state(trainer.config, trainer.model, optimizer, trainer.mesh)
    state = state.replace(step=state.step + stage.first)  # the stage's epochs count from there
    memory.give_back(programs=True)
    return Running(trainer, stage, optimizer, state)

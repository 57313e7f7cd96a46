"""Training: the stages and the loop around the step.

Nothing here knows which network it trains: a module and an objective are named by the config.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import clu.parameter_overview
import flax.linen as nn
import jax
import numpy as np
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxreid import (
    checkpoint,
    evaluate,
    freezing,
    memory,
    optimizers,
    pretrained,
    registry,
    retrieval,
    runs,
    sharding,
    transfer,
)
from jaxreid.data import feed, sampler
from jaxreid.logbook import Logbook
from jaxreid.models.templates import RowTemplate, choose_template, make_templates
from jaxreid.progress import Progress
from jaxreid.step import (
    Scalars,
    TrainState,
    abstract_state,
    fresh_opt_state,
    init_state,
    init_variables,
    make_train_step,
    split_state,
)
from jaxreid.typing import PyTree


class TrainingDivergedError(RuntimeError):
    """The loss or a gradient is no longer a finite number."""


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


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What a run holds while it trains.

    Attributes:
      config: of the run.
      data: splits, vocabulary and classes.
      mesh: the devices.
      model: the network.
      feed: batches of the training split.
      templates: row templates of the training captions; the last one always fits.
      stages: of the training.
      encoder: for validation.
      shapes: of ``params`` and ``batch_stats``.
    """

    config: ConfigDict
    data: runs.RunData
    mesh: Mesh
    model: nn.Module
    feed: feed.Feed
    templates: tuple[RowTemplate, ...]
    stages: tuple[Stage, ...]
    encoder: retrieval.Encoder
    shapes: PyTree

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every pair was seen."""
        return self.feed.sampler.steps_per_epoch

    def optimizer(self, stage: Stage) -> optax.GradientTransformation:
        """Builds the optimiser of a stage.

        Raises:
          ValueError: a field of the stage is not as it must be.
        """
        try:
            return optimizers.make_optimizer(
                stage.config, self.shapes["params"], steps_per_epoch=self.steps_per_epoch
            )
        except ValueError as error:
            raise ValueError(f"config.stages[{stage.index}]: {error}") from error

    def train_step(
        self, stage: Stage, optimizer: optax.GradientTransformation
    ) -> Callable[..., tuple[TrainState, Scalars]]:
        """Compiles the step of a stage, see `make_train_step`."""
        return make_train_step(
            self.config,
            self.model,
            registry.build_objective(self.config, stage.config),
            optimizer,
            first_step=stage.first,
            steps_per_epoch=self.steps_per_epoch,
            mesh=self.mesh,
            frozen=freezing.frozen_names(stage.config, self.shapes["params"]),
        )

    def template(self, lengths: np.ndarray) -> RowTemplate:
        """Picks the smallest template that a step's captions fit into."""
        return self.templates[choose_template(self.templates, lengths)]


def make_trainer(config: ConfigDict, data: runs.RunData) -> Trainer:
    """Sets up training on the devices here.

    Args:
      config: of the run.
      data: what it trains on.

    Raises:
      ValueError: a field of the config does not fit the data or the devices.
    """
    mesh = sharding.make_mesh(config.mesh.model)
    sharding.check_batch_size(config.batch_size, mesh, "config.batch_size")
    pairs = sampler.make_sampler(
        config.data.sampling,
        data.train.split.caption_image,
        data.train.split.labels,
        batch_size=config.batch_size,
        captions_per_pair=config.data.captions_per_pair,
        seed=config.seed,
    )
    model = registry.build_model(
        config, vocab_size=len(data.vocabulary), num_classes=len(data.classes)
    )
    trainer = Trainer(
        config=config,
        data=data,
        mesh=mesh,
        model=model,
        feed=feed.make_feed(
            data.train.split,
            data.train.tokens,
            data.train.lengths,
            pairs,
            kind=config.data.feed,
            replicated=sharding.replicated(mesh),
            by_batch=sharding.by_batch(mesh),
        ),
        templates=_templates(config, data.train.lengths, mesh),
        stages=make_stages(config, pairs.steps_per_epoch),
        encoder=retrieval.make_encoder(config, model, mesh),
        shapes=jax.eval_shape(functools.partial(init_variables, config, model)),
    )
    for stage in trainer.stages:  # a mistake in the last one should not wait for its turn
        trainer.optimizer(stage)
        registry.build_objective(config, stage.config)
    return trainer


def _templates(config: ConfigDict, lengths: np.ndarray, mesh: Mesh) -> tuple[RowTemplate, ...]:
    rows = config.batch_size * config.data.captions_per_pair // mesh.size
    return tuple(
        make_templates(
            lengths,
            rows_per_group=rows,
            groups=mesh.size,
            max_tokens=config.data.max_tokens,
            count=config.data.length_templates,
            seed=config.seed,
        )
    )


def train(config: ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Trains a run, or goes on with one where it stopped.

    Args:
      config: of the run.
      workdir: its folder; all that evaluation and search need ends up there.

    Returns:
      ``step`` and ``best_step``; ``finished`` is True where there was nothing left to do.

    Raises:
      ValueError: the config, the data or the folder is not as it must be.
      TrainingDivergedError: the loss or a gradient is not finite.
    """
    runs.refuse_several_processes()
    runs.prepare_folder(config, workdir)
    with checkpoint.Checkpoints(workdir, create=True) as checkpoints:
        start = checkpoints.last
        if start is not None and checkpoints.meta(start)["finished"]:
            logging.info("the run in %s is finished (step %d)", workdir, start)
            return {"finished": True, "step": start, "best_step": checkpoints.best}
        if start is None:
            pretrained.check(config)
        trainer = make_trainer(config, runs.load_run_data(config, workdir))
        state, stage_index = _first_state(trainer, checkpoints, workdir)
        logbook = Logbook(workdir, step=start or 0)
        try:
            for stage in trainer.stages[stage_index:]:
                state = _run_stage(trainer, stage, state, checkpoints, logbook)
        finally:
            logbook.close()
        checkpoints.wait()
        return {"finished": False, "step": int(state.step), "best_step": checkpoints.best}


def _first_state(
    trainer: Trainer, checkpoints: checkpoint.Checkpoints, workdir: str | os.PathLike[str]
) -> tuple[TrainState, int]:
    """Returns the state to begin or to go on with, and the stage its optimiser belongs to."""
    step = checkpoints.last
    stage = trainer.stages[0 if step is None else checkpoints.meta(step)["stage"]]
    optimizer = trainer.optimizer(stage)
    if step is None:
        state = init_state(trainer.config, trainer.model, optimizer, trainer.mesh)
        memory.give_back()
        clu.parameter_overview.log_parameter_overview(state.params, include_stats=False)
        return state.replace(**_initial_variables(trainer, state, workdir)), 0
    like = abstract_state(trainer.config, trainer.model, optimizer, trainer.mesh)
    variables, rest = checkpoints.restore(step, **split_state(like))
    logging.info("going on at step %d of %d", step, trainer.stages[-1].stop)
    return TrainState(**variables, **rest), stage.index


def _initial_variables(
    trainer: Trainer, state: TrainState, workdir: str | os.PathLike[str]
) -> PyTree:
    """What training starts with: random values, and what other weights there are in their place."""
    config, variables = trainer.config, split_state(state)["variables"]
    variables = pretrained.start_from_file(config, trainer.model, variables, workdir)
    variables = transfer.start_from(config, trainer.data, variables)
    return transfer.with_word_vectors(variables, trainer.data.word_vectors)


def _run_stage(
    trainer: Trainer,
    stage: Stage,
    state: TrainState,
    checkpoints: checkpoint.Checkpoints,
    logbook: Logbook,
) -> TrainState:
    step = int(state.step)
    if step == stage.stop:
        return state
    optimizer = trainer.optimizer(stage)
    if step == stage.first and stage.index > 0:
        state = state.replace(opt_state=fresh_opt_state(optimizer, state.params, trainer.mesh))
    frozen = freezing.frozen_names(stage.config, state.params)
    freezing.log_frozen(stage.index, state.params, frozen)
    train_step = trainer.train_step(stage, optimizer)
    schedule = optimizers.stage_schedule(stage.config, trainer.steps_per_epoch)
    progress = Progress(step, trainer.stages[-1].stop, trainer.config.batch_size)
    compiled: set[RowTemplate] = set()
    for stop in _stops(trainer, stage, step):
        window: list[Scalars] = []
        for batch, lengths in trainer.feed.batches(step, stop):
            template = trainer.template(lengths)
            state, scalars = train_step(state, trainer.feed.resident, batch, template=template)
            window.append(scalars)
            step += 1
            if template not in compiled:
                jax.block_until_ready(scalars)
                compiled.add(template)
                memory.give_back()
                progress.compiled(step)
            if step % trainer.config.log_every_steps == 0 or step == stop:
                means = _mean_scalars(window, step, checkpoints)
                means["learning_rate"] = float(schedule(step - 1 - stage.first))
                progress.report(step, means, logbook)
                window = []
        score = None
        if _is_validated(trainer, stage, step):
            score = _validate(trainer, state, logbook, step)
        meta = {
            "stage": stage.index,
            "epoch": (step - stage.first) / trainer.steps_per_epoch,
            "finished": step == trainer.stages[-1].stop,
        }
        checkpoints.save(step, **split_state(state), meta=meta, score=score)
        progress.pause(step)
    return state


def _stops(trainer: Trainer, stage: Stage, step: int) -> list[int]:
    """Steps of a stage at which to save: where it validates, and every N steps if asked."""
    every = trainer.config.checkpoint_every_steps
    stops = [s for s in range(step + 1, stage.stop + 1) if _is_validated(trainer, stage, s)]
    if every:
        stops += [s for s in range(step + 1, stage.stop) if s % every == 0]
    return sorted(set(stops))


def _is_validated(trainer: Trainer, stage: Stage, step: int) -> bool:
    every = stage.config["validate_epochs"] * trainer.steps_per_epoch
    return step == stage.stop or (step - stage.first) % every == 0


def _mean_scalars(
    window: list[Scalars], step: int, checkpoints: checkpoint.Checkpoints
) -> dict[str, float]:
    """Fetches the scalars of the last steps and averages them; stops at the first bad one."""
    fetched = jax.device_get(window)
    for offset, scalars in enumerate(fetched):
        if not (np.isfinite(scalars["loss"]) and np.isfinite(scalars["grad_norm"])):
            checkpoints.wait()
            good = checkpoints.last
            raise TrainingDivergedError(
                f"step {step - len(fetched) + offset + 1}: the loss is {scalars['loss']}, the "
                f"gradient norm {scalars['grad_norm']}. The last good checkpoint is "
                + (f"{checkpoints.directory / str(good)}" if good else "none, as none was due yet")
                + ". Lower the stage's learning_rate, or compute in float32 "
                "(--config.dtype=float32), and begin a new run in another --workdir"
                + (
                    f", from these weights: --config.init_from={checkpoints.directory.parent}."
                    if good
                    else "."
                )
            )
    return {name: float(np.mean([s[name] for s in fetched])) for name in fetched[0]}


def _validate(trainer: Trainer, state: TrainState, logbook: Logbook, step: int) -> float:
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    found = evaluate.evaluate_split(trainer.encoder, variables, trainer.data.val)
    scalars = {
        f"val/{direction}/{name}": value
        for direction in ("t2i", "i2t")
        for name, value in found[direction].summary().items()
    }
    logbook.write(step, scalars)
    rank1 = scalars["val/t2i/rank1"]
    logging.info(
        "step %d: validation Rank-1 %.2f%% from words to images, %.2f%% back",
        step,
        rank1,
        scalars["val/i2t/rank1"],
    )
    return rank1

"""Training: the stages and the loop around the step.

Nothing here knows which network it trains: a module and an objective are named by the config.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable
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
    compilation,
    encoders,
    evaluate,
    freezing,
    hosts,
    integrity,
    lock,
    loop,
    memory,
    optimizers,
    paths,
    preemption,
    pretrained,
    registry,
    room,
    runs,
    saving,
    sharding,
    transfer,
)
from jaxreid.data import feed, sampler
from jaxreid.logbook import Logbook, NoLogbook
from jaxreid.loop import TrainingDivergedError as TrainingDivergedError
from jaxreid.models.templates import RowTemplate, choose_template, make_templates
from jaxreid.progress import Progress
from jaxreid.stages import Stage, make_stages
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
    encoder: encoders.Encoder
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
        encoder=encoders.make_encoder(config, model, mesh),
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
            platform=mesh.devices.flat[0].platform,
        )
    )


def train(config: ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Trains a run, or goes on with one where it stopped.

    Told to stop (SIGTERM, Ctrl-C, a maintenance notice), it finishes the steps that are under way
    and a validation that is due, saves, and returns; see `saving.Halts`.

    Args:
      config: of the run.
      workdir: its folder; all that evaluation and search need ends up there.

    Returns:
      ``step`` and ``best_step``; ``finished`` is True where there was nothing left to do. Where it
      was told to stop, ``stopped`` is True and ``cause`` says by what.

    Raises:
      ValueError: the config, the data or the folder is not as it must be, or another process trains
        there.
      OSError: nothing more can be written.
      TrainingDivergedError: the loss or a gradient is not finite.
    """
    config = runs.with_batch(config, workdir)
    with contextlib.ExitStack() as stack, room.explained(workdir):
        stopper = stack.enter_context(preemption.Stopper())
        try:
            hosts.by_first(lambda: stack.enter_context(lock.held(workdir)))
            return _train(config, workdir, stopper)
        except preemption.StoppedBeforeTraining:
            return _stopped(stopper, None, None)


def _train(
    config: ConfigDict, workdir: str | os.PathLike[str], stopper: preemption.Stopper
) -> dict[str, Any]:
    _prepare(config, workdir)
    keep = config.get("max_to_keep", 1)
    with checkpoint.Checkpoints(workdir, create=True, keep=keep) as checkpoints:
        start = checkpoints.last
        if start is not None and checkpoints.meta(start)["finished"]:
            logging.info("the run in %s is finished (step %d)", workdir, start)
            return {"finished": True, "step": start, "best_step": checkpoints.best}
        if start is None:
            pretrained.check(config)
        trainer = make_trainer(config, _load_data(config, workdir))
        state, stage_index = _first_state(trainer, checkpoints, workdir)
        if _searches(trainer):
            _compile_validation(trainer, state)
            hosts.wait_for_all("the validation is compiled")
        else:
            logging.warning(
                "this network encodes no image alone, so nothing can be searched with it: the run "
                "is not validated, and its last checkpoint counts as its best"
            )
        logbook = Logbook(workdir, step=start or 0) if hosts.is_first() else NoLogbook()
        halts = saving.Halts(checkpoints, config.get("checkpoint_every_minutes", 0), stopper)
        stopper.begin()
        try:
            for stage in trainer.stages[stage_index:]:
                state = _run_stage(trainer, stage, state, checkpoints, logbook, halts)
                if halts.stopped:
                    break
        finally:
            logbook.close()
        checkpoints.wait()
        if halts.stopped:
            return _stopped(stopper, checkpoints.last, checkpoints.best)
        return {"finished": False, "step": int(state.step), "best_step": checkpoints.best}


def _prepare(config: ConfigDict, workdir: str | os.PathLike[str]) -> None:
    """Prepares the folder of the run: one host does, the others make sure that they see it."""
    hosts.by_first(functools.partial(runs.prepare_folder, config, workdir))
    if hosts.are_several():
        hosts.together(functools.partial(runs.check_shared, config, workdir))
    hosts.by_first(lambda: integrity.mend(paths.as_path(workdir) / checkpoint.FOLDER))


def _load_data(config: ConfigDict, workdir: str | os.PathLike[str]) -> runs.RunData:
    """Loads the data; on a disk that the hosts share, one of them builds what is missing."""
    hosts.by_first(functools.partial(runs.finish_data, config))
    return hosts.together(functools.partial(runs.load_run_data, config, workdir))


def _stopped(stopper: preemption.Stopper, step: int | None, best: int | None) -> dict[str, Any]:
    found = {"finished": False, "stopped": True, "cause": stopper.cause}
    return {**found, "step": step, "best_step": best}


def _first_state(
    trainer: Trainer, checkpoints: checkpoint.Checkpoints, workdir: str | os.PathLike[str]
) -> tuple[TrainState, int]:
    """Returns the state to begin or to go on with, and the stage its optimiser belongs to."""
    step = checkpoints.last
    stage = trainer.stages[0 if step is None else checkpoints.meta(step)["stage"]]
    optimizer = trainer.optimizer(stage)
    if step is None:
        state = init_state(trainer.config, trainer.model, optimizer, trainer.mesh)
        memory.give_back(programs=True)
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
    logbook: Logbook | NoLogbook,
    halts: saving.Halts,
) -> TrainState:
    step, per_epoch = int(state.step), trainer.steps_per_epoch
    if step == stage.stop:
        return state
    optimizer = trainer.optimizer(stage)
    if step == stage.first and stage.index > 0:
        state = state.replace(opt_state=fresh_opt_state(optimizer, state.params, trainer.mesh))
    frozen = freezing.frozen_names(stage.config, state.params)
    freezing.log_frozen(stage.index, state.params, frozen)
    train_step = trainer.train_step(stage, optimizer)
    programs = compilation.Programs(train_step, f"training step of stage {stage.index}")
    schedule = optimizers.stage_schedule(stage.config, per_epoch)
    progress = Progress(step, trainer.stages[-1].stop, trainer.config.batch_size)

    def report(done: int, window: list[Scalars]) -> None:
        means = loop.mean_scalars(window, done, checkpoints)
        means["learning_rate"] = float(schedule(done - 1 - stage.first))
        progress.report(done, means, logbook)
        halts.reported()

    def save(score: float | None) -> None:
        meta = {
            "stage": stage.index,
            "epoch": (step - stage.first) / per_epoch,
            "finished": step == trainer.stages[-1].stop,
        }
        logbook.flush()
        checkpoints.save(step, **split_state(state), meta=meta, score=score)
        halts.saved()

    for stop in stage.saves(step, per_epoch, trainer.config.checkpoint_every_steps):
        while step < stop:
            if halts(step):  # before minutes are spent on compiling
                return state
            planned = loop.plan(programs, trainer.templates, trainer.feed, state, step, stop)
            hosts.wait_for_all("the steps are compiled")
            progress.pause(step)
            before, every = step, trainer.config.log_every_steps
            state = loop.run_steps(
                planned, trainer.feed, state, step, every=every, report=report, halts=halts
            )
            step = int(state.step)
            if before < step < stop:
                save(None)
            if step < stop and halts.stopped:
                return state
        score = None
        if stage.is_validated(step, per_epoch) and _searches(trainer):
            score = _validate(trainer, state, logbook, step)
        save(score)
        progress.pause(step)
    return state


def _variables(state: TrainState) -> PyTree:
    return {"params": state.params, "batch_stats": state.batch_stats}


def _searches(trainer: Trainer) -> bool:
    return getattr(trainer.model, "encodes_alone", True)


def _compile_validation(trainer: Trainer, state: TrainState) -> None:
    val = trainer.data.val
    trainer.encoder.compile_ahead(_variables(state), val.split.images, val.tokens, val.lengths)


def _validate(
    trainer: Trainer, state: TrainState, logbook: Logbook | NoLogbook, step: int
) -> float:
    found = evaluate.evaluate_split(trainer.encoder, _variables(state), trainer.data.val)
    scalars = {
        f"val/{direction}/{name}": value
        for direction in ("t2i", "i2t")
        for name, value in found[direction].summary().items()
    }
    logbook.write(step, scalars)
    rank1 = float(hosts.agree(scalars["val/t2i/rank1"]))  # all must keep the same checkpoint
    logging.info(
        "step %d: validation Rank-1 %.2f%% from words to images, %.2f%% back",
        step,
        rank1,
        scalars["val/i2t/rank1"],
    )
    return rank1

"""Speed and memory of the training step, on made-up data of a preset's shapes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from jaxreid import flops, step, train
from jaxreid.bench import made_up, measure
from jaxreid.models.templates import RowTemplate

_NUM_IMAGES = 256
# An accelerator works while the host prepares the next steps: only stretches of them can be timed.
_STRETCH = 10
_STEPS_ON_CPU, _STEPS = 5, 100


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled training step.

    Attributes:
      run: (state, resident, batch) -> (state, scalars); the state is donated.
      seconds: that tracing and compiling took.
      flops: of one step, padding that the template carries included.
    """

    run: Callable[..., tuple[step.TrainState, step.Scalars]]
    seconds: float
    flops: flops.FlopCount


def bench_train(
    config: ConfigDict, *, steps: int = 0, num_ids: int = 11003, vocab_size: int = 5000
) -> measure.Measured:
    """Measures the training step of a config's last stage: feed, network, objective, optimiser.

    In the last stage all is trained that the config trains at all.

    Args:
      config: of a run; no dataset is read.
      steps: that are timed, after warming up; 0 for 5 on CPU and 100 on accelerators.
      num_ids: identities of the training split.
      vocab_size: rows of the word table.

    Returns:
      Rates, seconds a step, compile time, memory, and the share of the device's peak.

    Raises:
      ValueError: a number or a field of the config is out of range.
    """
    on_cpu = jax.default_backend() == "cpu"
    steps = steps or (_STEPS_ON_CPU if on_cpu else _STEPS)
    if steps < 1:
        raise ValueError(f"--steps is {steps}; it takes 1 or more, or 0 for what suits the device.")
    where = measure.environment()
    with measure.HostMemory() as memory:
        data = made_up.run_data(
            config, num_images=_NUM_IMAGES, num_ids=num_ids, vocab_size=vocab_size
        )
        trainer = train.make_trainer(config, data)
        stage = trainer.stages[-1]
        optimizer = trainer.optimizer(stage)
        state = step.init_state(config, trainer.model, optimizer, trainer.mesh)
        state = state.replace(step=state.step + stage.first)  # the stage's epochs count from there
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        plan = [trainer.template(trainer.feed.lengths(number)) for number in range(steps)]
        programs = _compile(trainer, stage, optimizer, state, plan)
        seconds = list(_time_steps(trainer, programs, state, plan, 1 if on_cpu else _STRETCH))
    numbers = {
        **_settings(config),
        "stage": stage.index,
        "stages": len(trainer.stages),
        "num_ids": num_ids,
        "vocab_size": vocab_size,
        "parameters": parameters,
        "steps": steps,
        **_speed(config.batch_size, measure.Timing.of(seconds)),
        **_work(programs, plan, float(np.median(seconds)), where),
        "peak_host_bytes": memory.peak,
        "peak_device_bytes": measure.device_peak_memory(),
    }
    return measure.Measured.here(_title(config), where, numbers, _rows(numbers))


def _compile(
    trainer: train.Trainer,
    stage: train.Stage,
    optimizer: optax.GradientTransformation,
    state: step.TrainState,
    plan: Sequence[RowTemplate],
) -> dict[RowTemplate, Program]:
    """Compiles the step for each template that the planned steps use."""
    jitted: Any = trainer.train_step(stage, optimizer)
    as_counted = dataclasses.replace(trainer, model=flops.counted_form(trainer.model))
    counted: Any = as_counted.train_step(stage, optimizer)
    programs = {}
    for template in dict.fromkeys(plan):
        arguments = state, trainer.feed.resident, _batch(trainer, plan.index(template))
        start = time.perf_counter()
        compiled = jitted.trace(*arguments, template=template).lower().compile()
        seconds = time.perf_counter() - start
        jaxpr = counted.trace(*arguments, template=template).jaxpr
        programs[template] = Program(compiled, seconds, flops.count_jaxpr(jaxpr))
    return programs


def _batch(trainer: train.Trainer, number: int) -> Mapping[str, jax.Array]:
    return next(trainer.feed.batches(number, number + 1))[0]


def _time_steps(
    trainer: train.Trainer,
    programs: Mapping[RowTemplate, Program],
    state: step.TrainState,
    plan: Sequence[RowTemplate],
    stretch: int,
) -> Iterator[float]:
    """Yields seconds a step of each stretch of steps."""
    for template, program in programs.items():
        batch = _batch(trainer, plan.index(template))
        state, _ = program.run(state, trainer.feed.resident, batch)
    jax.block_until_ready(state)
    start, since = 0, time.perf_counter()
    batches = trainer.feed.batches(0, len(plan))
    for done, (template, (batch, _)) in enumerate(zip(plan, batches, strict=True), start=1):
        state, _ = programs[template].run(state, trainer.feed.resident, batch)
        if done % stretch == 0 or done == len(plan):
            jax.block_until_ready(state)
            yield (time.perf_counter() - since) / (done - start)
            start, since = done, time.perf_counter()


def _settings(config: ConfigDict) -> dict[str, Any]:
    return {
        "model": config.model.to_dict(),
        "dtype": config.dtype,
        "batch_size": config.batch_size,
        "image_size": list(config.data.image_size),
        "max_tokens": config.data.max_tokens,
    }


def _speed(batch_size: int, seconds: measure.Timing) -> dict[str, Any]:
    rate = batch_size / seconds.median  # a pair is one image with its captions
    return {"seconds_per_step": seconds, "pairs_per_second": rate, "images_per_second": rate}


def _work(
    programs: Mapping[RowTemplate, Program],
    plan: Sequence[RowTemplate],
    seconds: float,
    where: Mapping[str, Any],
) -> dict[str, Any]:
    """Compile times, and FLOPs beside what the devices can do."""
    work = float(np.mean([programs[template].flops.total for template in plan]))
    kind, count = where["device"], where["num_devices"]
    jax_config: Any = jax.config
    return {
        "compilation_cache": bool(jax_config.jax_compilation_cache_dir),
        "compile": [
            {"template": template, "seconds": program.seconds, "flops": program.flops.total}
            for template, program in programs.items()
        ],
        "flops_per_step": work,
        "flops_notes": sorted({note for p in programs.values() for note in p.flops.notes}),
        "peak_flops_per_device": flops.peak_flops(kind),
        "model_flop_utilisation": flops.utilisation(work, seconds, kind, count),
    }


def _title(config: ConfigDict) -> str:
    height, width = config.data.image_size
    return (
        f"training step of {config.model.name}, {config.batch_size} pairs, {height} x {width} "
        f"pixels, {config.dtype}"
    )


def _rows(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("stage", _which_stage(numbers["stage"], numbers["stages"])),
        ("parameters", f"{numbers['parameters']:,}"),
        ("pairs/s", f"{numbers['pairs_per_second']:.4g}"),
        ("images/s", f"{numbers['images_per_second']:.4g}"),
        ("seconds a step", str(numbers["seconds_per_step"])),
    ]
    cached = ", unless read from the cache" if numbers["compilation_cache"] else ""
    for compiled in numbers["compile"]:
        template, seconds = compiled["template"], compiled["seconds"]
        rows.append((f"compile, {template.tokens:,} padded tokens", f"{seconds:.1f} s{cached}"))
    rows.append(("host memory", f"{measure.gib(numbers['peak_host_bytes'])} at most"))
    if numbers["peak_device_bytes"]:
        rows.append(("device memory", f"{measure.gib(numbers['peak_device_bytes'])} at most"))
    share = numbers["model_flop_utilisation"]
    peak = "the device's peak is not known"
    if share is not None:
        peak = f"{100 * share:.1f}% of the bfloat16 peak"
    work = measure.operations(numbers["flops_per_step"])
    return [
        *rows,
        ("model FLOPs a step", work),
        *(("", note) for note in numbers["flops_notes"]),
        ("utilisation", peak),
    ]


def _which_stage(index: int, count: int) -> str:
    """Numbered from 0, as in the config."""
    return f"{index}, the last of {count}" if count > 1 else f"{index}, the only one"

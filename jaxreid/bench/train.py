"""Speed and memory of the training step, on made-up data of a preset's shapes."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxreid import flops, step, train
from jaxreid.bench import beside, handover, made_up, measure, programs, roofline, torch_process

# An accelerator works while the host prepares the next steps: only stretches of them can be timed.
_STRETCH = 10
_STEPS_ON_CPU, _STEPS = 5, 100
# Beside another side, steps go round so many batches, which both hold.
_BATCHES = 10


def bench_train(
    config: ConfigDict,
    *,
    steps: int = 0,
    images: int = 256,
    num_ids: int = 11003,
    vocab_size: int = 5000,
    against: str = "",
) -> measure.Measured:
    """Measures the training step of a config's last stage: feed, network, objective, optimiser.

    In the last stage all is trained that the config trains at all.

    Args:
      config: of a run; no dataset is read.
      steps: that are timed, after warming up; 0 for 5 on CPU and 100 on accelerators.
      images: of the training split, with two captions each; few make a step neither cheaper nor
        dearer than many, which is to be seen here.
      num_ids: identities of the training split.
      vocab_size: rows of the word table.
      against: "torch" measures PyTorch's step, too, as written and tuned, in turn with ours on the
        same batches.

    Returns:
      Rates, seconds a step, compile time, memory, and the share of the device's peak.

    Raises:
      ValueError: a number or a field of the config is out of range, or there is nothing to compare
        with.
      ChildProcessError: the other side ended early.
    """
    beside.check(against)
    measure.check_from_one({"images": images})
    on_cpu = jax.default_backend() == "cpu"
    steps = steps or (_STEPS_ON_CPU if on_cpu else _STEPS)
    if steps < 1:
        raise ValueError(f"--steps is {steps}; it takes 1 or more, or 0 for what suits the device.")
    where = measure.environment()
    sizes = {"num_images": images, "num_ids": num_ids, "vocab_size": vocab_size}
    time_it = _time_beside if against else _time_alone
    with measure.HostMemory(beside.SAMPLE_SECONDS if against else 0.01) as memory:
        data = made_up.run_data(config, **sizes)
        ours = programs.make_running(train.make_trainer(config, data))
        seconds, compared = time_it(ours, steps, 1 if on_cpu else _STRETCH)
    numbers = {
        **_settings(config),
        "stage": ours.stage.index,
        "stages": len(ours.trainer.stages),
        **sizes,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(ours.state.params)),
        "steps": steps,
        **_speed(config.batch_size, seconds),
        **_work(ours, seconds.median, where),
        "peak_host_bytes": memory.peak,
        "peak_device_bytes": measure.device_peak_memory(),
        **compared,
    }
    return measure.Measured.here(_title(config), where, numbers, _rows(numbers))


def _time_alone(
    ours: programs.Running, steps: int, stretch: int
) -> tuple[measure.Timing, Mapping[str, Any]]:
    """Returns seconds a step, and nothing to say besides."""
    ours.compile(steps)
    ours.warm_up()
    return measure.Timing.of(list(_time_stretches(ours, stretch))), {}


def _time_stretches(ours: programs.Running, stretch: int) -> Iterator[float]:
    """Yields seconds a step of each stretch of the planned steps."""
    steps = len(ours.plan)
    start, since = 0, time.perf_counter()
    for number, (batch, _) in enumerate(ours.trainer.feed.batches(0, steps)):
        ours.advance(number, batch)
        done = number + 1
        if done % stretch == 0 or done == steps:
            jax.block_until_ready(ours.state)
            yield (time.perf_counter() - since) / (done - start)
            start, since = done, time.perf_counter()


def _time_beside(
    ours: programs.Running, steps: int, stretch: int
) -> tuple[measure.Timing, Mapping[str, Any]]:
    """Returns seconds a step, and what to say of all sides, which take stretches in turn."""
    batches = min(steps, _BATCHES)
    handed_over = handover.training(ours.trainer, ours.stage, ours.state, batches)
    with torch_process.Torch(*handed_over) as torch:
        del handed_over
        parameters = handover.count_parameters(ours.trainer.model, ours.state.params)
        handover.check_parameters(parameters, torch.info["parameters"])
        ours.compile(batches)
        theirs = {name: float(loss) for name, loss in torch.results("training").items()}
        losses = {"ours": float(ours.warm_up()["loss"]), **theirs}
        # Back to where the draws of a step are those of the batches that were handed over.
        ours.state = ours.state.replace(step=ours.state.step - len(ours.programs))

        def work(turn: int) -> list[int]:
            return [(turn * stretch + piece) % batches for piece in range(stretch)]

        def run(turn: int) -> step.TrainState:
            for number in work(turn):
                ours.advance(number, ours.batch(number))
            return ours.state

        turns = -(-steps // stretch)
        others = torch.processes("training")
        found = beside.in_turns(others, run, work, turns=turns, pieces=stretch)
    speed = functools.partial(_speed, ours.trainer.config.batch_size)
    compared = beside.numbers(found, torch.info, "training", speed)
    compared["torch"] |= {
        "runs": beside.describe(torch.info),
        "parameters": torch.info["parameters"],
    }
    return found.ours, {**compared, "first_loss": losses, "steps": turns * stretch}


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


def _work(ours: programs.Running, seconds: float, where: Mapping[str, Any]) -> dict[str, Any]:
    """Compile times, and FLOPs beside what the devices can do."""
    compiled = ours.programs
    work = float(np.mean([compiled[template].flops.total for template in ours.plan]))
    kind, count = where["device"], where["num_devices"]
    lines = [compiled[template].roofline for template in ours.plan]
    line = roofline.total(lines, 1 / len(lines))
    jax_config: Any = jax.config
    return {
        "compilation_cache": bool(jax_config.jax_compilation_cache_dir),
        "compile": [
            {"template": template, "seconds": program.seconds, "flops": program.flops.total}
            for template, program in compiled.items()
        ],
        "flops_per_step": work,
        "flops_notes": sorted({note for p in compiled.values() for note in p.flops.notes}),
        "peak_flops_per_device": flops.peak_flops(kind),
        "model_flop_utilisation": flops.utilisation(work, seconds, kind, count),
        "roofline": line and line.numbers(seconds),
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
        ("images of the training split", f"{numbers['num_images']:,}"),
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
    rows += [
        ("model FLOPs a step", work),
        *(("", note) for note in numbers["flops_notes"]),
        ("utilisation", peak),
        *(roofline.rows(numbers["roofline"]) if numbers["roofline"] else ()),
    ]
    if "torch" not in numbers:
        return rows
    torch, losses = numbers["torch"], numbers["first_loss"]
    return [
        *rows,
        ("torch", torch["runs"]),
        ("torch, parameters", f"{torch['parameters']:,}, as many as here without padding classes"),
        *beside.rows(numbers, lambda side: [("seconds a step", str(side["seconds_per_step"]))]),
        (
            "first loss",
            f"{losses['ours']:.6g}, torch's {losses[torch_process.AS_WRITTEN]:.6g} as written and "
            f"{losses[torch_process.TUNED]:.6g} tuned",
        ),
    ]


def _which_stage(index: int, count: int) -> str:
    """Numbered from 0, as in the config."""
    return f"{index}, the last of {count}" if count > 1 else f"{index}, the only one"

"""Where the time of a training step goes: a trace, and its costliest operations."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxreid import train
from jaxreid.bench import hlo, made_up, measure, programs, trace

_NUM_IMAGES = 256
_SHOWN = 10


def bench_profile(
    config: ConfigDict,
    out: str | os.PathLike[str],
    *,
    steps: int = 3,
    num_ids: int = 11003,
    vocab_size: int = 5000,
) -> measure.Measured:
    """Runs the training step of a config's last stage under the profiler.

    Args:
      config: of a run; no dataset is read.
      out: folder for the trace, which TensorBoard opens, and the compiled program's text.
      steps: that are traced.
      num_ids: identities of the training split.
      vocab_size: rows of the word table.

    Returns:
      Operations with their time, calls and place in the network; the ten costliest in the rows.

    Raises:
      ValueError: a number or a field of the config is out of range.
      OSError: the folder cannot be written.
    """
    measure.check_from_one({"steps": steps})
    where = measure.environment()
    directory = pathlib.Path(out)
    directory.mkdir(parents=True, exist_ok=True)
    sizes = {"num_ids": num_ids, "vocab_size": vocab_size}
    data = made_up.run_data(config, num_images=_NUM_IMAGES, **sizes)
    ours = programs.make_running(train.make_trainer(config, data))
    ours.compile(1)  # one batch again and again: one program
    ours.warm_up()
    seconds = _run(ours, directory, steps)
    (compiled,) = ours.programs.values()
    text = compiled.run.as_text()
    (directory / "program.txt").write_text(text)
    costs = trace.read_costs(directory, text.split(",", 1)[0].split()[1])
    numbers = {
        "dtype": config.dtype,
        "batch_size": config.batch_size,
        **sizes,
        "steps": steps,
        "seconds_per_step": seconds / steps,
        "seconds_in_operations": sum(cost.seconds for cost in costs) / steps,
        "trace": str(directory),
        "operations": _operations(costs, hlo.Program.read(text), steps),
    }
    title = f"trace of {steps} training steps of {config.model.name}, {config.batch_size} pairs"
    return measure.Measured.here(title, where, numbers, _rows(numbers))


def _run(ours: programs.Running, directory: pathlib.Path, steps: int) -> float:
    """Traces steps on the first batch; returns their seconds."""
    batch = ours.batch(0)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # every call of a Python function slows the step
    with jax.profiler.trace(directory, profiler_options=options):
        start = time.perf_counter()
        for number in range(steps):
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                jax.block_until_ready(ours.advance(0, batch))
        jax.block_until_ready(ours.state)
        return time.perf_counter() - start


def _operations(
    costs: Sequence[trace.Cost], program: hlo.Program, steps: int
) -> list[dict[str, Any]]:
    total = sum(cost.seconds for cost in costs) or 1.0
    found = []
    for cost in costs:
        instruction = program.find(cost.name)
        found.append(
            {
                "name": cost.name,
                "opcode": instruction.opcode if instruction else "",
                "op_name": instruction.op_name if instruction else "",
                "seconds_per_step": cost.seconds / steps,
                "share": cost.seconds / total,
                "calls_per_step": cost.calls / steps,
            }
        )
    return found


def _rows(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("seconds a step", f"{numbers['seconds_per_step']:.4g}, under the profiler"),
        ("in operations", f"{numbers['seconds_in_operations']:.4g} s a step, over all devices"),
    ]
    for place, found in enumerate(numbers["operations"][:_SHOWN], start=1):
        value = (
            f"{100 * found['share']:.1f}%, {1000 * found['seconds_per_step']:.3g} ms in "
            f"{found['calls_per_step']:g} calls a step: {found['name']}"
        )
        where = hlo.readable(found["op_name"])
        rows.append((f"{place}.", f"{value} ({where})" if where else value))
    if not numbers["operations"]:
        rows.append(("operations", "the trace names none"))
    rows.append(("trace", f"{numbers['trace']}, for TensorBoard"))
    return rows

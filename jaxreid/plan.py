"""What a run will take on devices that need not be here: memory, time, and what to change."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxreid import batch_rule, plan_advice, plan_targets
from jaxreid.bench import abstract, compiling, gpu, measure, roofline
from jaxreid.memory import gib
from jaxreid.plan_targets import Estimate, Target
from jaxreid.progress import duration
from jaxreid.stages import make_stages

PARTS = {
    "parameters": "parameters",
    "optimiser": "optimiser state",
    "statistics": "batch statistics",
    "activations": "activations and workspace",
    "data": "images and captions",
    "batch": "batch",
    "layout": "padding of all these",
    "code": "program code",
}
"""What the memory of a device holds, and how it is called on the screen."""

_SHOWN_FROM = 2**20  # bytes
_FLOAT32 = (
    "the config computes in float32, which takes longer than its operations at the device's "
    "bfloat16 peak; the variant bfloat16 computes in that"
)


def plan(
    config: ConfigDict,
    topology: str,
    *,
    sizes: abstract.Sizes | None = None,
    memory: float | None = None,
) -> measure.Measured:
    """Estimates memory and time of a run, by its last stage, in which most is trained.

    Args:
      config: of the run; computed as it says. With ``batch_per_device`` the batch is that of each
        device, otherwise ``batch_size`` counts all of them together.
      topology: a TPU slice such as "v5e:2x4", or GPUs such as "h100x8"; the step is compiled for
        them, or counted where the compiler for GPUs is not installed.
      sizes: of the data; CUHK-PEDES by default.
      memory: bytes of each device to plan with, in place of what its maker states.

    Returns:
      Numbers with ``fits``, and rows for the screen.

    Raises:
      ValueError: the topology is not known, or a field of the config does not go with it.
    """
    sizes = sizes or abstract.Sizes()
    target = plan_targets.find(topology, memory)
    where = measure.environment()
    config = batch_rule.resolve(config, target.count)
    estimate = target.estimate(config, sizes)
    batch, changes = None, []
    if not estimate.fits:
        batch = plan_advice.largest_batch(target, config, sizes, estimate)
        changes = plan_advice.changes(target, config, sizes, estimate)
    numbers = {
        **_settings(config, target, sizes),
        **_figures(config, sizes, estimate),
        "method": _method(target, estimate),
        "notes": list(estimate.notes),
        "advice": {
            "batch_per_device": batch and _of_batch(batch, config, target, sizes),
            "changes": [dataclasses.asdict(change) for change in changes],
        },
    }
    rows = [*_rows(numbers), *_advice_rows(numbers, plan_advice.rows(batch, changes))]
    return measure.Measured.here(_title(numbers), where, numbers, rows)


def _settings(config: ConfigDict, target: Target, sizes: abstract.Sizes) -> dict[str, Any]:
    return {
        "estimate": True,
        "topology": target.topology,
        "target": target.kind,
        "devices": target.count,
        "device_memory": target.memory,
        "model": config.model.to_dict(),
        "dtype": config.dtype,
        "image_size": list(config.data.image_size),
        "batch_size": config.batch_size,
        "batch_per_device": config.batch_size // target.count,
        "mesh_model": config.mesh.model,
        "sizes": vars(sizes),
    }


def _figures(config: ConfigDict, sizes: abstract.Sizes, estimate: Estimate) -> dict[str, Any]:
    """Memory and time of a step, and of the run."""
    seconds = estimate.line.seconds if estimate.line else None
    steps = run_steps(config, sizes)
    return {
        "fits": estimate.fits,
        "feed": estimate.feed,
        "memory": {**estimate.parts, "total": estimate.total, "usable": estimate.usable},
        "roofline": estimate.line and estimate.line.numbers(),
        "steps": steps,
        "stages": len(config.stages),
        "steps_per_hour": seconds and 3600 / seconds,
        "pairs_per_second": seconds and config.batch_size / seconds,
        "hours": seconds and steps * seconds / 3600,
        "compile_seconds": estimate.seconds,
    }


def _of_batch(
    batch: plan_advice.Batch, config: ConfigDict, target: Target, sizes: abstract.Sizes
) -> dict[str, Any]:
    found = {"pairs": batch.pairs, "next_pairs": batch.next_pairs}
    if batch.estimate is None:
        return found
    changed = plan_advice.with_batch(config, batch.pairs, target.count)
    return {**found, **_figures(changed, sizes, batch.estimate)}


def run_steps(config: ConfigDict, sizes: abstract.Sizes) -> int:
    """Steps of all stages of a run.

    Args:
      config: ``stages``, ``batch_size``, ``data.sampling``.
      sizes: of its data.
    """
    each = sizes.images if config.data.get("sampling") == "images" else sizes.captions
    return make_stages(config, -(-each // config.batch_size))[-1].stop


def _method(target: Target, estimate: Estimate) -> str:
    if isinstance(target, plan_targets.Gpus):
        return (
            "counted, not compiled (pip install 'jaxreid[gpu-compiler]' for that). An array stays "
            "in memory from when a product, convolution, loop or sum gives or takes it to its last "
            "use; all else is fused. Room for libraries to work in and program code are not "
            "counted, nor is the time between hosts"
        )
    made = f"in {estimate.seconds:.0f} s" if estimate.seconds else "which refused it"
    if target.platform == "tpu":
        return f"compiled by the TPU's own compiler, {made}; nothing was run"
    return (
        f"compiled by XLA's compiler for GPUs, {made}; nothing was run. Room for cuDNN to "
        "work in is not counted, nor is the time between kernels and between hosts"
    )


def _title(numbers: Mapping[str, Any]) -> str:
    height, width = numbers["image_size"]
    return (
        f"estimate: training step of {numbers['model']['name']} on {numbers['topology']}, "
        f"{numbers['batch_per_device']} pairs a device, {height} x {width} pixels, "
        f"{numbers['dtype']}"
    )


def _rows(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    memory = numbers["memory"]
    rows = [
        (
            "devices",
            f"{numbers['devices']} x {numbers['target']}, {numbers['mesh_model']} to a classifier",
        ),
        ("batch", f"{numbers['batch_size']:,} pairs of all devices"),
        ("data", _data(numbers["sizes"])),
        ("images", compiling.IMAGES[numbers["feed"]]),
        ("memory a device", ""),
        *(
            (f"  {title}", gib(memory[name]))
            for name, title in PARTS.items()
            if memory.get(name, 0) >= _SHOWN_FROM
        ),
        ("  total", f"{gib(memory['total'])}: {_fits(numbers)}"),
        *_time_rows(numbers),
        ("how", numbers["method"]),
        *(("", note) for note in numbers["notes"]),
    ]
    if numbers["dtype"] == "float32":
        rows.append(("", _FLOAT32))
    return rows


def _data(sizes: Mapping[str, int]) -> str:
    return (
        f"{sizes['images']:,} images, {sizes['captions']:,} captions, {sizes['num_ids']:,} "
        f"identities, {sizes['vocab_size']:,} words"
    )


def _fits(numbers: Mapping[str, Any]) -> str:
    memory, device = numbers["memory"], numbers["device_memory"]
    usable = memory["usable"]
    of_which = ""
    if usable < device:
        of_which = (
            f", the {100 * usable / device:.0f}% of {gib(device)} that JAX takes {gpu.UNLESS}"
        )
    fits = "fits" if numbers["fits"] else "does not fit"
    return f"{fits}, {100 * memory['total'] / usable:.0f}% of {gib(usable)}{of_which}"


def _time_rows(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    line = numbers["roofline"]
    if line is None:
        return [("time", "not known, as there is no program that fits")]
    bounds = ", ".join(
        f"{1000 * seconds:.3g} ms by {roofline.BOUNDS[bound]}"
        for bound, seconds in line["seconds_by_bound"].items()
    )
    hours = f"{numbers['hours']:.3g} hours ({duration(3600 * numbers['hours'])})"
    run = f"{numbers['steps']:,} steps"
    if numbers["stages"] > 1:
        run += f" in {numbers['stages']} stages, all counted as those of the last"
    return [
        ("a step", f"{1000 * line['seconds']:.4g} ms at least (roofline): {bounds}"),
        ("steps an hour", f"{numbers['steps_per_hour']:,.0f} at most, an estimate"),
        ("pairs/s", f"{numbers['pairs_per_second']:,.0f} at most, an estimate"),
        (
            "the run",
            f"{hours} at least, an estimate: {run}; validation, saving and compiling come on top",
        ),
    ]


def _advice_rows(
    numbers: Mapping[str, Any], advice: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    if numbers["fits"]:
        return []
    batch = numbers["advice"]["batch_per_device"]
    rows = [("what to change", ""), *((f"  {name}", text) for name, text in advice)]
    if batch and batch.get("hours"):
        each = duration(3600 * batch["hours"])
        text = f"{batch['steps_per_hour']:,.0f} steps an hour at most, {each} for the run at least"
        rows.insert(2, ("", text))
    return rows

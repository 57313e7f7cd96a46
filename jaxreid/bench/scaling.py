"""What more devices cost: communication and memory of the training step, by XLA's analysis.

Nothing runs: the step is compiled for 1, 2, 4, 8 devices, each with the same share of the batch,
and the compiled programs are read.
"""

from __future__ import annotations

import json
import math
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxreid import config as config_lib
from jaxreid import sharding
from jaxreid.bench import abstract, collectives, compiling, hlo, measure, roofline, traffic

# What the other process runs, and the file of its settings.
_CHILD = "import sys; from jaxreid.bench import scaling; scaling.run_in_child(sys.argv[1])"
_TASK = "task.json"


def bench_scaling(
    config: ConfigDict,
    *,
    devices: Sequence[int] = (1, 2, 4, 8),
    batch_per_device: int = 0,
    topology: str = "",
    sizes: abstract.Sizes | None = None,
) -> measure.Measured:
    """Compiles the training step of a config's last stage for several numbers of devices.

    Args:
      config: of a run; ``mesh.model`` devices share the classifiers, or all where there are fewer.
      devices: numbers of them.
      batch_per_device: pairs a step on each; 0 for the config's batch size on the most devices.
      topology: a TPU slice or GPUs, of which the first are taken (see `compiling`); empty for
        virtual CPU devices.
      sizes: of the data; CUHK-PEDES by default.

    Returns:
      For each number of devices, what one of them sends and holds.

    Raises:
      ValueError: a number or a field of the config is out of range.
      ChildProcessError: the process with the virtual devices ended early.
    """
    most = max(devices)
    measure.check_from_one({"devices": min(devices)})
    batch_per_device = batch_per_device or max(1, config.batch_size // most)
    measure.check_from_one({"batch_per_device": batch_per_device})
    sizes = sizes or abstract.Sizes()
    there = compiling.topology_devices(topology) if topology else ()
    if topology and most > len(there):
        raise ValueError(
            f"--devices has {most}, and {topology} has {len(there)}: take a larger --topology or "
            "fewer devices."
        )
    where = measure.environment()
    if not topology and (jax.default_backend() != "cpu" or jax.device_count() < most):
        found = _elsewhere(config, devices, batch_per_device, sizes)
    else:
        found = compile_all(config, devices, batch_per_device, sizes, there or jax.devices())
    numbers = {
        "model": config.model.to_dict(),
        "dtype": config.dtype,
        "batch_per_device": batch_per_device,
        "mesh_model": config.mesh.model,
        "target": topology or "virtual CPU devices",
        "devices": {str(count): one for count, one in zip(devices, found, strict=True)},
    }
    title = (
        f"training step of {config.model.name} on {', '.join(map(str, devices))} devices, "
        f"{batch_per_device} pairs on each, {config.dtype}: compiled, not run"
    )
    return measure.Measured.here(title, where, numbers, _rows(numbers))


def compile_all(
    config: ConfigDict,
    devices: Sequence[int],
    batch_per_device: int,
    sizes: abstract.Sizes,
    there: Sequence[Any],
) -> list[dict[str, Any]]:
    """Compiles the step for each number of devices, and reads what it does.

    Args:
      config: of a run.
      devices: numbers of them.
      batch_per_device: pairs a step on each.
      sizes: of the data.
      there: devices to compile for, of which the first are taken.

    Raises:
      ValueError: a field of the config does not go with them.
    """
    return [
        _compile_one(config, there[:count], batch_per_device * count, sizes) for count in devices
    ]


def _compile_one(
    config: ConfigDict, devices: Sequence[Any], batch_size: int, sizes: abstract.Sizes
) -> dict[str, Any]:
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.batch_size = batch_size
        changed.data.feed = "host"  # resident images are the same on any number of devices
    mesh = sharding.make_mesh(math.gcd(changed.mesh.model, len(devices)), devices)
    step = abstract.training_step(changed, mesh, sizes)
    if devices[0].platform == "cpu":
        compiled: Any = step.lower().compile()
    else:
        each = batch_size // len(devices)
        compiled, _ = compiling.compile_step(step, each, devices[0].device_kind)
    counted = traffic.measure(hlo.Program.read(compiled.as_text()), len(devices))
    return {
        "mesh": dict(mesh.shape),
        "batch_size": batch_size,
        "parameter_bytes": bytes_per_device(step.state.params),
        "optimizer_bytes": bytes_per_device(step.state.opt_state),
        "memory": compiling.memory_numbers(compiled),
        "collective_bytes": collectives.by_kind(counted.collectives),
        "bytes_sent": counted.sent,
        "roofline": roofline.Roofline.of(counted, devices[0].device_kind).numbers(),
        "notes": list(counted.notes),
    }


def bytes_per_device(tree: Any) -> int:
    """Bytes that each device holds of a tree of shapes with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _elsewhere(
    config: ConfigDict, devices: Sequence[int], batch_per_device: int, sizes: abstract.Sizes
) -> list[dict[str, Any]]:
    """Compiles in a process of its own: JAX takes the number of devices once."""
    with tempfile.TemporaryDirectory(prefix="jaxreid-bench-") as folder:
        config_lib.save(config, folder)
        task = {
            "devices": list(devices),
            "batch_per_device": batch_per_device,
            "sizes": vars(sizes),
        }
        pathlib.Path(folder, _TASK).write_text(json.dumps(task))
        words = [sys.executable, "-c", _CHILD, folder]
        done = subprocess.run(words, stdout=subprocess.PIPE, check=False, text=True)
        if done.returncode:
            raise ChildProcessError(
                f"the process with {max(devices)} virtual devices ended early, with status "
                f"{done.returncode}; what it said stands above."
            )
        return json.loads(done.stdout.splitlines()[-1])


def run_in_child(folder: str) -> None:
    """Does what the folder says; writes what is found as the last line."""
    task = json.loads(pathlib.Path(folder, _TASK).read_text())
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(task["devices"]))
    sizes = abstract.Sizes(**task["sizes"])
    config = config_lib.load(folder)
    found = compile_all(config, task["devices"], task["batch_per_device"], sizes, jax.devices())
    sys.stdout.write(json.dumps(found, default=vars) + "\n")


def _rows(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("target", numbers["target"])]
    for count, found in numbers["devices"].items():
        memory = found["memory"]
        held = found["parameter_bytes"] + found["optimizer_bytes"]
        shape = " x ".join(str(size) for size in found["mesh"].values())
        rows += [
            (f"{count} devices ({shape})", f"{found['batch_size']} pairs; of each device:"),
            ("  parameters, optimiser", f"{measure.gib(held)}"),
            ("  arguments", measure.gib(memory["arguments"])),
            ("  temporaries", measure.gib(memory["temporaries"])),
            ("  sent a step", f"{found['bytes_sent'] / 1e6:,.1f} MB"),
            *(
                (f"    {kind}", f"{size / 1e6:,.1f} MB of operands")
                for kind, size in found["collective_bytes"].items()
            ),
        ]
    return rows

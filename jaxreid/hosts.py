"""Several hosts that run one program: how they find each other, and what one of them does alone."""

from __future__ import annotations

import os

import jax
import numpy as np
from jax.experimental import multihost_utils

HEARTBEAT_SECONDS = 20
"""A process that was not heard of for so long counts as lost, and the others end."""

_SHUTDOWN_SECONDS = 60


def join(
    coordinator: str = "", num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the other processes of a run; to be called before JAX looks for its devices.

    Without arguments the surroundings tell: a Cloud TPU pod and a Slurm step of several tasks are
    joined, anything else is a run of one process.

    Args:
      coordinator: HOST:PORT of process 0, where the others find it.
      num_processes: of the run.
      process_id: of this one, from 0.

    Raises:
      ValueError: one of the three is missing or out of its range, or the others were not found.
    """
    given = {"--coordinator": coordinator or None, "--num_processes": num_processes}
    given["--process_id"] = process_id
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        if _is_one_of_several():
            _initialize()
        return
    if missing:
        raise ValueError(
            f"{', '.join(missing)} is missing: --coordinator HOST:PORT (of process 0), "
            "--num_processes N and --process_id 0..N-1 go together. On a TPU pod and in a Slurm "
            "step leave all three out."
        )
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise ValueError(
            f"--coordinator is {coordinator!r}; it takes HOST:PORT of process 0, for example "
            "10.0.0.2:8476."
        )
    if num_processes is None or process_id is None or not 0 <= process_id < num_processes:
        raise ValueError(
            f"--process_id is {process_id} of {num_processes}; it counts from 0, one for each of "
            "--num_processes."
        )
    _initialize(coordinator, num_processes, process_id)


def _is_one_of_several() -> bool:
    """Whether the surroundings start this program several times."""
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return True
    names = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return "," in names or "MEGASCALE_COORDINATOR_ADDRESS" in os.environ


def _initialize(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the processes of this run did not find each other ({error}). All have to be started "
            "within five minutes, with the same --coordinator and --num_processes, and must reach "
            "its port."
        ) from error


def is_first() -> bool:
    """Whether this process writes what a run writes once."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Returns when every process has come to this point, which `what` names."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def agree(value: np.ndarray | float | int) -> np.ndarray:
    """Returns the first process's value on all of them."""
    if jax.process_count() == 1:
        return np.asarray(value)
    return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(value)))

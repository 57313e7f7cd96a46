"""Several hosts that run one program: how they find each other, and what one of them does alone."""

from __future__ import annotations

import glob
import importlib.util
import itertools
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

T = TypeVar("T")

HEARTBEAT_SECONDS = 20
"""A process that was not heard of for so long counts as lost, and the others end."""

_PATIENCE: dict[str, Any] = {
    "heartbeat_timeout_seconds": HEARTBEAT_SECONDS,
    "shutdown_timeout_seconds": 60,
}
_LONGEST_WAIT = 3600  # seconds, for one host that builds a dataset or compiles longer than others
_BARRIERS = itertools.count()
_LONGEST_MESSAGE = 2000  # bytes of an error that is told to the other processes


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
        if is_one_of_several():
            logging.info("looking for the other processes of this run")
            _initialize()
        elif _may_be_one_of_several():
            _initialize_if_told()
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


def is_one_of_several() -> bool:
    """Whether the surroundings say that they start this program several times."""
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return True
    return "," in os.environ.get("TPU_WORKER_HOSTNAMES", "") and _wants_tpu()


def _may_be_one_of_several() -> bool:
    """Whether this is a machine with TPU chips: only when asked does it say how many there are."""
    chips = glob.glob("/dev/accel[0-9]*") or glob.glob("/dev/vfio/[0-9]*")
    return bool(chips and _wants_tpu() and importlib.util.find_spec("libtpu"))


def _wants_tpu() -> bool:
    return os.environ.get("JAX_PLATFORMS", "tpu").split(",")[0] == "tpu"


def _initialize_if_told() -> None:
    """Joins the hosts of a TPU slice; a machine that knows of no slice is one by itself."""
    try:
        jax.distributed.initialize(**_PATIENCE)
    except RuntimeError as error:
        raise ValueError(_not_found(error)) from error
    except (ValueError, OSError) as error:  # nothing tells JAX of a cluster, or nobody answers
        logging.info("no other hosts are known to this TPU machine (%s)", error)


def _initialize(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, **_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ValueError(_not_found(error)) from error


def _not_found(error: Exception) -> str:
    return (
        f"the processes of this run did not find each other ({error}). All have to be started "
        "within five minutes, with the same --coordinator and --num_processes, and must reach its "
        "port."
    )


def are_several() -> bool:
    """Whether the run takes more than this process."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this process writes what a run writes once."""
    return jax.process_index() == 0


def together(action: Callable[[], T]) -> T:
    """Does something on every process, and fails on all if it does on one.

    A process that ended by itself would leave the others waiting for it in their next exchange.

    Args:
      action: what to do; its ValueError and OSError are told to all.

    Returns:
      What it returned here.

    Raises:
      ValueError: it failed, here or on another process, which is named.
      OSError: it failed here with one.
    """
    if not are_several():
        return action()
    try:
        result = action()
    except (ValueError, OSError) as error:
        _tell_all(str(error) or type(error).__name__)
        raise
    messages = _tell_all("")
    for process, message in enumerate(messages):
        if message:
            raise ValueError(f"process {process} of {len(messages)} could not go on: {message}")
    return result


def by_first(action: Callable[[], object]) -> None:
    """Does something on the first process alone; the others wait, and fail if it does.

    Raises:
      ValueError, OSError: see `together`.
    """
    together(lambda: action() if is_first() else None)


def _tell_all(text: str) -> list[str]:
    """Returns the text of every process, the ends of long ones cut off."""
    wait_for_all("all have something to tell")
    own = np.zeros(_LONGEST_MESSAGE, np.uint8)
    data = text.encode()[:_LONGEST_MESSAGE]
    own[: len(data)] = np.frombuffer(data, np.uint8)
    told = np.asarray(multihost_utils.process_allgather(own)).reshape(-1, _LONGEST_MESSAGE)
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in told]


def wait_for_all(what: str) -> None:
    """Returns when every process has come to this point, which `what` names.

    The processes' own service counts them, with patience for an hour. In an exchange of arrays the
    devices would wait for each other instead, those of CPUs for half a minute.
    """
    if are_several():
        everyone = set(range(jax.process_count()))
        name = f"jaxreid: {what}, {next(_BARRIERS)}"
        multihost.sync_global_processes(name, timeout=_LONGEST_WAIT, processes=everyone)


def agree(value: float) -> float:
    """Returns the first process's value on all of them, to the last bit."""
    if not are_several():
        return value
    own = np.frombuffer(np.float64(value).tobytes(), np.uint8)
    told = np.asarray(multihost_utils.broadcast_one_to_all(own), np.uint8)
    return float(np.frombuffer(told.tobytes(), np.float64)[0])


def joined() -> bool:
    """Whether this process has joined others; asks no device, so it can be asked at any time."""
    return jax.distributed.is_initialized() and are_several()


def leave(code: int) -> int:
    """Ends this process of several at once; one that is alone gets its exit code back.

    An ordinary exit would wait for the others, which wait for this process in their next exchange;
    so they notice that it is gone, and end too.

    Args:
      code: exit code.
    """
    if joined():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code

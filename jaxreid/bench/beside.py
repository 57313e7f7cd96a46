"""Measuring beside plain PyTorch, whose networks lie in tests/reference of a checkout.

It runs in a process of its own, and the two take turns: while one computes, the other waits for a
line from a pipe. So neither's threads and memory are counted as the other's, and what else the
machine does slows both alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO, Any, cast

import jax
import numpy as np
import safetensors.numpy

import jaxreid
from jaxreid import memory
from jaxreid.bench import measure

SIDES = ("torch",)

TASK_FILE, ARRAYS_FILE, WEIGHTS_FILE = "task.json", "arrays.safetensors", "weights.safetensors"

_MODULE = "tests.reference.bench"
_LEAVE_SECONDS = 30
SAMPLE_SECONDS = 0.2  # between samples of memory: so rarely that they take no time of note


def check(against: str) -> None:
    """Refuses a comparison that cannot be made here, before anything is computed.

    Args:
      against: "torch", or "" for none.

    Raises:
      ValueError: another side, no checkout, no PyTorch, or devices that it could not have too.
    """
    if not against:
        return
    if against not in SIDES:
        raise ValueError(f"--against is {against!r}; it takes {' or '.join(SIDES)}.")
    _find_checkout()
    if importlib.util.find_spec("torch") is None:
        raise ValueError(
            "--against torch measures beside PyTorch, which is not installed here: "
            "pip install 'jaxreid[reference]'."
        )
    # JAX would take most of a GPU's memory at once, and PyTorch needs its share.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    platform, count = jax.default_backend(), jax.device_count()
    if platform not in ("cpu", "gpu"):
        raise ValueError(
            f"--against torch takes a CPU or a GPU, and here JAX runs on {platform}: set "
            "JAX_PLATFORMS=cpu to compare on the CPU."
        )
    if platform == "gpu" and count > 1:
        raise ValueError(
            f"--against torch compares one device with one, and here are {count}: set "
            "CUDA_VISIBLE_DEVICES to one of them."
        )


def _find_checkout() -> pathlib.Path:
    """Returns the folder that holds tests/reference."""
    places = pathlib.Path(jaxreid.__file__).parents[1], pathlib.Path.cwd()
    for folder in places:
        if folder.joinpath(*_MODULE.split(".")).with_suffix(".py").is_file():
            return folder
    raise ValueError(
        "--against torch needs a checkout of jaxreid: the PyTorch side lies in tests/reference, "
        "which is no part of the installed package. Run this in the folder of a checkout."
    )


@dataclasses.dataclass(frozen=True)
class Turn:
    """What the other side did.

    Attributes:
      seconds: of its work.
      waited: seconds for which it waited before.
      used: seconds of CPU that it used while it waited.
      device_bytes: most that it had in use on a GPU so far; 0 on a CPU.
    """

    seconds: float
    waited: float
    used: float
    device_bytes: int


class Torch:
    """The other side, in a process of its own for as long as a ``with`` lasts.

    It tries its variants (memory formats, packed and padded LSTM) and keeps the quickest.

    Args:
      task: what to do, as `jaxreid.bench.handover` writes it.
      arrays: what to do it on.
      weights: of the network, under torch names.

    Attributes:
      info: what it says of itself: parameters, threads, versions, device, and by piece of work the
        variant it has chosen and the trials of all.
    """

    def __init__(
        self,
        task: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        self._task = {**task, "device": {"cpu": "cpu", "gpu": "cuda"}[jax.default_backend()]}
        self._files = {ARRAYS_FILE: arrays, WEIGHTS_FILE: weights}
        self.info: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def __enter__(self) -> Torch:
        self._folder = tempfile.TemporaryDirectory(prefix="jaxreid-bench-")
        folder = pathlib.Path(self._folder.name)
        for name, arrays in self._files.items():
            contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
            safetensors.numpy.save_file(contiguous, folder / name)
        self._files.clear()  # the other process has them now
        (folder / TASK_FILE).write_text(json.dumps(self._task))
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, "serve", str(folder)],
            cwd=_find_checkout(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.info = self._reply()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def run(self, *work: int | str) -> Turn:
        """Has it do a piece of work, and waits until it is done.

        Args:
          *work: numbers of batches, or the name of a modality.

        Raises:
          ValueError: it cannot do that.
          ChildProcessError: it ended.
        """
        requests = cast(IO[str], self._process.stdin)
        with contextlib.suppress(BrokenPipeError):  # reading the reply then says that it ended
            requests.write(json.dumps(work) + "\n")
            requests.flush()
        return Turn(**self._reply())

    def result(self, name: str) -> np.ndarray:
        """Reads an array that it has left behind."""
        return np.load(pathlib.Path(self._folder.name) / f"{name}.npy")

    def _reply(self) -> dict[str, Any]:
        line = cast(IO[str], self._process.stdout).readline()
        if not line:
            raise ChildProcessError(
                f"the PyTorch side of --against torch ended with exit code {self._process.wait()} "
                "before it answered; its own message, if it left one, stands above. -9 mostly is "
                "a lack of memory: take a smaller --batch_size."
            )
        reply = json.loads(line)
        if "error" in reply:
            raise ValueError(f"--against torch: {reply['error']}")
        return reply

    def _leave(self) -> None:
        try:
            self._process.communicate(timeout=_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._folder.cleanup()


@dataclasses.dataclass(frozen=True)
class Beside:
    """Two sides that took turns.

    Attributes:
      ours: seconds of this library.
      torch: seconds of PyTorch.
      ratio: torch's seconds over ours, turn by turn.
      waiting: by side, seconds of CPU that it used for each second that it waited, all together.
      peaks: by side, most bytes resident on the host.
      torch_device_bytes: most that torch had in use on a GPU; 0 on a CPU.
    """

    ours: measure.Timing
    torch: measure.Timing
    ratio: measure.Timing
    waiting: Mapping[str, float]
    peaks: Mapping[str, int]
    torch_device_bytes: int


def in_turns(
    torch: Torch,
    ours: Callable[[int], Any],
    work: Callable[[int], Sequence[int | str]],
    *,
    turns: int,
    pieces: int = 1,
) -> Beside:
    """Times both sides turn by turn, each until its results are there.

    Args:
      torch: the other side.
      ours: does the work of a turn; may return arrays still being computed.
      work: names the same work for the other side.
      turns: that both have.
      pieces: equal pieces of work in a turn; seconds are those of one.
    """
    mine: list[float] = []
    theirs: list[Turn] = []
    used = 0.0
    memory.give_back()
    with (
        measure.HostMemory(SAMPLE_SECONDS) as here,
        measure.HostMemory(SAMPLE_SECONDS, pid=torch.pid) as there,
    ):
        for turn in range(turns):
            start = time.perf_counter()
            jax.block_until_ready(ours(turn))
            mine.append(time.perf_counter() - start)
            before = time.process_time()
            theirs.append(torch.run(*work(turn)))
            used += time.process_time() - before
    return Beside(
        measure.Timing.of([seconds / pieces for seconds in mine]),
        measure.Timing.of([other.seconds / pieces for other in theirs]),
        measure.Timing.of([b.seconds / a for a, b in zip(mine, theirs, strict=True)]),
        {
            "ours": used / sum(other.seconds for other in theirs),
            "torch": sum(other.used for other in theirs) / sum(other.waited for other in theirs),
        },
        {"ours": here.peak, "torch": there.peak},
        max(other.device_bytes for other in theirs),
    )


def numbers(found: Beside, info: Mapping[str, Any], work: str) -> dict[str, Any]:
    """What stands beside the numbers of our side, for JSON.

    Args:
      found: both sides.
      info: of `Torch`.
      work: the piece of work that both did.
    """
    return {
        "ratio": found.ratio.median,
        "ratio_spread": found.ratio,
        "cpu_while_waiting": found.waiting,
        "peak_host_bytes": found.peaks["ours"],
        "torch": {
            "variant": info["variants"][work],
            "trials": info["trials"][work],
            "peak_host_bytes": found.peaks["torch"],
            "peak_device_bytes": found.torch_device_bytes or None,
        },
    }


def rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Says for the screen what `numbers` says."""
    spread, torch = found["ratio_spread"], found["torch"]
    tried = (f"{_words(trial['variant'])} {trial['seconds']:.4g} s" for trial in torch["trials"])
    waiting = ", ".join(
        f"{side} {100 * share:.1f}%" for side, share in found["cpu_while_waiting"].items()
    )
    on_device = torch["peak_device_bytes"]
    return [
        ("ratio", f"{found['ratio']:.3g}, torch's seconds over ours"),
        ("", f"turn by turn: min {spread.min:.3g}, max {spread.max:.3g}, {spread.count} turns"),
        ("torch's variant", f"{_words(torch['variant'])}; tried {', '.join(tried)}"),
        ("torch, host memory", f"{measure.gib(torch['peak_host_bytes'])} at most"),
        *([("torch, device memory", f"{measure.gib(on_device)} at most")] if on_device else []),
        ("CPU while waiting", f"of a core: {waiting}"),
    ]


def _words(variant: Mapping[str, str]) -> str:
    return " and ".join(variant.values())


def describe(info: Mapping[str, Any]) -> str:
    """Says for the screen what the other side runs on.

    Args:
      info: of `Torch`.
    """
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    return f"{versions}, {info['device']}, {info['threads']} threads"

"""Processes of PyTorch's two sides, which compute what a bench asks them for.

"as written" is the plain code of tests/reference as one writes it first, "tuned" the quickest of
the variants that it can run in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, cast

import jax
import numpy as np
import safetensors.numpy

import jaxreid

AS_WRITTEN, TUNED = "as_written", "tuned"

TASK_FILE, ARRAYS_FILE, WEIGHTS_FILE = "task.json", "arrays.safetensors", "weights.safetensors"

_MODULE = "tests.reference.bench"
_LEAVE_SECONDS = 30


def find_checkout() -> pathlib.Path:
    """Returns the folder that holds tests/reference.

    Raises:
      ValueError: there is none.
    """
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


class Process:
    """One side of PyTorch, in a process of its own for as long as a ``with`` lasts.

    Args:
      folder: with task, arrays and weights; results are left there.
      *words: what else its command is given.

    Attributes:
      info: what it says of itself: parameters, threads, versions, device, and by piece of work the
        variants "as_written" and "tuned" and the "trials" of all.
    """

    def __init__(self, folder: pathlib.Path, *words: str) -> None:
        self._words = "serve", str(folder), *words
        self.info: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def __enter__(self) -> Process:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, *self._words],
            cwd=find_checkout(),
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


class Torch:
    """Both sides of PyTorch, for as long as a ``with`` lasts.

    The tuned side tries its variants (memory formats, packed and padded LSTM, on a GPU
    torch.compile) and keeps the quickest. Where that is the one as written, both are one.

    Args:
      task: what to do, as `jaxreid.bench.handover` writes it.
      arrays: what to do it on.
      weights: of the network, under torch names.

    Attributes:
      info: what the tuned side says of itself; see `Process`.
    """

    def __init__(
        self,
        task: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        self._task = {**task, "device": {"cpu": "cpu", "gpu": "cuda"}[jax.default_backend()]}
        self._files = {ARRAYS_FILE: arrays, WEIGHTS_FILE: weights}
        self._processes: dict[str, Process] = {}
        self.info: dict[str, Any] = {}

    def __enter__(self) -> Torch:
        with contextlib.ExitStack() as stack:
            temporary = tempfile.TemporaryDirectory(prefix="jaxreid-bench-")
            self._folder = pathlib.Path(stack.enter_context(temporary))
            for name, arrays in self._files.items():
                contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
                safetensors.numpy.save_file(contiguous, self._folder / name)
            self._files.clear()  # the other processes have them now
            (self._folder / TASK_FILE).write_text(json.dumps(self._task))
            tuned = stack.enter_context(Process(self._folder))
            self.info, self._processes = tuned.info, {TUNED: tuned}
            if works := [work for work in self.info[TUNED] if not self._are_one(work)]:
                plain = Process(self._folder, "--as_written", *works)
                self._processes = {AS_WRITTEN: stack.enter_context(plain), TUNED: tuned}
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def processes(self, work: str) -> Mapping[str, Process]:
        """Those that take turns at a piece of work: both, or "tuned" where the two are one."""
        return {TUNED: self._processes[TUNED]} if self._are_one(work) else self._processes

    def results(self, work: str) -> dict[str, np.ndarray]:
        """Reads what each side has found in its first piece of this work."""
        tuned = np.load(self._folder / f"{TUNED}-{work}.npy")
        if self._are_one(work):
            return {AS_WRITTEN: tuned, TUNED: tuned}
        return {AS_WRITTEN: np.load(self._folder / f"{AS_WRITTEN}-{work}.npy"), TUNED: tuned}

    def _are_one(self, work: str) -> bool:
        return self.info[AS_WRITTEN][work] == self.info[TUNED][work]

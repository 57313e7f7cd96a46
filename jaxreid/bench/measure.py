"""Measuring: time, memory, and what was measured on."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import psutil

import jaxreid
from jaxreid.memory import gib as gib

GIB = 2**30

Rows = Sequence[tuple[str, str]]
"""Names and values, as they stand on the screen."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds that something took, or other samples of one number.

    Attributes:
      median: of all samples.
      min: the shortest.
      max: the longest.
      count: number of samples.
    """

    median: float
    min: float
    max: float
    count: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Timing:
        """Sums up samples; at least one."""
        return cls(float(np.median(samples)), min(samples), max(samples), len(samples))

    def __str__(self) -> str:
        return f"{self.median:.4g} (min {self.min:.4g}, max {self.max:.4g}, {self.count} samples)"


def time_in_turns(
    functions: Mapping[str, Callable[[], Any]], *, repeats: int, warm_up: int = 1
) -> dict[str, Timing]:
    """Times calls one by one, each until its results are there.

    The functions take turns, so that whatever else the machine does slows all of them alike.

    Args:
      functions: by name; called without arguments, may return arrays still being computed.
      repeats: calls of each that count.
      warm_up: calls of each before, which compile and fill caches.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(-warm_up, repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing.of(samples) for name, samples in seconds.items()}


class HostMemory:
    """Resident memory of a process inside a ``with``, sampled by a thread.

    Args:
      interval: seconds between samples.
      pid: of another process; None for this one.
      anonymous: count only memory that no file stands behind, so neither memory maps nor programs;
        where the system does not tell it apart (it does on Linux), all is counted.

    Attributes:
      before: bytes at the start.
      samples: bytes, in order.
    """

    def __init__(
        self, interval: float = 0.01, *, pid: int | None = None, anonymous: bool = False
    ) -> None:
        self._interval = interval
        self._anonymous = anonymous
        self._process = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.before = 0
        self.samples: list[int] = []

    @property
    def peak(self) -> int:
        """Most bytes seen."""
        return max([self.before, *self.samples])

    def __enter__(self) -> HostMemory:
        self._sample()
        self.before = max(self.samples, default=0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._done.wait(self._interval):
            self._sample()

    def _sample(self) -> None:
        try:
            found = self._process.memory_info()
        except psutil.NoSuchProcess:  # another one may end, which is for its owner to notice
            return
        of_files = getattr(found, "shared", 0) if self._anonymous else 0
        self.samples.append(found.rss - of_files)


def device_peak_memory() -> int | None:
    """Most bytes in use on any device here since the process began; None where not reported."""
    peaks = [(d.memory_stats() or {}).get("peak_bytes_in_use") for d in jax.local_devices()]
    known = [peak for peak in peaks if peak]
    return max(known) if known else None


def environment() -> dict[str, Any]:
    """What is measured on: devices, versions, date, and how busy the machine is."""
    device = jax.devices()[0]
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax")}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": device.device_kind,
        "platform": device.platform,
        "num_devices": jax.device_count(),
        "cpu": _cpu_name(),
        "num_cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "versions": versions | {"jaxreid": jaxreid.__version__},
    }


def _cpu_name() -> str:
    """As Linux has it; elsewhere what Python knows."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def check_from_one(numbers: Mapping[str, int]) -> None:
    """Refuses numbers below 1.

    Args:
      numbers: by name of the option that gives them.

    Raises:
      ValueError: one is below 1.
    """
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"--{name} is {value}; it takes 1 or more.")


def operations(number: float) -> str:
    """Writes operations with a prefix: 8.03 GFLOP."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g} {prefix}FLOP"
    return f"{number:.0f} FLOP"


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a measurement found.

    Attributes:
      title: what was measured.
      numbers: all that was found, fit for JSON; what it was measured on is among them.
      rows: the same for the screen.
    """

    title: str
    numbers: Mapping[str, Any]
    rows: Sequence[tuple[str, str]]

    @classmethod
    def here(
        cls, title: str, where: Mapping[str, Any], numbers: Mapping[str, Any], rows: Rows
    ) -> Measured:
        """Adds what it was measured on, as `environment` gave it before."""
        versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
        busy = f"load average {where['load_average']:.2f} before"
        return cls(
            title,
            {"title": title, **numbers, **where},
            [
                *rows,
                ("device", f"{where['num_devices']} x {where['device']} ({where['platform']})"),
                ("host", f"{where['num_cpus']} x {where['cpu']}, {busy}"),
                ("versions", versions),
                ("date", where["date"]),
            ],
        )

    def table(self) -> str:
        """Writes the rows under the title, values in one column."""
        width = max(len(name) for name, _ in self.rows)
        return "\n".join([self.title, *(f"  {n.ljust(width)}  {value}" for n, value in self.rows)])

    def write_json(self, path: str | os.PathLike[str]) -> None:
        """Writes the numbers.

        Raises:
          OSError: the file cannot be written.
        """
        text = json.dumps(self.numbers, indent=2, default=dataclasses.asdict)
        pathlib.Path(path).write_text(text + "\n")

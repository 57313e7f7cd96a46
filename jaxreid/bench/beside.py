"""Measuring beside plain PyTorch, whose networks lie in tests/reference of a checkout.

PyTorch has two sides, each in a process of its own, and all take turns: while one computes, the
others wait for a line from a pipe. So nobody's threads and memory are counted as another's, and
what else the machine does slows all alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxreid import memory
from jaxreid.bench import measure
from jaxreid.bench.torch_process import AS_WRITTEN, TUNED, Process, Turn, find_checkout

SIDES = ("torch",)
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
    find_checkout()
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


@dataclasses.dataclass(frozen=True)
class Other:
    """What one side of PyTorch did in its turns.

    Attributes:
      seconds: of its work.
      ratio: its seconds over ours, turn by turn.
      waiting: seconds of CPU that it used for each second that it waited, all together.
      peak: most bytes resident on the host.
      device_bytes: most that it had in use on a GPU; 0 on a CPU.
    """

    seconds: measure.Timing
    ratio: measure.Timing
    waiting: float
    peak: int
    device_bytes: int


@dataclasses.dataclass(frozen=True)
class Beside:
    """Sides that took turns.

    Attributes:
      ours: seconds of this library.
      waiting: seconds of CPU that this library used for each second that it waited.
      peak: most bytes that it had resident on the host.
      others: sides of PyTorch by name.
    """

    ours: measure.Timing
    waiting: float
    peak: int
    others: Mapping[str, Other]


def in_turns(
    others: Mapping[str, Process],
    ours: Callable[[int], Any],
    work: Callable[[int], Sequence[int | str]],
    *,
    turns: int,
    pieces: int = 1,
) -> Beside:
    """Times all sides turn by turn, each until its results are there.

    In its turn a side does the work twice, and the second time counts: it then follows on the same
    work, as it does where nobody takes turns. (What a side has freed may have gone back to the
    system while others computed, and a virtual machine's may have gone further.)

    Args:
      others: sides of PyTorch by name, in the order of their turns.
      ours: does the work of a turn; may return arrays still being computed.
      work: names the same work for the other sides.
      turns: that all have.
      pieces: equal pieces of work in a turn; seconds are those of one.
    """
    mine: list[float] = []
    theirs: dict[str, list[Turn]] = {name: [] for name in others}
    used = waited = 0.0
    memory.give_back()
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(measure.HostMemory(SAMPLE_SECONDS))
        there = {
            name: stack.enter_context(measure.HostMemory(SAMPLE_SECONDS, pid=other.pid))
            for name, other in others.items()
        }
        for turn in range(turns):
            jax.block_until_ready(ours(turn))
            start = time.perf_counter()
            jax.block_until_ready(ours(turn))
            since, before = time.perf_counter(), time.process_time()
            mine.append(since - start)
            for name, other in others.items():
                first = other.run(*work(turn))
                timed = other.run(*work(turn))
                theirs[name].append(
                    dataclasses.replace(timed, waited=first.waited, used=first.used)
                )
            used += time.process_time() - before
            waited += time.perf_counter() - since
    return Beside(
        measure.Timing.of([seconds / pieces for seconds in mine]),
        used / waited,
        here.peak,
        {name: _sum_up(theirs[name], mine, pieces, there[name].peak) for name in others},
    )


def _sum_up(theirs: Sequence[Turn], mine: Sequence[float], pieces: int, peak: int) -> Other:
    return Other(
        measure.Timing.of([other.seconds / pieces for other in theirs]),
        measure.Timing.of([b.seconds / a for a, b in zip(mine, theirs, strict=True)]),
        sum(other.used for other in theirs) / sum(other.waited for other in theirs),
        peak,
        max(other.device_bytes for other in theirs),
    )


def numbers(
    found: Beside,
    info: Mapping[str, Any],
    work: str,
    speed: Callable[[measure.Timing], Mapping[str, Any]],
) -> dict[str, Any]:
    """What stands beside the numbers of our side, for JSON.

    Args:
      found: all sides; "as_written" may be left out where it is "tuned".
      info: of `jaxreid.bench.torch_process.Torch`.
      work: the piece of work that all did.
      speed: names seconds, and rates from them.
    """

    def of_side(name: str) -> dict[str, Any]:
        other = found.others.get(name, found.others[TUNED])
        return {
            "variant": info[name][work],
            **speed(other.seconds),
            "ratio": other.ratio.median,
            "ratio_spread": other.ratio,
            "cpu_while_waiting": other.waiting,
            "peak_host_bytes": other.peak,
            "peak_device_bytes": other.device_bytes or None,
        }

    return {
        "cpu_while_waiting": found.waiting,
        "peak_host_bytes": found.peak,
        "torch": {
            AS_WRITTEN: of_side(AS_WRITTEN),
            TUNED: {**of_side(TUNED), "trials": info["trials"][work]},
        },
    }


def rows(
    found: Mapping[str, Any], speed: Callable[[Mapping[str, Any]], Sequence[tuple[str, str]]]
) -> list[tuple[str, str]]:
    """Says for the screen what `numbers` says.

    Args:
      found: of `numbers`.
      speed: says what the speed of `numbers` has named.
    """
    said: list[tuple[str, str]] = []
    for name in (AS_WRITTEN, TUNED):
        side, title = found["torch"][name], f"torch {name.replace('_', ' ')}"
        spread, on_device = side["ratio_spread"], side["peak_device_bytes"]
        said += [
            (title, _words(side["variant"])),
            *([("", _tried(found["torch"]))] if name == TUNED else []),
            *((f"{title}, {what}", value) for what, value in speed(side)),
            (f"{title}, ratio", f"{side['ratio']:.3g}, torch's seconds over ours"),
            ("", f"turn by turn: min {spread.min:.3g}, max {spread.max:.3g}, {spread.count} turns"),
            (f"{title}, host memory", f"{measure.gib(side['peak_host_bytes'])} at most"),
        ]
        if on_device:
            said.append((f"{title}, device memory", f"{measure.gib(on_device)} at most"))
    shares = {"ours": found} | {name: found["torch"][name] for name in (AS_WRITTEN, TUNED)}
    waiting = ", ".join(
        f"{name.replace('_', ' ')} {100 * side['cpu_while_waiting']:.1f}%"
        for name, side in shares.items()
    )
    return [*said, ("CPU while waiting", f"of a core: {waiting}")]


def _tried(torch: Mapping[str, Any]) -> str:
    """Says what the tuned side tried, and where it is none of its own."""
    said = [
        f"{_words(trial['variant'])} "
        + (f"{trial['seconds']:.4g} s" if "seconds" in trial else f"failed: {trial['error']}")
        for trial in torch[TUNED]["trials"]
    ]
    same = torch[TUNED]["variant"] == torch[AS_WRITTEN]["variant"]
    return f"{'as written; ' if same else ''}tried {'; '.join(said)}"


def _words(variant: Mapping[str, str]) -> str:
    return ", ".join(variant.values())


def describe(info: Mapping[str, Any]) -> str:
    """Says for the screen what the other side runs on.

    Args:
      info: of `jaxreid.bench.torch_process.Torch`.
    """
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    return f"{versions}, {info['device']}, {info['threads']} threads"

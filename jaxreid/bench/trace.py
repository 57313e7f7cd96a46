"""Reads a trace of the profiler: how long each operation of a program took."""

from __future__ import annotations

import dataclasses
import heapq
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax

# On a TPU operations have a line of their own; elsewhere they are told by what they carry.
_TPU_LINE = "XLA Ops"
# On a CPU an operation may go on after the event of its start, until another one says so.
_END = "end: "


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one operation took, over all devices.

    Attributes:
      name: its name in the compiled program.
      seconds: that it took itself, without the operations inside of it.
      calls: how often it ran.
    """

    name: str
    seconds: float
    calls: int


@dataclasses.dataclass(frozen=True)
class Span:
    """One run of an operation: its name, start and end in nanoseconds."""

    name: str
    start: float
    end: float


def read_costs(directory: pathlib.Path, module: str) -> list[Cost]:
    """Sums up the operations of a trace.

    Args:
      directory: that `jax.profiler.trace` wrote to; the latest trace in it counts.
      module: name of the compiled program, such as "jit_train_step".

    Returns:
      The dearest first.

    Raises:
      FileNotFoundError: there is no trace.
    """
    files = sorted(directory.glob("plugins/profile/*/*.xplane.pb"))
    if not files:
        raise FileNotFoundError(f"{directory}: the profiler wrote no trace there.")
    data: Any = jax.profiler.ProfileData.from_file(str(files[-1]))
    costs: dict[str, Cost] = {}
    for spans in _tracks(data.planes, module).values():
        own = own_times(spans)
        for span in spans:
            before = costs.get(span.name, Cost(span.name, 0.0, 0))
            calls, seconds = before.calls + 1, before.seconds
            costs[span.name] = Cost(span.name, seconds, calls)
        for name, nanoseconds in own.items():
            costs[name] = dataclasses.replace(
                costs[name], seconds=costs[name].seconds + nanoseconds * 1e-9
            )
    return sorted(costs.values(), key=lambda cost: -cost.seconds)


def own_times(spans: Iterable[Span]) -> Mapping[str, float]:
    """Shares time out among the operations: each moment belongs to the one that began last.

    What runs inside a loop begins after the loop, so that a loop keeps what its body leaves.

    Args:
      spans: of one device or one of its queues.

    Returns:
      Nanoseconds by name.

    >>> own_times([Span("loop", 0, 10), Span("body", 2, 5)])
    {'loop': 7.0, 'body': 3.0}
    """
    ordered = sorted(spans, key=lambda span: (span.start, -span.end))
    own = {span.name: 0.0 for span in ordered}
    active: list[tuple[int, Span]] = []  # the one that began last on top
    now = 0.0

    def run_until(time: float) -> None:
        nonlocal now
        while active and now < time:
            span = active[0][1]
            if span.end <= now:
                heapq.heappop(active)
                continue
            until = min(span.end, time)
            own[span.name] += until - now
            now = until
        now = time

    for number, span in enumerate(ordered):
        run_until(span.start)
        heapq.heappush(active, (-number, span))
    run_until(max((span.end for span in ordered), default=0.0))
    return own


def _tracks(planes: Iterable[Any], module: str) -> dict[Any, list[Span]]:
    """Spans of what runs by itself: a queue of an accelerator, or a device on a CPU."""
    tracks: dict[Any, list[Span]] = {}
    for plane in planes:
        if "/device:TPU" in plane.name:
            for line in plane.lines:
                if line.name == _TPU_LINE:
                    tracks[plane.name] = [_tpu_span(event) for event in line.events]
        else:
            for track, span in _tagged_spans(plane, module):
                tracks.setdefault((plane.name, track), []).append(span)
    return tracks


def _tpu_span(event: Any) -> Span:
    name = event.name.split(" = ")[0].lstrip("%")  # the whole instruction stands there
    return Span(name, event.start_ns, event.start_ns + event.duration_ns)


def _tagged_spans(plane: Any, module: str) -> Iterator[tuple[Any, Span]]:
    """Yields (queue or device, span) of events that name an operation of the program."""
    ends, begun = {}, []
    for line in plane.lines:
        for event in line.events:
            if event.name.startswith(_END):
                key = event.name.removeprefix(_END), dict(event.stats).get("_c")
                ends[key] = event.start_ns
                continue
            stats = dict(event.stats)
            if "hlo_op" in stats and stats.get("hlo_module") == module:
                begun.append((line.name, event, stats))
    for line_name, event, stats in begun:
        track = stats.get("device_ordinal", 0) if plane.name == "/host:CPU" else line_name
        end = ends.get((event.name, stats.get("_p")), event.start_ns + event.duration_ns)
        yield track, Span(str(stats["hlo_op"]), event.start_ns, end)

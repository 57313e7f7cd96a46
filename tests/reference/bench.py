"""PyTorch's side of `jaxreid bench --against torch`, and a ResNet-50 by itself.

  python -m tests.reference.bench resnet50 [--batch_size 16] [--repeats 5]

`serve FOLDER` is what the bench starts: the folder holds a task, arrays and weights; each line of
the input names a piece of work, each line of the output says how long it took.
"""

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np
import safetensors.torch
import torch
from torch import nn

from tests.reference import bench_work
from tests.reference.resnet import ResNet

TRIAL_RUNS = 2
"""Of each variant; the first also fills the allocator and the optimiser's state."""


class Side:
    """One variant of each piece of work: the quickest, found by trying all, or the plain one.

    Args:
      task: what to do.
      folder: with its arrays and weights; results are left there.
      plain: pieces of work that run as written; none: all run in their quickest variant.

    Attributes:
      info: what the bench shows of this side.
    """

    def __init__(
        self, task: bench_work.Task, folder: pathlib.Path, plain: Sequence[str] = ()
    ) -> None:
        self.task, self.folder = task, folder
        set_up(task["device"])
        self._kind = bench_work.TASKS[task["task"]]
        works = plain or self._kind.works
        written = {work: bench_work.as_written(task, work) for work in works}
        trials = {work: [] if plain else self._try_all(work) for work in works}
        chosen = {work: _quickest(tried) for work, tried in trials.items() if tried} or written
        self.info = {
            **describe(task["device"]),
            **{"as_written": written, "tuned": chosen, "trials": trials},
        }
        self.best: dict[str, Any] = {}
        for work, variant in chosen.items():
            self.best[work] = self._make(variant)
            self._warm_up(work, "as_written" if plain else "tuned")
        network = next(iter(self.best.values())).network
        self.info["parameters"] = sum(parameter.numel() for parameter in network.parameters())

    def _make(self, variant: bench_work.Variant) -> Any:
        arrays, weights = (
            safetensors.torch.load_file(self.folder / f"{name}.safetensors")
            for name in ("arrays", "weights")
        )
        return self._kind(self.task, weights, arrays, variant)

    def _try_all(self, work: str) -> list[dict[str, Any]]:
        return [self._try(work, variant) for variant in bench_work.options(self.task, work)]

    def _try(self, work: str, variant: bench_work.Variant) -> dict[str, Any]:
        """Seconds of a piece of work; of a variant that does not compile, why."""
        if variant.get("mode") != "compiled":
            return {"variant": variant, "seconds": self._trial(work, variant)}
        try:
            return {"variant": variant, "seconds": self._trial(work, variant)}
        except Exception as error:  # of any compiler below
            return {"variant": variant, "error": _first_line(error)}
        finally:
            # Else later networks count as ever new forms of this one, up to a limit.
            torch.compiler.reset()

    def _trial(self, work: str, variant: bench_work.Variant) -> float:
        side = self._make(variant)
        pieces = side.pieces(work)
        return min(self._timed(side, pieces) / len(pieces) for _ in range(TRIAL_RUNS))

    def _warm_up(self, work: str, name: str) -> None:
        """Makes it as warm as the other side, and leaves the result of the first piece."""
        pieces = self.best[work].pieces(work)
        result = self.best[work].run(pieces[:1]).float().cpu().numpy()
        np.save(self.folder / f"{name}-{work}.npy", result)
        if len(pieces) > 1:
            self.best[work].run(pieces)

    def run(self, pieces: Sequence[Any]) -> float:
        """Does work, numbers of batches or a modality; returns its seconds."""
        work = pieces[0] if isinstance(pieces[0], str) else "training"
        return self._timed(self.best[work], pieces)

    def _timed(self, side: Any, pieces: Sequence[Any]) -> float:
        self._wait()
        start = time.perf_counter()
        side.run(pieces)
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.task["device"] == "cuda":
            torch.cuda.synchronize()


def _quickest(trials: Sequence[Mapping[str, Any]]) -> bench_work.Variant:
    done = (trial for trial in trials if "seconds" in trial)
    return min(done, key=lambda trial: trial["seconds"])["variant"]


def _first_line(error: Exception) -> str:
    """Of its text, but for lines that only introduce the next; its kind where there is none."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.endswith(":")), type(error).__name__)


def set_up(device: str) -> None:
    """As many threads as JAX has, and on CUDA what makes convolutions quick and exact alike."""
    torch.set_num_threads(count_cpus())
    if device == "cuda" and not torch.cuda.is_available():
        raise bench_work.RefusedError(
            "JAX runs on a GPU, and the PyTorch installed here sees none."
        )
    torch.backends.cudnn.benchmark = True
    # JAX multiplies float32 in TF32 on GPUs, too.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True


def count_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(device: str) -> dict[str, Any]:
    """Versions, device and threads."""
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {
        "versions": {"torch": torch.__version__},
        "device": name,
        "threads": torch.get_num_threads(),
    }


def serve(folder: pathlib.Path, plain: Sequence[str], requests: TextIO, replies: TextIO) -> None:
    """Does a task piece by piece until the requests end; see `Side`."""

    def reply(content: Mapping[str, Any]) -> None:
        print(json.dumps(content), file=replies, flush=True)

    try:
        side = Side(json.loads((folder / "task.json").read_text()), folder, plain)
    except bench_work.RefusedError as error:
        reply({"error": str(error)})
        return
    if side.task["device"] == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()  # those of the trials do not count
    reply(side.info)
    since, used = time.perf_counter(), time.process_time()
    for line in requests:
        waited = {"waited": time.perf_counter() - since, "used": time.process_time() - used}
        seconds = side.run(json.loads(line))
        memory = torch.cuda.max_memory_allocated() if side.task["device"] == "cuda" else 0
        since, used = time.perf_counter(), time.process_time()
        reply({"seconds": seconds, **waited, "device_bytes": memory})


def time_resnet50(batch_size: int, size: tuple[int, int], repeats: int) -> dict[str, list[float]]:
    """Seconds of training steps of a plain ResNet-50, by memory format, taking turns.

    A step is forward, cross-entropy over 1,000 classes, backward and SGD with momentum, float32.
    """
    torch.manual_seed(0)
    images, labels = torch.randn(batch_size, 3, *size), torch.randint(1000, (batch_size,))
    steps = {}
    for name, layout in bench_work.FORMATS.items():
        network = ResNet(num_classes=1000).train().to(memory_format=layout)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
        steps[name] = (network, optimizer, images.contiguous(memory_format=layout))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-1, repeats):
        for name, (network, optimizer, pixels) in steps.items():
            start = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(network(pixels)["logits"], labels).backward()
            optimizer.step()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("serve")
    sub.add_argument("folder", type=pathlib.Path)
    sub.add_argument("--as_written", nargs="+", default=(), metavar="WORK", help="not tuned")
    sub = commands.add_parser("resnet50")
    sub.add_argument("--batch_size", type=int, default=16)
    sub.add_argument("--image_size", type=int, nargs=2, default=(384, 128))
    sub.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    if arguments.command == "serve":
        # A line of output is an answer: what else is written, by compilers too, is none.
        replies = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        serve(arguments.folder, arguments.as_written, sys.stdin, replies)
        return
    torch.set_num_threads(count_cpus())
    size = tuple(arguments.image_size)
    print(f"ResNet-50, training step, {arguments.batch_size} images of {size[0]} x {size[1]}")
    for name, some in time_resnet50(arguments.batch_size, size, arguments.repeats).items():
        print(f"  {name}: {np.median(some):.3g} s (min {min(some):.3g}, max {max(some):.3g})")


if __name__ == "__main__":
    main()

"""PyTorch's side of `jaxreid bench --against torch`, and a ResNet-50 by itself.

  python -m tests.reference.bench resnet50 [--batch_size 16] [--repeats 5]

`serve FOLDER` is what the bench starts: the folder holds a task, arrays and weights; each line of
the input names a piece of work, each line of the output says how long it took.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from tests.reference import objectives
from tests.reference.axm_net import AXMNet
from tests.reference.resnet import ResNet
from tests.reference.ssan import SSAN

NETWORKS = {
    "ssan": (SSAN, objectives.ssan_objective),
    "axm_net": (AXMNet, objectives.axm_objective),
}
FORMATS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}
LSTMS = ("packed", "padded")
TRIAL_RUNS = 2
"""Of each variant; the first also fills the allocator and the optimiser's state."""

Variant = dict[str, str]
Task = Mapping[str, Any]
Arrays = Mapping[str, Tensor]


class RefusedError(Exception):
    """A task that cannot be done here; its text is for the user."""


def options(network: str, work: str) -> list[Variant]:
    """Variants in which a piece of work may differ in speed."""
    formats, lstms = [{"layout": name} for name in FORMATS], [{"lstm": name} for name in LSTMS]
    if network != "ssan" or work == "image":
        return formats
    if work == "text":
        return lstms
    return [layout | lstm for layout, lstm in itertools.product(formats, lstms)]


def make_network(task: Task, weights: Arrays, variant: Variant) -> nn.Module:
    """The network of a task with its weights, on the device."""
    if task["network"] not in NETWORKS:
        raise RefusedError(
            f"config.model.name is {task['network']!r}, and tests/reference has "
            f"{', '.join(NETWORKS)}."
        )
    fields = dict(task["fields"])
    if "lstm" in variant:
        fields["packed"] = variant["lstm"] == "packed"
    network = NETWORKS[task["network"]][0](**fields)
    network.load_state_dict(dict(weights))
    return network.to(task["device"], memory_format=memory_format(variant))


def memory_format(variant: Variant) -> torch.memory_format:
    """How maps lie in memory."""
    return FORMATS[variant.get("layout", "NCHW")]


def precision(task: Task) -> Any:
    """Context of the forward pass: float32 as it is, bfloat16 by autocast."""
    if task["dtype"] == "float32":
        return contextlib.nullcontext()
    return torch.autocast(task["device"], dtype=getattr(torch, task["dtype"]))


class Training:
    """The training step."""

    works = ("training",)

    def __init__(self, task: Task, weights: Arrays, arrays: Arrays, variant: Variant) -> None:
        self.task = task
        self.network = make_network(task, weights, variant).train()
        self.optimizer = make_optimizer(task, self.network)
        for module in self.network.modules():
            # A frozen BatchNorm uses and keeps its running statistics.
            frozen = isinstance(module, nn.modules.batchnorm._BatchNorm)
            if frozen and not module.weight.requires_grad:
                module.eval()
        self.objective = NETWORKS[task["network"]][1]
        self.settings = {k: v for k, v in task["objective"].items() if k != "name"}
        self.batches = list(read_batches(task, arrays, variant))

    def run(self, numbers: Sequence[int] = (0,)) -> Tensor:
        """Steps on these batches; the last loss."""
        for number in numbers:
            inputs, labels, extra = self.batches[number]
            self.optimizer.zero_grad(set_to_none=True)
            with precision(self.task):
                outputs = self.network(*inputs)
                loss, _ = self.objective(outputs, labels, **extra, **self.settings)
            loss.backward()
            self.optimizer.step()
        return loss.detach()


def make_optimizer(task: Task, network: nn.Module) -> torch.optim.Optimizer:
    """Adam or SGD, parameters in groups by their rate."""
    settings = task["optimizer"]
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        factor = task["rates"].get(name, 1.0)
        parameter.requires_grad_(factor is not None)
        if factor is not None:
            groups.setdefault(factor, []).append(parameter)
    rate = settings["learning_rate"]
    found = [{"params": some, "lr": factor * rate} for factor, some in groups.items()]
    if settings["optimizer"] == "adam":
        return torch.optim.Adam(found, fused=True)
    return torch.optim.SGD(
        found,
        momentum=settings["momentum"],
        weight_decay=settings["weight_decay"],
        fused=True,
    )


def read_batches(
    task: Task, arrays: Arrays, variant: Variant
) -> Iterator[tuple[list[Tensor], Tensor, dict[str, Tensor]]]:
    """What the network is called with, the labels, and what else the objective takes."""
    for number in range(task["batches"]):
        images, tokens, lengths, valid, labels = (
            arrays[f"{number}/{name}"].to(task["device"])
            for name in ("images", "tokens", "lengths", "valid", "labels")
        )
        pixels = images.permute(0, 3, 1, 2).contiguous(memory_format=memory_format(variant))
        inputs = [pixels, tokens[:, 0].long(), lengths[:, 0].long()]
        extra = {}
        if tokens.shape[1] == 2:
            inputs += [tokens[:, 1].long(), lengths[:, 1].long(), valid[:, 1]]
            extra["weak_valid"] = valid[:, 1]
        yield inputs, labels.long(), extra


class Embedding:
    """The encoders of images and captions."""

    works = ("image", "text")

    def __init__(self, task: Task, weights: Arrays, arrays: Arrays, variant: Variant) -> None:
        self.task = task
        self.network = make_network(task, weights, variant).eval()
        mean, std = (torch.tensor(task[name]) for name in ("mean", "std"))
        pixels = ((arrays["images"] / 255 - mean) / std).permute(0, 3, 1, 2)
        self.images = [
            block.contiguous(memory_format=memory_format(variant)).to(task["device"])
            for block in pixels.split(task["batch_size"])
        ]
        lengths = arrays["lengths"].long()
        self.order = lengths.argsort(descending=True, stable=True)
        self.captions = [
            (arrays["tokens"][rows, : int(lengths[rows[0]])].long(), lengths[rows])
            for rows in self.order.split(task["batch_size"])
        ]

    @torch.inference_mode()
    def run(self, work: str) -> Tensor:
        """Embeddings of all images or captions, in their order, on the host."""
        device = self.task["device"]
        with precision(self.task):
            if work == "image":
                found = [self._fetch(self.network.encode_image(block)) for block in self.images]
                return torch.cat(found)
            found = [
                self._fetch(self.network.encode_text(tokens.to(device), lengths.to(device)))
                for tokens, lengths in self.captions
            ]
        return torch.cat(found)[self.order.argsort()]

    def _fetch(self, features: Mapping[str, Any]) -> Tensor:
        return features["embedding"].float().cpu()


TASKS: dict[str, type[Training] | type[Embedding]] = {"training": Training, "embedding": Embedding}


class Side:
    """The quickest variant of each piece of work, found by trying all.

    Attributes:
      info: what the bench shows of this side.
    """

    def __init__(self, task: Task, folder: pathlib.Path) -> None:
        self.task, self.folder = task, folder
        set_up(task["device"])
        kind = TASKS[task["task"]]
        self.best: dict[str, Training | Embedding] = {}
        self.info = {**describe(task["device"]), "variants": {}, "trials": {}}
        for work in kind.works:
            trials = [self._try(kind, work, one) for one in options(task["network"], work)]
            self.info["trials"][work] = trials
            best = min(trials, key=lambda trial: trial["seconds"])["variant"]
            self.info["variants"][work] = best
            self.best[work] = self._make(kind, best)
            self.run([0] if work == "training" else [work])  # as warm as the other side
        network = self.best[kind.works[0]].network
        self.info["parameters"] = sum(parameter.numel() for parameter in network.parameters())

    def _make(self, kind: type, variant: Variant) -> Any:
        arrays, weights = (
            safetensors.torch.load_file(self.folder / f"{name}.safetensors")
            for name in ("arrays", "weights")
        )
        return kind(self.task, weights, arrays, variant)

    def _try(self, kind: type, work: str, variant: Variant) -> dict[str, Any]:
        side = self._make(kind, variant)
        argument = () if work == "training" else (work,)
        seconds = []
        for trial in range(TRIAL_RUNS):
            result, taken = self._timed(lambda: side.run(*argument))
            seconds.append(taken)
            if trial == 0:
                np.save(self.folder / f"{work}.npy", result.float().cpu().numpy())
        return {"variant": variant, "seconds": min(seconds)}

    def run(self, work: Sequence[Any]) -> float:
        """Does work, numbers of batches or a modality; returns its seconds."""
        if isinstance(work[0], str):
            return self._timed(lambda: self.best[work[0]].run(work[0]))[1]
        return self._timed(lambda: self.best["training"].run(work))[1]

    def _timed(self, function: Callable[[], Tensor]) -> tuple[Tensor, float]:
        self._wait()
        start = time.perf_counter()
        result = function()
        self._wait()
        return result, time.perf_counter() - start

    def _wait(self) -> None:
        if self.task["device"] == "cuda":
            torch.cuda.synchronize()


def set_up(device: str) -> None:
    """As many threads as JAX has, and on CUDA what makes convolutions quick and exact alike."""
    torch.set_num_threads(count_cpus())
    if device == "cuda" and not torch.cuda.is_available():
        raise RefusedError("JAX runs on a GPU, and the PyTorch installed here sees none.")
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


def serve(folder: pathlib.Path, requests: TextIO, replies: TextIO) -> None:
    """Does a task piece by piece until the requests end."""

    def reply(content: Mapping[str, Any]) -> None:
        print(json.dumps(content), file=replies, flush=True)

    try:
        side = Side(json.loads((folder / "task.json").read_text()), folder)
    except RefusedError as error:
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
    for name, layout in FORMATS.items():
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
    sub = commands.add_parser("resnet50")
    sub.add_argument("--batch_size", type=int, default=16)
    sub.add_argument("--image_size", type=int, nargs=2, default=(384, 128))
    sub.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    if arguments.command == "serve":
        replies, sys.stdout = sys.stdout, sys.stderr  # a line of output is an answer
        serve(arguments.folder, sys.stdin, replies)
        return
    torch.set_num_threads(count_cpus())
    size = tuple(arguments.image_size)
    print(f"ResNet-50, training step, {arguments.batch_size} images of {size[0]} x {size[1]}")
    for name, some in time_resnet50(arguments.batch_size, size, arguments.repeats).items():
        print(f"  {name}: {np.median(some):.3g} s (min {min(some):.3g}, max {max(some):.3g})")


if __name__ == "__main__":
    main()

"""What `jaxreid bench --against torch` times, and the variants in which it may run."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.reference import objectives
from tests.reference.axm_net import AXMNet
from tests.reference.ssan import SSAN

NETWORKS = {
    "ssan": (SSAN, objectives.ssan_objective),
    "axm_net": (AXMNet, objectives.axm_objective),
}
FORMATS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}
LSTMS = ("packed", "padded")
MODES = ("eager", "compiled")
PLAIN = {"dtype": "float32", "layout": "NCHW", "lstm": "packed", "mode": "eager"}
"""How a network runs as one writes it first."""

Variant = dict[str, str]
Task = Mapping[str, Any]
Arrays = Mapping[str, Tensor]


class RefusedError(Exception):
    """A task that cannot be done here; its text is for the user."""


def options(task: Task, work: str) -> list[Variant]:
    """Variants in which a piece of work may differ in speed, of the precision of the task."""
    choices = {"dtype": [task["dtype"]]}
    if work != "text" or task["network"] != "ssan":
        choices["layout"] = list(FORMATS)
    if work != "image" and task["network"] == "ssan":
        choices["lstm"] = list(LSTMS)
    if task["device"] == "cuda":
        choices["mode"] = list(MODES)
    return [
        dict(zip(choices, chosen, strict=True)) for chosen in itertools.product(*choices.values())
    ]


def as_written(task: Task, work: str) -> Variant:
    """The variant of a piece of work that nobody has tuned."""
    return {name: PLAIN[name] for name in options(task, work)[0]}


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


def precision(task: Task, variant: Variant) -> Any:
    """Context of the forward pass: float32 as it is, bfloat16 by autocast."""
    if variant["dtype"] == "float32":
        return contextlib.nullcontext()
    return torch.autocast(task["device"], dtype=getattr(torch, variant["dtype"]))


def compiled(function: Callable[..., Any], variant: Variant) -> Callable[..., Any]:
    """A network, or a method of one, as the variant calls it."""
    return torch.compile(function) if variant.get("mode") == "compiled" else function


class Training:
    """The training step."""

    works = ("training",)

    def __init__(self, task: Task, weights: Arrays, arrays: Arrays, variant: Variant) -> None:
        self.task, self.variant = task, variant
        self.network = make_network(task, weights, variant).train()
        self.forward = compiled(self.network, variant)
        self.optimizer = make_optimizer(task, self.network)
        for module in self.network.modules():
            # A frozen BatchNorm uses and keeps its running statistics.
            frozen = isinstance(module, nn.modules.batchnorm._BatchNorm)
            if frozen and not module.weight.requires_grad:
                module.eval()
        self.objective = NETWORKS[task["network"]][1]
        self.settings = {k: v for k, v in task["objective"].items() if k != "name"}
        self.batches = list(read_batches(task, arrays, variant))

    def pieces(self, work: str) -> list[int]:
        """What a trial runs on: all batches where a length may have to be compiled for."""
        return list(range(self.task["batches"] if self.task["device"] == "cuda" else 1))

    def run(self, numbers: Sequence[int]) -> Tensor:
        """Steps on these batches; the last loss."""
        for number in numbers:
            inputs, labels, extra = self.batches[number]
            self.optimizer.zero_grad(set_to_none=True)
            with precision(self.task, self.variant):
                outputs = self.forward(*inputs)
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
        self.task, self.variant = task, variant
        self.network = make_network(task, weights, variant).eval()
        self.encode_image = compiled(self.network.encode_image, variant)
        self.encode_text = compiled(self.network.encode_text, variant)
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

    def pieces(self, work: str) -> list[str]:
        """What a trial runs on: all images or captions."""
        return [work]

    @torch.inference_mode()
    def run(self, works: Sequence[str]) -> Tensor:
        """Embeddings of all images or captions, in their order, on the host."""
        (work,), device = works, self.task["device"]
        with precision(self.task, self.variant):
            if work == "image":
                found = [self._fetch(self.encode_image(block)) for block in self.images]
                return torch.cat(found)
            found = [
                self._fetch(self.encode_text(tokens.to(device), lengths.to(device)))
                for tokens, lengths in self.captions
            ]
        return torch.cat(found)[self.order.argsort()]

    def _fetch(self, features: Mapping[str, Any]) -> Tensor:
        return features["embedding"].float().cpu()


TASKS: dict[str, type[Training] | type[Embedding]] = {"training": Training, "embedding": Embedding}

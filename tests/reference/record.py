"""What PyTorch makes of a case: every array worth comparing, under one flat name each."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.reference import cases, objectives
from tests.reference.axm_net import AXMNet
from tests.reference.cases import (
    BACKBONE_SHARE,
    MOMENTUM,
    RATE,
    STEPS,
    WEIGHT_DECAY,
    Arrays,
    BackboneCase,
    Case,
)
from tests.reference.osnet import OSNet
from tests.reference.resnet import ResNet
from tests.reference.ssan import SSAN
from tests.reference.vgg import VGG
from tests.reference.weights import randomise, state_arrays

NETWORKS = {"ssan": SSAN, "axm_net": AXMNet}
BACKBONES = {"ssan": "ImageExtract.", "axm_net": "vision."}


def _alone(run: Callable[[Any], Arrays]) -> Callable[[Any], Arrays]:
    """On one thread, as several would spend their time waiting for each other here."""

    @functools.wraps(run)
    def run_alone(case: Any) -> Arrays:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return run(case)
        finally:
            torch.set_num_threads(threads)

    return run_alone


@_alone
def record(case: Case) -> Arrays:
    """Runs a case in float64.

    Returns:
      "state/NAME" float32, weights before; "in/NAME", the batch; "eval/...", "train/..." and
      "text/...": outputs of the network, of the training forward, of captions alone; "stats/NAME"
      running statistics after the training forward; "loss/..."; "grad/NAME"; "adam/NAME" and
      "sgd/NAME" parameters after `STEPS` steps on this gradient, in float32.
    """
    torch.manual_seed(0)
    model = NETWORKS[case.network](**case.all_fields)
    randomise(model, case.seed)
    arrays = {f"state/{name}": value for name, value in state_arrays(model).items()}
    given = cases.batch(case)
    arrays |= {f"in/{name}": value for name, value in given.items()}

    model.double()
    inputs = {name: torch.from_numpy(value) for name, value in given.items()}
    inputs["images"] = torch.from_numpy(cases.normalised(given["images"])).double()
    captions, caption_lengths = inputs.pop("captions"), inputs.pop("caption_lengths")
    labels = inputs.pop("labels")
    model.eval()
    with torch.no_grad():
        arrays |= _flat(_forget_padding(model(**inputs), inputs), "eval")
        if case.fields.get("context") != "joint":
            text = {"strong": model.encode_text(captions, caption_lengths)}
            text = _forget_padding(text, {"lengths": caption_lengths})
            arrays |= _flat(text["strong"], "text")
    model.train()
    outputs = model(**inputs)
    arrays |= _flat(_forget_padding(outputs, inputs), "train")
    arrays |= _statistics(model)
    total, parts = _objective(case, outputs, labels, inputs.get("weak_valid"))
    arrays |= _flat({"total": total, **parts}, "loss")
    total.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    arrays |= {f"grad/{name}": value.numpy() for name, value in gradients.items()}
    for rule in ("adam", "sgd"):
        arrays |= _updated(rule, case, arrays)
    return cases.forget_unreal(arrays, given["weak_valid"]) if "weak_valid" in given else arrays


@_alone
def record_backbone(case: BackboneCase) -> Arrays:
    """Runs a backbone in float64; names as in `record`: state, in/images, eval, train, stats."""
    torch.manual_seed(0)
    # OSNet's files have its own dense layer and the classifier of ImageNet, too.
    extra = {"num_classes": 7} if case.kind == "osnet" else {}
    model = {"resnet": ResNet, "vgg": VGG, "osnet": OSNet}[case.kind](**case.fields, **extra)
    randomise(model, case.seed)
    given = cases.images(case)
    arrays = {f"state/{name}": value for name, value in state_arrays(model).items()}
    arrays["in/images"] = given
    images = torch.from_numpy(cases.normalised(given)).double()
    model.double()
    with torch.no_grad():
        arrays |= _flat(model.eval()(images), "eval")
        arrays |= _flat(model.train()(images), "train")
    return arrays | _statistics(model)


def _statistics(model: nn.Module) -> Arrays:
    return {
        f"stats/{name}": value
        for name, value in state_arrays(model).items()
        if name.rsplit(".", 1)[-1] in ("running_mean", "running_var")
    }


def _objective(
    case: Case, outputs: Any, labels: torch.Tensor, weak_valid: torch.Tensor | None
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    tables = tensors(cases.draws(case))
    if case.network == "axm_net":
        return objectives.axm_objective(outputs, labels, draws=tables, **case.objective)
    return objectives.ssan_objective(
        outputs, labels, weak_valid, epoch=case.epoch, draws=tables, **case.objective
    )


def tensors(tree: Any) -> Any:
    """Tables of numbers as torch's."""
    if isinstance(tree, dict):
        return {name: tensors(value) for name, value in tree.items()}
    return tuple(torch.from_numpy(np.array(value)) for value in tree)


def _forget_padding(outputs: dict[str, Any], inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Outputs with 0 for the words of padding, of which the network says nothing."""
    result = dict(outputs)
    for side, prefix in (("strong", ""), ("weak", "weak_")):
        if side not in outputs:
            continue
        lengths = inputs[f"{prefix}lengths"]
        result[side] = dict(outputs[side])
        for name in {"words", "global_words", "scores"} & set(outputs[side]):
            value = outputs[side][name]
            real = torch.arange(value.shape[1]) < lengths[:, None]
            result[side][name] = value * real[..., None]
    return result


def _flat(tree: Mapping[str, Any], prefix: str) -> Arrays:
    arrays: Arrays = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            arrays |= _flat(value, f"{prefix}/{name}")
        else:
            arrays[f"{prefix}/{name}"] = value.detach().numpy().copy()
    return arrays


def _updated(rule: str, case: Case, arrays: Arrays) -> Arrays:
    """Parameters after some steps of an optimiser on one gradient, the backbone slower."""
    parameters = {}
    for name in [name.removeprefix("grad/") for name in arrays if name.startswith("grad/")]:
        parameters[name] = torch.nn.Parameter(torch.from_numpy(arrays[f"state/{name}"].copy()))
        parameters[name].grad = torch.from_numpy(arrays[f"grad/{name}"].astype(np.float32))
    slow = BACKBONES[case.network]
    groups = [
        {"params": [p for name, p in parameters.items() if name.startswith(slow)]},
        {"params": [p for name, p in parameters.items() if not name.startswith(slow)]},
    ]
    groups[0]["lr"] = RATE * BACKBONE_SHARE
    if rule == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(groups, lr=RATE)
    else:
        optimizer = torch.optim.SGD(groups, RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    for _ in range(STEPS):
        optimizer.step()
    return {f"{rule}/{name}": value.detach().numpy() for name, value in parameters.items()}

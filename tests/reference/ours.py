"""What jaxreid makes of a case, under the names of `record.record`; no torch here."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreid import optimizers, pretrained, torch_names
from jaxreid.models import axm_net, ssan
from jaxreid.objectives import axm_net as axm_objective
from jaxreid.objectives import ssan as ssan_objective
from tests.reference import cases
from tests.reference.cases import BACKBONE_SHARE, MOMENTUM, RATE, STEPS, WEIGHT_DECAY, Arrays, Case

NETWORKS = {"ssan": (ssan.SSAN, ssan_objective), "axm_net": (axm_net.AXMNet, axm_objective)}
BACKBONES = {"ssan": "^backbone/", "axm_net": r"^(vision|context\d+/(shared|vision))/"}

_TORCH_ONLY = {"global_words", "pooled", "pooled_parts", "part_pooled", "attended"}
SEEN = {"capture_intermediates": lambda _, method: method == "merge"}
"""Keeps the output of each block of AXM-Net."""


class Ours:
    """jaxreid's network with the weights of a record."""

    def __init__(self, case: Case, record: Arrays) -> None:
        network, objective = NETWORKS[case.network]
        self.case = case
        self.model = network(dtype=jnp.float32, **case.all_fields)
        self.objective = objective.build(case.objective)
        self.batch = _inputs(record)
        init = functools.partial(self.model.init, train=False)
        shapes = jax.eval_shape(init, jax.random.key(0), *self._arguments())
        self.names = torch_names.network(self.model, shapes)
        self.state = part_of(record, "state")
        self.variables, self.report = pretrained.fit(self.names, self.state, shapes)

    def _arguments(self) -> tuple[np.ndarray, ...]:
        given = self.batch
        slots = ("", "weak_") if self.case.weak_valid is not None else ("",)
        tokens, lengths = (
            np.stack([given[prefix + name] for prefix in slots], axis=1).astype(np.int32)
            for name in ("tokens", "lengths")
        )
        valid = np.ones(lengths.shape, bool)
        if len(slots) == 2:
            valid[:, 1] = given["weak_valid"]
        return given["images"].transpose(0, 2, 3, 1), tokens, lengths, valid

    def outputs(self) -> Arrays:
        """ "eval/...", "train/...", "text/...", "stats/..." and "loss/..."."""
        found = jax.device_get(jax.jit(self._forward)(self.variables, self._arguments()))
        arrays: Arrays = {}
        for prefix in ("eval", "train", "text"):
            arrays |= self._named(found[prefix], prefix)
        if "weak_valid" in self.batch:
            arrays = cases.forget_unreal(arrays, self.batch["weak_valid"])
        arrays |= {f"loss/{name}": value for name, value in found["loss"].items()}
        return arrays | self._renamed({**self.variables, **found["stats"]}, "stats")

    def gradients(self) -> Arrays:
        """ "loss/..." and "grad/..."."""

        def loss_of(params: Any, arguments: tuple[Any, ...]) -> tuple[jax.Array, Any]:
            loss, _ = self._train({**self.variables, "params": params}, arguments)
            return loss["total"], loss

        step = jax.jit(jax.grad(loss_of, has_aux=True))
        found, loss = jax.device_get(step(self.variables["params"], self._arguments()))
        arrays = self._renamed({**self.variables, "params": found}, "grad")
        return arrays | {f"loss/{name}": value for name, value in loss.items()}

    def _forward(self, variables: Any, arguments: tuple[jax.Array, ...]) -> dict[str, Any]:
        loss, (train, changed) = self._train(variables, arguments)
        outputs, blocks = self.model.apply(
            variables, *arguments, train=False, mutable=["intermediates"], **SEEN
        )
        text, text_blocks = {}, {}
        if self.case.fields.get("context") != "joint":
            captions = [
                jnp.asarray(self.batch[name], jnp.int32) for name in ("captions", "caption_lengths")
            ]
            text, text_blocks = self.model.apply(
                variables, *captions, method="encode_text", mutable=["intermediates"], **SEEN
            )
        return {
            "eval": _with_blocks(outputs, blocks),
            "train": _with_blocks(train, changed),
            "text": _with_blocks({"strong": text}, text_blocks)["strong"],
            "loss": loss,
            "stats": {name: changed[name] for name in changed if name == "batch_stats"},
        }

    def _train(self, variables: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
        arguments = tuple(map(jnp.asarray, arguments))
        outputs, changed = self.model.apply(
            variables, *arguments, train=True, mutable=["batch_stats", "intermediates"], **SEEN
        )
        labels = jnp.asarray(self.batch["labels"], jnp.int32)
        rng, epoch = cases.key(self.case), self.case.epoch
        loss, parts = self.objective(outputs, labels, arguments[3], rng=rng, epoch=epoch)
        return {"total": loss, **parts}, (outputs, changed)

    def _renamed(self, variables: Any, kind: str) -> Arrays:
        """Parameters ("grad") or running statistics ("stats") under their names in torch."""
        arrays = {}
        for name, value in pretrained.to_torch(self.names, variables).items():
            leaf = name.rsplit(".", 1)[-1]
            of = "stats" if leaf.startswith("running_") else "grad"
            if of == kind and leaf != "num_batches_tracked":
                arrays[f"{kind}/{name}"] = value
        return arrays

    def _named(self, tree: Mapping[str, Any], prefix: str) -> Arrays:
        arrays: Arrays = {}
        for name, value in tree.items():
            path = f"{prefix}/{name}"
            if isinstance(value, Mapping):
                arrays |= self._named(value, path)
            elif "/logits/" in path:
                classes = self.case.all_fields["num_classes"]
                assert (value[..., classes:] <= -1e8).all()
                arrays[path] = value[..., :classes]
            else:
                arrays[path] = np.moveaxis(value, 3, 1) if value.ndim == 4 else value
        return arrays

    def updated(self, rule: str, record: Arrays) -> Arrays:
        """Parameters "RULE/NAME" after some steps of an optimiser on the record's gradient."""
        stage = {
            "optimizer": rule,
            "learning_rate": RATE,
            "decay_epochs": (),
            "decay_factor": 0.1,
            "momentum": MOMENTUM,
            "weight_decay": WEIGHT_DECAY if rule == "sgd" else 0.0,
            "rates": {BACKBONES[self.case.network]: BACKBONE_SHARE},
            "frozen": (),
        }
        params = self.variables["params"]
        optimizer = optimizers.make_optimizer(stage, params, steps_per_epoch=10)
        given = self.state | part_of(record, "grad")
        gradients = pretrained.fit(self.names, given, self.variables)[0]["params"]

        @jax.jit
        def steps(params: Any, gradients: Any) -> Any:
            state = optimizer.init(params)
            for _ in range(STEPS):
                updates, state = optimizer.update(gradients, state, params)
                params = optax.apply_updates(params, updates)
            return params

        params = steps(params, gradients)
        after = self._renamed({**self.variables, "params": params}, "grad")
        return {name.replace("grad", rule, 1): value for name, value in after.items()}


def only(record: Arrays, *kinds: str) -> Arrays:
    """The arrays "KIND/..." of a record that both sides have.

    What is pooled is an output of the torch side only; here the projections of it are.
    """
    return {
        name: value
        for name, value in record.items()
        if name.split("/")[0] in kinds and name.rsplit("/", 1)[-1] not in _TORCH_ONLY
    }


def part_of(record: Arrays, kind: str) -> Arrays:
    """The arrays "KIND/NAME" of a record by name."""
    start = f"{kind}/"
    return {key.removeprefix(start): x for key, x in record.items() if key.startswith(start)}


def _inputs(record: Arrays) -> Arrays:
    given = part_of(record, "in")
    return {**given, "images": cases.normalised(given["images"])}


def _with_blocks(outputs: dict[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """AXM-Net's outputs with the map behind each block among the stages."""
    result = {side: dict(feats) for side, feats in outputs.items()}
    for side, modality in (("image", "vision"), ("strong", "text")):
        bodies = changed.get("intermediates", {}).get(modality, {})
        for name, found in bodies.items():
            index = name.removeprefix("body_")
            result[side].setdefault("stages", {})
            result[side]["stages"] = {
                **result[side]["stages"],
                f"block{index}": found["merge"][0],
            }
    return result

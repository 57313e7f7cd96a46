"""What the other side of a measurement is given: the same network, weights, batches and rules."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxreid import freezing, pretrained, sharding, step, torch_names, train
from jaxreid.data import feed
from jaxreid.typing import PyTree

Handover: TypeAlias = tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]
"""Task, arrays and weights: the arguments of `jaxreid.bench.torch_process.Torch`."""

# Fields of our modules that say how they compute, and what a module has besides fields.
_OURS_ALONE = {"parent", "name", "dtype", "remat", "platform"}


def training(
    trainer: train.Trainer, stage: train.Stage, state: step.TrainState, batches: int
) -> Handover:
    """Task, arrays and weights for the training step of a stage.

    Args:
      trainer: of our side.
      stage: that is measured.
      state: before its first step.
      batches: number of them, which are handed over as our step sees them: augmented, normalised.

    Raises:
      ValueError: no torch names are known for the network.
    """
    names = torch_names.network(trainer.model, trainer.shapes)
    config = trainer.config
    task = {
        "task": "training",
        "batches": batches,
        **_network(config, trainer.model),
        "objective": {**config.objective.to_dict(), **dict(stage.config["objective"])},
        "optimizer": {
            name: stage.config[name]
            for name in ("optimizer", "learning_rate", "momentum", "weight_decay")
        },
        "rates": _rates(names, stage.config, trainer.shapes["params"]),
    }
    arrays = dict(_batches(trainer, state.step, range(batches)))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return task, arrays, _weights(names, variables)


def embedding(
    config: ConfigDict, model: nn.Module, variables: PyTree, arrays: Mapping[str, np.ndarray]
) -> Handover:
    """Task, arrays and weights for the encoders.

    Args:
      config: ``eval.batch_size``, ``data.mean``, ``data.std``, ``dtype``.
      model: the network.
      variables: ``params`` and ``batch_stats``.
      arrays: "images" [N, H, W, 3] uint8, "tokens" [M, L], "lengths" [M].

    Raises:
      ValueError: no torch names are known for the network.
    """
    names = torch_names.network(model, variables)
    task = {
        "task": "embedding",
        **_network(config, model),
        "batch_size": config.eval.batch_size,
        "mean": list(config.data.mean),
        "std": list(config.data.std),
    }
    return task, dict(arrays), _weights(names, variables)


def count_parameters(model: nn.Module, params: PyTree) -> int:
    """Numbers in the parameters, padding classes left out.

    Args:
      model: the network.
      params: its parameters, or their shapes.
    """

    def count(path: Any, leaf: Any) -> int:
        if not sharding.is_classifier(sharding.path_name(path)):
            return leaf.size
        return leaf.size // leaf.shape[-1] * model.num_classes

    return sum(count(*item) for item in jax.tree_util.tree_leaves_with_path(params))


def check_parameters(ours: int, theirs: int) -> None:
    """Refuses to compare networks of two sizes.

    Args:
      ours: numbers in our parameters.
      theirs: likewise.

    Raises:
      ValueError: they differ.
    """
    if ours != theirs:
        raise ValueError(
            f"the network has {ours:,} parameters here and {theirs:,} in tests/reference, so "
            "their times say nothing of each other: the two are not the same network."
        )


def _network(config: ConfigDict, model: nn.Module) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(model)} - _OURS_ALONE
    return {
        "network": config.model.name,
        "fields": {name: getattr(model, name) for name in sorted(names)},
        "dtype": config.dtype,
    }


def _weights(names: torch_names.Names, variables: PyTree) -> dict[str, np.ndarray]:
    # Of copies: what NumPy looks at on a CPU can no longer be donated to a step.
    return pretrained.to_torch(names, jax.device_get(jax.tree.map(jnp.copy, variables)))


def _rates(
    names: torch_names.Names, stage: Mapping[str, Any], params: PyTree
) -> dict[str, float | None]:
    """Factor on the rate of each torch parameter that has one of its own; None: it is frozen."""
    frozen = freezing.frozen_names(stage, params)
    factors = [(re.compile(text), factor) for text, factor in stage["rates"].items()]
    rates: dict[str, float | None] = {}
    for entry in names.entries:
        collection, name = entry.ours.split("/", 1)
        found = (factor for pattern, factor in factors if pattern.search(name))
        factor = None if name in frozen else next(found, 1.0)
        if collection == "params" and factor != 1.0:
            rates |= dict.fromkeys(entry.theirs, factor)
    return rates


def _batches(
    trainer: train.Trainer, before: jax.Array, numbers: Iterable[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the arrays of batches, as our steps of these numbers compute on them."""

    @jax.jit
    def see(resident: Any, batch: Any, number: jax.Array) -> dict[str, jax.Array]:
        key = jax.random.fold_in(jax.random.key(resident["seed"]), number)
        augment_key, _, _ = jax.random.split(key, 3)
        seen = step.augmented(trainer.config, feed.gather(resident, batch), augment_key)
        return {**seen, "images": seen["images"].astype(jnp.float32)}

    for number in numbers:
        batch, _ = next(trainer.feed.batches(number, number + 1))
        seen = see(trainer.feed.resident, batch, before + number)
        for name, array in jax.device_get(seen).items():
            yield f"{number}/{name}", array

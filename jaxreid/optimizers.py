"""The optimiser of a training stage: rule, step decay, rates per group, frozen parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreid import freezing
from jaxreid.typing import PyTree

OPTIMIZERS = ("adam", "sgd")


def learning_rate(
    rate: float, *, decay_epochs: Sequence[int], decay_factor: float, steps_per_epoch: int
) -> optax.Schedule:
    """Step decay: the rate is multiplied by a factor after each of the given epochs.

    Args:
      rate: of the first epoch.
      decay_epochs: epochs after which to decay, counted from the stage's start.
      decay_factor: to multiply by each time.
      steps_per_epoch: steps of one epoch.
    """
    boundaries = sorted({round(epoch * steps_per_epoch) for epoch in decay_epochs})
    if not boundaries:
        return optax.constant_schedule(rate)
    rates = np.cumprod([rate, *[decay_factor] * len(boundaries)], dtype=np.float32)
    ends = np.iinfo(np.int32)
    starts, stops = np.array([ends.min, *boundaries]), np.array([*boundaries, ends.max])

    def schedule(count: jax.typing.ArrayLike) -> jax.Array:
        # Written as a sum because XLA takes a sum once; comparisons alone it would repeat in the
        # update of every parameter, a tenth of all operations of an AXM-Net.
        return jnp.sum(jnp.where((starts <= count) & (count < stops), rates, 0.0))

    return schedule


def stage_schedule(stage: Mapping[str, Any], steps_per_epoch: int) -> optax.Schedule:
    """Returns the learning rate of a stage by its own step count."""
    return learning_rate(
        stage["learning_rate"],
        decay_epochs=stage["decay_epochs"],
        decay_factor=stage["decay_factor"],
        steps_per_epoch=steps_per_epoch,
    )


def make_optimizer(
    stage: Mapping[str, Any], params: PyTree, *, steps_per_epoch: int
) -> optax.GradientTransformation:
    """Builds the optimiser of one stage.

    Args:
      stage: ``optimizer`` (adam or sgd), ``learning_rate``, ``decay_epochs``, ``decay_factor``,
        ``momentum`` and ``weight_decay`` (added to the gradient; sgd only), ``rates`` (regular
        expression on a parameter's path -> factor on the rate; the first that matches counts),
        ``frozen`` (regular expressions of parameters that keep their value).
      params: the parameters, or their shapes.
      steps_per_epoch: steps of one epoch.

    Returns:
      A transformation whose step count starts at this stage's first step.

    Raises:
      ValueError: an unknown optimiser, a weight decay that it would not apply, or a pattern that
        is no regular expression or matches no parameter.
    """
    schedule = stage_schedule(stage, steps_per_epoch)
    if stage["optimizer"] not in OPTIMIZERS:
        raise ValueError(
            f"stage.optimizer is {stage['optimizer']!r}; it takes one of {', '.join(OPTIMIZERS)}."
        )
    if stage["optimizer"] == "adam" and stage["weight_decay"]:
        raise ValueError(
            f"stage.weight_decay is {stage['weight_decay']!r}, which adam does not apply; set it "
            "to 0, or stage.optimizer to sgd."
        )
    rates = {pattern: float(factor) for pattern, factor in stage["rates"].items()}
    labels = _labels(rates, freezing.frozen_names(stage, params), params)
    rules = {f"x{factor}": _rule(stage, schedule, factor) for factor in {1.0, *rates.values()}}
    return optax.partition({**rules, "frozen": optax.set_to_zero()}, labels)


def _rule(
    stage: Mapping[str, Any], schedule: optax.Schedule, factor: float
) -> optax.GradientTransformation:
    def rate(count: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
        return factor * schedule(count)

    if stage["optimizer"] == "adam":
        return optax.adam(rate)
    return optax.chain(
        optax.add_decayed_weights(stage["weight_decay"]),
        optax.sgd(rate, momentum=stage["momentum"]),
    )


def _labels(rates: Mapping[str, float], frozen: frozenset[str], params: PyTree) -> PyTree:
    compiled = [(freezing.pattern(text), f"x{factor}") for text, factor in rates.items()]
    names = freezing.parameter_names(params)
    freezing.check_all_match([p for p, _ in compiled], names)
    found = [
        "frozen"
        if name in frozen
        else next((group for pattern, group in compiled if pattern.search(name)), "x1.0")
        for name in names
    ]
    return jax.tree.unflatten(jax.tree.structure(params), found)

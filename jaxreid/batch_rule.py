"""The batch by device: its size on the devices at hand, and the rates that go with it."""

from __future__ import annotations

import math

from absl import logging
from ml_collections import ConfigDict

RULES = ("sqrt", "linear", "none")


def devices_of(saved: ConfigDict, config: ConfigDict) -> int | None:
    """Says for how many devices the batch of a saved run was resolved.

    Args:
      saved: what the run's folder holds, whatever that is.
      config: of the command that goes on with it, not resolved.

    Returns:
      All devices together; None where ``saved`` was not resolved from this ``batch_per_device``.
    """
    each, size = saved.get("batch_per_device"), saved.get("batch_size")
    if each is None or each != config.get("batch_per_device"):
        return None
    # Else nobody has resolved it: a batch that is given counts for nothing beside one by device.
    resolved = isinstance(each, int) and isinstance(size, int) and 1 <= each <= size
    return size // each if resolved and size % each == 0 else None


def resolve(config: ConfigDict, devices: int) -> ConfigDict:
    """Makes a batch by device the batch of all devices, and scales the learning rates.

    The rates of a config are those of its ``batch_size``. A batch k times as large takes, by
    ``batch_rule``, rates sqrt(k) times as large ("sqrt", for Adam), k times ("linear", for SGD) or
    the same ("none").

    Args:
      config: of a run; unchanged where ``batch_per_device`` is unset.
      devices: of all hosts together.

    Returns:
      The config with the resulting ``batch_size`` and rates.

    Raises:
      ValueError: a field is not as it must be.
    """
    each, rule = config.get("batch_per_device"), config.get("batch_rule", RULES[0])
    if rule not in RULES:
        raise ValueError(f"config.batch_rule is {rule!r}; it takes one of {', '.join(RULES)}.")
    if each is None:
        return config
    if each < 1:
        raise ValueError(
            f"config.batch_per_device is {each}; it takes a whole number from 1, or None for a "
            "batch of config.batch_size on however many devices."
        )
    times = each * devices / config.batch_size
    factor = {"sqrt": math.sqrt(times), "linear": times, "none": 1.0}[rule]
    resolved = config.copy_and_resolve_references()
    resolved.batch_size = each * devices
    # A copy of a config shares what is in its tuples.
    resolved.stages = tuple(stage.copy_and_resolve_references() for stage in config.stages)
    for stage in resolved.stages:
        stage.learning_rate *= factor
    logging.info(
        "batch: %d for each of %d devices is %d, %.3g times config.batch_size=%d; learning rates "
        "times %.3g (config.batch_rule=%s)",
        each,
        devices,
        resolved.batch_size,
        times,
        config.batch_size,
        factor,
        rule,
    )
    return resolved

"""Networks and objectives by the name a config gives them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

DTYPES = ("float32", "bfloat16")

Objective = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
"""(outputs, labels [B], valid [B, T], *, rng, epoch) -> (loss, its parts by name)."""


def build_model(config: ConfigDict, *, vocab_size: int, num_classes: int) -> nn.Module:
    """Builds the network ``config.model.name`` from the other fields of ``config.model``.

    Args:
      config: of a run.
      vocab_size: rows of the word table, padding included.
      num_classes: training identities.

    Raises:
      ValueError: no such network or compute type, or a field it does not know.
    """
    if config.dtype not in DTYPES:
        raise ValueError(f"config.dtype is {config.dtype!r}; it takes {' or '.join(DTYPES)}.")
    fields = _without_name(config.model)
    module = _module("models", config.model.name, "config.model.name")
    return module.build(
        fields, vocab_size=vocab_size, num_classes=num_classes, dtype=jnp.dtype(config.dtype)
    )


def build_objective(config: ConfigDict, stage: Mapping[str, Any] | None = None) -> Objective:
    """Builds the objective ``config.objective.name`` from the other fields of it.

    Args:
      config: of a run.
      stage: one of ``config.stages``; its ``objective`` holds fields that differ there.

    Raises:
      ValueError: no such objective, or a field it does not know.
    """
    module = _module("objectives", config.objective.name, "config.objective.name")
    changed = dict((stage or {}).get("objective", {}))
    return module.build({**_without_name(config.objective), **changed})


def _module(kind: str, name: str, field: str) -> Any:
    """Imports ``jaxreid.<kind>.<name>``, or a module of somebody else's by its full path."""
    path = name if "." in name else f"jaxreid.{kind}.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        # Another module that this one imports: its absence is no misspelt config.
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        module = None
    if not hasattr(module, "build"):
        raise ValueError(
            f"{field} is {name!r}, and there is no module {path} that has build(). Take the name "
            f"of a file in jaxreid/{kind}/, or the dotted path of a module of your own."
        )
    return module


def _without_name(fields: ConfigDict) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != "name"}

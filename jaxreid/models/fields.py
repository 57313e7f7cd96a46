"""From fields of a config to a network, and what to say of fields that make none."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import flax.linen as nn
import jax.numpy as jnp

from jaxreid.typing import DType

Model = TypeVar("Model", bound=nn.Module)

# Every network has these; they come from the data and the run, not from `config.model`.
_GIVEN = {"vocab_size", "num_classes", "dtype", "parent", "name"}


def from_fields(
    model: type[Model],
    fields: Mapping[str, Any],
    *,
    vocab_size: int,
    num_classes: int,
    dtype: DType,
) -> Model:
    """Makes a network from a mapping of its fields.

    Args:
      model: class of the network.
      fields: values by name; lists become tuples. What is left out keeps its default.
      vocab_size: rows of the word table, the padding row included.
      num_classes: training identities, 0 for a network without classifiers.
      dtype: compute type.

    Raises:
      ValueError: on an unknown field.
    """
    accepted = {field.name for field in dataclasses.fields(model)} - _GIVEN
    unknown = sorted(set(fields) - accepted)
    if unknown:
        raise ValueError(
            f"Unknown field(s) {', '.join(unknown)} of the {model.__name__} model: accepted are "
            f"{', '.join(sorted(accepted))}. Correct or remove them in the config."
        )
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    return model(vocab_size=vocab_size, num_classes=num_classes, dtype=jnp.dtype(dtype), **values)


def check_choices(model: nn.Module, choices: Mapping[str, Collection[str]]) -> None:
    """Refuses a field that is none of its choices.

    Args:
      model: the network.
      choices: what each field may be.

    Raises:
      ValueError: on the first that is not.
    """
    for field, accepted in choices.items():
        value = getattr(model, field)
        if value not in accepted:
            raise ValueError(f"{field}={value!r}: choose one of {', '.join(accepted)}.")


def check_positive(model: nn.Module, names: Collection[str]) -> None:
    """Refuses a number below 1.

    Args:
      model: the network.
      names: of its fields.

    Raises:
      ValueError: on the first below 1.
    """
    for field in names:
        if getattr(model, field) < 1:
            raise ValueError(f"{field}={getattr(model, field)}: give a number of at least 1.")

"""From the fields of ``config.objective`` to the objective, and what to say of wrong ones."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

Rule = tuple[Callable[[Any], bool], str]
"""Whether a value is accepted, and what is, in words."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


NUMBER: Rule = (_is_number, "a number that is not negative")
SWITCH: Rule = (lambda value: isinstance(value, bool), "True or False")


def one_of(choices: Collection[str]) -> Rule:
    """Rule that takes any of some words."""
    return (lambda value: value in choices, " or ".join(map(repr, choices)))


def optional(rule: Rule) -> Rule:
    """Rule that takes None too."""
    is_right, accepted = rule
    return (lambda value: value is None or is_right(value), accepted)


def bind(
    objective: Callable[..., Any], config: Mapping[str, Any] | ConfigDict, rules: Mapping[str, Rule]
) -> Callable[..., Any]:
    """Fixes the keyword arguments of an objective that a configuration names.

    Args:
      objective: function whose keyword arguments with a default are fields.
      config: values by name; what is left out keeps its default.
      rules: of the fields that are no plain numbers.

    Raises:
      ValueError: an unknown field, or a value that is not accepted.
    """
    keywords = inspect.signature(objective).parameters.values()
    known = [one.name for one in keywords if one.default is not inspect.Parameter.empty]
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise ValueError(
            f"config.objective has no field {', '.join(map(repr, unknown))}; it takes "
            f"{', '.join(known)}. Correct the name in the configuration."
        )
    fields = {}
    for name, value in config.items():
        is_right, accepted = rules.get(name, NUMBER)
        if not is_right(value):
            raise ValueError(
                f"config.objective.{name} is {value!r}; it takes {accepted}. Correct it in the "
                "configuration."
            )
        fields[name] = float(value) if name not in rules else value
    return functools.partial(objective, **fields)

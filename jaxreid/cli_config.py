"""Configurations of the command line: ``--config FILE:PRESET`` and ``--config.FIELD=VALUE``."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path

from jaxreid import config as config_lib

Overrides: TypeAlias = Mapping[str, Sequence[str]]
"""Words of the command line by the field that they change."""

HELP = "configs/FILE.py:PRESET[,VARIANT ...]; change fields by --config.FIELD=VALUE"
"""Of the option ``--config``."""

_OVERRIDE = "--config."
_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a tuple",
    ConfigDict: "a value for each of its fields by itself",
}


def split(words: Sequence[str]) -> dict[str, list[str]] | None:
    """Sorts words of a command line by the field that they change.

    Args:
      words: ``--config.FIELD=VALUE`` or ``--config.FIELD VALUE``.

    Returns:
      The words of each field, each as ``--config.FIELD=VALUE``; None if one is another option.
    """
    options: list[str] = []
    for word in words:
        if options and "=" not in options[-1] and not word.startswith("--"):
            options[-1] += f"={word}"
        else:
            options.append(word)
    found: dict[str, list[str]] = {}
    for option in options:
        if not option.startswith(_OVERRIDE):
            return None
        found.setdefault(option.removeprefix(_OVERRIDE).split("=")[0], []).append(option)
    return found


def load(value: str, overrides: Overrides) -> ConfigDict:
    """Reads a configuration and applies what the command line changes of it.

    Args:
      value: ``FILE:PRESET``.
      overrides: see `split`.

    Raises:
      ValueError: there is no such file or preset, or a field or value is not accepted.
    """
    path, *preset = value.split(":", 1)
    if not pathlib.Path(path).is_file():
        raise ValueError(
            f"--config {value!r}: there is no file {path!r}. Give a path to a file that defines "
            "get_config(), such as configs/ssan.py:quickstart."
        )
    spec = importlib.util.spec_from_file_location("jaxreid_run_config", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--config {value!r}: {path!r} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ValueError(f"--config {value!r}: {path!r} does not define get_config().")
    config = module.get_config(*preset)
    config.lock()
    try:
        _override(config, overrides)
        config_lib.check(config)
    except ValueError as error:
        raise ValueError(
            f"{error} Each field has a comment in {path} or in jaxreid/config_fields.py."
        ) from error
    return config


def _override(config: ConfigDict, overrides: Overrides) -> None:
    """Applies ``--config.field=value``, by field; what a value may be, its type in config says."""
    for name, words in overrides.items():
        config_lib.check_field(config, name)
        values = flags.FlagValues()
        argv = ["jaxreid", *words]
        try:
            config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
            values(argv)
        except (flags.Error, ValueError, TypeError, IndexError) as error:
            _, equals, given = words[-1].partition("=")
            default = config_path.get_value(name, config)
            kind = config_path.get_type(name, config)
            raise ValueError(
                f"config.{name} is {repr(given) if equals else 'given no value'}; it takes "
                + _KINDS.get(kind, f"a {kind.__name__}")
                + ("." if kind is ConfigDict or default is None else f", for example {default!r}.")
            ) from error


def free_values(workdir: str, overrides: Overrides) -> dict[str, Any]:
    """Reads fields of a trained run's config that a command overrides.

    Args:
      workdir: of the run.
      overrides: see `split`.

    Returns:
      Values by field.

    Raises:
      ValueError: no run, or a field that a trained run keeps.
    """
    config = config_lib.load(workdir)
    config_lib.check_free(overrides)
    _override(config, overrides)
    return {name: config_path.get_value(name, config) for name in overrides}

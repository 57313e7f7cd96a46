"""Configurations: presets and variants by name, a smoke-run switch, and JSON that reads back."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

FILE_NAME = "config.json"

# Fields that may differ when a run goes on: where things lie and what is shown, nothing that
# changes a number.
FREE_FIELDS = (
    "data.data_dir",
    "data.manual_dir",
    "data.cache_dir",
    "data.feed",
    "log_every_steps",
    "checkpoint_every_steps",
)

Change = Callable[[ConfigDict], None]


def from_presets(
    argument: str,
    base: Callable[[], ConfigDict],
    *,
    datasets: Mapping[str, Change],
    variants: Mapping[str, Change],
    small: Change,
) -> ConfigDict:
    """Makes a configuration from what stands behind the colon of ``--config file.py:argument``.

    Args:
      argument: ``DATASET[,VARIANT ...]``, for example ``cuhk_pedes,released,runlocal``.
      base: gives the configuration that presets change.
      datasets: preset name -> change.
      variants: name -> change, applied in the order given; ``runlocal``, a smoke run, is always
        offered and applied last.
      small: shrinks the network and, where it can, the data; part of ``runlocal``.

    Raises:
      ValueError: an unknown name.
    """
    dataset, *chosen = [part.strip() for part in argument.split(",")]
    offered = {**variants, "runlocal": lambda config: _runlocal(config, small)}
    if dataset not in datasets:
        raise ValueError(
            f"--config asks for preset {dataset!r}; the first word after the colon is one of: "
            f"{', '.join(datasets)}."
        )
    unknown = [name for name in chosen if name not in offered]
    if unknown:
        raise ValueError(
            f"--config asks for variant {unknown[0]!r}; after the preset come any of: "
            f"{', '.join(offered)}."
        )
    config = base()
    datasets[dataset](config)
    for name in sorted(chosen, key=lambda name: name == "runlocal"):
        offered[name](config)
    return config


def _runlocal(config: ConfigDict, small: Change) -> None:
    """Shrinks any experiment to a smoke run: tiny network, small images, a few steps."""
    small(config)
    config.runlocal = True
    config.batch_size = 16
    config.eval.batch_size = 64
    config.data.image_size = (96, 32)
    config.data.max_tokens = min(config.data.max_tokens, 64)
    config.log_every_steps = 5
    for stage in config.stages:
        stage.epochs = 1
        stage.max_steps = 20
        stage.decay_epochs = ()


def to_json(config: ConfigDict) -> str:
    """Writes a configuration as JSON, keys sorted."""
    return json.dumps(_plain(config), indent=2, sort_keys=True)


def save(config: ConfigDict, workdir: str | os.PathLike[str]) -> None:
    """Writes ``config.json`` into a run's folder."""
    path = pathlib.Path(workdir) / FILE_NAME
    temporary = path.with_suffix(".partial")
    temporary.write_text(to_json(config) + "\n")
    temporary.replace(path)


def load(workdir: str | os.PathLike[str]) -> ConfigDict:
    """Reads the configuration of a run.

    Args:
      workdir: the run's folder.

    Raises:
      ValueError: the folder is no run, or its file is broken.
    """
    path = pathlib.Path(workdir) / FILE_NAME
    if not path.is_file():
        raise ValueError(
            f"{str(workdir)!r} is not a run: it has no {FILE_NAME}. --workdir takes the folder of "
            "a run that `jaxreid train` has written."
        )
    try:
        content = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); restore it from a copy.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no fields; restore it from a copy.")
    return ConfigDict(_tuples(content))


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Lists the fields that differ and matter, each as ``field: old -> new``."""
    before, after = _flat(_plain(old)), _flat(_plain(new))
    return [
        f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and key not in FREE_FIELDS
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, ConfigDict | dict):
        return {str(key): _plain(value[key]) for key in value}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(ConfigDict(_tuples(v)) if isinstance(v, dict) else _tuples(v) for v in value)
    return value


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        pairs = [(f"{prefix}.{key}" if prefix else key, item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        pairs = [(f"{prefix}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {prefix: value}
    return {key: item for name, inner in pairs for key, item in _flat(inner, name).items()}

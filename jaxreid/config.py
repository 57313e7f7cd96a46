"""Configurations: presets and variants by name, a smoke-run switch, and JSON that reads back."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_flags import config_path

from jaxreid import files, paths

FILE_NAME = "config.json"

# Fields that may differ when a run goes on: where things lie, what is shown, what it is tested on;
# nothing that changes what is trained.
FREE_FIELDS = (
    "data.data_dir",
    "data.manual_dir",
    "data.cache_dir",
    "data.feed",
    "data.test_name",
    "eval.draws",
    "eval.seed",
    "log_every_steps",
    "checkpoint_every_steps",
    "checkpoint_every_minutes",
    "max_to_keep",
    "mesh.model",
)

# Fields that may differ between the hosts of one run: where things lie on their disks.
HOST_FIELDS = ("data.data_dir", "data.manual_dir", "data.cache_dir")

# Fields that came after the first runs, with the value that means what those runs did.
_LATER_FIELDS = {
    "augment.erase": 0.0,
    "augment.erase_area": (0.02, 0.4),
    "augment.erase_ratio": (0.3, 3.3),
    "augment.turn_words": False,
    "batch_per_device": None,
    "batch_rule": "sqrt",
    "checkpoint_every_minutes": 0,
    "data.resize": "area",
    "data.sampling": "pairs",
    "data.test_name": "",
    "data.word_vectors": "",
    "eval.draws": 10,
    "eval.seed": 0,
    "max_to_keep": 1,
    "pretrained": "",
    "pretrained_sha256": "",
}
_OLDEST = "init_from"  # beside which those without a section belong
_LATER_FIELDS_OF_STAGE = {"validate_epochs": 1}

# The least value of whole numbers, those of a stage below "stages".
_AT_LEAST = {
    "batch_size": 1,
    "log_every_steps": 1,
    "checkpoint_every_steps": 0,
    "checkpoint_every_minutes": 0,
    "max_to_keep": 1,
    "data.max_tokens": 1,
    "data.min_count": 1,
    "data.captions_per_pair": 1,
    "data.length_templates": 0,
    "mesh.model": 1,
    "eval.batch_size": 1,
    "eval.draws": 1,
    "eval.seed": 0,
}
_AT_LEAST_OF_STAGE = {"epochs": 1, "max_steps": 0, "validate_epochs": 1}

Change = Callable[[ConfigDict], None]


@dataclasses.dataclass(frozen=True)
class Parametric:
    """A preset that takes values, written NAME=VALUE behind its own name.

    Attributes:
      change: called with the configuration, and with each value by its name.
      accepted: what each value may be; all of them have to be given.
    """

    change: Callable[..., None]
    accepted: Mapping[str, Sequence[str]]


def from_presets(
    argument: str,
    base: Callable[[], ConfigDict],
    *,
    datasets: Mapping[str, Change | Parametric],
    variants: Mapping[str, Change],
    small: Change,
    exclusive: Sequence[Collection[str]] = (),
) -> ConfigDict:
    """Makes a configuration from what stands behind the colon of ``--config file.py:argument``.

    Args:
      argument: ``DATASET[,NAME=VALUE ...][,VARIANT ...]``, for example
        ``cuhk_pedes,released,runlocal``.
      base: gives the configuration that presets change.
      datasets: preset name -> change.
      variants: name -> change, applied in the order given; ``runlocal``, a smoke run, is always
        offered and applied last.
      small: shrinks the network and, where it can, the data; part of ``runlocal``.
      exclusive: groups of variants that undo one another; of each group one may be asked for, and
        it is applied before the others, so that it undoes none of them.

    Raises:
      ValueError: an unknown name, two of one group, or values that the preset does not take.
    """
    dataset, *words = [part.strip() for part in argument.split(",")]
    if dataset not in datasets:
        raise ValueError(
            f"--config asks for preset {dataset!r}; the first word after the colon is one of: "
            f"{', '.join(datasets)}."
        )
    chosen = [word for word in words if "=" not in word]
    offered = {**variants, "runlocal": lambda config: _runlocal(config, small)}
    _check_variants(chosen, offered, exclusive)
    values = _preset_values(dataset, datasets, [word for word in words if "=" in word])
    preset = datasets[dataset]
    config = base()
    (preset.change if isinstance(preset, Parametric) else preset)(config, **values)
    first = {name for group in exclusive for name in group}
    for name in sorted(chosen, key=lambda name: (name not in first, name == "runlocal")):
        offered[name](config)
    return config


def _check_variants(
    chosen: Sequence[str], offered: Collection[str], exclusive: Sequence[Collection[str]]
) -> None:
    unknown = [name for name in chosen if name not in offered]
    if unknown:
        raise ValueError(
            f"--config asks for variant {unknown[0]!r}; after the preset come any of: "
            f"{', '.join(offered)}."
        )
    for group in exclusive:
        both = sorted({*group} & {*chosen}, key=chosen.index)
        if len(both) > 1:
            raise ValueError(
                f"--config asks for variants {both[0]!r} and {both[1]!r}, which undo one another; "
                f"take one of: {', '.join(group)}."
            )


def _preset_values(
    name: str, datasets: Mapping[str, Change | Parametric], words: Sequence[str]
) -> dict[str, str]:
    """Reads the words NAME=VALUE of a preset; one message tells all that is wrong with them."""
    preset = datasets[name]
    accepted = preset.accepted if isinstance(preset, Parametric) else {}
    values: dict[str, str] = {}
    wrong = []
    for word in words:
        key, value = (part.strip() for part in word.split("=", 1))
        if key in values:
            wrong.append(f"{key} twice")
        elif key not in accepted or value not in accepted[key]:
            wrong.append(f"{key}={value}")
        values[key] = value
    wrong += [f"no {key}" for key in accepted if key not in values]
    if not wrong:
        return values
    message = f"--config asks for preset {name!r} with {' and '.join(wrong)}; it takes "
    if not accepted:
        others = [other for other, one in datasets.items() if isinstance(one, Parametric)]
        raise ValueError(
            f"{message}no values" + (f", unlike {', '.join(others)}." if others else ".")
        )
    choices = " and ".join(f"{key}= one of {', '.join(some)}" for key, some in accepted.items())
    example = ",".join(
        f"{key}={some[place % len(some)]}" for place, (key, some) in enumerate(accepted.items())
    )
    raise ValueError(f"{message}{choices}, for example {name},{example}.")


def _runlocal(config: ConfigDict, small: Change) -> None:
    """Shrinks any experiment to a smoke run: tiny network, small images, a few steps."""
    small(config)
    config.runlocal = True
    config.batch_size = 16
    config.eval.batch_size = 64
    config.data.image_size = (96, 32)
    config.data.max_tokens = min(config.data.max_tokens, 64)
    config.data.length_templates = 0  # one shape, to compile once
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
    files.write_atomically(paths.as_path(workdir, "--workdir") / FILE_NAME, to_json(config) + "\n")


def load(workdir: str | os.PathLike[str]) -> ConfigDict:
    """Reads the configuration of a run.

    Args:
      workdir: the run's folder.

    Returns:
      It, with what an older run does not have: fields that were added since, as they then were.

    Raises:
      ValueError: the folder is no run, or its file is broken.
    """
    path = paths.as_path(workdir, "--workdir") / FILE_NAME
    with paths.explained(workdir, "--workdir"):
        found = path.is_file()
    if not found:
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
    missing = [name for name in ("data", "model") if not isinstance(content.get(name), dict)]
    if missing:
        raise ValueError(
            f"{path} is not the configuration of a run: it has no section {missing[0]!r}. Restore "
            "it from a copy, or name the folder of a run that `jaxreid train` has written."
        )
    for name, value in _LATER_FIELDS.items():
        section, _, field = name.rpartition(".")
        inside = content.get(section) if section else content
        if isinstance(inside, dict) and (section or _OLDEST in content):
            inside.setdefault(field, value)
    stages = content.get("stages")
    for stage in stages if isinstance(stages, list) else ():
        if isinstance(stage, dict):
            stage.update({**_LATER_FIELDS_OF_STAGE, **stage})
    return ConfigDict(_tuples(content))


def check(config: ConfigDict) -> None:
    """Refuses numbers that make no sense whatever the data, the network and the devices.

    Args:
      config: of a run to start; a field that it does not have is not checked.

    Raises:
      ValueError: a field is out of its range, or a cache is not local.
    """
    values = _flat(_plain(config))
    least = dict(_AT_LEAST)
    stages = config.get("stages", ())
    for index, stage in enumerate(stages):
        if not isinstance(stage, ConfigDict):
            raise ValueError(
                f"config.stages[{index}] is {stage!r}; a stage has fields: change one of them, for "
                f"example --config.stages[{index}].epochs=30."
            )
        least |= {f"stages[{index}].{name}": low for name, low in _AT_LEAST_OF_STAGE.items()}
    for name, low in least.items():
        value = values.get(name, low)
        if not isinstance(value, int) or value < low:
            raise ValueError(f"config.{name} is {value!r}; it takes a whole number from {low}.")
    paths.refuse_remote(values.get("data.cache_dir", ""), "config.data.cache_dir")
    size = values.get("data.image_size", [1, 1])
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(
            f"config.data.image_size is {tuple(size)!r}; it takes height and width in pixels, for "
            "example (384, 128)."
        )


def check_field(config: ConfigDict, name: str) -> None:
    """Refuses the name of a field that a configuration does not have.

    Args:
      config: any.
      name: the field's path, ``data.image_size`` or ``stages[0].epochs``.

    Raises:
      ValueError: there is no such field; the message lists what there is, what is spelt alike
        first.
    """
    try:
        parts = config_path.split(name)
    except ValueError:
        parts = (name,)
    inside, before = config, ""
    for part in map(str, parts):
        items: dict[str, Any] = {}
        if isinstance(inside, ConfigDict):
            items = {str(key): item for key, item in inside.items()}
        elif isinstance(inside, tuple) and any(isinstance(item, ConfigDict) for item in inside):
            items = {f"{before}[{index}]": item for index, item in enumerate(inside)}
            part = f"{before}[{part}]"
        if part not in items:
            alike = difflib.get_close_matches(part, items) if isinstance(inside, ConfigDict) else []
            accepted = [*alike, *(key for key in items if key not in alike)]
            raise ValueError(
                f"config has no field {name!r}; accepted there: {', '.join(accepted) or 'nothing'}."
            )
        inside, before = items[part], part


def check_free(names: Iterable[str]) -> None:
    """Refuses fields that a trained run's configuration keeps.

    Args:
      names: of fields.

    Raises:
      ValueError: one is none of `FREE_FIELDS`.
    """
    for name in names:
        if name not in FREE_FIELDS:
            raise ValueError(
                f"config.{name} cannot be changed here: a run keeps the config it was trained "
                f"with, except for {', '.join(FREE_FIELDS)}. Leave it out, or train another run."
            )


def override_free(config: ConfigDict, values: Mapping[str, Any]) -> None:
    """Changes fields of a run's configuration that may differ once it is trained, none else.

    Args:
      config: of the run; changed.
      values: by name, any of `FREE_FIELDS`.

    Raises:
      ValueError: another field, or a value of the wrong type or out of its range.
    """
    check_free(values)
    for name, value in values.items():
        check_field(config, name)
        try:
            config.update_from_flattened_dict({name: value})
        except TypeError as error:
            raise ValueError(f"config.{name} is {value!r}: {error}.") from error
    if values:
        check(config)


def differences(
    old: ConfigDict, new: ConfigDict, *, free: Collection[str] = FREE_FIELDS
) -> list[str]:
    """Lists the fields that differ, but for the free ones, each as ``field: old -> new``."""
    before, after = _flat(_plain(old)), _flat(_plain(new))
    return [
        f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and key not in free
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

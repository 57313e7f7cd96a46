"""Weights of torch origin in our trees, and back, with one complete report of what fitted.

Names and layouts are those of `jaxreid.torch_names`; files are read by `jaxreid.weight_files`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping

import flax.linen as nn
import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from jaxreid import (
    files,
    freezing,
    hosts,
    paths,
    sharding,
    torch_names,
    weight_files,
    weight_sources,
)
from jaxreid.torch_names import Entry, Names
from jaxreid.typing import PyTree

FILE_NAME = "pretrained.json"

_COUNTERS = "step counters of BatchNorm, which decide nothing"
_OTHER_CLASSES = "a classifier of other identities"


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of each tensor of a file and of each array it should fill.

    Attributes:
      loaded: paths of our arrays that were filled.
      left_out: tensors that were left out on purpose, by name, with the reason.
      missing: our arrays whose tensors the file does not have.
      kept: likewise, where a file may lack them: they keep their initial values; with the reason.
      unexpected: tensors that belong nowhere.
      wrong_shape: tensors of another shape, each with both shapes, or of another kind of number.
      rounded: our arrays that came from float64.
      counters: steps that the file's BatchNorms counted, by our names.
    """

    loaded: tuple[str, ...]
    left_out: Mapping[str, str]
    missing: tuple[str, ...]
    kept: Mapping[str, str]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[str, ...]
    rounded: tuple[str, ...]
    counters: Mapping[str, int]

    @property
    def fits(self) -> bool:
        """Whether nothing is missing, unexpected or of another shape."""
        return not (self.missing or self.unexpected or self.wrong_shape)

    def __str__(self) -> str:
        """One line a kind, with names below it."""
        lines = [f"{len(self.loaded)} arrays loaded"]
        if self.rounded:
            lines[0] += f", {len(self.rounded)} of them rounded from float64"
        for title, names in (("left out on purpose", self.left_out), ("kept", self.kept)):
            reasons: dict[str, list[str]] = {}
            for name, reason in names.items():
                reasons.setdefault(reason, []).append(name)
            lines += [
                f"{len(some)} {title} ({reason}): {_some(some)}" for reason, some in reasons.items()
            ]
        for title in ("missing", "unexpected", "wrong_shape"):
            found = getattr(self, title)
            lines.append(f"{len(found)} {title.replace('_', ' ')}")
            lines += [f"    {name}" for name in found]
        return "\n  ".join(lines)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def fit(
    names: Names, tensors: Mapping[str, np.ndarray], variables: PyTree
) -> tuple[PyTree, Report]:
    """Fills a tree with tensors of torch.

    Args:
      names: of the arrays to fill, `torch_names.network` or `torch_names.backbone`.
      tensors: by torch name.
      variables: ``params`` and ``batch_stats``; an array that no name is known of stays as it is.

    Returns:
      The tree, each array where the one in its place lay, and what became of each tensor.

    Raises:
      ValueError: a tensor is missing, unexpected or of another shape; the message is the report.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(variables)
    leaves = {sharding.path_name(path): leaf for path, leaf in paths}
    values, report = _match(names, tensors, leaves)
    if not report.fits:
        raise ValueError(
            f"the weights do not fit:\n  {report}\nTake the weights of this very network, or "
            "change config.model to the network that they belong to."
        )
    filled = [values.get(name, leaf) for name, leaf in leaves.items()]
    return jax.tree.unflatten(structure, filled), report


def _match(
    names: Names, tensors: Mapping[str, np.ndarray], leaves: Mapping[str, jax.Array]
) -> tuple[dict[str, jax.Array], Report]:
    rest = dict(tensors)
    values: dict[str, jax.Array] = {}
    left_out: dict[str, str] = {}
    kept: dict[str, str] = {}
    missing: list[str] = []
    wrong: list[str] = []
    rounded: list[str] = []
    for entry in names.entries:
        leaf = leaves[entry.ours]
        found = {name: rest.pop(name) for name in entry.theirs if name in rest}
        absent = [name for name in entry.theirs if name not in found]
        shape = entry.layout.torch_shape(leaf.shape)
        misfits = [note for name, x in found.items() if (note := _misfit(name, x, shape))]
        reason = _reason(names.optional, entry.theirs[0])
        if not found and reason:
            kept[entry.ours] = reason
        elif absent:
            missing += [f"{name} {shape}, for {entry.ours}" for name in absent]
        elif misfits and entry.layout.classes and _of_other_classes(found, shape):
            left_out |= {name: f"{_OTHER_CLASSES}, {x.shape} there" for name, x in found.items()}
        elif misfits:
            wrong += misfits
        else:
            values[entry.ours] = _value(entry, list(found.values()), leaf)
            rounded += [entry.ours] if next(iter(found.values())).itemsize > 4 else []
    counters = {names.counters[name]: rest.pop(name) for name in names.counters if name in rest}
    left_out |= {name: _COUNTERS for name, ours in names.counters.items() if ours in counters}
    left_out |= {name: why for name in rest if (why := _reason(names.left_out, name))}
    report = Report(
        loaded=tuple(values),
        left_out=left_out,
        missing=tuple(missing),
        kept=kept,
        unexpected=tuple(f"{name} {x.shape}" for name, x in rest.items() if name not in left_out),
        wrong_shape=tuple(wrong),
        rounded=tuple(rounded),
        counters={name: int(count.max(initial=0)) for name, count in counters.items()},
    )
    return values, report


def _misfit(name: str, tensor: np.ndarray, shape: tuple[int, ...]) -> str:
    """Says what keeps a tensor from its place; empty where nothing does."""
    if tensor.shape != shape:
        return f"{name} {tensor.shape} there, {shape} here{_note(tensor.shape, shape)}"
    if not np.issubdtype(tensor.dtype, np.floating):
        return f"{name} {tensor.dtype} there, float32 here"
    return ""


def _of_other_classes(found: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> bool:
    return all(x.ndim == len(shape) and x.shape[1:] == shape[1:] for x in found.values())


def _reason(patterns: Mapping[str, str], name: str) -> str | None:
    return next((why for text, why in patterns.items() if re.fullmatch(text, name)), None)


def _value(entry: Entry, tensors: list[np.ndarray], leaf: jax.Array) -> jax.Array:
    array = entry.layout.to_ours(tensors, leaf.shape[-1]).astype(leaf.dtype)
    place = getattr(leaf, "sharding", None)
    return jax.device_put(array) if place is None else sharding.put(array, place)


def _note(there: tuple[int, ...], here: tuple[int, ...]) -> str:
    """What another shape likely means."""
    if len(there) == len(here) == 4 and here[1] == 3 != there[1]:
        return f" (for images of {there[1]} channels; here they have 3, RGB)"
    return ""


def to_torch(
    names: Names, variables: PyTree, counters: Mapping[str, int] | int = 0
) -> dict[str, np.ndarray]:
    """Writes a tree as tensors of torch, in torch's order of names within a module.

    Args:
      names: as for `fit`.
      variables: ``params`` and ``batch_stats``.
      counters: of BatchNorm's steps, one for all or by our names, as a report has them.

    Returns:
      Arrays by torch name; each is a copy, bit for bit.
    """
    leaves = {
        sharding.path_name(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    tensors: dict[str, np.ndarray] = {}
    for entry in names.entries:
        parts = entry.layout.to_torch(np.asarray(leaves[entry.ours]))
        tensors |= dict(zip(entry.theirs, parts, strict=True))
    for name, ours in names.counters.items():
        count = counters if isinstance(counters, int) else counters.get(ours, 0)
        tensors[name] = np.asarray(count, np.int64)
    return tensors


def check(config: ConfigDict) -> None:
    """Refuses a ``config.pretrained`` that cannot be used, before minutes go into anything else.

    Args:
      config: ``pretrained``, ``pretrained_sha256``, ``init_from``.

    Raises:
      ValueError: there is no such file, or it is another than was meant.
    """
    if config.pretrained and config.init_from:
        raise ValueError(
            f"config.pretrained is {config.pretrained!r} and config.init_from is "
            f"{config.init_from!r}: a run starts from one of them. A run to start from brings its "
            "own backbone: leave config.pretrained empty."
        )
    if config.pretrained:
        weight_sources.fetch(
            config.pretrained, sha256=config.pretrained_sha256, field="config.pretrained"
        )


def start_from_file(
    config: ConfigDict, model: nn.Module, variables: PyTree, workdir: str | os.PathLike[str]
) -> PyTree:
    """Fills the image backbone with the weights that ``config.pretrained`` names, if any.

    The report goes to the log, and with the file's SHA-256 into ``pretrained.json`` of the run.

    Args:
      config: ``pretrained`` and ``pretrained_sha256``.
      model: the network.
      variables: its initial ``params`` and ``batch_stats``.
      workdir: the run's folder.

    Returns:
      The variables to start with.

    Raises:
      ValueError: the file cannot be read or does not fit.
    """
    if hosts.is_first():  # what a start that failed has left there
        (paths.as_path(workdir) / FILE_NAME).unlink(missing_ok=True)
    if not config.pretrained:
        if not config.init_from:
            _tell_of_random_values(config, model, variables)
        return variables
    weights = weight_files.read(
        config.pretrained, sha256=config.pretrained_sha256, field="config.pretrained"
    )
    try:
        filled, report = fit(torch_names.backbone(model, variables), weights.tensors, variables)
    except ValueError as error:
        raise ValueError(f"config.pretrained is {weights.source!r}: {error}") from error
    logging.info("weights of %s, SHA-256 %s:\n  %s", weights.source, weights.sha256, report)
    if hosts.is_first():
        save_record(weights, report, workdir)
    return filled


def _tell_of_random_values(config: ConfigDict, model: nn.Module, variables: PyTree) -> None:
    logging.info("the image backbone starts from random values: config.pretrained is empty")
    try:
        names = torch_names.backbone(model, variables)
    except ValueError:  # a network of which torch knows nothing
        return
    frozen = freezing.frozen_names(config.stages[0], variables["params"])
    if any(entry.ours.removeprefix("params/") in frozen for entry in names.entries):
        logging.warning(
            "config.stages[0].frozen keeps the image backbone at its random values, from which "
            "little can be learnt: give its ImageNet weights as config.pretrained, or a run as "
            "config.init_from."
        )


def save_record(
    weights: weight_files.WeightFile, report: Report, workdir: str | os.PathLike[str]
) -> None:
    """Writes down in a run's folder which weights it began with.

    Args:
      weights: what was read.
      report: what became of it.
      workdir: the run's folder.
    """
    record = {
        "source": weights.source,
        "sha256": weights.sha256,
        "loaded": len(report.loaded),
        "left_out": dict(report.left_out),
        "kept": dict(report.kept),
        "not_tensors": list(weights.others),
        "counters": dict(report.counters),
    }
    path = paths.as_path(workdir) / FILE_NAME
    files.write_atomically(path, json.dumps(record, indent=2) + "\n")


def load_record(workdir: str | os.PathLike[str]) -> dict | None:
    """Reads what `save_record` wrote; None where a run began with no such weights."""
    path = paths.as_path(workdir) / FILE_NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

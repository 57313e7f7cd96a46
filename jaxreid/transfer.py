"""Start a run from the weights of another: words and identities are matched by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from jaxreid import checkpoint, retrieval, runs, sharding
from jaxreid.typing import PyTree

# A parameter of this name has one row for each word of the vocabulary.
EMBEDDING_PREFIX = "embedding"


@dataclasses.dataclass(frozen=True)
class Fit:
    """What became of each parameter and statistic.

    Attributes:
      loaded: taken over whole.
      mapped: word tables and classifiers taken over row by row, with how many rows were found.
      missing: in this run's network, not in the other's; left at their initial values.
      unexpected: in the other's only.
      wrong_shape: in both, with the two shapes; left at their initial values.
    """

    loaded: tuple[str, ...]
    mapped: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[str, ...]

    def __str__(self) -> str:
        """One line a kind, one name a line below it."""
        lines = [f"{len(self.loaded)} arrays loaded as they are"]
        for field in ("mapped", "missing", "unexpected", "wrong_shape"):
            names = getattr(self, field)
            lines.append(f"{len(names)} {field.replace('_', ' ')}")
            lines += [f"    {name}" for name in names]
        return "\n  ".join(lines)


def start_from(config: ConfigDict, data: runs.RunData, variables: PyTree) -> PyTree:
    """Replaces initial values by those of the run that ``config.init_from`` names, if any.

    Args:
      config: ``init_from`` is the folder of a run, or empty.
      data: vocabulary and classes of the run to start.
      variables: its initial ``params`` and ``batch_stats``.

    Returns:
      The variables to start with.

    Raises:
      ValueError: the folder is no run, or nothing of it fits.
    """
    if not config.init_from:
        return variables
    try:
        source = _load(config.init_from)
    except ValueError as error:
        raise ValueError(
            f"config.init_from is {config.init_from!r}, which cannot be loaded: {error}"
        ) from error
    words = [source.vocabulary.word(row) for row in range(len(source.vocabulary))]
    new_words = [data.vocabulary.word(row) for row in range(len(data.vocabulary))]
    started, fit = fit_variables(
        source.variables,
        variables,
        words=_positions(words, new_words),
        classes=_positions(source.classes, data.classes),
    )
    logging.info("weights of %s, step %d:\n  %s", config.init_from, source.step, fit)
    if not fit.loaded:
        raise ValueError(
            f"config.init_from is {config.init_from!r}, a run of another network: not one array "
            f"fits.\n  {fit}"
        )
    return started


def with_word_vectors(variables: PyTree, table: np.ndarray | None) -> PyTree:
    """Replaces the word tables by vectors read from a file.

    Args:
      variables: ``params`` and ``batch_stats``.
      table: [V, D] a vector for each row of the vocabulary; None changes nothing.

    Raises:
      ValueError: the vectors are not as wide as the network's.
    """
    if table is None:
        return variables

    def replace(path: tuple[object, ...], leaf: jax.Array) -> jax.Array:
        if not _is_word_table(sharding.path_name(path)):
            return leaf
        if leaf.shape != table.shape:
            raise ValueError(
                f"config.data.word_vectors holds vectors of width {table.shape[1]}, and the "
                f"network's words are {leaf.shape[1]} wide: set config.model.word_dim="
                f"{table.shape[1]}."
            )
        return sharding.put(table, leaf.sharding)

    return jax.tree_util.tree_map_with_path(replace, variables)


def _is_word_table(name: str) -> bool:
    return any(part.startswith(EMBEDDING_PREFIX) for part in name.split("/"))


def _load(workdir: str) -> retrieval.Run:
    """Loads the best checkpoint, or the last where a run stopped before its first validation."""
    with checkpoint.Checkpoints(workdir) as checkpoints:
        which = "last" if checkpoints.best is None else "best"
    return retrieval.load_run(workdir, which=which)


def _positions(old: Sequence[str], new: Sequence[str]) -> np.ndarray:
    """[N] position of each new name among the old ones, -1 where it is not there."""
    found = {name: position for position, name in enumerate(old)}
    return np.array([found.get(name, -1) for name in new], np.int64)


def fit_variables(
    source: PyTree, target: PyTree, *, words: np.ndarray, classes: np.ndarray
) -> tuple[PyTree, Fit]:
    """Takes over what fits.

    Args:
      source: ``params`` and ``batch_stats`` of the other run.
      target: those of this run, with their shardings.
      words: [V] row of each word in the other's tables, -1 where it has none.
      classes: [I] position of each identity in the other's classifiers, -1 likewise.

    Returns:
      The tree of ``target`` with values of ``source``, and the report.
    """
    old = {sharding.path_name(path): leaf for path, leaf in _leaves(source)}
    report: dict[str, list[str]] = {f.name: [] for f in dataclasses.fields(Fit)}
    leaves = []
    for path, leaf in _leaves(target):
        name = sharding.path_name(path)
        value, kind, note = _fit_leaf(name, old.pop(name, None), leaf, words, classes)
        report[kind].append(f"{name}{note}")
        leaves.append(leaf if value is None else sharding.put(value, leaf.sharding))
    report["unexpected"] = sorted(old)
    tree = jax.tree.unflatten(jax.tree.structure(target), leaves)
    return tree, Fit(**{kind: tuple(names) for kind, names in report.items()})


def _fit_leaf(
    name: str, old: jax.Array | None, new: jax.Array, words: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray | None, str, str]:
    """Returns the value to take (None: keep), the kind of the report and a note."""
    if old is None:
        return None, "missing", f" {new.shape}"
    axis, positions = None, words
    if sharding.is_classifier(name):
        axis, positions = new.ndim - 1, classes
    elif _is_word_table(name):
        axis = 0
    if axis is not None and _without(old.shape, axis) == _without(new.shape, axis):
        value, count = np.array(sharding.fetch(new)), np.count_nonzero(positions >= 0)
        here = np.flatnonzero(positions >= 0)
        taken = np.take(np.asarray(old), positions[here], axis=axis)
        value[(slice(None),) * axis + (here,)] = taken
        return value, "mapped", f": {count} of {len(positions)} found by name"
    if old.shape != new.shape:
        return None, "wrong_shape", f" {old.shape} there, {new.shape} here"
    return np.asarray(old), "loaded", ""


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _leaves(tree: PyTree) -> list[tuple[tuple[object, ...], jax.Array]]:
    return jax.tree_util.tree_flatten_with_path(tree)[0]

"""Tables of names: rules on modules, and the entries that they make of a tree of arrays."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from jaxreid import sharding
from jaxreid.typing import PyTree

PART = "{part}"
"""Stands in a torch name for the number of the part, where each part has a tensor of its own."""

COUNTER = "num_batches_tracked"
"""Torch's BatchNorm counts its steps, which decides nothing where momentum is fixed."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an array of ours lies in torch's tensors.

    Attributes:
      axes: torch's axes in our order, for one tensor: (2, 3, 1, 0) turns OIHW into HWIO.
      ones: trailing axes of size 1 that only torch has: a dense layer kept as 1x1 convolution.
      stacked: our first axis has one tensor for each place.
      classes: our last axis is that of so many identities, padded; 0: it is not.
    """

    axes: tuple[int, ...] | None = None
    ones: int = 0
    stacked: bool = False
    classes: int = 0

    def to_ours(self, tensors: Sequence[np.ndarray], width: int) -> np.ndarray:
        """Turns torch's tensors into our array, ``width`` long in its last axis."""
        arrays = [self._one_to_ours(tensor) for tensor in tensors]
        array = np.stack(arrays) if self.stacked else arrays[0]
        if self.classes:
            padding = [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])]
            array = np.pad(array, padding)
        return np.ascontiguousarray(array)

    def to_torch(self, array: np.ndarray) -> list[np.ndarray]:
        """Turns our array into torch's tensors."""
        if self.classes:
            array = array[..., : self.classes]
        return [self._one_to_torch(one) for one in (array if self.stacked else array[None])]

    def torch_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of each tensor that an array of this shape of ours comes from."""
        shape = shape[1:] if self.stacked else shape
        if self.classes:
            shape = (*shape[:-1], self.classes)
        if self.axes:
            shape = tuple(shape[self.axes.index(axis)] for axis in range(len(self.axes)))
        return (*shape, *[1] * self.ones)

    def _one_to_ours(self, tensor: np.ndarray) -> np.ndarray:
        if self.ones:
            tensor = tensor.reshape(tensor.shape[: -self.ones])
        return tensor.transpose(self.axes) if self.axes else tensor

    def _one_to_torch(self, array: np.ndarray) -> np.ndarray:
        if self.axes:
            array = array.transpose([self.axes.index(axis) for axis in range(len(self.axes))])
        return np.ascontiguousarray(array.reshape(*array.shape, *[1] * self.ones))


_CONV = Layout((2, 3, 1, 0))
_DENSE = Layout((1, 0))
_SAME = Layout()
_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_DIRECTIONS = ("", "_reverse")

# Of each kind of module: leaf -> (last part of the torch names, layout).
_KINDS: dict[str, dict[str, tuple[tuple[str, ...], Layout]]] = {
    "conv": {"kernel": (("weight",), _CONV), "bias": (("bias",), _SAME)},
    "dense": {"kernel": (("weight",), _DENSE), "bias": (("bias",), _SAME)},
    "pointwise": {"kernel": (("weight",), Layout((1, 0), ones=2)), "bias": (("bias",), _SAME)},
    "norm": {leaf: ((name,), _SAME) for leaf, name in _NORM.items()},
    "embedding": {"embedding": (("weight",), _SAME)},
    "lstm": {
        leaf: (
            tuple(f"weight_{name}_l0{direction}" for direction in _DIRECTIONS),
            dataclasses.replace(_DENSE, stacked=True),
        )
        for leaf, name in (("kernel", "ih"), ("recurrent", "hh"))
    },
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """Names of the arrays of some modules.

    Attributes:
      ours: regular expression on the whole path of a module, ``backbone/stage1_block1/conv1``.
      theirs: torch's name of the module, made from the match; `PART` in it stands for the part.
      kind: "conv", "dense", "pointwise" (a dense layer that torch keeps as 1x1 convolution),
        "norm", "embedding" or "lstm".
      classes: identities, where the module is a classifier of them.
    """

    ours: str
    theirs: Callable[[re.Match[str]], str]
    kind: str
    classes: int = 0


@dataclasses.dataclass(frozen=True)
class Table:
    """Names of a network or of a backbone.

    Attributes:
      rules: the first that matches a module names its arrays.
      left_out: regular expressions on torch names that files may hold and we have no use for, each
        with the reason.
      optional: regular expressions on torch names that a file may lack, each with the reason.
    """

    rules: tuple[Rule, ...]
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    optional: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of ours and the tensors that it is in torch.

    Attributes:
      ours: its path, ``params/backbone/stem_conv/kernel``.
      theirs: names of the tensors, several where they are stacked.
      layout: how the array lies in them.
    """

    ours: str
    theirs: tuple[str, ...]
    layout: Layout


@dataclasses.dataclass(frozen=True)
class Names:
    """The entries of a tree of arrays.

    Attributes:
      entries: one for each array that has a torch name.
      counters: names of the step counters of torch's BatchNorms, each with a name of ours.
      left_out: see `Table`.
      optional: see `Table`.
    """

    entries: tuple[Entry, ...]
    counters: Mapping[str, str]
    left_out: Mapping[str, str]
    optional: Mapping[str, str]


def make_names(table: Table, variables: PyTree, *, whole: bool) -> Names:
    """Names each array of a tree.

    Args:
      table: of the network.
      variables: ``params`` and ``batch_stats``, or their shapes.
      whole: every array must have a name; otherwise those without one are not meant.

    Raises:
      ValueError: an array has no name.
    """
    entries: list[Entry] = []
    counters: dict[str, str] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        name = sharding.path_name(path)
        entry = _entry(table, name, leaf.shape)
        if entry is None and whole:
            raise ValueError(f"{name} has no torch name: add a rule for it in jaxreid/torch_names.")
        if entry is None:
            continue
        entries.append(entry)
        if name.endswith("/var"):
            counters |= {
                f"{one.rsplit('.', 1)[0]}.{COUNTER}": f"{name.removesuffix('/var')}:{place}"
                for place, one in enumerate(entry.theirs)
            }
    return Names(tuple(entries), counters, table.left_out, table.optional)


def _entry(table: Table, name: str, shape: tuple[int, ...]) -> Entry | None:
    module, _, leaf = name.partition("/")[2].rpartition("/")
    for rule in table.rules:
        match = re.fullmatch(rule.ours, module)
        if match is None:
            continue
        theirs, (last, layout) = rule.theirs(match), _KINDS[rule.kind][leaf]
        parts: Sequence[str] = [theirs]
        if PART in theirs:
            parts = [theirs.replace(PART, str(part)) for part in range(shape[0])]
            layout = dataclasses.replace(layout, stacked=True)
        if rule.classes:
            layout = dataclasses.replace(layout, classes=rule.classes)
        return Entry(name, tuple(f"{part}.{one}" for part in parts for one in last), layout)
    return None


def rows(tensor: np.ndarray) -> int:
    """Length of a tensor's first axis; 0 of a single number."""
    return tensor.shape[0] if tensor.ndim else 0


def under(prefix: str, rename: Callable[[str], str], rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Rules of a network inside another.

    Args:
      prefix: path of our module that it is, ``backbone``.
      rename: torch's name inside the other, from the name by itself.
      rules: of the network by itself.
    """

    def renamed(rule: Rule) -> Rule:
        return dataclasses.replace(
            rule, ours=f"{prefix}/{rule.ours}", theirs=lambda match: rename(rule.theirs(match))
        )

    return tuple(map(renamed, rules))

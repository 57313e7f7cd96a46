"""Under which names and in which layout torch programs keep the arrays of our networks.

One table serves both ways, from a file of weights to our tree and back. The names are those of
torchvision (ResNet, VGG; timm has the same), of OSNet's authors, and of SSAN's released program; of
AXM-Net no other program is public, so beside its backbone the names are ours.
"""

from __future__ import annotations

import importlib
from typing import Any

import flax.linen as nn

from jaxreid.torch_names.table import Entry, Layout, Names, make_names
from jaxreid.typing import PyTree

__all__ = ["Entry", "Layout", "Names", "backbone", "network", "table_of"]


def network(model: nn.Module, variables: PyTree) -> Names:
    """Names of every array of a network.

    Args:
      model: one of `jaxreid.models`.
      variables: its ``params`` and ``batch_stats``, or their shapes.

    Raises:
      ValueError: no torch names are known for this network.
    """
    return make_names(table_of(model).network(model), variables, whole=True)


def backbone(model: nn.Module, variables: PyTree) -> Names:
    """Names of the arrays that ImageNet weights fill, as a file of these alone has them.

    Args:
      model: one of `jaxreid.models`.
      variables: its ``params`` and ``batch_stats``, or their shapes.

    Raises:
      ValueError: no torch names are known for this network.
    """
    return make_names(table_of(model).backbone(model), variables, whole=False)


def table_of(model: nn.Module) -> Any:
    """Returns the module with the names of a network: ``jaxreid/torch_names/NETWORK.py``.

    Raises:
      ValueError: there is none.
    """
    name = type(model).__module__.rsplit(".", 1)[-1]
    path = f"jaxreid.torch_names.{name}"
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:  # something that it imports
            raise
        raise ValueError(
            f"config.model.name is {name!r}, and the names that torch programs give its arrays "
            f"are not known: they belong into jaxreid/torch_names/{name}.py."
        ) from error

"""Parameters that a stage leaves as they are, and the statistics that belong to them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from absl import logging

from jaxreid import sharding
from jaxreid.models.layers import count_parameters
from jaxreid.models.normalization import BatchNorm
from jaxreid.typing import PyTree


def pattern(text: str) -> re.Pattern[str]:
    """Compiles a pattern of ``stage.rates`` or ``stage.frozen``.

    Raises:
      ValueError: it is no regular expression.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(
            f"stage.rates or stage.frozen names {text!r}, which is no regular expression ({error})."
        ) from error


def parameter_names(params: PyTree) -> list[str]:
    """Returns the path of each parameter, in the order of the tree's leaves."""
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    return [sharding.path_name(path) for path, _ in paths]


def frozen_names(stage: Mapping[str, Any], params: PyTree) -> frozenset[str]:
    """Returns the paths of the parameters that a stage freezes.

    Args:
      stage: ``frozen``, regular expressions on the path of a parameter.
      params: the parameters, or their shapes.

    Raises:
      ValueError: a pattern is no regular expression or matches no parameter.
    """
    patterns = [pattern(text) for text in stage["frozen"]]
    names = parameter_names(params)
    check_all_match(patterns, names)
    return frozenset(name for name in names if any(p.search(name) for p in patterns))


def check_all_match(patterns: Sequence[re.Pattern[str]], names: Sequence[str]) -> None:
    """Refuses a pattern that matches no parameter: most likely it is misspelt.

    Args:
      patterns: of a stage.
      names: paths of all parameters.

    Raises:
      ValueError: some match nothing.
    """
    unused = sorted({p.pattern for p in patterns if not any(map(p.search, names))})
    if unused:
        raise ValueError(
            f"stage.rates or stage.frozen names {unused}, which match no parameter. "
            f"Parameters begin with: {', '.join(sorted({n.split('/')[0] for n in names}))}."
        )


def stop_gradients(params: PyTree, frozen: Collection[str]) -> PyTree:
    """Cuts the gradient of frozen parameters, which spares computing it."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            jax.lax.stop_gradient(leaf) if sharding.path_name(path) in frozen else leaf
        ),
        params,
    )


@contextlib.contextmanager
def kept_statistics(frozen: Collection[str]) -> Iterator[None]:
    """While a network is applied, frozen BatchNorm uses and keeps its running statistics.

    Args:
      frozen: paths of the frozen parameters; a BatchNorm is frozen if its scale is.
    """

    def keep(
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
            scale = "/".join((*context.module.path, "scale"))
            if scale in frozen:
                kwargs = {**kwargs, "use_running_average": True}
        return call(*args, **kwargs)

    with nn.intercept_methods(keep):
        yield


def log_frozen(stage: int, params: PyTree, frozen: Collection[str]) -> None:
    """Says what a stage leaves as it is.

    Args:
      stage: its number.
      params: the parameters, or their shapes.
      frozen: paths of the frozen ones.
    """
    if not frozen:
        return
    leaves = dict(zip(parameter_names(params), jax.tree.leaves(params), strict=True))
    modules: dict[str, int] = {}
    for name in sorted(frozen):
        module = name.split("/")[0]
        modules[module] = modules.get(module, 0) + count_parameters(leaves[name])
    logging.info(
        "stage %d freezes %d of %d arrays: %s",
        stage,
        len(frozen),
        len(leaves),
        ", ".join(f"{module} ({count:,} parameters)" for module, count in modules.items()),
    )

"""Random weights, the same with every version of torch."""

import math

import numpy as np
import torch
from torch import nn


def randomise(module: nn.Module, seed: int) -> None:
    """Fills all parameters and buffers in place; BatchNorm's statistics are no trivial ones.

    Activations keep about their size from layer to layer, so that every branch of a network counts.
    """
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for child in module.modules():
            for name, tensor in [*child._parameters.items(), *child._buffers.items()]:
                if tensor is not None and name != "num_batches_tracked":
                    tensor.copy_(torch.from_numpy(_values(rng, child, name, tuple(tensor.shape))))


def _values(
    rng: np.random.Generator, module: nn.Module, name: str, shape: tuple[int, ...]
) -> np.ndarray:
    is_norm = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    if is_norm and name == "running_var":
        return rng.uniform(0.5, 1.5, shape)
    if is_norm and name == "weight":
        # Larger ones make of fifty layers something that enlarges every rounding error.
        return rng.uniform(0.25, 0.75, shape)
    if len(shape) == 1:
        return rng.normal(0, 0.4, shape)
    if isinstance(module, nn.Embedding):
        return rng.normal(0, 1, shape) * (np.arange(shape[0]) != module.padding_idx)[:, None]
    return rng.normal(0, math.sqrt(1.5 / math.prod(shape[1:])), shape)


def state_arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """Copies of all parameters and buffers by name."""
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}

"""Floating-point operations of a program, counted in its jaxpr, and what a device can do at most.

XLA's own cost analysis counts the body of a loop once, however often it runs, which leaves out most
of a recurrent network. Here a scan's body counts as often as it runs.

Counted are matrix products and convolutions, two operations for each multiplication with its
addition; all else is small beside them. What a convolution multiplies with padding counts, as is
customary; the zeros that a dilated input inserts do not, so that the gradient of a strided
convolution costs what the convolution does.

Products element by element are not counted, and a network may write a depthwise convolution as a
sum of them where that is quicker: `counted_form` gives the network whose convolutions are such.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax.extend import core


@dataclasses.dataclass(frozen=True)
class Device:
    """What one device can do at most, as its maker states it.

    Attributes:
      flops: dense bfloat16 FLOP/s.
      bandwidth: of its memory, bytes/s.
      memory: bytes.
      link: bytes/s that it can send to its neighbours, all links together and one way (makers like
        to add both ways up).
    """

    flops: float
    bandwidth: float
    memory: float
    link: float


# The first name that begins the device kind counts, so longer names stand first.
_DEVICES = {
    "NVIDIA A100-SXM4-40GB": Device(312e12, 1555e9, 40e9, 300e9),
    "NVIDIA A100-PCIE-40GB": Device(312e12, 1555e9, 40e9, 300e9),
    "NVIDIA A100": Device(312e12, 2039e9, 80e9, 300e9),
    "NVIDIA H100 PCIe": Device(756e12, 2000e9, 80e9, 300e9),
    "NVIDIA H100": Device(989e12, 3350e9, 80e9, 450e9),
    "NVIDIA H200": Device(989e12, 4800e9, 141e9, 450e9),
    "NVIDIA L4": Device(121e12, 300e9, 24e9, 32e9),
    "NVIDIA GeForce RTX 4090": Device(165e12, 1008e9, 24e9, 32e9),
    # They have no bfloat16: the figure is of float16.
    "Tesla V100-SXM2-32GB": Device(125e12, 900e9, 32e9, 150e9),
    "Tesla V100-SXM2": Device(125e12, 900e9, 16e9, 150e9),
    "TPU v4": Device(275e12, 1228e9, 32 * 2**30, 150e9),
    "TPU v5 lite": Device(197e12, 819e9, 16 * 2**30, 200e9),
    "TPU v5e": Device(197e12, 819e9, 16 * 2**30, 200e9),
    "TPU v5p": Device(459e12, 2765e9, 95 * 2**30, 600e9),
    "TPU v5": Device(459e12, 2765e9, 95 * 2**30, 600e9),
    "TPU v6 lite": Device(918e12, 1640e9, 32 * 2**30, 400e9),
    "TPU v6e": Device(918e12, 1640e9, 32 * 2**30, 400e9),
}
# Kinds that begin like a device of the table and are something else.
_NOT_IN_TABLE = (
    "TPU v4 lite",
    "NVIDIA H100 NVL",
    "NVIDIA H200 NVL",
    "NVIDIA L40",
    "NVIDIA GeForce RTX 4090 D",
    "NVIDIA GeForce RTX 4090 Laptop",
)

# How a network is counted, by fields that it may have: without what rematerialisation computes
# twice, and each convolution as one, which it is on a GPU.
_COUNTED_FORM: dict[str, Any] = {"remat": False, "platform": "gpu"}


@dataclasses.dataclass(frozen=True)
class FlopCount:
    """Operations of one run of a program, over all devices.

    Attributes:
      total: floating-point operations.
      notes: what could not be counted exactly.
    """

    total: int
    notes: tuple[str, ...] = ()


def device(device_kind: str) -> Device | None:
    """Looks a device up.

    Args:
      device_kind: as ``jax.Device.device_kind`` has it.

    Returns:
      None where it is not known.

    >>> device("TPU v5 lite").bandwidth / 1e9
    819.0
    """
    if device_kind.startswith(_NOT_IN_TABLE):
        return None
    return next((d for name, d in _DEVICES.items() if device_kind.startswith(name)), None)


def peak_flops(device_kind: str) -> float | None:
    """Dense bfloat16 peak of a device in FLOP/s.

    Args:
      device_kind: as ``jax.Device.device_kind`` has it.

    Returns:
      None where the peak is not known.

    >>> peak_flops("TPU v5 lite") / 1e12
    197.0
    """
    found = device(device_kind)
    return None if found is None else found.flops


def utilisation(work: float, seconds: float, device_kind: str, num_devices: int) -> float | None:
    """Share of the devices' peak that a program reached, from 0 to 1; None where it is not known.

    Args:
      work: floating-point operations, over all devices.
      seconds: that they took.
      device_kind: as ``jax.Device.device_kind`` has it.
      num_devices: devices that shared the work.
    """
    peak = peak_flops(device_kind)
    return None if peak is None else work / seconds / (peak * num_devices)


def counted_form(model: nn.Module) -> nn.Module:
    """Returns a network as its operations are counted, the same on every kind of device.

    Args:
      model: a network; how it is computed may depend on the device.

    Returns:
      The same network of the same parameters, without rematerialisation and with convolutions
      where it would compute matrix products or shifted products in their place.
    """
    known = {field.name for field in dataclasses.fields(model)}
    return model.clone(**{name: how for name, how in _COUNTED_FORM.items() if name in known})


def count_flops(function: Callable[..., Any], *args: Any, **kwargs: Any) -> FlopCount:
    """Counts the operations of a call, without running it.

    Args:
      function: traceable by JAX.
      *args: arrays, or their ``jax.ShapeDtypeStruct``.
      **kwargs: likewise.

    >>> import jax.numpy as jnp
    >>> count_flops(jnp.matmul, jnp.ones((2, 3)), jnp.ones((3, 5))).total
    60
    """
    return count_jaxpr(jax.make_jaxpr(function)(*args, **kwargs))


def count_jaxpr(jaxpr: core.ClosedJaxpr | core.Jaxpr) -> FlopCount:
    """Counts the operations of a jaxpr; of a conditional's branches, the dearest counts."""
    notes: dict[str, None] = {}  # ordered, each note once
    return FlopCount(_jaxpr_flops(jaxpr, notes), tuple(notes))


Notes = dict[str, None]


def _jaxpr_flops(jaxpr: core.ClosedJaxpr | core.Jaxpr, notes: Notes) -> int:
    inner = jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr
    return sum(_equation_flops(equation, notes) for equation in inner.eqns)


def _equation_flops(equation: core.JaxprEqn, notes: Notes) -> int:
    name = equation.primitive.name
    if name in _COUNTED:
        return _COUNTED[name](equation)
    inside = [_jaxpr_flops(jaxpr, notes) for jaxpr in _inner_jaxprs(equation.params.values())]
    if not any(inside):
        return 0
    if name == "cond":
        return max(inside)
    if name == "while":
        notes["a while loop's body is counted once: how often it runs is not known"] = None
    if name == "pallas_call":
        notes["a kernel's body is counted once, not for each block of its grid"] = None
    return _repeats(name, equation.params) * sum(inside)


def _inner_jaxprs(params: Iterable[Any]) -> list[core.ClosedJaxpr | core.Jaxpr]:
    found: list[core.ClosedJaxpr | core.Jaxpr] = []
    for value in params:
        if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += _inner_jaxprs(value)
    return found


def _repeats(name: str, params: Mapping[str, Any]) -> int:
    if name == "scan":
        return params["length"]
    if name == "shard_map":  # its body is what one shard does
        mesh = params["mesh"]
        axes = params.get("newly_manual_axes", params.get("manual_axes", mesh.axis_names))
        return math.prod(mesh.shape[axis] for axis in axes)
    return 1


def _dot_general_flops(equation: core.JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = _shape(equation.invars[0])
    return 2 * _size(equation.outvars[0]) * math.prod(shape[axis] for axis in contracted)


def _convolution_flops(equation: core.JaxprEqn) -> int:
    """Each output sums over the window and its group's input channels: a kernel / its outputs."""
    params, kernel = equation.params, equation.invars[1]
    outputs = _shape(kernel)[params["dimension_numbers"].rhs_spec[0]]
    dilated = math.prod(params["lhs_dilation"])
    return 2 * _size(equation.outvars[0]) * (_size(kernel) // max(outputs, 1)) // dilated


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _size(variable: Any) -> int:
    return math.prod(_shape(variable))


_COUNTED = {"dot_general": _dot_general_flops, "conv_general_dilated": _convolution_flops}

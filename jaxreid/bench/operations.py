"""Operations of a compiled program's instructions."""

from __future__ import annotations

import math
import re

from jaxreid.bench.hlo import Computation, Instruction, Program


def count(program: Program, computation: Computation, instruction: Instruction) -> float:
    """Operations of one run of an instruction: matrix products and convolutions, also inside."""
    opcode = instruction.opcode
    if opcode == "fusion":
        return _fused_flops(program, instruction.called["calls"][0])
    if opcode == "dot":
        return _dot_flops(computation, instruction, instruction.attribute("lhs_contracting_dims"))
    if "dim_labels=" in instruction.attributes:  # a convolution, or a custom call that is one
        return _convolution_flops(computation, instruction)
    if opcode == "custom-call":
        contracted = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.attributes)
        return _dot_flops(computation, instruction, contracted[1]) if contracted else 0.0
    return 0.0


def _fused_flops(program: Program, name: str) -> float:
    inner = program.computations[name]
    return sum(count(program, inner, one) for one in inner.instructions.values())


def _dot_flops(computation: Computation, instruction: Instruction, contracted: str) -> float:
    left, out = computation.inputs(instruction)[0], instruction.outputs[0]
    axes = [int(axis) for axis in re.findall(r"\d+", contracted)]
    return 2.0 * out.size * math.prod(left.dims[axis] for axis in axes)


def _convolution_flops(computation: Computation, instruction: Instruction) -> float:
    """Each output sums over the window and its group's input channels: a kernel / its outputs.

    Zeros between the inputs, which a strided convolution's gradient has, are not multiplied. (A TPU
    writes a batch of products as a convolution of that kind.) A gradient by cuDNN is labelled as
    the convolution that it is one of.
    """
    labels = instruction.attribute("dim_labels")
    first, second, result = *computation.inputs(instruction)[:2], instruction.outputs[0]
    target = instruction.attribute("custom_call_target")
    output, kernel = result, second
    if "convBackwardInput" in target:
        output = first
    elif "convBackwardFilter" in target:
        output, kernel = second, result
    out_axis = re.split(r"_|->", labels)[1].index("o")
    window = re.search(r"lhs_dilate=([0-9x]+)", instruction.attributes)
    dilated = math.prod(int(step) for step in window[1].split("x")) if window else 1
    outputs = max(1, kernel.dims[out_axis])
    return 2.0 * output.size * kernel.size / outputs / dilated

"""What a compiled program does: operations, bytes through main memory and between devices.

All figures are of one device, of one run, read off the program's text with loops counted as often
as they run. An instruction reads its operands and writes its outputs once: a fusion counts at its
boundary, and where it reads or writes a slice of an array, the slice counts. Memory other than main
memory (a TPU's on-chip memory) does not count; the padding of tiled layouts does, since it is moved
along.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from jaxreid.bench import collectives, operations
from jaxreid.bench.hlo import Array, Computation, Instruction, Program, module_of

# What names, groups or forwards values, or whose bodies are counted by themselves.
_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "conditional",
    "call",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "async-update",
    "async-done",
    "domain",
}
_LAYOUT = {"copy", "transpose", "bitcast", "reshape", "parameter", "tuple", "get-tuple-element"}
# Moves between memories, which the compiler adds ahead of what needs them.
_FETCHES = {
    "bitcast",
    "copy",
    "copy-done",
    "copy-start",
    "custom-call",
    "get-tuple-element",
    "slice-done",
    "slice-start",
}
_WORKSPACE = {"s8", "u8"}
_HOST = {"infeed", "outfeed", "send", "recv"}
_HOST_SPACE = 5
_HOST_CALLS = ("MoveToHost", "MoveToDevice", "PinToDevice", "callback", "host_")


@dataclasses.dataclass(frozen=True)
class Mover:
    """One instruction and all its runs.

    Attributes:
      name: its own.
      opcode: its kind.
      op_name: where it comes from, as JAX names it.
      runs: how often it runs.
      bytes: that it moves through main memory in all runs, padding included.
      padding: those of them that are padding of tiled layouts.
      flops: operations of all runs.
      is_layout_copy: it only rearranges.
    """

    name: str
    opcode: str
    op_name: str
    runs: int
    bytes: float
    padding: float
    flops: float
    is_layout_copy: bool


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What one run of a program does on one device.

    Attributes:
      movers: everything that moves bytes or computes, the largest mover first.
      collectives: the largest first.
      host_transfers: names of instructions that go to the host and back.
      notes: what could not be counted exactly.
    """

    movers: Sequence[Mover]
    collectives: Sequence[collectives.Collective]
    host_transfers: Sequence[str]
    notes: Sequence[str]

    @property
    def flops(self) -> float:
        """Operations of matrix products and convolutions."""
        return sum(mover.flops for mover in self.movers)

    @property
    def bytes(self) -> float:
        """Bytes moved through main memory, padding included."""
        return sum(mover.bytes for mover in self.movers)

    @property
    def padding(self) -> float:
        """Bytes among them that are padding."""
        return sum(mover.padding for mover in self.movers)

    @property
    def layout_copies(self) -> float:
        """Bytes among them that are only rearranged."""
        return sum(mover.bytes for mover in self.movers if mover.is_layout_copy)

    @property
    def sent(self) -> float:
        """Bytes that a device sends to others."""
        return sum(collective.sent for collective in self.collectives)


def measure(program: Program, devices: int = 1) -> Traffic:
    """Counts what a program does.

    Args:
      program: as `Program.read` gives it.
      devices: that run it together; a collective that names no groups spans all of them.
    """
    movers, sent, host, notes, channels = [], [], [], [], set()
    for computation, instruction, runs in program.running():
        if instruction.opcode == "while" and program.trips(instruction) is None:
            often = program.places(instruction) or 1
            notes.append(f"{instruction.name}: a loop of unknown length counts as {often} runs")
        if _goes_to_host(instruction):
            host.append(instruction.name)
        found = collectives.find(program, computation, instruction, runs, devices)
        if found is not None and found.channel not in channels:
            sent.append(found)
            channels |= {found.channel} - {""}
        mover = _mover(program, computation, instruction, runs)
        if mover.bytes or mover.flops:
            movers.append(mover)
    return Traffic(
        sorted(movers, key=lambda mover: -mover.bytes),
        sorted(sent, key=lambda collective: -collective.bytes),
        host,
        notes,
    )


def _mover(
    program: Program, computation: Computation, instruction: Instruction, runs: int
) -> Mover:
    moved = _moved(program, computation, instruction)
    padded = sum(array.padded_bytes * share for array, share in moved)
    logical = sum(array.bytes * share for array, share in moved)
    return Mover(
        name=instruction.name,
        opcode=instruction.opcode,
        op_name=_op_name(program, computation, instruction),
        runs=runs,
        bytes=runs * padded,
        padding=runs * (padded - logical),
        flops=runs * operations.count(program, computation, instruction),
        is_layout_copy=_is_layout_copy(program, instruction),
    )


def _op_name(program: Program, computation: Computation, instruction: Instruction) -> str:
    """Its own, or the first that is found inside of it, or that of what it is fetched for."""
    if instruction.op_name:
        return instruction.op_name
    if instruction.opcode == "fusion":
        inside = program.computations[instruction.called["calls"][0]].instructions.values()
        return next((one.op_name for one in reversed(list(inside)) if one.op_name), "")
    if instruction.opcode in _FETCHES:
        for user in computation.users(instruction.name):
            found = _op_name(program, computation, user)
            if found:
                return found
    return ""


Moved = list[tuple[Array, float]]
"""Arrays that are read or written, each with the share of it that is."""


def _moved(program: Program, computation: Computation, instruction: Instruction) -> Moved:
    if instruction.opcode in _FREE or instruction.opcode.endswith("-done"):
        return []
    if instruction.name.startswith("async-collective-done"):  # what the start has counted
        return []
    carried_in, carried_out = _carried(instruction)
    reads = [
        (array, _share_read(program, computation, instruction, place, array))
        for place, array in _operand_arrays(computation, instruction)
        if place not in carried_in
    ]
    outputs = instruction.outputs
    if _is_library_call(instruction):
        writes = [(array, 1.0) for array in outputs if array.dtype not in _WORKSPACE]
    elif instruction.opcode == "copy-start":  # returns the copy, its source and a flag
        writes = [(outputs[0], 1.0)]
    elif instruction.opcode.endswith("-start") and len(outputs) > len(reads):
        # Others return their operands, as many results, and flags.
        writes = [(array, 1.0) for array in outputs[len(reads) : 2 * len(reads)]]
    else:
        written = _share_written(program, computation, instruction)
        writes = [
            (array, share)
            for place, (array, share) in enumerate(zip(outputs, written, strict=True))
            if place not in carried_out
        ]
    return [(array, share) for array, share in (*reads, *writes) if array.space == 0 and share]


def _is_library_call(instruction: Instruction) -> bool:
    """Whether it calls cuBLAS or cuDNN, which return the room that they worked in, too."""
    target = instruction.attribute("custom_call_target")
    return instruction.opcode == "custom-call" and target.startswith(('"__cublas', '"__cudnn'))


def _carried(instruction: Instruction) -> tuple[set[int], set[int]]:
    """Operands and outputs that a fusion only hands on while a collective goes on beside it.

    On large slices a TPU's compiler spreads a collective over many fusions, each of which names it
    and its buffers again.
    """
    called = instruction.called.get("calls", ("",))[0]
    if instruction.opcode != "fusion" or not called.startswith("async_collective_fusion"):
        return set(), set()
    pairs = re.findall(r"\{(\d+)\}: \((\d+), \{\}\)", instruction.attributes)
    return {int(place) for _, place in pairs}, {int(place) for place, _ in pairs}


def _operand_arrays(computation: Computation, instruction: Instruction) -> list[tuple[int, Array]]:
    found = []
    for place, name in enumerate(instruction.operands):
        operand = computation.instructions.get(name)
        found += [(place, array) for array in operand.outputs] if operand else []
    return found


def _share_read(
    program: Program, computation: Computation, instruction: Instruction, place: int, array: Array
) -> float:
    """Share of an operand that an instruction reads."""
    if not array.size:
        return 0.0
    return min(1.0, _elements_read(program, computation, instruction, place, array) / array.size)


def _elements_read(
    program: Program, computation: Computation, instruction: Instruction, place: int, array: Array
) -> float:
    opcode = instruction.opcode
    if opcode == "slice-start":
        return instruction.outputs[1].size
    if opcode in ("dynamic-slice", "slice", "gather") and place == 0:
        return sum(out.size for out in instruction.outputs)
    if opcode in ("dynamic-update-slice", "scatter") and place == 0:
        return 0.0  # written in place
    if opcode != "fusion":
        return array.size
    inner = program.computations[instruction.called["calls"][0]]
    return _read_inside(program, inner, inner.parameters.get(place, ""), array)


def _read_inside(program: Program, inner: Computation, name: str, array: Array) -> float:
    """Elements that a fusion reads of one of its values, whatever forwards it looked through."""
    total = 0.0
    for user in inner.users(name):
        if user.opcode in ("bitcast", "get-tuple-element", "tuple"):
            total += array.size if user.is_root else _read_inside(program, inner, user.name, array)
        else:
            total += _elements_read(program, inner, user, user.operands.index(name), array)
    return total


def _share_written(
    program: Program, computation: Computation, instruction: Instruction
) -> list[float]:
    """Share of each output that an instruction writes."""
    opcode = instruction.opcode
    if opcode == "dynamic-update-slice":
        update = computation.instructions[instruction.operands[1]]
        return [sum(array.size for array in update.outputs) / max(1, instruction.outputs[0].size)]
    if opcode == "fusion":
        inner = program.computations[instruction.called["calls"][0]]
        roots = [inner.root]
        if inner.root.opcode == "tuple":
            roots = [inner.instructions[name] for name in inner.root.operands]
        shares = [share for root in roots for share in _written_inside(program, inner, root)]
        if len(shares) == len(instruction.outputs):
            return shares
    return [1.0] * len(instruction.outputs)


def _written_inside(program: Program, inner: Computation, root: Instruction) -> list[float]:
    while root.opcode == "bitcast" and root.operands[0] in inner.instructions:
        root = inner.instructions[root.operands[0]]
    return _share_written(program, inner, root)


def _is_layout_copy(program: Program, instruction: Instruction) -> bool:
    if instruction.opcode in ("copy", "transpose"):
        return True
    if instruction.opcode != "fusion":
        return False
    inside = program.computations[instruction.called["calls"][0]].instructions.values()
    opcodes = {one.opcode for one in inside}
    return opcodes <= _LAYOUT and bool(opcodes & {"copy", "transpose"})


def _goes_to_host(instruction: Instruction) -> bool:
    opcode = instruction.opcode.removesuffix("-start")
    if opcode in _HOST or any(array.space == _HOST_SPACE for array in instruction.outputs):
        return True
    target = instruction.attribute("custom_call_target")
    return opcode == "custom-call" and any(name in target for name in _HOST_CALLS)


def by_place(movers: Iterable[Mover]) -> dict[str, float]:
    """Bytes moved by module of the network, the largest first; "" for what is in none."""
    found: dict[str, float] = {}
    for mover in movers:
        where = module_of(mover.op_name)
        found[where] = found.get(where, 0.0) + mover.bytes
    return dict(sorted(found.items(), key=lambda item: -item[1]))

"""What the devices that run a compiled program tell each other."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable

from jaxreid.bench.hlo import Computation, Instruction, Program

_KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One communication and all its runs.

    Attributes:
      kind: such as "all-reduce".
      name: its own.
      op_name: where it comes from.
      runs: how often it runs.
      bytes: of its operands on one device, in all runs.
      sent: bytes that a device sends, if they go round in a ring.
      devices: that take part in one.
      channel: tells it from others where several instructions name it; "" where it has none.
    """

    kind: str
    name: str
    op_name: str
    runs: int
    bytes: float
    sent: float
    devices: int
    channel: str = ""


def find(
    program: Program, computation: Computation, instruction: Instruction, runs: int, devices: int
) -> Collective | None:
    """Returns the communication that an instruction is, if it is one.

    Args:
      program: that it belongs to.
      computation: that it stands in.
      instruction: any.
      runs: how often it runs.
      devices: that run the program; groups that are not named span all of them.
    """
    inner = _communicating(program, computation, instruction)
    if inner is None:
        return None
    computation, one = inner
    kind = one.opcode.removesuffix("-start")
    size = sum(array.bytes for array in computation.inputs(one))
    taking_part = _group_size(one, devices)
    return Collective(
        kind=kind,
        name=instruction.name,
        op_name=one.op_name or instruction.op_name,
        runs=runs,
        bytes=runs * size,
        sent=runs * size * _sent_share(kind, taking_part),
        devices=taking_part,
        channel=one.attribute("channel_id"),
    )


def _communicating(
    program: Program, computation: Computation, instruction: Instruction
) -> tuple[Computation, Instruction] | None:
    """The collective that an instruction is or that is fused into it."""
    if instruction.opcode.removesuffix("-start") in _KINDS:
        return computation, instruction
    if instruction.opcode == "fusion":
        inner = program.computations[instruction.called["calls"][0]]
        for one in inner.instructions.values():
            found = _communicating(program, inner, one)
            if found is not None:
                return found
    return None


def _group_size(instruction: Instruction, devices: int) -> int:
    attributes = instruction.attributes
    listed = re.search(r"replica_groups=\{\{([0-9,]+)\}", attributes)
    if listed:
        return listed[1].count(",") + 1
    counted = re.search(r"replica_groups=\[(?:\d+,)*(\d+)\]<=", attributes)
    if counted:
        return int(counted[1])
    named = re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\S+)? \{(.*?)\}", attributes)
    if not named:
        return devices
    # Axes of a mesh and their sizes, and those along which they talk, whole or in part: 'b':(2)4.
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
    along = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", named[2])
    return math.prod(int(part or sizes[axis]) for axis, part in along)


def _sent_share(kind: str, devices: int) -> float:
    """Bytes that a device sends for each byte of its operands, going round in a ring."""
    others = devices - 1
    return {
        "all-reduce": 2 * others / devices,
        "all-gather": float(others),
        "reduce-scatter": others / devices,
        "all-to-all": others / devices,
    }.get(kind, 1.0)


def by_kind(collectives: Iterable[Collective]) -> dict[str, float]:
    """Bytes of operands by kind of collective."""
    found: dict[str, float] = {}
    for one in collectives:
        found[one.kind] = found.get(one.kind, 0.0) + one.bytes
    return found

"""Reads the text of a compiled program, ``compiled.as_text()``.

Its form is XLA's own and may change: what cannot be read is left out rather than refused, but for a
text in which no program is found.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

_BITS = {
    "pred": 8,
    "bf16": 16,
    "token": 0,
    "opaque": 0,
    "c64": 64,
    "c128": 128,
}
_LAYOUT = r"\{(?P<layout>[^{}]*)\}"
_ARRAY = re.compile(rf"(?P<dtype>[a-z]+[a-z0-9]*)\[(?P<dims>[0-9,<=]*)\](?:{_LAYOUT})?")
_TILE = re.compile(r"\(([0-9,]+)\)")
_SPACE = re.compile(r"S\((\d+)\)")
_NAME = re.compile(r"%([\w.\-]+)")
_INSTRUCTION = re.compile(r"\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = ")
_HEADER = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_CALLED = re.compile(
    r"\b(calls|to_apply|body|condition|true_computation|false_computation|branch_computations"
    r"|called_computations)=(\{[^}]*\}|%[\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_OPEN, _CLOSE = "([{", ")]}"


@dataclasses.dataclass(frozen=True)
class Array:
    """Type, shape and layout of one array.

    Attributes:
      dtype: as XLA writes it: f32, bf16, s32, pred.
      dims: its shape.
      order: axes from the fastest one on; empty where the text does not say.
      tile: of the fastest axes, the slower one first; empty where memory is not tiled.
      space: number of the memory that it lies in; 0 is the device's main memory.
    """

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    space: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> float:
        """Bytes of the elements."""
        return self.size * _bits(self.dtype) / 8

    @property
    def padded_bytes(self) -> float:
        """Bytes that it takes up in memory, the padding of its tiles included."""
        axes = [self.dims[axis] for axis in reversed(self.order)] or list(self.dims)
        axes = [1] * (len(self.tile) - len(axes)) + axes
        first = len(axes) - len(self.tile)
        for place, tile in enumerate(self.tile, start=first):
            axes[place] = -(-axes[place] // tile) * tile
        return math.prod(axes) * _bits(self.dtype) / 8


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    found = re.match(r"[a-z]+(\d+)", dtype)
    return int(found[1]) if found else 0


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
      name: its own, without the percent sign.
      opcode: such as "fusion", "dot", "while".
      outputs: what it returns, a tuple laid flat.
      operands: names of the instructions that it reads.
      attributes: the rest of its text.
      value: of a constant, as it stands there.
      is_root: whether it is what its computation returns.
    """

    name: str
    opcode: str
    outputs: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    value: str = ""
    is_root: bool = False

    @property
    def op_name(self) -> str:
        """Where it comes from, by JAX's names of functions and modules; empty: not known."""
        found = _OP_NAME.search(self.attributes)
        return found[1] if found else ""

    @property
    def called(self) -> dict[str, tuple[str, ...]]:
        """Computations that it calls, by the name of the attribute."""
        return {
            name: tuple(_NAME.findall(value)) for name, value in _CALLED.findall(self.attributes)
        }

    @property
    def stated_trips(self) -> int | None:
        """How often a loop runs, where the compiler has written it down."""
        found = _TRIPS.search(self.attributes)
        return int(found[1]) if found else None

    def attribute(self, name: str) -> str:
        """Text of an attribute; empty where it is missing."""
        found = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^\s,]+)", self.attributes)
        return found[1] if found else ""

    @property
    def bytes(self) -> float:
        """Bytes of what it returns."""
        return sum(array.bytes for array in self.outputs)


@dataclasses.dataclass(frozen=True)
class Computation:
    """A function of a program.

    Attributes:
      name: its own.
      instructions: by name, in order.
    """

    name: str
    instructions: Mapping[str, Instruction]

    @functools.cached_property
    def root(self) -> Instruction:
        """What it returns."""
        return next(i for i in self.instructions.values() if i.is_root)

    @functools.cached_property
    def parameters(self) -> dict[int, str]:
        """Names of its parameters by their number."""
        found = (i for i in self.instructions.values() if i.opcode == "parameter")
        return {int(i.operands[0]): i.name for i in found}

    def users(self, name: str) -> list[Instruction]:
        """Instructions that read another one."""
        return [self.instructions[user] for user in self._users.get(name, ())]

    @functools.cached_property
    def _users(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                found.setdefault(operand, []).append(instruction.name)
        return found

    def inputs(self, instruction: Instruction) -> list[Array]:
        """Arrays that an instruction of this computation reads."""
        read = (self.instructions[o] for o in instruction.operands if o in self.instructions)
        return [array for one in read for array in one.outputs]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
      computations: by name.
      entry: name of the one that runs first.
    """

    computations: Mapping[str, Computation]
    entry: str

    @classmethod
    def read(cls, text: str) -> Program:
        """Reads a text.

        Raises:
          ValueError: no program is found in it.
        """
        computations, entry = {}, ""
        for header, lines in _blocks(text):
            found = [_instruction(line) for line in lines]
            name = header["name"]
            computations[name] = Computation(name, {i.name: i for i in found if i is not None})
            entry = name if header["entry"] else entry
        if not entry:
            raise ValueError("the text is no compiled program: it has no line that begins ENTRY.")
        return cls(computations, entry)

    def find(self, name: str) -> Instruction | None:
        """Returns the instruction of a name, wherever it is."""
        return self._by_name.get(name)

    @functools.cached_property
    def _by_name(self) -> dict[str, Instruction]:
        return {n: i for c in self.computations.values() for n, i in c.instructions.items()}

    def trips(self, loop: Instruction) -> int | None:
        """How often a loop runs; None where it is not known.

        A TPU's compiler does not write it down. There it is read off a condition that compares a
        counter, which begins at 0 and goes up by 1 as `jax.lax.scan` has it, with a constant.
        """
        if loop.stated_trips is not None:
            return loop.stated_trips
        condition = self.computations[loop.called["condition"][0]]
        root = condition.root
        if root.opcode != "compare" or root.attribute("direction") != "LT":
            return None
        counter, limit = (condition.instructions[name] for name in root.operands)
        if counter.opcode != "get-tuple-element" or limit.opcode != "constant":
            return None
        return int(limit.value) if limit.value.isdigit() else None

    def places(self, loop: Instruction) -> int | None:
        """Places of the arrays that a loop fills one by one: it runs so often at most.

        For loops that end when the data says so. None where it fills no array.
        """
        found = []
        for instruction in self._inside(loop.called["body"][0]):
            computation = self._computation_of[instruction.name]
            if instruction.opcode == "dynamic-update-slice":
                whole, part = (computation.instructions[o] for o in instruction.operands[:2])
                axes = zip(whole.outputs[0].dims, part.outputs[0].dims, strict=True)
                found += [places for places, size in axes if size == 1 < places]
        return max(found, default=None)

    def _inside(self, name: str) -> Iterator[Instruction]:
        """Instructions of a computation and of its fusions."""
        for instruction in self.computations[name].instructions.values():
            yield instruction
            if instruction.opcode == "fusion":
                for fused in instruction.called.get("calls", ()):
                    yield from self._inside(fused)

    @functools.cached_property
    def _computation_of(self) -> dict[str, Computation]:
        return {n: c for c in self.computations.values() for n in c.instructions}

    def running(self) -> Iterator[tuple[Computation, Instruction, int]]:
        """Yields what runs one by one: (computation, instruction, how often).

        Bodies of loops and conditionals are gone into; fusions, reductions' functions and the like
        are part of their instruction. A loop whose trips are not known counts as often as it can
        run, see `places`, or once.
        """
        yield from self._running(self.entry, 1)

    def _running(self, name: str, times: int) -> Iterator[tuple[Computation, Instruction, int]]:
        computation = self.computations[name]
        for instruction in computation.instructions.values():
            yield computation, instruction, times
            called = instruction.called
            if instruction.opcode == "while":
                often = self.trips(instruction)
                often = (self.places(instruction) or 1) if often is None else often or 1
                for body in (*called.get("body", ()), *called.get("condition", ())):
                    yield from self._running(body, times * often)
            elif instruction.opcode in ("conditional", "call", "async-start"):
                for body in (n for names in called.values() for n in names):
                    yield from self._running(body, times)


def _blocks(text: str) -> Iterator[tuple[re.Match[str], list[str]]]:
    header: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.splitlines():
        if header is None:
            header, lines = _HEADER.match(line), []
        elif line.startswith("}"):
            yield header, lines
            header = None
        else:
            lines.append(line)


def _instruction(line: str) -> Instruction | None:
    found = _INSTRUCTION.match(line)
    if found is None:
        return None
    rest = line[found.end() :]
    end = _closing(rest, 0) if rest.startswith("(") else rest.find(" ")
    opening = rest.find("(", end)
    closing = _closing(rest, opening)
    inside = rest[opening + 1 : closing - 1]
    opcode = rest[end:opening].strip()
    named = (inside,) if opcode == "parameter" else tuple(_NAME.findall(inside))
    return Instruction(
        name=found["name"],
        opcode=opcode,
        outputs=arrays(rest[:end]),
        operands=named,
        attributes=rest[closing:],
        value=inside if opcode == "constant" else "",
        is_root=bool(found["root"]),
    )


def _closing(text: str, opening: int) -> int:
    """Returns the place behind the bracket that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(text)):
        depth += (text[place] in _OPEN) - (text[place] in _CLOSE)
        if not depth:
            return place + 1
    return len(text)


def arrays(shape: str) -> tuple[Array, ...]:
    """Reads a shape, or a tuple of them.

    >>> arrays("bf16[4,96]{1,0:T(8,128)(2,1)}")[0].padded_bytes
    2048.0
    """
    return tuple(_array(found) for found in _ARRAY.finditer(shape))


def _array(found: re.Match[str]) -> Array:
    order, _, memory = (found["layout"] or "").partition(":")
    tile = _TILE.search(memory) if memory.startswith("T") else None
    space = _SPACE.search(memory)
    return Array(
        found["dtype"],
        _numbers(found["dims"].replace("<=", "")),
        _numbers(order),
        _numbers(tile[1]) if tile else (),
        int(space[1]) if space else 0,
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number.strip().isdigit())


def readable(op_name: str) -> str:
    """Shortens JAX's name of an operation to modules and primitive.

    >>> readable("jit(step)/transpose(jvp(SSAN))/SSAN.encode_image/backbone/conv1/dot_general")
    'SSAN/backbone/conv1/dot_general, backward'
    """
    backward = ", backward" if "transpose(" in op_name else ""
    return "/".join(_scopes(op_name)) + backward


def module_of(op_name: str, depth: int = 2) -> str:
    """Module that an operation belongs to; empty for what is in no module.

    >>> module_of("jit(step)/transpose(jvp(SSAN))/SSAN.encode_image/backbone/conv1/dot_general")
    'SSAN/backbone'
    """
    modules = _scopes(op_name)[:-1]
    # The outermost is called as its class; other scopes are those of functions.
    if not modules or not modules[0][0].isupper():
        return ""
    return "/".join(modules[:depth])


def _scopes(op_name: str) -> list[str]:
    """Its modules and primitive, without the names of functions, methods and transformations."""
    parts = (part for part in op_name.split("/") if not re.fullmatch(r"p?jit\(.*\)", part))
    bare = (re.sub(r"^(?:\w+\()*([^()]*)\)*$", r"\1", part) for part in parts)
    return [part for part in bare if part and not re.fullmatch(r"[A-Z]\w*\.\w+", part)]

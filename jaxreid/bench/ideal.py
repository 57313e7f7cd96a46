"""Memory and traffic of a program by counting, for devices whose compiler is not here.

A jaxpr is read in its order, under one rule of what is written to memory: an array that a product,
convolution, loop, sort, gather or scatter takes or gives, and what a reduction gives. All else
(arithmetic element by element, casts, copies, slices) is computed where it is needed, out of the
arrays in memory that it depends on. An array stays from when it is written to its last use, so what
the backward pass needs is kept from the forward pass on. A compiler does about that; it may keep
more, and a library's kernel takes room to work in, which is not counted.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jax.extend import core

# What reads its operands from memory and writes its results there.
_KERNELS = {
    "conv_general_dilated",
    "cumsum",
    "dot_general",
    "reduce_window",
    "reduce_window_max",
    "reduce_window_sum",
    "select_and_gather_add",
    "select_and_scatter_add",
    "sort",
    "top_k",
}
# Likewise, but of the first operand only as much as the second (or the result) has.
_IN_PLACE = {"dynamic_update_slice", "scatter", "scatter-add", "scatter_add"}
_LOOPS = {"scan", "while"}
_SLICES = {"dynamic_slice", "slice", "split", "squeeze", "unstack"}
# Give back the array that they take.
_VIEWS = {
    "copy",
    "copy_p",
    "optimization_barrier",
    "reshape",
    "reshard",
    "sharding_constraint",
    "squeeze",
    "stop_gradient",
    "transpose",
}


@dataclasses.dataclass(frozen=True)
class Count:
    """What one run of a program takes.

    Attributes:
      peak: most bytes that its intermediate arrays take at one time, arguments not counted.
      moved: bytes read from memory and written to it.
    """

    peak: float
    moved: float


def count(jaxpr: core.ClosedJaxpr) -> Count:
    """Counts a program.

    Args:
      jaxpr: of it; its results take the place of arguments, as those of a training step do.

    >>> import jax, jax.numpy as jnp
    >>> def f(a, b):
    ...     return jnp.sum(jnp.tanh(a @ b) + 1)
    >>> found = count(jax.make_jaxpr(f)(jnp.ones((8, 4)), jnp.ones((4, 8))))
    >>> found.peak  # the product, and the sum
    260
    >>> found.moved  # both operands, the product twice, the sum
    772.0
    """
    walk = _Walk()
    inner = jaxpr.jaxpr
    arguments = [walk.argument(variable) for variable in (*inner.constvars, *inner.invars)]
    for result in walk.run(inner, arguments):
        walk.give(result)
    return walk.count()


@dataclasses.dataclass
class _Buffer:
    """An array in memory.

    Attributes:
      size: bytes; 0 for one that is not counted.
      read: bytes that one reading of all of it takes.
      made: the pass that has written it.
      first: place in the program where it is written.
      last: place of its last use.
    """

    size: float
    read: float
    made: int
    first: int
    last: int


@dataclasses.dataclass
class _Value:
    """A value of the program: an array in memory, or one computed where it is needed.

    Attributes:
      size: its bytes.
      reads: number of the array in memory -> share of it that is read for this value.
      in_memory: `reads` is this very array.
    """

    size: float
    reads: dict[int, float]
    in_memory: bool = False


class _Walk:
    """Goes through a program and keeps account."""

    def __init__(self) -> None:
        self._buffers: list[_Buffer] = []
        self._read: dict[tuple[int, int], float] = {}
        self._written = 0.0
        self._extra: list[tuple[int, float]] = []
        self._clock = itertools.count()
        self._now = 0

    def argument(self, variable: Any) -> _Value:
        """A value that is in memory from the start."""
        size = _bytes(variable)
        return self._store(size, made=0, counts=False)

    def count(self) -> Count:
        """Sums up."""
        changes: dict[int, float] = {}
        for buffer in self._buffers:
            changes[buffer.first] = changes.get(buffer.first, 0) + buffer.size
            changes[buffer.last + 1] = changes.get(buffer.last + 1, 0) - buffer.size
        for place, size in self._extra:
            changes[place] = changes.get(place, 0) + size
            changes[place + 1] = changes.get(place + 1, 0) - size
        alive = itertools.accumulate(change for _, change in sorted(changes.items()))
        read = sum(
            self._buffers[number].read * min(share, 1.0)
            for (number, _), share in self._read.items()
        )
        return Count(max(alive, default=0), read + self._written)

    def run(self, jaxpr: core.Jaxpr, arguments: Sequence[_Value]) -> list[_Value]:
        """Goes through the equations of a jaxpr; constants stand before the arguments."""
        values: dict[Any, _Value] = dict(
            zip((*jaxpr.constvars, *jaxpr.invars), arguments, strict=True)
        )

        def value(atom: Any) -> _Value:
            return _Value(_bytes(atom), {}) if isinstance(atom, core.Literal) else values[atom]

        for equation in jaxpr.eqns:
            self._now = next(self._clock)
            results = self._apply(equation, [value(atom) for atom in equation.invars])
            values.update(zip(equation.outvars, results, strict=True))
        return [value(atom) for atom in jaxpr.outvars]

    def _apply(self, equation: core.JaxprEqn, operands: Sequence[_Value]) -> list[_Value]:
        name = equation.primitive.name
        inner = _inlined(name, equation.params)
        if inner is not None:
            body = inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner
            if name == "cond":
                operands = operands[1:]
            constants = [self.argument(variable) for variable in body.constvars]
            return self.run(body, [*constants, *operands])
        sizes = [_bytes(variable) for variable in equation.outvars]
        if name in _VIEWS and len(operands) == len(sizes) == 1:
            if operands[0].size == sizes[0]:
                return [operands[0]]
        elif name in _VIEWS and len(operands) == len(sizes):
            return list(operands)
        if name in _LOOPS:
            return self._loop(name, equation.params, operands, sizes)
        if name == "gather":
            return self._gather(operands, sizes[0])
        if name in _IN_PLACE:
            return self._update(operands, sizes[0])
        if name in _KERNELS:
            return self._kernel(operands, sizes)
        if name.startswith(("reduce_", "arg")):
            made = self._pass(operands)
            self._fetch(operands, made)
            return [self._store(size, made) for size in sizes]
        return self._fused(name, operands, sizes)

    def _fused(self, name: str, operands: Sequence[_Value], sizes: Sequence[float]) -> list[_Value]:
        reads: dict[int, float] = {}
        for operand in operands:
            for number, share in operand.reads.items():
                reads[number] = max(share, reads.get(number, 0.0))
        results = []
        for size in sizes:
            share = 1.0
            if name in _SLICES and operands[0].size:
                share = min(1.0, size / operands[0].size)
            results.append(_Value(size, {number: share * r for number, r in reads.items()}))
        return results

    def _kernel(self, operands: Sequence[_Value], sizes: Sequence[float]) -> list[_Value]:
        for operand in operands:
            self._write(operand)
        made = self._pass(operands)
        self._fetch(operands, made)
        return [self._store(size, made) for size in sizes]

    def _gather(self, operands: Sequence[_Value], size: float) -> list[_Value]:
        for operand in operands:
            self._write(operand)
        source, *rest = operands
        made = self._pass(operands)
        share = min(1.0, size / source.size) if source.size else 0.0
        self._fetch([_Value(size, {number: share for number in source.reads}), *rest], made)
        return [self._store(size, made)]

    def _update(self, operands: Sequence[_Value], size: float) -> list[_Value]:
        """Writes a part of the first operand, which the result takes the place of."""
        for operand in operands:
            self._write(operand)
        part = min(operands[1:], key=lambda operand: abs(operand.size - size), default=operands[0])
        made = self._pass(operands)
        self._fetch(operands[1:], made)
        self._touch(operands[0])
        result = self._store(size, made)
        self._written += min(part.size, size) - size
        for number in operands[0].reads:
            buffer = self._buffers[number]
            if buffer.last == self._now and buffer.size == size:
                buffer.last = self._now - 1
        return [result]

    def _loop(
        self,
        name: str,
        params: Mapping[str, Any],
        operands: Sequence[_Value],
        sizes: Sequence[float],
    ) -> list[_Value]:
        """A loop's body by itself, as often as it runs; a while loop of unknown length once."""
        body = params["jaxpr"] if name == "scan" else params["body_jaxpr"]
        times = params.get("length", 1)
        for operand in operands:
            self._write(operand)
        one = count(body)
        made = self._pass(operands)
        self._touch(*operands)
        results = [self._store(size, made) for size in sizes]
        self._written += times * one.moved - sum(sizes)
        self._extra.append((self._now, one.peak))
        return results

    def give(self, value: _Value) -> None:
        """Writes a result of the program where an argument was."""
        if not value.in_memory:
            self._now = next(self._clock)
            self._fetch([value], self._pass([value]))
            self._written += value.size

    def _write(self, value: _Value) -> None:
        """Brings a value into memory that was computed where needed."""
        if value.in_memory:
            return
        made = self._pass([value])
        self._fetch([value], made)
        stored = self._store(value.size, made)
        value.reads, value.in_memory = stored.reads, True
        self._now = next(self._clock)  # what it was computed from may go before it is used

    def _pass(self, operands: Iterable[_Value]) -> int:
        """The first pass over memory in which all these are there; all of a pass read once."""
        made = (self._buffers[number].made for value in operands for number in value.reads)
        return 1 + max(made, default=0)

    def _fetch(self, operands: Iterable[_Value], number_of_pass: int) -> None:
        for value in operands:
            self._touch(value)
            for number, share in value.reads.items():
                key = number, number_of_pass
                self._read[key] = self._read.get(key, 0.0) + share

    def _touch(self, *operands: _Value) -> None:
        for value in operands:
            for number in value.reads:
                self._buffers[number].last = max(self._buffers[number].last, self._now)

    def _store(self, size: float, made: int, *, counts: bool = True) -> _Value:
        held = size if counts else 0
        self._buffers.append(_Buffer(held, size, made, self._now, self._now))
        if counts:
            self._written += size
        return _Value(size, {len(self._buffers) - 1: 1.0}, in_memory=True)


def _inlined(name: str, params: Mapping[str, Any]) -> core.ClosedJaxpr | core.Jaxpr | None:
    """The body of an equation that is nothing but its body."""
    if name == "cond":  # by platform, the last branch is that of any but the CPU
        return params["branches"][-1]
    if name in _LOOPS or name.startswith("reduce_"):
        return None
    found = (params.get(key) for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"))
    bodies = [one for one in found if isinstance(one, core.ClosedJaxpr | core.Jaxpr)]
    return bodies[0] if bodies else None


def _bytes(atom: Any) -> float:
    shape = getattr(atom.aval, "shape", ())
    dtype = getattr(atom.aval, "dtype", None)
    return math.prod(shape) * (dtype.itemsize if dtype is not None else 0)

"""Gradients of jaxreid in float64 against those of a record, in a process of their own.

  python -m tests.reference.double [--live] CASE ...

jaxreid computes in float32 wherever precision matters, and says so by `jnp.float32`. Here that name
means float64 before anything else is imported, so that the very same code runs in double. Prints
JSON: for each case the largest error of each array, see `compare.errors`.
"""

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)  # compiles in two thirds of the time
jnp.float32 = jnp.float64

_uniform = jax.random.uniform


def _same_draws(key: jax.Array, shape: tuple[int, ...], *_: Any) -> jax.Array:
    """The numbers that are drawn in float32; those of float64 are others."""
    return _uniform(key, shape, np.float32).astype(np.float64)


jax.random.uniform = _same_draws

from tests.reference import cases, compare, fixtures, ours  # noqa: E402


def main(arguments: list[str]) -> None:
    """Compares the gradients of some cases."""
    live = "--live" in arguments
    found = {}
    for name in arguments[live:]:
        case = cases.CASES[name]
        if live:
            from tests.reference import record

            expected = record.record(case)
        else:
            expected = fixtures.load(name)
        gradients = ours.Ours(case, expected).gradients()
        assert {x.dtype for x in gradients.values()} == {np.dtype(np.float64)}
        found[name] = compare.errors(gradients, ours.only(expected, "grad", "loss"))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])

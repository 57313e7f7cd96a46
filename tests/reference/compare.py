"""How far two records lie apart."""

import json
import os
import subprocess
import sys

import jax
import numpy as np

from tests.reference.cases import Arrays

SMALLEST = 1e-4
"""A gradient that is 0 in exact arithmetic, as that of a bias before BatchNorm, is noise: it is
measured by this share of the largest gradient rather than by itself."""


def errors(found: Arrays, expected: Arrays) -> dict[str, float]:
    """Largest difference in each array, as a share of the largest magnitude in it.

    Raises:
      AssertionError: not the same names, or other shapes.
    """
    assert set(found) == set(expected), set(found) ^ set(expected)
    shapes = {name: (found[name].shape, x.shape) for name, x in expected.items()}
    assert all(one == other for one, other in shapes.values()), shapes
    largest = {name: float(np.abs(x).max(initial=0)) for name, x in expected.items()}
    gradients = [size for name, size in largest.items() if name.startswith("grad/")]
    floor = SMALLEST * max(gradients, default=0)
    return {
        name: float(np.abs(np.asarray(found[name], np.float64) - x).max(initial=0))
        / (max(largest[name], floor if name.startswith("grad/") else 0) or 1)
        for name, x in expected.items()
    }


def assert_close(found: Arrays, expected: Arrays, tolerance: float) -> None:
    """Fails with the arrays that lie further apart than that, worst first."""
    beyond = {name: x for name, x in errors(found, expected).items() if not x <= tolerance}
    worst = sorted(beyond.items(), key=lambda item: -item[1])[:10]
    assert not beyond, f"{len(beyond)} of {len(expected)} arrays beyond {tolerance}: {worst}"


def assert_gradients(names: list[str], *, live: bool) -> None:
    """Runs `double` on some cases, and fails with the gradients that lie further apart.

    Args:
      names: of the cases.
      live: PyTorch computes the other side now; else it is read from the fixtures, where float64
        was rounded to float32.
    """
    command = [
        sys.executable,
        "-m",
        "tests.reference.double",
        *(["--live"] if live else []),
        *names,
    ]
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or ""}
    cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **cache}
    )
    assert result.returncode == 0, result.stderr[-4000:]
    tolerance = 1e-10 if live else 1e-7
    for name, found in json.loads(result.stdout).items():
        beyond = {key: x for key, x in found.items() if not x <= tolerance}
        assert len(found) > 20
        assert not beyond, f"{name}: beyond {tolerance}: {beyond}"

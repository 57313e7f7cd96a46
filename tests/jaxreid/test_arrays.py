"""Vectors of length 1."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid import arrays


def test_docstring_examples():
    result = doctest.testmod(arrays)
    assert result.attempted
    assert result.failed == 0


def test_unit_is_safe_at_zero():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(arrays.unit(x), [[0.6, 0.8], [0, 0]], atol=1e-6)
    grad = jax.grad(lambda x: jnp.sum(arrays.unit(x)))(x)
    assert np.isfinite(grad).all()
    assert (np.asarray(grad)[1] == 0).all()


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5)])
def test_unit_works_along_the_last_axis_in_float32(shape):
    x = jax.random.normal(jax.random.key(0), shape, jnp.bfloat16)
    found = arrays.unit(x)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-5)

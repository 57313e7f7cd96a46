"""Vectors of length 1, lengths, and what waits for what."""

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


def test_what_waits_keeps_its_values():
    x, earlier = jnp.array([1.0, -jnp.inf, 3.0]), jnp.array([-4.0, 5.0, jnp.inf])
    np.testing.assert_array_equal(arrays.after(x, earlier), x)
    np.testing.assert_array_equal(arrays.after(x.astype(jnp.bfloat16), earlier), x)
    np.testing.assert_array_equal(arrays.after(x.reshape(1, 3), earlier[:1]), x.reshape(1, 3))


@pytest.mark.parametrize(("platform", "waits"), [("cpu", True), ("tpu", False), ("cuda", False)])
def test_only_a_cpu_lets_anything_wait(platform, waits):
    traced = jax.jit(arrays.after).trace(jnp.ones(3), jnp.ones(3))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.minimum" in text) == waits


def test_norm_is_that_of_all_numbers_in_float32():
    """2,000 numbers of one sign, added up in any order, are exact to 2,000 roundings of 2^-24."""
    rng = np.random.default_rng(0)
    parts = [rng.uniform(1, 2, shape).astype(np.float32) for shape in [(), (7,), (3, 40, 16)]]
    found = arrays.norm([*map(jnp.asarray, parts), jnp.ones(50, jnp.bfloat16), jnp.zeros((0, 2))])
    expected = np.sqrt(sum(np.square(part.astype(np.float64)).sum() for part in parts) + 50)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=2000 * 2**-24)
    assert arrays.norm([]) == 0

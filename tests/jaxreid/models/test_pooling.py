"""Pooling against what XLA and NumPy say, ties and what is not a number included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models import pooling


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def _tied(rng, shape):
    """Few different values: a window holds its maximum more than once."""
    return jnp.asarray(rng.integers(0, 3, shape), jnp.float32)


@pytest.mark.parametrize(
    ("size", "strides", "padding", "shape"),
    [
        (3, 2, 1, (2, 8, 6, 3)),
        (3, 2, 1, (1, 7, 5, 2)),
        (2, 2, 0, (2, 5, 4, 3)),
        (3, 1, 1, (1, 4, 4, 1)),
    ],
)
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_max_pool_written_out_is_that_of_xla(rng, size, strides, padding, shape, platform):
    """Values and, to the first maximum of each window, gradients: the sums are of whole numbers."""
    x = _tied(rng, shape)

    def pull(platform):
        y, back = jax.vjp(lambda x: pooling.max_pool(x, size, strides, padding, platform), x)
        return y, back(jnp.arange(y.size, dtype=jnp.float32).reshape(y.shape))[0]

    for ours, xla in zip(pull(platform), pull("tpu"), strict=True):
        np.testing.assert_array_equal(ours, xla)


def test_the_gradient_of_max_pool_does_not_vanish_with_what_is_no_number():
    x = jnp.array([[1.0, jnp.nan], [3.0, 2.0]]).reshape(1, 2, 2, 1)
    y, pull = jax.vjp(lambda x: pooling.max_pool(x, 2, 2, 0, "cpu"), x)
    assert np.isnan(y).all()
    np.testing.assert_array_equal(pull(jnp.ones_like(y))[0].ravel(), [0, 1, 0, 0])


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_gradient_of_a_peak_goes_to_its_first_place(rng, axis, platform):
    x = _tied(rng, (3, 5, 4))
    y, pull = jax.vjp(lambda x: pooling.peak(x, axis, platform), x)
    np.testing.assert_array_equal(y, np.max(x, axis))
    expected = np.zeros(x.shape, np.float32)
    place = np.expand_dims(np.argmax(x, axis), axis)
    grad = jnp.arange(1.0, y.size + 1).reshape(y.shape)
    np.put_along_axis(expected, place, np.expand_dims(grad, axis), axis)
    np.testing.assert_array_equal(pull(grad)[0], expected)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_a_peak_is_no_number_where_one_entry_is_none(platform):
    x = jnp.array([1.0, jnp.nan, 3.0, jnp.nan])
    y, pull = jax.vjp(lambda x: pooling.peak(x, 0, platform), x)
    assert np.isnan(y)
    np.testing.assert_array_equal(pull(jnp.float32(1))[0], [0, 1, 0, 0])


def test_masked_max_ignores_padding():
    x = -jnp.arange(1.0, 13.0).reshape(2, 3, 2)
    lengths = jnp.array([2, 0])
    np.testing.assert_array_equal(pooling.masked_max(x, lengths), [[-1, -2], [0, 0]])
    grad = jax.grad(lambda x: jnp.sum(pooling.masked_max(x, lengths)))(x)
    expected = np.zeros((2, 3, 2))
    expected[0, 0] = 1
    np.testing.assert_array_equal(grad, expected)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_products_never_all_in_memory_have_the_same_maximum(rng, dtype):
    """Values and, to the first maximum, gradients; small whole numbers are exact in bfloat16."""
    weights, x = _tied(rng, (4, 6, 3)).astype(dtype), _tied(rng, (4, 6, 5)).astype(dtype) - 1
    lengths = jnp.array([6, 3, 0, 1])

    def pull(platform):
        def pool(weights, x):
            return pooling.masked_max_of_products(weights, x, lengths, platform)

        y, back = jax.vjp(pool, weights, x)
        np.testing.assert_array_equal(jax.jit(pool)(weights, x), y)  # without a gradient
        return y, *back((jnp.arange(y.size) % 5).astype(dtype).reshape(y.shape))

    for on_cpu, elsewhere in zip(pull("cpu"), pull("gpu"), strict=True):
        assert on_cpu.dtype == dtype
        np.testing.assert_array_equal(on_cpu, elsewhere)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (1, 2)])
def test_mean_pool_and_its_gradient(rng, rows, columns):
    """An odd last row and column are left out, and get no gradient."""
    x = jnp.asarray(rng.normal(size=(2, 5, 7, 3)), jnp.float32)
    height, width = 5 // rows, 7 // columns

    def plain(x):
        even = x[:, : height * rows, : width * columns]
        return even.reshape(2, height, rows, width, columns, 3).mean((2, 4))

    def total(pool):
        return lambda x: jnp.sum(jnp.sin(pool(x)))

    found = jax.value_and_grad(total(lambda x: pooling.mean_pool(x, rows, columns)))(x)
    expected = jax.value_and_grad(total(plain))(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)

"""Batch normalisation against NumPy, its gradient against JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models import normalization


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def normalise(x, mean, var):
    return (x - mean) / np.sqrt(var + 1e-5)


@pytest.fixture(scope="module")
def norm():
    """BatchNorm per part with running statistics that are not the initial ones."""
    module = normalization.BatchNorm(feature_axes=2)
    variables = {
        "params": {"scale": jnp.ones((2, 3)), "bias": jnp.zeros((2, 3))},
        "batch_stats": {"mean": jnp.full((2, 3), 0.5), "var": jnp.full((2, 3), 2.0)},
    }

    @jax.jit
    def train(x, mask):
        out, new = module.apply(
            variables, x, use_running_average=False, mask=mask, mutable="batch_stats"
        )
        return out, new["batch_stats"]

    return module, variables, train


@pytest.mark.parametrize("rows", [4, 3, 2])
def test_batch_norm_counts_only_valid_rows(norm, rng, rows):
    x = jnp.asarray(rng.normal(2, 3, size=(4, 2, 3)), jnp.float32)
    mask = jnp.arange(4) < rows
    out, stats = norm[2](x, mask)
    mean, var = x[:rows].mean(0), x[:rows].var(0)
    np.testing.assert_allclose(out[:rows], normalise(x[:rows], mean, var), atol=1e-4)
    np.testing.assert_allclose(stats["mean"], 0.9 * 0.5 + 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(
        stats["var"], 0.9 * 2.0 + 0.1 * var * rows / (rows - 1), atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("rows", [0, 1])
def test_batch_norm_without_enough_rows_uses_running_statistics(norm, rng, rows):
    module, variables, train = norm
    x = jnp.asarray(rng.normal(size=(4, 2, 3)), jnp.float32)
    out, stats = train(x, jnp.arange(4) < rows)
    np.testing.assert_allclose(out, normalise(x, 0.5, 2.0), atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, stats, variables["batch_stats"])
    np.testing.assert_allclose(module.apply(variables, x, use_running_average=True), out, atol=1e-6)


def test_batch_norm_over_a_map_in_bfloat16(rng):
    x = jnp.asarray(rng.normal(3, 2, size=(2, 4, 3, 5)), jnp.bfloat16)
    module = normalization.BatchNorm(dtype=jnp.bfloat16)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        variables = module.init(jax.random.key(0), x, use_running_average=True)
        out, new = module.apply(variables, x, use_running_average=False, mutable="batch_stats")
    assert out.dtype == jnp.bfloat16
    assert {v.dtype for v in jax.tree.leaves((variables, new))} == {jnp.dtype(jnp.float32)}
    x = np.asarray(x, np.float32)
    expected = normalise(x, x.mean((0, 1, 2)), x.var((0, 1, 2)))
    np.testing.assert_allclose(np.asarray(out, np.float32), expected, atol=0.02)


def plain_batch_norm(x, scale, bias, mask):
    """The same as sums that JAX differentiates."""
    weight = jnp.broadcast_to(mask.reshape(-1, 1, 1), x.shape).astype(x.dtype)
    total = weight.sum((0, 1))
    mean = (x * weight).sum((0, 1)) / total
    var = (jnp.square(x - mean.reshape(1, 1, -1)) * weight).sum((0, 1)) / total
    factor = (scale / jnp.sqrt(var + 1e-5)).reshape(1, 1, -1)
    return (x - mean.reshape(1, 1, -1)) * factor + bias.reshape(1, 1, -1)


@pytest.mark.parametrize("rows", [4, 3])
def test_gradients_of_batch_norm(rng, rows):
    """Also through mean and variance, of which rows that do not count are no part."""
    x = jnp.asarray(rng.normal(2, 3, size=(4, 5, 3)), jnp.float32)
    params = {name: jnp.asarray(rng.normal(size=3), jnp.float32) for name in ("scale", "bias")}
    module = normalization.BatchNorm()
    stats = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    mask = jnp.arange(4) < rows

    def ours(x, params):
        variables = {"params": params, "batch_stats": stats}
        how = {"use_running_average": False, "mask": None if rows == 4 else mask}
        return jnp.sum(jnp.sin(module.apply(variables, x, **how, mutable="batch_stats")[0]))

    def plain(x, params):
        return jnp.sum(jnp.sin(plain_batch_norm(x, **params, mask=mask)))

    found, expected = (jax.grad(total, (0, 1))(x, params) for total in (ours, plain))
    # Sums of 20 terms of order 1, the variance in one pass here and in two there.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)


@pytest.mark.parametrize("use_running_average", [True, False])
def test_gradient_where_running_statistics_normalise(rng, use_running_average):
    """In evaluation, and in training where no row counts: then nothing flows through them."""
    x = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)
    module = normalization.BatchNorm()
    stats = {"mean": jnp.full(3, 0.5), "var": jnp.full(3, 3.0)}
    variables = {"params": {"scale": jnp.full(3, 2.0), "bias": jnp.ones(3)}, "batch_stats": stats}
    how = {"use_running_average": use_running_average, "mask": jnp.zeros(2, bool)}
    grad = jax.grad(lambda x: module.apply(variables, x, **how, mutable="batch_stats")[0].sum())(x)
    np.testing.assert_allclose(grad, np.full((2, 3), 2 / np.sqrt(3.0 + 1e-5)), rtol=1e-6)


def test_relu():
    x = jnp.array([-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(normalization.relu(x), [0, 0, 2])
    grad = jax.grad(lambda x: jnp.sum(normalization.relu(x) * jnp.array([3.0, 4.0, 5.0])))(x)
    np.testing.assert_array_equal(grad, [0, 0, 5])

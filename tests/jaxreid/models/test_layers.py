"""Layers against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models import layers


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("strides", [1, 2])
def test_pointwise_dot_equals_convolution(rng, strides):
    x = jnp.asarray(rng.normal(size=(2, 7, 5, 4)), jnp.float32)
    as_dot = layers.Conv(6, 1, strides, pointwise="dot")
    as_conv = layers.Conv(6, 1, strides, pointwise="conv")
    params = as_dot.init(jax.random.key(0), x)
    assert params["params"]["kernel"].shape == (1, 1, 4, 6)

    def total(params, module):
        return jnp.sum(jnp.sin(module.apply(params, x)))

    np.testing.assert_allclose(as_dot.apply(params, x), as_conv.apply(params, x), atol=1e-6)
    np.testing.assert_allclose(
        jax.grad(total)(params, as_dot)["params"]["kernel"],
        jax.grad(total)(params, as_conv)["params"]["kernel"],
        atol=1e-5,
    )


def test_pointwise_mode_by_back_end(monkeypatch):
    assert layers.pointwise_as_dot("auto")
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert not layers.pointwise_as_dot("auto")
    assert layers.pointwise_as_dot("dot")
    with pytest.raises(ValueError, match="pointwise='fast'"):
        layers.pointwise_as_dot("fast")


def test_convolution_pads_on_both_sides(rng):
    """Stride 2 with padding 1 starts one row outside, as torch does, unlike "SAME"."""
    x = jnp.asarray(rng.normal(size=(1, 4, 4, 1)), jnp.float32)
    module = layers.Conv(1, 3, 2, padding=1, use_bias=True)
    params = module.init(jax.random.key(0), x)
    kernel = np.asarray(params["params"]["kernel"])[:, :, 0, 0]
    padded = np.pad(np.asarray(x)[0, :, :, 0], 1)
    expected = [[np.sum(padded[r : r + 3, c : c + 3] * kernel) for c in (0, 2)] for r in (0, 2)]
    np.testing.assert_allclose(module.apply(params, x)[0, :, :, 0], expected, atol=1e-6)


def normalise(x, mean, var):
    return (x - mean) / np.sqrt(var + 1e-5)


@pytest.fixture(scope="module")
def norm():
    """BatchNorm per part with running statistics that are not the initial ones."""
    module = layers.BatchNorm(feature_axes=2)
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
    module = layers.BatchNorm(dtype=jnp.bfloat16)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        variables = module.init(jax.random.key(0), x, use_running_average=True)
        out, new = module.apply(variables, x, use_running_average=False, mutable="batch_stats")
    assert out.dtype == jnp.bfloat16
    assert {v.dtype for v in jax.tree.leaves((variables, new))} == {jnp.dtype(jnp.float32)}
    x = np.asarray(x, np.float32)
    expected = normalise(x, x.mean((0, 1, 2)), x.var((0, 1, 2)))
    np.testing.assert_allclose(np.asarray(out, np.float32), expected, atol=0.02)


def test_part_linear_and_its_initial_values(rng):
    x = jnp.asarray(rng.normal(size=(2, 3, 64)), jnp.float32)
    module = layers.PartLinear(200)
    params = module.init(jax.random.key(0), x)
    kernel = np.asarray(params["params"]["kernel"])
    assert kernel.shape == (3, 64, 200)
    assert kernel.std() == pytest.approx(np.sqrt(2 / 200), rel=0.05)
    expected = np.stack([x[:, k] @ kernel[k] for k in range(3)], axis=1)
    np.testing.assert_allclose(module.apply(params, x), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_product_and_its_gradients(rng, dtype):
    x = jnp.asarray(rng.normal(size=(4, 3, 8)), dtype)
    kernel = jnp.asarray(rng.normal(size=(3, 8, 6)), jnp.float32)

    def total(multiply):
        return lambda x, kernel: jnp.sum(jnp.sin(multiply(x, kernel)))

    found = jax.jit(
        jax.value_and_grad(
            total(lambda x, k: layers.product("bki,kio->bko", x, k, dtype)), argnums=(0, 1)
        )
    )(x, kernel)
    expected = jax.value_and_grad(
        total(lambda x, k: jnp.einsum("bki,kio->bko", x.astype(jnp.float32), k)), argnums=(0, 1)
    )(x, kernel)
    assert found[1][0].dtype == dtype
    assert found[1][1].dtype == jnp.float32
    tolerance = 1e-5 if dtype == jnp.float32 else 0.1
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, np.float32), np.asarray(b, np.float32), atol=tolerance, rtol=tolerance
        ),
        found,
        expected,
    )


def test_bfloat16_products_are_narrow_on_accelerators():
    """Only the CPU, which lacks such products, widens the factors."""
    x = jnp.ones((4, 8), jnp.bfloat16)
    traced = jax.jit(lambda x: layers.accumulate("bi,ci->bc", x, x)).trace(x)
    for platform, kind in (("tpu", "bf16"), ("cuda", "bf16"), ("cpu", "f32")):
        dots = [
            line
            for line in traced.lower(lowering_platforms=(platform,)).as_text().splitlines()
            if "dot_general" in line
        ]
        assert len(dots) == 1
        assert f"(tensor<4x8x{kind}>" in dots[0]


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 5)])
def test_classifier_never_counts_padding_classes(rng, shape):
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    module = layers.Classifier(300)
    params = module.init(jax.random.key(0), x)
    logits = module.apply(params, x)
    assert logits.shape == (*shape[:-1], 512)
    assert logits.dtype == jnp.float32
    probabilities = jax.nn.softmax(logits)
    assert (np.asarray(probabilities)[..., 300:] == 0).all()
    grad = jax.grad(lambda p: jnp.sum(jax.nn.logsumexp(module.apply(p, x), axis=-1)))(params)
    assert np.isfinite(grad["params"]["kernel"]).all()
    assert (np.asarray(grad["params"]["kernel"])[..., 300:] == 0).all()


def test_count_parameters_leaves_out_padding_classes():
    params = {
        "heads": {"kernel": jnp.zeros((4, 256))},
        "classifier_part": {"kernel": jnp.zeros((2, 4, 256)), "bias": jnp.zeros((2, 256))},
    }
    assert layers.count_parameters(params) == 4 * 256 + 10 * 256
    assert layers.count_parameters(params, 7) == 4 * 256 + 10 * 7


def test_what_is_a_classifier():
    assert layers.is_classifier("params/classifier_part/kernel")
    assert not layers.is_classifier("params/my_classifier/kernel")


def test_symmetric_uniform():
    values = layers.symmetric_uniform(0.25)(jax.random.key(0), (64, 64))
    assert np.abs(values).max() <= 0.25
    assert np.std(values) == pytest.approx(0.25 / np.sqrt(3), rel=0.02)


def test_masked_max_ignores_padding():
    x = -jnp.arange(1.0, 13.0).reshape(2, 3, 2)
    lengths = jnp.array([2, 0])
    np.testing.assert_array_equal(layers.masked_max(x, lengths), [[-1, -2], [0, 0]])
    grad = jax.grad(lambda x: jnp.sum(layers.masked_max(x, lengths)))(x)
    expected = np.zeros((2, 3, 2))
    expected[0, 0] = 1
    np.testing.assert_array_equal(grad, expected)

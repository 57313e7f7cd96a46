"""Layers against NumPy."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models import layers


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


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
    (logits,) = module.apply(params, x)
    assert logits.shape == (*shape[:-1], 512)
    assert logits.dtype == jnp.float32
    probabilities = jax.nn.softmax(logits)
    assert (np.asarray(probabilities)[..., 300:] == 0).all()
    grad = jax.grad(lambda p: jnp.sum(jax.nn.logsumexp(module.apply(p, x)[0], axis=-1)))(params)
    assert np.isfinite(grad["params"]["kernel"]).all()
    assert (np.asarray(grad["params"]["kernel"])[..., 300:] == 0).all()


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 5)])
def test_features_classified_together_are_classified_as_alone(rng, shape):
    """To float32: the products are the same, and their gradients are summed in another order."""
    first, second = jnp.asarray(rng.normal(size=(2, *shape)), jnp.float32)
    module = layers.Classifier(7)
    params = module.init(jax.random.key(0), first)
    together = module.apply(params, first, second)
    for mine, x in zip(together, (first, second), strict=True):
        np.testing.assert_allclose(mine, module.apply(params, x)[0], rtol=1e-6)

    def loss(params, *groups):
        found = [module.apply(params, *group) for group in groups]
        return sum(jnp.sum(jax.nn.logsumexp(x, axis=-1)) for one in found for x in one)

    joint = jax.grad(loss)(params, (first, second))
    apart = jax.grad(loss)(params, (first,), (second,))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), joint, apart)


def test_a_donated_parameter_is_not_copied_on_a_cpu():
    """Its gradient waits for its last use, so that it can be updated in place."""

    def update(kernel, x):
        def loss(kernel, x):
            hidden = layers.product("bi,io->bo", jnp.sin(x), kernel, jnp.float32)
            return jnp.sum(jnp.square(hidden))

        of_kernel, of_x = jax.grad(loss, (0, 1))(kernel, x)
        return kernel - 0.1 * of_kernel, of_x

    arguments = jnp.ones((24, 40)), jnp.ones((8, 24))
    program = jax.jit(update, donate_argnums=0).lower(*arguments).compile().as_text()
    assert "f32[24,40]" in program
    assert not re.search(r"= f32\[24,40\]\S* copy\(", program)


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

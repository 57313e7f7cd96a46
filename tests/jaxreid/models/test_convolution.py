"""Convolutions against NumPy, and the forms for a CPU against XLA's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid import sharding
from jaxreid.models import convolution, platforms


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("strides", [1, 2])
def test_pointwise_dot_equals_convolution(rng, strides):
    x = jnp.asarray(rng.normal(size=(2, 7, 5, 4)), jnp.float32)
    as_dot = convolution.Conv(6, 1, strides, platform="cpu")
    as_conv = convolution.Conv(6, 1, strides, platform="gpu")
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


def test_several_devices_add_up_a_kernels_gradient_and_move_no_map(rng):
    """Three of them, on which no halves of the pixels lie."""
    mesh = sharding.make_mesh(1, jax.devices()[:3])
    x = jnp.asarray(rng.normal(size=(48, 32, 16, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(4, 8)), jnp.float32)

    def gradients(x, kernel):
        def total(x, kernel):
            return jnp.sum(jnp.sin(convolution.product_of_pixels(x, kernel)))

        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.grad(total, argnums=(0, 1))(x, kernel)

    placed = jax.device_put(x, sharding.by_batch(mesh)), kernel
    program = jax.jit(gradients).lower(*placed).compile()
    moved = re.findall(r" (all-[a-z-]+|collective-permute|reduce-scatter)\(", program.as_text())
    assert moved == ["all-reduce"]
    for found, expected in zip(program(*placed), gradients(x, kernel), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_platform_is_that_of_the_back_end(monkeypatch):
    assert platforms.on_cpu("auto")
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert not platforms.on_cpu("auto")
    assert platforms.on_cpu("cpu")
    assert platforms.on_tpu("auto")
    assert not platforms.on_tpu("gpu")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not platforms.on_cpu("auto")
    assert not platforms.on_tpu("auto")
    assert platforms.on_tpu("tpu")
    with pytest.raises(ValueError, match="platform='fast'"):
        platforms.on_cpu("fast")


def test_convolution_pads_on_both_sides(rng):
    """Stride 2 with padding 1 starts one row outside, as torch does, unlike "SAME"."""
    x = jnp.asarray(rng.normal(size=(1, 4, 4, 1)), jnp.float32)
    module = convolution.Conv(1, 3, 2, padding=1, use_bias=True)
    params = module.init(jax.random.key(0), x)
    kernel = np.asarray(params["params"]["kernel"])[:, :, 0, 0]
    padded = np.pad(np.asarray(x)[0, :, :, 0], 1)
    expected = [[np.sum(padded[r : r + 3, c : c + 3] * kernel) for c in (0, 2)] for r in (0, 2)]
    np.testing.assert_allclose(module.apply(params, x)[0, :, :, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "kernel", "padding", "strides"),
    [((7, 6), (3, 3), (1, 1), 2), ((8, 5), (1, 1), (0, 0), 2), ((9, 7), (5, 3), (2, 0), 3)],
)
def test_gradients_of_a_convolution_on_cpu(rng, size, kernel, padding, strides):
    """Sizes that the step divides and that it does not; a kernel smaller than the step."""
    x = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*kernel, 3, 4)), jnp.float32)

    def total(convolve):
        return lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel, strides, padding)))

    found = jax.value_and_grad(total(convolution.convolution_on_cpu), (0, 1))(x, kernel)
    expected = jax.value_and_grad(total(convolution.convolution), (0, 1))(x, kernel)
    # Sums of up to 45 products of order 1, in another order.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (5, 3)])
def test_gradients_of_a_product_of_many_pixels(rng, inputs, outputs):
    """So many that the sum over them is taken in halves."""
    x = jnp.asarray(rng.normal(size=(2, 64, 64, inputs)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(inputs, outputs)), jnp.float32)

    def total(multiply):
        return lambda x, kernel: jnp.mean(jnp.sin(multiply(x, kernel)))

    found = jax.value_and_grad(total(convolution.product_of_pixels), (0, 1))(x, kernel)
    expected = jax.value_and_grad(total(jnp.matmul), (0, 1))(x, kernel)
    # Each half sums 4,096 terms of order 1 / 40,000.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)

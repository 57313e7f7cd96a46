"""Depthwise convolution as shifted products: XLA's own convolution says what is right."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models.depthwise import DepthwiseConv, shifted_products


@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (5, 1)])
def test_values_and_gradients_are_those_of_the_convolution(kernel):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 7, 6)), jnp.float32)
    params = DepthwiseConv(kernel).init(jax.random.key(0), x)
    assert params["params"]["kernel"].shape == (*kernel, 1, 6)

    def shifted(params, x):
        return shifted_products(x, params["params"]["kernel"][:, :, 0])

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(convolve, params, x):
        def loss(params, x):
            return jnp.sum(jnp.sin(convolve(params, x)))

        return jax.value_and_grad(loss, argnums=(0, 1))(params, x)

    found = value_and_gradients(shifted, params, x)
    expected = value_and_gradients(DepthwiseConv(kernel).apply, params, x)
    # Sums of at most nine products, and of 70 in the kernel's gradient.
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-5), found, expected
    )

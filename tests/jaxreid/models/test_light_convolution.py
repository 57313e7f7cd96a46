"""A light convolution as a CPU computes it: the same function, and less of it kept."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid import sharding
from jaxreid.models.light_convolution import LightConv, light_convolution_on_cpu


@pytest.mark.parametrize("taps", [(3, 3), (1, 3)])
def test_values_gradients_and_statistics_are_those_of_two_convolutions(taps):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 6, 5, 8)), jnp.float32)

    def light(platform):
        return LightConv(6, taps, platform=platform)

    variables = light("cpu").init(jax.random.key(0), x, False)

    @functools.partial(jax.jit, static_argnums=0)
    def step(platform, variables, x):
        def loss(params, x):
            given = variables | {"params": params}
            y, changed = light(platform).apply(given, x, False, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(y)), (y, changed)

        return jax.grad(loss, (0, 1), has_aux=True)(variables["params"], x)

    found, expected = step("cpu", variables, x), step("gpu", variables, x)
    # Sums of at most 90 products.
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5), found, expected
    )


def test_the_compute_type_is_that_of_the_network():
    x = jnp.ones((1, 3, 3, 2))
    light = LightConv(4, (3, 3), jnp.bfloat16, platform="cpu")
    y, variables = light.init_with_output(jax.random.key(0), x, True)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_a_gradient_that_is_no_number_shows():
    x, kernel, taps = jnp.ones((1, 3, 3, 2)), jnp.ones((2, 2)), jnp.ones((3, 3, 2))
    grads = jax.vjp(light_convolution_on_cpu, x, kernel, taps)[1](jnp.full((1, 3, 3, 2), jnp.nan))
    assert all(jnp.isnan(grad).all() for grad in grads)


def test_of_each_two_maps_are_kept_and_not_the_third_between_them():
    x = jax.ShapeDtypeStruct((2, 24, 24, 16), jnp.float32)

    def temporaries(count):
        """Maps that a step of so many light convolutions computes in."""
        network = nn.Sequential([_Trained(16, (3, 3), platform="cpu") for _ in range(count)])

        def step(variables, x):
            def loss(params):
                given = variables | {"params": params}
                y, changed = network.apply(given, x, mutable=["batch_stats"])
                return jnp.sum(jnp.sin(y)), changed

            return jax.grad(loss, has_aux=True)(variables["params"])

        variables = jax.eval_shape(network.init, jax.random.key(0), x)
        compiled = jax.jit(step).lower(variables, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes / (4 * x.size)

    # What it takes, and what its BatchNorm takes; the map between is 1.2 with its border.
    assert 1.9 < (temporaries(6) - temporaries(3)) / 3 < 2.6


def test_several_devices_wait_for_no_other_to_compute_it_again():
    """They add up gradients of parameters, and move nothing else."""
    mesh = sharding.make_mesh(1, jax.devices()[:2])
    rng = np.random.default_rng(0)
    shapes = (4, 6, 5, 3), (3, 8), (3, 3, 8)
    x, *params = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)

    def gradients(x, kernel, taps):
        def total(*given):
            return jnp.sum(jnp.sin(light_convolution_on_cpu(*given)))

        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.grad(total, argnums=(0, 1, 2))(x, kernel, taps)

    placed = jax.device_put(x, sharding.by_batch(mesh)), *params
    program = jax.jit(gradients).lower(*placed).compile()
    collective = r"= (.*) (all-[a-z-]+|collective-permute|reduce-scatter)\("
    moved = re.findall(collective, program.as_text())
    assert {kind for _, kind in moved} == {"all-reduce"}
    arrays = sum(len(re.findall(r"f32\[", shape)) for shape, _ in moved)
    assert arrays == 1 + 3 * 3  # the kernel's gradient, and that of each tap
    for found, expected in zip(program(*placed), gradients(x, *params), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


class _Trained(LightConv):
    """With the statistics of the batch."""

    def __call__(self, x):
        return super().__call__(x, use_running_average=False)

"""Light convolutions as dense ones, side by side, as on a TPU: still the same network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models import light_convolution, osnet
from jaxreid.models.light_convolution import LightConv


def _network(x, platform):
    """A block between its gate and a loss; returns what shows whether two forms are one network."""
    block = osnet.Block(8, 16, (3, 3), platform=platform)

    def run(module, x):
        streams = module.split(x, use_running_average=False)
        scales = jnp.stack([jnp.mean(y, (1, 2)) for y in streams], axis=1)
        return module.merge(x, streams, scales, use_running_average=False), streams

    variables = block.init(jax.random.key(0), x, method=run)

    @jax.jit
    def step(variables, x):
        def loss(params):
            given = variables | {"params": params}
            (y, streams), changed = block.apply(given, x, method=run, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(y)), (y, streams, changed)

        return jax.grad(loss, has_aux=True)(variables["params"])

    return variables, step


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(3, 6, 5, 8)), jnp.float32)


@pytest.mark.parametrize(("tile", "together"), [(3, 1), (8, 2), (12, 3), (128, 4)])
def test_values_gradients_and_statistics_are_those_of_two_convolutions(
    monkeypatch, x, tile, together
):
    monkeypatch.setattr(osnet, "TILE", tile)
    widths = []
    convolution = light_convolution.convolution

    def note(x, kernel, **how):
        widths.append(kernel.shape[-1] // 4)
        return convolution(x, kernel, **how)

    monkeypatch.setattr(light_convolution, "convolution", note)
    variables, separable = _network(x, "gpu")
    same, dense = _network(x, "tpu")
    jax.tree.map(np.testing.assert_array_equal, variables, same)
    widths.clear()
    found, expected = dense(variables, x), separable(variables, x)
    assert max(widths) == together
    # Ten light convolutions, each of them in one of the groups.
    assert sum(widths) == 10
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5), found, expected
    )


def test_running_statistics_normalise_the_streams_likewise(x):
    def run(module, x):
        return module.split(x, use_running_average=True)

    def streams(platform):
        return osnet.Block(8, 16, (1, 3), platform=platform).apply(variables, x, method=run)

    variables = osnet.Block(8, 16, (1, 3)).init(jax.random.key(0), x, method=run)
    rng = np.random.default_rng(1)
    variables["batch_stats"] = jax.tree.map(
        lambda old: jnp.asarray(rng.uniform(0.5, 2, old.shape), jnp.float32),
        variables["batch_stats"],
    )
    for found, expected in zip(streams("tpu"), streams("gpu"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_light_convolution_alone(x):
    def light(platform):
        return LightConv(8, (3, 3), platform=platform)

    variables = light("gpu").init(jax.random.key(0), x, True)
    found, expected = (light(platform).apply(variables, x, True) for platform in ("tpu", "gpu"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)

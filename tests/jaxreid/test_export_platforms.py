"""Each platform of an exported program gets the form of a layer that suits it."""

import jax
import jax.numpy as jnp
import pytest
from jax import export as jax_export

from jaxreid import export
from jaxreid.models import layers
from jaxreid.models.light_convolution import LightConv


@pytest.mark.parametrize(
    ("target", "platform", "products", "convolutions"),
    [("cpu", "cpu", 1, 0), ("cuda", "gpu", 0, 2), ("tpu", "tpu", 0, 1)],
)
def test_each_platform_gets_its_form_of_a_convolution(target, platform, products, convolutions):
    class Light(layers.nn.Module):
        platform: str = "auto"

        @layers.nn.compact
        def __call__(self, x):
            return LightConv(3, (1, 3), platform=self.platform)(x, True)

    x = jnp.ones((2, 4, 4, 5))
    model = Light()
    variables = model.init(jax.random.key(0), x)

    def encode(model, variables, x):
        return model.apply(variables, x)

    def operations(model):
        chosen = export._by_platform(model, encode)
        program = jax_export.export(jax.jit(chosen), platforms=(target,))(variables, x)
        text = program.mlir_module()
        return text.count("stablehlo.dot_general"), text.count("stablehlo.convolution")

    assert operations(model) == (products, convolutions)
    assert operations(model.clone(platform=platform)) == (products, convolutions)
    # What was asked for by name stays, whatever the platform.
    asked = {"cpu": (1, 0), "gpu": (0, 2), "tpu": (0, 1)}
    assert {name: operations(model.clone(platform=name)) for name in asked} == asked


def test_a_network_without_a_choice():
    assert not hasattr(layers.Linear, "platform")
    encode = export._by_platform(layers.Linear(3), lambda model, x: (model.features, x))
    assert encode(7) == (3, 7)

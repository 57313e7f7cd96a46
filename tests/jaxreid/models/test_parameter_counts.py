"""Exact parameter counts: a network that changes by one weight fails here.

`VARIANTS` maps a name to fields of the network. Configurations are counted the same way: add their
`model` fields to `VARIANTS` under the preset's name; a name without a row in `COUNTS` fails.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

from jaxreid.models.layers import count_parameters
from jaxreid.models.ssan import build

VOCABULARY = 5_000
NO_RELATION = {"relation": "none"}
BASELINE = {"part": False, **NO_RELATION}

VARIANTS = {
    "paper": {},
    "released": {"formulation": "released"},
    "paper_vgg16": {"backbone": "vgg"},
    "released_vgg16": {"backbone": "vgg", "formulation": "released"},
    "baseline": BASELINE,
    "baseline_released": {**BASELINE, "formulation": "released"},
    "baseline_unshared": {**BASELINE, "shared_projection": False},
    "pfl": NO_RELATION,
    "pfl_conv1x1": {"relation": "conv1x1"},
}

COUNTS = {
    "paper": 95_286_336,
    "released": 97_858_624,
    "paper_vgg16": 37_724_992,
    "released_vgg16": 40_297_280,
    "baseline": 70_108_224,
    "baseline_released": 70_108_224,
    "baseline_unshared": 72_205_376,
    "pfl": 82_703_424,
    "pfl_conv1x1": 85_849_152,
}


@functools.cache
def parameter_shapes(name, num_classes=0):
    """Nothing is allocated: shapes only."""
    model = build(VARIANTS[name], vocab_size=VOCABULARY, num_classes=num_classes, dtype=jnp.float32)
    batch = (
        jnp.zeros((2, 384, 128, 3)),
        jnp.ones((2, 1, 4), jnp.int32),
        jnp.ones((2, 1), jnp.int32),
        jnp.ones((2, 1), bool),
    )
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), *batch)["params"]


def test_every_variant_has_a_row():
    assert set(VARIANTS) == set(COUNTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_parameter_count(name):
    assert count_parameters(parameter_shapes(name)) == COUNTS[name]


def test_counts_of_the_modules():
    params = parameter_shapes("paper")
    assert count_parameters(params["backbone"]) == 23_508_032
    assert count_parameters(params["lstm"]) == 41_943_040
    assert count_parameters(parameter_shapes("paper_vgg16")["backbone"]) == 14_714_688


@pytest.mark.parametrize(("classes", "padded"), [(11_003, 11_008)])
def test_counts_of_the_classifiers(classes, padded):
    """112,813,759 for the 11,003 identities of CUHK-PEDES, padding classes not counted."""
    params = parameter_shapes("paper", classes)
    assert count_parameters(params, classes) == COUNTS["paper"] + 112_813_759
    assert count_parameters(params) == COUNTS["paper"] + padded * (10_240 + 13)

"""What SSAN refuses, and how it is made from the fields of a configuration."""

import functools

import jax
import jax.numpy as jnp
import pytest

from jaxreid.models.ssan import SSAN, build


def make(*, dtype=jnp.float32, **fields):
    config = {"stage_sizes": [1, 1], "block": "basic", "width": 8, "num_parts": 3, **fields}
    return build(config, vocab_size=20, num_classes=5, dtype=dtype)


def initial_shapes(model, captions=2):
    """Trace with images whose map has three rows."""
    batch = (
        jnp.zeros((2, 24, 16, 3)),
        jnp.ones((2, captions, 4), jnp.int32),
        jnp.ones((2, captions), jnp.int32),
        jnp.ones((2, captions), bool),
    )
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), *batch)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_parts": 2}, "num_parts=2 does not divide the 3 rows"),
        ({"backbone": "vit"}, "backbone='vit'"),
        ({"formulation": "both"}, "formulation='both'"),
        ({"relation": "all"}, "relation='all'"),
        ({"part": False}, "needs part features"),
        ({"global_dim": 0}, "global_dim=0"),
        ({"platform": "fast", "block": "bottleneck"}, "platform='fast'"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        initial_shapes(make(**fields))


def test_three_captions_are_refused():
    with pytest.raises(ValueError, match="3 captions per image"):
        initial_shapes(make(), captions=3)


def test_build_refuses_unknown_fields():
    with pytest.raises(ValueError, match="num_part of the SSAN model.*num_parts"):
        make(num_part=6)


def test_build_takes_names_of_types():
    model = make(dtype="bfloat16")
    assert isinstance(model, SSAN)
    assert model.dtype == jnp.bfloat16
    assert model.stage_sizes == (1, 1)

"""The mesh, and which array lies how on it."""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxreid import losses, optimizers, sharding

PARAMS = {
    "backbone": {"kernel": jnp.zeros((3, 8))},
    "classifier_global": {"kernel": jnp.ones((4, 256)), "bias": jnp.ones(256)},
    "parts": {"classifier_part": {"kernel": jnp.ones((6, 4, 256))}},
}


@pytest.mark.parametrize(("model", "shape"), [(1, (8, 1)), (2, (4, 2)), (8, (1, 8))])
def test_mesh(model, shape):
    mesh = sharding.make_mesh(model)
    assert mesh.axis_names == ("data", "model")
    assert mesh.devices.shape == shape


@pytest.mark.parametrize("model", [0, 3, 16, -1])
def test_a_mesh_that_the_devices_do_not_give(model):
    with pytest.raises(ValueError, match=f"config.mesh.model is {model}, .* the 8 devices here"):
        sharding.make_mesh(model)


def test_a_mesh_that_the_padded_classes_do_not_fit(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 6)
    with pytest.raises(ValueError, match="config.mesh.model is 3; classes are padded to a multi"):
        sharding.make_mesh(3)


def test_the_batch_is_split_over_both_axes():
    place = sharding.by_batch(sharding.make_mesh(2))
    array = jax.device_put(jnp.arange(16), place)
    parts = sorted(shard.data.tolist() for shard in array.addressable_shards)
    assert parts == [[2 * i, 2 * i + 1] for i in range(8)]


@pytest.mark.parametrize(("size", "next_one"), [(12, 16), (4, 8), (0, 8), (-8, 8), (9, 16)])
def test_batches_that_the_devices_cannot_share(size, next_one):
    mesh = sharding.make_mesh(2)
    with pytest.raises(
        ValueError,
        match=rf"config\.batch_size is {size}; .* 8 devices here .*next one is {next_one}\)",
    ):
        sharding.check_batch_size(size, mesh, "config.batch_size")


def test_batches_that_the_devices_can_share():
    for size in (8, 16, 64):
        sharding.check_batch_size(size, sharding.make_mesh(1), "config.batch_size")


def specs(tree, model=4):
    places = sharding.state_shardings(tree, sharding.make_mesh(model))
    return {
        sharding.path_name(path): place.spec
        for path, place in jax.tree_util.tree_flatten_with_path(places)[0]
    }


def test_classifiers_are_split_by_class():
    assert specs(PARAMS) == {
        "backbone/kernel": PartitionSpec(),
        "classifier_global/bias": PartitionSpec("model"),
        "classifier_global/kernel": PartitionSpec(None, "model"),
        "parts/classifier_part/kernel": PartitionSpec(None, None, "model"),
    }


def test_their_optimiser_state_too():
    stage = {
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "decay_epochs": (),
        "decay_factor": 0.1,
        "weight_decay": 0.0,
        "rates": {"^backbone/": 0.1},
        "frozen": (),
    }
    optimizer = optimizers.make_optimizer(stage, PARAMS, steps_per_epoch=1)
    found = specs(jax.eval_shape(optimizer.init, PARAMS))
    split = {name: spec for name, spec in found.items() if spec != PartitionSpec()}
    assert len(split) == 2 * 3  # both moments of the three arrays
    for name, spec in split.items():
        assert "/classifier_" in name
        assert spec[-1] == "model"


def test_arrays_lie_as_they_should():
    mesh = sharding.make_mesh(4)
    placed = jax.jit(lambda: PARAMS, out_shardings=sharding.state_shardings(PARAMS, mesh))()
    kernel = placed["classifier_global"]["kernel"]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(4, 64)}
    assert placed["backbone"]["kernel"].sharding.is_fully_replicated


def test_names():
    assert sharding.is_classifier("params/classifier_part/kernel")
    assert not sharding.is_classifier("params/my_classifier/kernel")
    path = jax.tree_util.tree_flatten_with_path({"a": {"b": [np.ones(1)]}})[0][0][0]
    assert sharding.path_name(path) == "a/b/0"


def test_optax_states_keep_the_names_of_the_parameters():
    """The rule above goes by names: a new optax must not hide them."""
    state = jax.eval_shape(optax.adam(1e-3).init, PARAMS)
    names = [sharding.path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]]
    assert sum(name.endswith("classifier_global/kernel") for name in names) == 2


@pytest.mark.parametrize("model", [1, 4])
def test_cosines_on_a_mesh_move_one_side_alone(model):
    """And they are those of one device, with their gradients."""
    mesh = sharding.make_mesh(model)
    a, b = (
        jax.random.normal(jax.random.key(0), (16, 6)),
        jax.random.normal(jax.random.key(1), (2, 16, 6)),
    )
    own = NamedSharding(mesh, PartitionSpec(None, sharding.BATCH_AXES))
    weights = jnp.sin(jnp.arange(2 * 16 * 16.0)).reshape(2, 16, 16)

    def total(a, b):
        return jnp.sum(losses.cosine_similarity(a, b) * weights)

    def total_on_the_mesh(a, b):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return total(a, b)

    inputs = jax.device_put(a, sharding.by_batch(mesh)), jax.device_put(b, own)
    both = functools.partial(jax.value_and_grad, argnums=(0, 1))
    program = jax.jit(both(total_on_the_mesh)).lower(*inputs).compile()
    moved = collections.Counter(re.findall(r" (all-[a-z]+|reduce-scatter)\(", program.as_text()))
    # Rows of a go round, and their gradients; all that the loss adds up is one number.
    assert moved == {"all-gather": 1, "reduce-scatter": 1, "all-reduce": 1}
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
        program(*inputs),
        both(total)(a, b),
    )

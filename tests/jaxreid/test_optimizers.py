"""Step decay, rates by pattern, frozen parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreid import optimizers

STAGE = {
    "optimizer": "adam",
    "learning_rate": 1e-2,
    "decay_epochs": (),
    "decay_factor": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "rates": {},
    "frozen": (),
}


@pytest.fixture
def params():
    random = np.random.default_rng(0)

    def array(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    return {
        "backbone": {"conv1": {"kernel": array(3, 4)}, "bn1": {"scale": array(4)}},
        "lstm": {"kernel": array(5)},
        "classifier_global": {"kernel": array(4, 8), "bias": array(8)},
    }


def gradients(params, step):
    random = np.random.default_rng(step)
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape), jnp.float32), params
    )


def run(optimizer, params, steps=5):
    state = optimizer.init(params)
    for step in range(steps):
        updates, state = optimizer.update(gradients(params, step), state, params)
        params = optax.apply_updates(params, updates)
    return params


def make(params, **fields):
    return optimizers.make_optimizer(STAGE | fields, params, steps_per_epoch=2)


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), one, other)


def test_the_rate_decays_after_the_epochs_named():
    rate = optimizers.learning_rate(
        1e-3, decay_epochs=(20, 40), decay_factor=0.1, steps_per_epoch=1065
    )
    wanted = {0: 1e-3, 20 * 1065 - 1: 1e-3, 20 * 1065: 1e-4, 40 * 1065 - 1: 1e-4, 40 * 1065: 1e-5}
    for step, value in wanted.items():
        assert float(rate(step)) == pytest.approx(value, rel=1e-6)


def test_decay_within_an_epoch_and_none_at_all():
    rate = optimizers.learning_rate(1.0, decay_epochs=(0.5,), decay_factor=0.5, steps_per_epoch=10)
    assert [float(rate(step)) for step in (0, 4, 5)] == [1, 1, 0.5]
    constant = optimizers.stage_schedule(STAGE, 7)
    assert float(constant(10**6)) == pytest.approx(1e-2)


def test_adam_is_that_of_optax(params):
    equal(run(make(params), params), run(optax.adam(1e-2), params))


def test_adam_with_decay(params):
    schedule = optax.piecewise_constant_schedule(1e-2, {2: 0.1})
    equal(run(make(params, decay_epochs=(1,)), params), run(optax.adam(schedule), params))


def test_sgd_with_momentum_and_weight_decay(params):
    fields = {"optimizer": "sgd", "weight_decay": 0.1}
    expected = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(1e-2, momentum=0.9))
    equal(run(make(params, **fields), params), run(expected, params))


def test_rates_by_pattern(params):
    rates = {"^backbone/.*bn": 0.5, "^backbone/": 0.1}
    found = run(make(params, rates=rates), params)
    plain, tenth, half = (run(optax.adam(rate), params) for rate in (1e-2, 1e-3, 5e-3))
    close(found["lstm"], plain["lstm"])
    close(found["classifier_global"], plain["classifier_global"])
    close(found["backbone"]["conv1"], tenth["backbone"]["conv1"])
    close(found["backbone"]["bn1"], half["backbone"]["bn1"])  # the first that matches


@pytest.mark.parametrize("factor", [1, 1.0])
def test_a_factor_of_one(params, factor):
    equal(run(make(params, rates={"^lstm/": factor}), params), run(optax.adam(1e-2), params))


def test_frozen_parameters_keep_their_values(params):
    # A frozen group may have a rate of its own: the preset's stays when somebody freezes it.
    found = run(make(params, frozen=("^backbone/",), rates={"^backbone/conv": 0.1}), params)
    equal(found["backbone"], params["backbone"])
    equal(found["lstm"], run(optax.adam(1e-2), params)["lstm"])


def test_shapes_are_enough(params):
    optimizer = make(jax.eval_shape(lambda: params), rates={"^lstm/": 0.1})
    equal(run(optimizer, params), run(make(params, rates={"^lstm/": 0.1}), params))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "adamw"}, "stage.optimizer is 'adamw'; it takes one of adam, sgd"),
        ({"rates": {"^bakbone/": 0.1}}, r"\['\^bakbone/'\], which match no parameter\. Parameters"),
        ({"frozen": ("lstm", "gru")}, r"\['gru'\].*begin with: backbone, classifier_global, lstm"),
        ({"frozen": ("(",)}, r"'\(', which is no regular expression"),
        ({"weight_decay": 1e-4}, "stage.weight_decay is 0.0001, which adam does not apply"),
    ],
)
def test_what_it_refuses(params, fields, message):
    with pytest.raises(ValueError, match=message):
        make(params, **fields)

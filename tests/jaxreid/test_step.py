"""The training step: the same on any number of devices, compiled once for each template."""

import jax
import numpy as np
import pytest

from jaxreid import sharding
from jaxreid.models.templates import choose_template
from tests.jaxreid import tiny

pytestmark = pytest.mark.usefixtures("compile_fast")


def _differences(one, other):
    """Largest difference of each leaf, relative to the leaf's largest value."""
    names = [sharding.path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(one)[0]]
    pairs = zip(names, jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return {
        name: float(np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-6)) for name, a, b in pairs
    }


@pytest.mark.parametrize(
    ("variant", "model_axis"),
    [
        pytest.param("", 1, id="paper"),
        pytest.param(",released", 1, id="released", marks=pytest.mark.slow),
        pytest.param("", 2, id="sharded-classifiers", marks=pytest.mark.slow),
    ],
)
def test_one_device_and_eight_take_the_same_step(variant, model_axis):
    config = tiny.config(f"quickstart{variant},runlocal")
    config.data.length_templates = 0
    # Plain gradient descent at rate 1, so that a parameter moves by exactly its gradient.
    config.stages[0].update({"optimizer": "sgd", "momentum": 0.0, "learning_rate": 1.0})
    one, eight = tiny.Stepper(config, tiny.mesh(1)), tiny.Stepper(config, tiny.mesh(8, model_axis))
    best: dict[str, float] = {}
    for number in range(4):
        (one_state, one_scalars), (eight_state, eight_scalars) = (
            stepper(number, number + 1) for stepper in (one, eight)
        )
        for name, value in one_scalars.items():
            # Sums over the batch in another order: a few units in the last place of float32. The
            # norm of the gradient is compared leaf by leaf below.
            if name != "grad_norm":
                np.testing.assert_allclose(eight_scalars[name], value, rtol=2e-5, err_msg=name)
        worst = _differences(one_state.batch_stats, eight_state.batch_stats)
        assert worst
        assert max(worst.values()) < 2e-5, worst
        gradients = [
            jax.tree.map(lambda a, b: a - b, stepper.before.params, state.params)
            for stepper, state in ((one, one_state), (eight, eight_state))
        ]
        for name, difference in _differences(*gradients).items():
            best[name] = min(difference, best.get(name, np.inf))
    # Now and then rounding puts one activation on the other side of a ReLU's kink, and the
    # gradients before it differ visibly. That is chance: over four batches each gradient agrees at
    # least once to float32 accuracy (times the batch sums that nearly cancel in BatchNorm's
    # gradient), which one computed wrongly would never do.
    assert max(best.values()) < 5e-5, best


def test_the_step_compiles_once_for_each_template():
    stepper = tiny.Stepper(tiny.config(), tiny.mesh(1))
    lengths = [stepper.feed.lengths(number) for number in range(12)]
    used = {choose_template(stepper.templates, each) for each in lengths}
    assert len(used) > 1, "these captions should need more than one template"
    stepper(0, 12)
    assert stepper.train_step._cache_size() == len(used)


def test_another_seed_is_the_same_program_with_other_draws():
    programs, starts = [], []
    for seed in (0, 7):
        config = tiny.config()
        config.seed = seed
        stepper = tiny.Stepper(config, tiny.mesh(1))
        batch, _ = next(stepper.feed.batches(0, 1))
        arguments = stepper.before, stepper.feed.resident, batch
        # The last template is that of any captions; the others are chosen by the seed.
        lowered = stepper.train_step.lower(*arguments, template=stepper.templates[-1])
        programs.append(lowered.as_text())
        starts.append(jax.tree.leaves(stepper.before.params))
    assert programs[0] == programs[1]
    assert not all(map(np.array_equal, *starts))


@pytest.mark.parametrize(
    "variant",
    ["baseline", *(pytest.param(v, marks=pytest.mark.slow) for v in ("pfl_1x1", "released"))],
)
def test_a_batch_of_one_gives_finite_numbers(variant):
    config = tiny.config(f"quickstart,{variant},runlocal")
    config.batch_size = 1
    config.data.length_templates = 0
    after, scalars = tiny.Stepper(config, tiny.mesh(1))(0, 2)
    assert all(np.isfinite(value) for value in scalars.values()), scalars
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))

"""Both objectives beside their PyTorch implementations, on made-up features: values, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.objectives import axm_net, ssan
from tests.reference import cases

torch = pytest.importorskip("torch")

from tests.reference import objectives, record  # noqa: E402

SIZE, CLASSES = 12, 6
SSAN_SHAPES = {"global": (5,), "part": (3, 4), "relation": (3, 2)}
RELEASED = {"formulation": "released"}


def _features(seed, sides, shapes):
    """Around a common direction, as those of a network are, so that hinges are open."""
    rng = np.random.default_rng(seed)
    outputs = {
        side: {name: 1 + 0.7 * rng.normal(size=(SIZE, *shapes[name])) for name in of_side}
        for side, of_side in sides.items()
    }
    for side in set(outputs) - {"weak"}:
        outputs[side]["logits"] = {
            name: 2 * rng.normal(size=(*x.shape[:-1], CLASSES)) for name, x in outputs[side].items()
        }
    return outputs, rng.integers(0, CLASSES, SIZE), rng.random(SIZE) < 0.75


def _theirs(objective, outputs, *arguments, **fields):
    """Total, parts and gradients in float64."""
    leaves = jax.tree.map(lambda x: torch.from_numpy(x).requires_grad_(), outputs)
    total, parts = objective(leaves, *map(torch.from_numpy, arguments), **fields)
    total.backward()
    gradients = jax.tree.map(
        lambda x: np.zeros(x.shape) if x.grad is None else x.grad.numpy(), leaves
    )
    return total.item(), {name: float(x.detach()) for name, x in parts.items()}, gradients


def _check(ours, theirs):
    (total, parts), gradients = ours
    expected_total, expected_parts, expected_gradients = theirs
    # float32 against float64.
    assert float(total) == pytest.approx(expected_total, rel=1e-5)
    assert {name: float(x) for name, x in parts.items()} == pytest.approx(expected_parts, rel=1e-5)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(expected_gradients))
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * largest),
        gradients,
        expected_gradients,
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("fields", "epoch"),
    [
        ({}, 0),
        ({"cr": False}, 0),
        ({"adaptive": False, "margin": 0.3}, 0),
        ({"adaptive": False, "fixed_margin": 0.0, "beta": 0.5}, 0),
        ({"id_weight": 0.0, "part_weight": 0.25, "relation_weight": 2.0}, 0),
        (RELEASED, 4.99),
        (RELEASED, 5),
        ({**RELEASED, "adaptive": False, "fixed_margin": 0.15}, 6),
        ({**RELEASED, "cr": False, "margin": 0.4}, 6),
    ],
)
def test_ssan(fields, epoch, seed):
    sides = {side: tuple(SSAN_SHAPES) for side in ("image", "strong", "weak")}
    outputs, labels, real = _features(seed, sides, SSAN_SHAPES)
    _check_ssan(outputs, labels, real, epoch, fields)


@pytest.mark.parametrize("fields", [{}, RELEASED])
@pytest.mark.parametrize("case", ["one identity", "no weak caption", "one weak caption", "alike"])
def test_ssan_where_little_is_left_to_rank(case, fields):
    sides = {side: ("global",) for side in ("image", "strong", "weak")}
    outputs, labels, real = _features(0, sides, SSAN_SHAPES)
    if case == "one identity":
        labels[:] = 2
    elif case == "alike":
        # Every weak caption turned away from its image: lambda is 0, or that of its size.
        outputs["weak"]["global"] *= -1
    else:
        real = np.arange(SIZE) < (case == "one weak caption")
    _check_ssan(outputs, labels, real, 6, fields)


def _check_ssan(outputs, labels, real, epoch, fields):
    rng = jax.random.key(3)
    valid = jnp.asarray(np.stack([np.ones(SIZE, bool), real], axis=1))
    objective = ssan.build(fields)

    def loss(features):
        return objective(features, jnp.asarray(labels, jnp.int32), valid, rng=rng, epoch=epoch)

    ours = jax.jit(jax.value_and_grad(loss, has_aux=True))(_narrow(outputs))
    draws = record.tensors(cases.ssan_draws(rng, SIZE))
    theirs = _theirs(
        objectives.ssan_objective, outputs, labels, real, epoch=epoch, draws=draws, **fields
    )
    _check(ours, theirs)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"affinity": "usual", "margin": 0.4},
        {"negatives": "random", "label_smoothing": 0.0},
        {"triplet_weight": 0.0, "affinity_weight": 0.5, "image_id_weight": 2.0},
        {"image_id_weight": 0.0, "text_id_weight": 0.0},
    ],
)
@pytest.mark.parametrize("branches", [("global", "part"), ("part",)])
def test_axm_net(fields, branches, seed):
    shapes = {name: (5,) for name in ("global", "part", "text")}
    outputs, labels, _ = _features(seed, {"image": branches, "strong": ("text",)}, shapes)
    rng = jax.random.key(3)
    objective = axm_net.build(fields)

    def loss(features):
        valid = jnp.ones((SIZE, 1), bool)
        return objective(features, jnp.asarray(labels, jnp.int32), valid, rng=rng, epoch=0)

    ours = jax.jit(jax.value_and_grad(loss, has_aux=True))(_narrow(outputs))
    draws = record.tensors(cases.axm_draws(rng, branches, SIZE))
    theirs = _theirs(objectives.axm_objective, outputs, labels, draws=draws, **fields)
    _check(ours, theirs)


def _narrow(outputs):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), outputs)

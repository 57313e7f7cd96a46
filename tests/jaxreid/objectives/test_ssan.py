"""The total of SSAN against a slow transcript; its switches; degenerate batches; 1 device and 8."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxreid.objectives import ssan

KEY = jax.random.key(0)
SHAPES = {"global": (5,), "part": (3, 4), "relation": (3, 2)}
NUM_CLASSES = 6


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def _outputs(seed, size=8, *, branches=tuple(SHAPES), spread=0.7, weak=True):
    """Features around a common direction, as those of a network are; logits of 6 of 8 classes."""
    rng = np.random.default_rng(seed)
    outputs = {}
    for role in ("image", "strong", "weak")[: 3 if weak else 2]:
        feats = {
            branch: jnp.asarray(1 + spread * rng.normal(size=(size, *SHAPES[branch])), jnp.float32)
            for branch in branches
        }
        outputs[role] = feats
        if role != "weak":
            feats["logits"] = {
                branch: jnp.asarray(
                    np.where(
                        np.arange(8) < NUM_CLASSES,
                        rng.normal(size=(size, *SHAPES[branch][:-1], 8)),
                        -1e9,
                    ),
                    jnp.float32,
                )
                for branch in branches
            }
    labels = jnp.asarray(rng.integers(0, NUM_CLASSES, size), jnp.int32)
    valid = np.stack([np.ones(size, bool), rng.random(size) < 0.75], axis=1)
    return outputs, labels, jnp.asarray(valid)


def _build(fields):
    return jax.jit(ssan.build(fields))


def _cosine(a, b):
    a, b = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _transcript_of_id(outputs, labels, branch):
    total = 0.0
    for role in ("image", "strong"):
        logits = np.asarray(outputs[role]["logits"][branch], np.float64)
        logits = logits.reshape(len(labels), -1, 8)
        terms = []
        for item, label in zip(logits, labels, strict=True):
            for part in item:
                terms.append(-np.log(np.exp(part[label]) / np.exp(part[:NUM_CLASSES]).sum()))
        total += np.mean(terms)
    return total


def _transcript_of_ranking(outputs, labels, valid, branch, alpha_2=None):
    image, strong, weak = (outputs[role][branch] for role in ("image", "strong", "weak"))
    size, ranking, weakly, ratios = len(labels), 0.0, 0.0, []
    for i in range(size):
        others = [j for j in range(size) if labels[j] != labels[i]]
        positive = _cosine(image[i], strong[i])
        hardest_caption = max(_cosine(image[i], strong[j]) for j in others)
        hardest_image = max(_cosine(image[j], strong[i]) for j in others)
        ranking += max(0.2 - positive + hardest_caption, 0)
        ranking += max(0.2 - positive + hardest_image, 0)
        if not valid[i][1]:
            continue
        others = [j for j in others if valid[j][1]]
        loosely = _cosine(image[i], weak[i])
        ratios.append(min(max(loosely / positive, 0), 1) if positive > 1e-6 else 1)
        margin = (ratios[-1] + 1) * 0.2 / 2 if alpha_2 is None else alpha_2
        weakly += max(margin - loosely + max(_cosine(image[i], strong[j]) for j in others), 0)
        weakly += max(margin - loosely + max(_cosine(image[j], weak[i]) for j in others), 0)
    return ranking / size, weakly / size, np.mean(ratios)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fixed", [None, 0.13])
def test_paper_equals_its_transcript(seed, fixed):
    outputs, labels, valid = _outputs(seed)
    fields = {} if fixed is None else {"adaptive": False, "fixed_margin": fixed}
    total, parts = _build(fields)(outputs, labels, valid, rng=KEY, epoch=0)
    expected = 0.0
    for branch, weight in (("global", 1.0), ("part", 0.5), ("relation", 0.5)):
        identity = _transcript_of_id(outputs, np.asarray(labels), branch)
        ranking, weak, ratio = _transcript_of_ranking(
            outputs, np.asarray(labels), np.asarray(valid), branch, fixed
        )
        assert weak > 0
        expected += weight * (identity + ranking + 0.1 * weak)
        for name, value in (("id", identity), ("rank", ranking), ("weak", weak), ("lambda", ratio)):
            assert float(parts[f"{name}_{branch}"]) == pytest.approx(value, rel=1e-5), name
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert total.dtype == jnp.float32
    assert len(parts) == 12


def test_default_of_the_fixed_margin_is_half_of_alpha_1():
    batch = _outputs(0)
    half, _ = _build({"adaptive": False, "fixed_margin": 0.1})(*batch, rng=KEY, epoch=0)
    for fields in ({"adaptive": False}, {"adaptive": False, "fixed_margin": None}):
        assert _build(fields)(*batch, rng=KEY, epoch=0)[0] == half


def test_released_sums_over_items_and_draws_by_key():
    # Two items of two identities: the draw has no choice, so the sum is known.
    similarity = {"image": [[1.0, 0.0], [0.6, 0.8]], "strong": [[0.8, 0.6], [0.6, 0.8]]}
    outputs = {role: {"global": jnp.array(rows)} for role, rows in similarity.items()}
    outputs["weak"] = {"global": jnp.array([[0.8, 0.6], [-0.6, 0.8]])}
    labels, valid = jnp.array([0, 1]), jnp.ones((2, 2), bool)
    objective = _build({"formulation": "released", "id_weight": 0.0})
    # Cosines of images and strong captions [[.8, .6], [.96, 1]]: image 0 breaks nothing (loss 0),
    # image 1: 0.2 - 1 + 0.96 = 0.16; caption 0: 0.2 - 0.8 + 0.96 = 0.36 is above the margin;
    # caption 1: 0.2 - 1 + 0.6 < 0.
    # Weak [[.8, -.6], [.96, .28]], lambda = [1, .28]. Margins 0.1 early: no loss within (0, 0.1).
    _, parts = objective(outputs, labels, valid, rng=KEY, epoch=0)
    assert float(parts["rank_global"]) == pytest.approx(0.16, abs=1e-6)
    assert float(parts["weak_global"]) == 0
    assert float(parts["lambda_global"]) == pytest.approx(0.64)
    # Caption D'_1 moved: weak [[.8, .68], [.96, w]], w = .6 * .68 + .8 * sqrt(1 - .68^2) = .99457,
    # lambda [1, w], margins [.2, .1 (1 + w)] = [.2, .199457] late.
    # Image 0: 0.2 - 0.8 + 0.68 = 0.08; caption D'_0: 0.2 - 0.8 + 0.96 > margin;
    # image 1: 0.199457 - 0.99457 + 0.96 = 0.164887; D'_1: 0.199457 - 0.99457 + 0.68 < 0.
    outputs["weak"]["global"] = jnp.array([[0.8, 0.6], [0.68, np.sqrt(1 - 0.68**2)]])
    total, parts = objective(outputs, labels, valid, rng=KEY, epoch=5)
    assert float(parts["weak_global"]) == pytest.approx(0.08 + 0.164887, abs=1e-5)
    assert float(total) == pytest.approx(0.16 + 0.1 * (0.08 + 0.164887), abs=1e-5)


def test_released_leaves_out_anchors_after_the_fifth_epoch():
    objective = _build({"formulation": "released", "id_weight": 0.0, "margin": 0.2})
    outputs, labels, valid = _outputs(0, 32, spread=0.3)
    weak = [objective(outputs, labels, valid, rng=KEY, epoch=e)[1]["weak_global"] for e in (4, 5)]
    assert weak[0] > 0
    assert weak[1] > 0
    # Every weak pair turned away: lambda is |S'| / |S|, so the absolute value counts.
    turned = {**outputs, "weak": {name: -value for name, value in outputs["weak"].items()}}
    parts = objective(turned, labels, valid, rng=KEY, epoch=5)[1]
    expected = objective(outputs, labels, valid, rng=KEY, epoch=5)[1]
    assert parts["lambda_global"] == pytest.approx(expected["lambda_global"])
    # Every weak pair at right angles: all anchors left out, no crash, no loss.
    flat = jnp.tile(jnp.array([1.0, -1.0, 0.0, 0.0, 0.0]), (32, 1))
    ones = jnp.ones((32, 5)) + 1e-3 * outputs["image"]["global"]
    outputs = {"image": {"global": ones}, "strong": {"global": ones}, "weak": {"global": flat}}
    late = objective(outputs, labels, valid, rng=KEY, epoch=jnp.float32(5.0))[1]
    assert late["weak_global"] == 0
    early = objective(outputs, labels, valid, rng=KEY, epoch=jnp.float32(4.99))[1]
    assert early["weak_global"] > 0


def test_released_draw_depends_on_key_only():
    objective = _build({"formulation": "released"})
    batch = _outputs(0, 32, spread=0.3)
    first = objective(*batch, rng=KEY, epoch=0)[0]
    assert objective(*batch, rng=KEY, epoch=0)[0] == first
    assert objective(*batch, rng=jax.random.key(1), epoch=0)[0] != first


def test_without_compound_ranking():
    outputs, labels, valid = _outputs(2)
    total, parts = _build({"cr": False})(outputs, labels, valid, rng=KEY, epoch=0)
    full = _build({})(outputs, labels, valid, rng=KEY, epoch=0)[1]
    assert set(parts) == {f"{name}_{branch}" for name in ("id", "rank") for branch in SHAPES}
    weights = {"global": 1.0, "part": 0.5, "relation": 0.5}
    expected = sum(
        w * (full[f"id_{branch}"] + full[f"rank_{branch}"]) for branch, w in weights.items()
    )
    assert float(total) == pytest.approx(float(expected), rel=1e-6)
    one_caption = {role: outputs[role] for role in ("image", "strong")}
    alone, _ = _build({"cr": False})(one_caption, labels, valid[:, :1], rng=KEY, epoch=0)
    assert alone == total


def test_absent_branches_and_weights():
    outputs, labels, valid = _outputs(2)
    _, full = _build({})(outputs, labels, valid, rng=KEY, epoch=0)
    only = {role: {k: v for k, v in f.items() if k != "relation"} for role, f in outputs.items()}
    fields = {"part_weight": 0.25, "id_weight": 2, "beta": 0.3}
    total, parts = _build(fields)(only, labels, valid, rng=KEY, epoch=0)
    assert {name.split("_")[1] for name in parts} == {"global", "part"}
    expected = sum(
        w * (2 * full[f"id_{b}"] + full[f"rank_{b}"] + 0.3 * full[f"weak_{b}"])
        for b, w in (("global", 1.0), ("part", 0.25))
    )
    assert float(total) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("formulation", ssan.FORMULATIONS)
@pytest.mark.parametrize("case", ["one identity", "batch of 1", "zeros", "no weak", "same"])
def test_degenerate_batches_stay_finite(case, formulation):
    outputs, labels, valid = _outputs(1, 1 if case == "batch of 1" else 4)
    if case == "one identity":
        labels = jnp.zeros_like(labels)
    if case == "no weak":
        valid = valid.at[:, 1].set(False)
    features = {role: {b: f[b] for b in SHAPES} for role, f in outputs.items()}
    if case == "zeros":
        features = jax.tree.map(jnp.zeros_like, features)
    if case == "same":
        features = jax.tree.map(jnp.ones_like, features)
    objective = ssan.build({"formulation": formulation, "id_weight": 0.0})

    def loss(features, labels, valid):
        return objective(features, labels, valid, rng=KEY, epoch=6)

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (total, parts), gradient = step(features, labels, valid)
    leaves = jax.tree.leaves((total, parts, gradient))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    if case in ("one identity", "batch of 1"):
        assert total == 0
    if case == "no weak":
        assert parts["weak_part"] == parts["lambda_part"] == 0


def test_gradient_of_the_total():
    # Away from kinks by the choice of the seed; lambda is held, so only fixed margins compare.
    outputs, labels, valid = _outputs(4, 5)
    objective = _build({"adaptive": False})

    def total(features):
        joined = {role: {**outputs[role], **features[role]} for role in outputs}
        return objective(joined, labels, valid, rng=KEY, epoch=0)[0]

    features = {role: {b: f[b] for b in SHAPES} for role, f in outputs.items()}
    check_grads(total, (features,), order=1, modes=["rev"], eps=1e-3, atol=2e-2, rtol=2e-2)


def test_no_gradient_passes_through_lambda():
    outputs, labels, valid = _outputs(3)

    def gradient(fields):
        objective = ssan.build(fields)
        loss = jax.grad(lambda f: objective(f, labels, valid, rng=KEY, epoch=0)[0])
        return jax.jit(loss)(outputs)

    # Where every hinge is open, the margin shifts the loss and leaves the gradient alone.
    adaptive, fixed = gradient({"margin": 4.0}), gradient({"margin": 4.0, "adaptive": False})
    for one, other in zip(jax.tree.leaves(adaptive), jax.tree.leaves(fixed), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("formulation", ssan.FORMULATIONS)
def test_jit_and_eight_devices_change_nothing(formulation):
    batch = _outputs(5, 16)
    objective = ssan.build({"formulation": formulation})
    expected = objective(*batch, rng=KEY, epoch=0)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "model")))
    for placed in (batch, jax.device_put(batch, rows)):
        result = jax.jit(objective)(*placed, rng=KEY, epoch=jnp.float32(0.5))
        for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(result), strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_bfloat16_features_give_float32_losses():
    outputs, labels, valid = _outputs(0)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), outputs)
    total, parts = _build({})(half, labels, valid, rng=KEY, epoch=0)
    assert {leaf.dtype for leaf in jax.tree.leaves((total, parts))} == {jnp.dtype(jnp.float32)}


def test_build_takes_a_config_dict_with_an_empty_placeholder():
    config = ml_collections.ConfigDict({"formulation": "released", "cr": True, "part_weight": 1})
    config.fixed_margin = ml_collections.config_dict.placeholder(float)
    assert ssan.build(config).keywords["part_weight"] == 1.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"marginn": 0.2}, "no field 'marginn'; it takes formulation, cr, margin"),
        ({"rng": 0, "epoch": 1}, "no field 'epoch', 'rng'"),
        ({"formulation": "other"}, "formulation is 'other'; it takes 'paper' or 'released'"),
        ({"cr": 1}, "cr is 1; it takes True or False"),
        ({"margin": -0.1}, "margin is -0.1; it takes a number"),
        ({"beta": "0.1"}, "beta is '0.1'; it takes a number"),
        ({"fixed_margin": float("nan")}, "fixed_margin is nan"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        ssan.build(fields)


def test_what_the_network_does_not_give_is_named():
    outputs, labels, valid = _outputs(0, weak=False)
    with pytest.raises(ValueError, match="one caption an item"):
        ssan.build({})(outputs, labels, valid, rng=KEY, epoch=0)
    bare = {role: {"global": f["global"]} for role, f in outputs.items()}
    with pytest.raises(ValueError, match="no identity classifiers"):
        ssan.build({"cr": False})(bare, labels, valid, rng=KEY, epoch=0)

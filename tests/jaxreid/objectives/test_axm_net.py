"""The total of AXM-Net against a slow transcript, its weights and options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.objectives import axm_net

KEY = jax.random.key(0)
NUM_CLASSES = 5


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def outputs(seed=0, size=6, branches=("global", "part")):
    rng = np.random.default_rng(seed)

    def array(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def logits():
        padded = np.where(np.arange(8) < NUM_CLASSES, rng.normal(size=(size, 8)), -1e9)
        return jnp.asarray(padded, jnp.float32)

    made = {
        "image": {name: array(size, 4) for name in branches},
        "strong": {"text": array(size, 4), "logits": {"text": logits()}},
    }
    made["image"]["logits"] = {name: logits() for name in branches}
    labels = jnp.asarray(rng.integers(0, 4, size), jnp.int32)
    return made, labels, jnp.ones((size, 1), bool)


def run(given, **fields):
    made, labels, valid = given
    return axm_net.build(fields)(made, labels, valid, rng=KEY, epoch=0)


def transcript(made, labels, branch):
    """Identity, triplet and affinity losses of one image branch, by loops over pairs."""
    image, text = (
        np.asarray(x, np.float64) for x in (made["image"][branch], made["strong"]["text"])
    )
    size = len(labels)

    def cosine(i, j):
        return image[i] @ text[j] / np.linalg.norm(image[i]) / np.linalg.norm(text[j])

    triplet, affinity = 0.0, 0.0
    for i in range(size):
        others = [j for j in range(size) if labels[j] != labels[i]]
        triplet += max(0.2 - cosine(i, i) + max(cosine(i, j) for j in others), 0)
        triplet += max(0.2 - cosine(i, i) + max(cosine(j, i) for j in others), 0)
        for j in range(size):
            s = cosine(i, j)
            of_pair = -s if labels[i] == labels[j] else s - 1
            affinity += np.log1p(np.exp(of_pair))
    return identity(made["image"]["logits"][branch], labels), triplet / size, affinity / size**2


def identity(logits, labels):
    total = 0.0
    for row, label in zip(np.asarray(logits, np.float64)[:, :NUM_CLASSES], labels, strict=True):
        log_p = row - np.log(np.exp(row).sum())
        target = np.full(NUM_CLASSES, 0.1 / NUM_CLASSES)
        target[label] += 0.9
        total -= target @ log_p
    return total / len(labels)


def test_total_is_the_sum_of_its_transcripts():
    made, labels, valid = outputs()
    total, parts = run((made, labels, valid))
    wanted = {"id_text": identity(made["strong"]["logits"]["text"], labels)}
    for branch in ("global", "part"):
        names = (f"{loss}_{branch}" for loss in ("id", "triplet", "affinity"))
        wanted |= dict(zip(names, transcript(made, labels, branch), strict=True))
    assert set(parts) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(total, sum(wanted.values()), rtol=1e-5)


def test_weights():
    given = outputs()
    _, parts = run(given)
    fields = {"image_id_weight": 2, "text_id_weight": 3, "triplet_weight": 0.5}
    total, seen = run(given, affinity_weight=0, **fields)
    assert not any(name.startswith("affinity") for name in seen)
    wanted = (
        2 * (parts["id_global"] + parts["id_part"])
        + 3 * parts["id_text"]
        + 0.5 * (parts["triplet_global"] + parts["triplet_part"])
    )
    np.testing.assert_allclose(total, wanted, rtol=1e-6)


def test_identity_alone_looks_at_no_pair():
    total, parts = run(outputs(), triplet_weight=0, affinity_weight=0)
    assert set(parts) == {"id_global", "id_part", "id_text"}
    np.testing.assert_allclose(total, sum(parts.values()), rtol=1e-6)


def test_a_branch_that_is_not_there_is_left_out():
    _, parts = run(outputs(branches=("part",)))
    assert set(parts) == {"id_part", "triplet_part", "affinity_part", "id_text"}


def test_options():
    given = outputs()
    plain, parts = run(given)
    usual, usual_parts = run(given, affinity="usual")
    assert usual_parts["affinity_global"] > parts["affinity_global"]
    assert usual > plain
    _, random_parts = run(given, negatives="random")
    assert random_parts["triplet_global"] < parts["triplet_global"]  # the hardest cost most
    _, wide = run(given, margin=0.4)
    assert wide["triplet_part"] > parts["triplet_part"]
    _, sharp = run(given, label_smoothing=0.0)
    assert sharp["id_text"] != parts["id_text"]


def test_one_identity_only_and_a_batch_of_one_stay_finite():
    for size in (1, 4):
        made, _, valid = outputs(size=size)

        def loss(made, valid=valid, size=size):
            return run((made, jnp.zeros(size, jnp.int32), valid))[0]

        value, gradients = jax.value_and_grad(loss)(made)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"marginn": 1}, "no field 'marginn'; it takes image_id_weight"),
        ({"negatives": "easy"}, "negatives is 'easy'; it takes 'hard' or 'random'"),
        ({"affinity": "odd"}, "'literal' or 'usual'"),
        ({"margin": -1}, "not negative"),
    ],
)
def test_what_build_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        axm_net.build(fields)


def test_identity_loss_needs_logits():
    made, labels, valid = outputs()
    del made["strong"]["logits"]
    with pytest.raises(ValueError, match="image_id_weight and text_id_weight are not both 0"):
        run((made, labels, valid))

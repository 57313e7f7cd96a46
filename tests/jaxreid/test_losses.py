"""Losses against values worked out by hand and against slow transcripts of their rules."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxreid import losses

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def _batch(seed, size=8, num_ids=4):
    rng = np.random.default_rng(seed)
    strong, weak = rng.uniform(-1, 1, (2, size, size)).astype(np.float32)
    labels = rng.integers(0, num_ids, size).astype(np.int32)
    return strong, weak, labels, rng.random(size) < 0.7


@jax.jit
def _both_losses(strong, weak, labels, has_weak, margins, anchor, rng):
    negative = losses.negative_pairs(labels)
    ranking = losses.ranking_loss(strong, negative, margin=0.2, rng=rng)
    weakly = losses.weak_ranking_loss(
        strong, weak, negative, has_weak, margin=margins, anchor=anchor, rng=rng
    )
    return ranking, weakly


def _hardest(scores, allowed):
    """Loops, no array tricks: the largest allowed score, None without one."""
    best = None
    for score, ok in zip(scores, allowed, strict=True):
        if ok and (best is None or score > best):
            best = score
    return best


def _ranking_transcript(similarity, labels, margin):
    result = []
    for i, label in enumerate(labels):
        allowed = [other != label for other in labels]
        positive, loss = similarity[i][i], 0.0
        for scores in (similarity[i], similarity[:, i]):
            negative = _hardest(scores, allowed)
            if negative is not None:
                loss += max(margin - positive + negative, 0.0)
        result.append(loss)
    return result


def _weak_transcript(strong, weak, labels, has_weak, margins):
    result = []
    for i, label in enumerate(labels):
        loss = 0.0
        if has_weak[i]:
            allowed = [other != label and has for other, has in zip(labels, has_weak, strict=True)]
            for scores in (strong[i], weak[:, i]):
                negative = _hardest(scores, allowed)
                if negative is not None:
                    loss += max(margins[i] - weak[i][i] + negative, 0.0)
        result.append(loss)
    return result


def _semi_hard_choices(scores, allowed, positive, margin):
    """Every loss that a draw may give: (0,) without a candidate."""
    values = [margin - positive + s for s, ok in zip(scores, allowed, strict=True) if ok]
    return [value for value in values if 0 < value < margin] or [0.0]


def test_docstring_examples():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        result = doctest.testmod(losses)
    assert result.attempted > 10
    assert result.failed == 0


def test_cosine_by_hand():
    a = jnp.array([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]])
    expected = [[1.0, -0.6], [0.8, 0.0], [0.0, 0.0]]
    b = jnp.array([[0.6, 0.8], [-1.0, 0.0]])
    np.testing.assert_allclose(losses.cosine_similarity(a, b), expected, atol=1e-6)


def test_cosine_is_float32_whatever_comes_in():
    a = jnp.ones((2, 8), jnp.bfloat16)
    assert losses.cosine_similarity(a, a).dtype == jnp.float32


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-8, 1e15])
def test_cosine_gradient_is_finite_at_short_and_long_vectors(scale):
    a = jnp.array([[1.0, 2.0], [0.5, -1.0]]) * jnp.array([[1.0], [scale]])
    value, gradient = jax.value_and_grad(lambda x: losses.cosine_similarity(x, x).sum())(a)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_cosine_of_several_sets():
    a, b, c = jax.random.normal(KEY, (3, 4, 5))
    found = losses.cosine_similarity(a, jnp.stack([b, c]))
    for one, expected in zip(found, (b, c), strict=True):
        np.testing.assert_allclose(one, losses.cosine_similarity(a, expected), atol=1e-6)


def test_cosine_gradient():
    a, b = jax.random.normal(KEY, (2, 3, 5))
    check_grads(jax.jit(losses.cosine_similarity), (a, b), order=1, modes=["rev"], rtol=1e-2)


def test_identity_by_hand():
    logits = jnp.log(jnp.array([[1.0, 2.0, 1.0], [8.0, 1.0, 1.0]]))
    result = losses.identity_loss(logits, jnp.array([1, 2]))
    np.testing.assert_allclose(result, np.log([2.0, 10.0]), rtol=1e-6)


def test_identity_of_parts_and_padded_classes():
    logits = jax.random.normal(KEY, (4, 6, 5))
    labels = jnp.array([0, 4, 2, 2])
    padded = jnp.concatenate([logits, jnp.full((4, 6, 3), -1e9)], axis=2)
    result = losses.identity_loss(padded, labels)
    assert result.shape == (4, 6)
    for part in range(6):
        expected = losses.identity_loss(logits[:, part], labels)
        np.testing.assert_allclose(result[:, part], expected, rtol=1e-6)
    gradient = jax.grad(lambda x: losses.identity_loss(x, labels).mean())(padded)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[..., 5:], 0)


def test_identity_gradient_and_half_precision():
    logits, labels = jax.random.normal(KEY, (3, 7)), jnp.array([6, 0, 3])
    loss = jax.jit(lambda x: losses.identity_loss(x, labels))
    check_grads(loss, (logits,), order=1, modes=["rev"], rtol=1e-2)
    assert losses.identity_loss(logits.astype(jnp.bfloat16), labels).dtype == jnp.float32


def test_ranking_by_hand():
    # Items 0 and 1 are one person.
    # Image 0: 0.2 - 0.5 + 0.4 = 0.1; caption 0: 0.2 - 0.5 + 0.6 = 0.3.
    # Image 1: 0.2 - 0.7 + 0.1 < 0; caption 1: 0.2 - 0.7 + 0.8 = 0.3.
    # Image 2, caption 1: 0.2 - 0.9 + 0.8 = 0.1; caption 2, image 0: 0.2 - 0.9 + 0.4 < 0.
    similarity = jnp.array([[0.5, 0.95, 0.4], [0.9, 0.7, 0.1], [0.6, 0.8, 0.9]])
    negative = losses.negative_pairs(jnp.array([3, 3, 8]))
    result = losses.ranking_loss(similarity, negative, margin=0.2)
    np.testing.assert_allclose(result, [0.4, 0.3, 0.1], atol=1e-6)


def test_weak_by_hand():
    # Item 2 has no weak caption: neither anchor nor negative, although it would be the hardest.
    # Image 0: 0.1 - 0.3 + 0.4 (strong caption 1) = 0.2; D'_0: 0.1 - 0.3 + 0.25 (image 1) = 0.05.
    # Image 1: 0.15 - 0.6 + 0.5 (strong caption 0) = 0.05; D'_1: 0.15 - 0.6 + 0.2 < 0.
    strong = jnp.array([[0.8, 0.4, 0.9], [0.5, 0.7, 0.9], [0.9, 0.9, 0.9]])
    weak = jnp.array([[0.3, 0.2, 0.9], [0.25, 0.6, 0.9], [0.9, 0.9, 0.9]])
    result = losses.weak_ranking_loss(
        strong,
        weak,
        losses.negative_pairs(jnp.array([0, 1, 2])),
        jnp.array([True, True, False]),
        margin=jnp.array([0.1, 0.15, 0.2]),
    )
    np.testing.assert_allclose(result, [0.25, 0.05, 0.0], atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_paper_losses_equal_their_transcripts(seed):
    strong, weak, labels, has_weak = batch = _batch(seed, num_ids=2 + seed)
    margins = np.linspace(0.1, 0.2, len(labels), dtype=np.float32)
    ranking, weakly = _both_losses(*batch, margins, has_weak, None)
    np.testing.assert_allclose(ranking, _ranking_transcript(strong, labels, 0.2), atol=1e-6)
    expected = _weak_transcript(strong, weak, labels, has_weak, margins)
    np.testing.assert_allclose(weakly, expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_released_losses_are_among_those_of_the_transcript(seed):
    strong, weak, labels, has_weak = _batch(seed)
    strong, weak = strong * np.float32(0.2), weak * np.float32(0.2)
    margins = np.linspace(0.1, 0.2, len(labels), dtype=np.float32)
    anchor = np.arange(len(labels)) % 3 != 0
    for draw in range(4):
        rng = jax.random.key(draw)
        found = _both_losses(strong, weak, labels, has_weak, margins, anchor, rng)
        for i, label in enumerate(labels):
            others = labels != label
            rows = _semi_hard_choices(strong[i], others, strong[i, i], 0.2)
            columns = _semi_hard_choices(strong[:, i], others, strong[i, i], 0.2)
            assert np.isclose(np.add.outer(rows, columns), found[0][i], atol=1e-6).any()
            others = others & has_weak
            rows = _semi_hard_choices(weak[i], others, weak[i, i], margins[i])
            columns = _semi_hard_choices(weak[:, i], others, weak[i, i], margins[i])
            sums = np.add.outer(rows, columns) if has_weak[i] and anchor[i] else np.zeros(1)
            assert np.isclose(sums, found[1][i], atol=1e-6).any()


def test_semi_hard_bounds_are_strict_and_every_candidate_is_drawn():
    # Exact in binary: losses are 0 (excluded), 0.125, 0.25, 0.5 = margin (excluded), 0.75.
    similarity = jnp.array([[0.0, 0.125, 0.25, 0.5, 0.75, 0.25]])
    negative = jnp.array([[True, True, True, True, True, False]])
    drawn = set()
    for seed in range(40):
        index, found = losses.semi_hard_negative(
            similarity, negative, jnp.array([0.5]), margin=0.5, rng=jax.random.key(seed)
        )
        assert bool(found[0])
        drawn.add(int(index[0]))
    assert drawn == {1, 2}


def test_semi_hard_without_candidate_gives_no_term():
    similarity = jnp.array([[0.9, 0.95], [-0.5, 0.9]])
    negative = losses.negative_pairs(jnp.array([0, 1]))
    loss = losses.hinge_loss(similarity, negative, jnp.array([0.9, 0.9]), margin=0.2, rng=KEY)
    np.testing.assert_array_equal(loss, 0)


def test_ratio_and_margin_by_hand():
    strong = jnp.array([0.5, 0.5, 0.5, 0.0, 1e-6, -0.5])
    weak = jnp.array([0.25, 0.75, -0.25, 0.5, 0.5, 0.5])
    ratio = losses.weak_ratio(strong, weak)
    np.testing.assert_array_equal(ratio, [0.5, 1.0, 0.0, 1.0, 1.0, 1.0])
    expected = [0.15, 0.2, 0.1, 0.2, 0.2, 0.2]
    np.testing.assert_allclose(losses.adaptive_margin(ratio, margin=0.2), expected, rtol=1e-6)


def test_no_gradient_through_ratio():
    gradient = jax.grad(lambda s, w: losses.weak_ratio(s, w).sum(), argnums=(0, 1))
    for part in gradient(jnp.array([0.5, 0.0]), jnp.array([0.25, 0.3])):
        np.testing.assert_array_equal(part, 0)


def test_released_margin_by_hand():
    ratio = jnp.array([0.0, 0.5, 0.625, 1.0])
    margin, anchor = losses.released_margin(ratio, margin=0.2, epoch=4)
    np.testing.assert_allclose(margin, 0.1, rtol=1e-6)
    assert anchor.tolist() == [True] * 4
    for epoch in (5, jnp.int32(5), jnp.float32(7.5)):
        margin, anchor = losses.released_margin(ratio, margin=0.2, epoch=epoch)
        # A lambda of exactly 1 gives alpha_1, not the 0.3 of the released program.
        np.testing.assert_allclose(margin, [0.1, 0.15, 0.1625, 0.2], rtol=1e-6)
        assert anchor.tolist() == [False, False, True, True]


@pytest.mark.parametrize("margin", [0.1, 0.2, 0.5, jnp.float32(0.3)])
def test_released_anchors_are_those_of_one_lambda_whatever_the_margin(margin):
    ratio = jnp.array([0.0, 0.59, 0.61, 1.0])
    _, anchor = losses.released_margin(ratio, margin=margin, epoch=5)
    assert anchor.tolist() == [False, False, True, True]


def test_released_anchors_are_those_of_the_program():
    ratio = jnp.linspace(0, 1, 1001, dtype=jnp.float32)
    alpha_2, anchor = losses.released_margin(ratio, margin=0.2, epoch=5)
    np.testing.assert_array_equal(anchor, np.asarray(alpha_2) >= np.float32(0.16))


@pytest.mark.parametrize("rng", [None, KEY])
def test_gradients_away_from_kinks(rng):
    # Far apart values: no finite difference moves a choice.
    values = jax.random.permutation(jax.random.key(3), jnp.arange(32.0)).reshape(2, 4, 4)
    strong, weak = 0.4 * values / 32
    negative = losses.negative_pairs(jnp.array([0, 1, 0, 2]))
    has_weak = jnp.array([True, True, False, True])

    @jax.jit
    def total(strong, weak):
        terms = losses.ranking_loss(strong, negative, margin=0.203, rng=rng)
        return terms + losses.weak_ranking_loss(
            strong, weak, negative, has_weak, margin=0.107, rng=rng
        )

    check_grads(total, (strong, weak), order=1, modes=["rev"], eps=1e-3, atol=1e-2, rtol=1e-2)
    assert np.any(jax.grad(lambda s: total(s, weak).sum())(strong))


@pytest.mark.parametrize("rng", [None, KEY])
@pytest.mark.parametrize(
    ("labels", "has_weak"),
    [
        ([5, 5, 5], [True, True, True]),  # one identity: no negative anywhere
        ([1, 2, 3], [False, False, False]),  # no weak caption anywhere
        ([9], [True]),
        ([9], [False]),
    ],
)
def test_degenerate_batches_give_zero_weak_loss_and_finite_gradients(labels, has_weak, rng):
    size = len(labels)
    features = jnp.zeros((size, 4)).at[0].set(1.0)
    labels, has_weak = jnp.array(labels), jnp.array(has_weak)

    def terms(features):
        similarity = losses.cosine_similarity(features, features)
        negative = losses.negative_pairs(labels)
        ratio = losses.weak_ratio(jnp.diagonal(similarity), jnp.diagonal(similarity))
        ranking = losses.ranking_loss(similarity, negative, margin=0.2, rng=rng)
        weak = losses.weak_ranking_loss(
            similarity,
            similarity,
            negative,
            has_weak,
            margin=losses.adaptive_margin(ratio, margin=0.2),
            rng=rng,
        )
        return ranking, weak

    ranking, weak = terms(features)
    assert np.isfinite(ranking).all()
    np.testing.assert_array_equal(weak, 0)
    if len(set(labels.tolist())) == 1:
        np.testing.assert_array_equal(ranking, 0)
    gradient = jax.grad(lambda x: sum(part.sum() for part in terms(x)))(features)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("rng", [None, KEY])
def test_jit_changes_nothing(rng):
    margins, anchor = np.linspace(0.1, 0.2, 8, dtype=np.float32), np.arange(8) > 1
    arrays = [jnp.asarray(array) for array in (*_batch(1), margins, anchor)]
    eager = _both_losses.__wrapped__(*arrays, rng)
    for one, other in zip(eager, _both_losses(*arrays, rng), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_smoothed_identity_by_hand():
    logits = jnp.asarray([[1.0, 3.0, 2.0, -1e9]])
    lse = np.log(np.exp(1) + np.exp(3) + np.exp(2))
    wanted = lse - (0.9 * 3 + 0.1 * 2)  # the mean of the real logits is 2
    found = losses.identity_loss(logits, jnp.asarray([1]), smoothing=0.1)
    np.testing.assert_allclose(found, [wanted], rtol=1e-6)


def test_smoothing_keeps_padding_out_of_value_and_gradient():
    labels = jnp.asarray([0, 2])
    real = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)), jnp.float32)
    padded = jnp.concatenate([real, jnp.full((2, 5), -1e9)], axis=1)

    def total(logits):
        return losses.identity_loss(logits, labels, smoothing=0.2).sum()

    np.testing.assert_allclose(total(padded), total(real), rtol=1e-6)
    gradient = jax.grad(total)(padded)
    np.testing.assert_allclose(gradient[:, :3], jax.grad(total)(real), rtol=1e-5)
    assert np.all(np.asarray(gradient)[:, 3:] == 0)


def test_affinity_by_hand():
    similarity = jnp.asarray([[0.0, 0.0], [1.0, 1.0]])
    same = jnp.asarray([[True, False], [True, False]])
    literal = [[0.6931, 0.3133], [0.3133, 0.6931]]
    np.testing.assert_allclose(losses.affinity_loss(similarity, same), literal, atol=5e-5)
    usual = [[0.6931, 0.6931], [0.3133, 1.3133]]
    found = losses.affinity_loss(similarity, same, usual=True)
    np.testing.assert_allclose(found, usual, atol=5e-5)


def test_affinity_gradient():
    similarity = jnp.asarray([[0.3, -0.4], [0.9, 0.1]])
    same = jnp.eye(2, dtype=bool)
    loss = jax.jit(lambda s: losses.affinity_loss(s, same).sum())
    check_grads(loss, (similarity,), order=1, modes=["rev"], rtol=1e-2)  # float32 differences


def test_random_negatives_are_any_negatives_and_each_comes_up():
    similarity = jnp.asarray([[0.9, 0.1, -0.5], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]])
    negative = losses.negative_pairs(jnp.asarray([0, 1, 2]))
    found = {
        round(
            float(
                losses.ranking_loss(
                    similarity, negative, margin=1.5, rng=jax.random.key(seed), semi_hard=False
                )[0]
            ),
            4,
        )
        for seed in range(40)
    }
    # Caption side: 1.5 - .9 + .1 or - .5; image side: 1.5 - .9 + 0.
    assert found == {round(0.7 + 0.6, 4), round(0.1 + 0.6, 4)}
    alone = losses.negative_pairs(jnp.asarray([4]))
    none = losses.ranking_loss(jnp.ones((1, 1)), alone, margin=0.2, rng=KEY, semi_hard=False)
    np.testing.assert_array_equal(none, [0.0])

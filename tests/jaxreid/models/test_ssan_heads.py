"""Word attention, part features and relations against NumPy transcripts of eq. (5)-(17)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models.ssan_heads import Heads, MultiViewNonLocal, WordAttention, embed

BATCH, PARTS, WIDTH, DIM, VIEW, OUT = 4, 3, 7, 6, 5, 4


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def leaky(x):
    return np.where(x > 0, x, 0.25 * x)


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def relation_update(parts, params, *, released):
    """Eq. (13)-(15), part by part; BatchNorm and what follows it are left out."""
    activate = leaky if released else (lambda x: x)
    kernels = {name: np.asarray(params[name]["kernel"]) for name in ("theta", "phi", "gamma")}
    updates, alphas = np.zeros_like(parts), np.zeros((len(parts), PARTS, PARTS))
    for b, v in enumerate(parts):
        theta = [activate(v[k] @ kernels["theta"][k]) for k in range(PARTS)]
        phi = [activate(v[i] @ kernels["phi"][i]) for i in range(PARTS)]
        for k in range(PARTS):
            others = [i for i in range(PARTS) if i != k]
            strength = np.exp([cosine(theta[k], phi[i]) for i in others])
            alphas[b, k, others] = strength / strength.sum()
            seen = [phi[i] / np.linalg.norm(phi[i]) if released else phi[i] for i in others]
            mixed = sum(a * p for a, p in zip(alphas[b, k, others], seen, strict=True))
            updates[b, k] = mixed @ kernels["gamma"][k]
    return updates, alphas


@pytest.fixture(scope="module")
def parts(rng):
    return jnp.asarray(rng.normal(size=(BATCH, PARTS, DIM)), jnp.float32)


def test_word_attention(rng):
    words = jnp.asarray(rng.normal(size=(2, 5, WIDTH)), jnp.float32)
    lengths = jnp.array([3, 0])
    scores, variables = WordAttention(PARTS).init_with_output(jax.random.key(0), words, lengths)
    kernel = np.asarray(variables["params"]["kernel"])
    assert np.abs(kernel).max() <= WIDTH**-0.5
    expected = 1 / (1 + np.exp(-np.asarray(words) @ kernel))
    np.testing.assert_allclose(scores[0, :3], expected[0, :3], atol=1e-6)
    assert (np.asarray(scores)[0, 3:] == 0).all()
    assert (np.asarray(scores)[1] == 0).all()


def test_relation_of_the_paper(parts):
    module = MultiViewNonLocal(OUT, VIEW)
    variables = module.init(jax.random.key(0), parts, train=False)
    assert "batch_stats" not in variables
    out, alpha = module.apply(variables, parts, train=True)
    update, expected_alpha = relation_update(np.asarray(parts), variables["params"], released=False)
    kernel = np.asarray(variables["params"]["output"]["kernel"])
    expected = np.einsum("bkm,kmn->bkn", parts + update, kernel)
    np.testing.assert_allclose(alpha, expected_alpha, atol=1e-6)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    np.testing.assert_allclose(np.sum(alpha, axis=-1), 1, atol=1e-6)


def test_relation_of_the_released_program_and_the_order_of_its_calls(rng):
    """Three calls, own statistics each; running statistics follow the calls in order."""
    module = MultiViewNonLocal(OUT, VIEW, released=True)
    calls = [
        jnp.asarray(rng.normal(size=(BATCH, PARTS, DIM)) * scale, jnp.float32)
        for scale in (1, 2, 3)
    ]
    masks = [None, None, jnp.array([True, False, True, True])]
    variables = jax.jit(lambda x: module.init(jax.random.key(0), x, train=False))(calls[0])

    @jax.jit
    def three(variables):
        def run(module):
            pairs = zip(calls, masks, strict=True)
            return [module(x, train=True, mask=mask)[0] for x, mask in pairs]

        return module.apply(variables, method=run, mutable="batch_stats")

    outputs, state = three(variables)
    mean, var = np.zeros((PARTS, DIM)), np.ones((PARTS, DIM))
    kernel = np.asarray(variables["params"]["output"]["kernel"])
    for x, mask, out in zip(calls, masks, outputs, strict=True):
        x, rows = np.asarray(x), np.arange(BATCH) if mask is None else np.flatnonzero(mask)
        update, _ = relation_update(x, variables["params"], released=True)
        batch_mean, batch_var = update[rows].mean(0), update[rows].var(0)
        normal = leaky((update - batch_mean) / np.sqrt(batch_var + 1e-5))
        expected = np.einsum("bkm,kmn->bkn", x + normal, kernel)
        np.testing.assert_allclose(np.asarray(out)[rows], expected[rows], atol=1e-3)
        mean = 0.9 * mean + 0.1 * batch_mean
        var = 0.9 * var + 0.1 * batch_var * len(rows) / (len(rows) - 1)
    stats = state["batch_stats"]["norm"]
    np.testing.assert_allclose(stats["mean"], mean, atol=1e-5)
    np.testing.assert_allclose(stats["var"], var, atol=1e-5)


def test_a_single_part_has_no_relations():
    module = MultiViewNonLocal(OUT, VIEW)
    x = jnp.ones((2, 1, DIM))
    (out, alpha), variables = module.init_with_output(jax.random.key(0), x, train=False)
    assert (np.asarray(alpha) == 0).all()
    expected = np.asarray(x)[:, 0] @ np.asarray(variables["params"]["output"]["kernel"])[0]
    np.testing.assert_allclose(out[:, 0], expected, atol=1e-5)


def heads(**fields):
    defaults = {"formulation": "paper", "part": True, "relation": "none", "shared_projection": True}
    sizes = {"global_dim": DIM, "relation_dim": OUT, "view_dim": VIEW}
    return Heads(**{**defaults, **sizes, **fields})


@pytest.mark.parametrize("formulation", ["paper", "released"])
def test_projections(rng, formulation):
    pooled = jnp.asarray(rng.normal(size=(2, WIDTH)), jnp.float32)
    pooled_parts = jnp.asarray(rng.normal(size=(2, PARTS, WIDTH)), jnp.float32)
    module = heads(formulation=formulation, relation="conv1x1")
    feats, variables = module.init_with_output(
        jax.random.key(0), pooled, pooled_parts, modality="image", train=False
    )
    kernels = {name: np.asarray(value["kernel"]) for name, value in variables["params"].items()}
    np.testing.assert_allclose(feats["global"], pooled @ kernels["global"], atol=1e-5)
    part = np.einsum("bkc,kcm->bkm", pooled_parts, kernels["part"])
    part = leaky(part) if formulation == "released" else part
    np.testing.assert_allclose(feats["part"], part, atol=1e-5)
    relation = np.einsum("bkm,kmn->bkn", part, kernels["relation"])
    np.testing.assert_allclose(feats["relation"], relation, atol=1e-5)
    assert "alpha" not in feats
    # Both modalities have the same parameters, so text features are the same function.
    text = module.apply(variables, pooled, pooled_parts, modality="text", train=False)
    jax.tree.map(np.testing.assert_array_equal, text, feats)


def test_projections_of_their_own(rng):
    pooled = jnp.asarray(rng.normal(size=(2, WIDTH)), jnp.float32)
    module = heads(part=False, shared_projection=False)

    def both(module):
        return [module(pooled, None, modality=m, train=False) for m in ("image", "text")]

    (image, text), variables = module.init_with_output(jax.random.key(0), method=both)
    assert set(variables["params"]) == {"global_image", "global_text"}
    assert not np.allclose(image["global"], text["global"])


def test_embedding_adds_up_the_cosines(rng):
    shapes = {"global": (2, 6), "part": (2, 3, 6), "relation": (2, 3, 4)}
    image, text = (
        {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
        for _ in range(2)
    )
    expected = [
        sum(cosine(np.ravel(image[name][b]), np.ravel(text[name][b])) for name in shapes)
        for b in range(2)
    ]
    np.testing.assert_allclose(np.sum(embed(image) * embed(text), axis=-1), expected, atol=1e-5)
    assert embed({"global": image["global"], "alpha": image["part"]}).shape == (2, 6)

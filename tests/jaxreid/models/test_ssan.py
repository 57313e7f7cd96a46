"""The whole network, tiny: shapes, padding, formulations, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models.embedding import WordEmbedding
from jaxreid.models.lstm import RowTemplate
from jaxreid.models.ssan import build
from jaxreid.models.ssan_heads import MultiViewNonLocal

BATCH, PARTS, LENGTH, WIDTH, DIM, RELATION = 4, 3, 8, 16, 10, 6
TEMPLATE = RowTemplate(steps=(3, 5), rows=(7, 4))
FIELDS = {
    "stage_sizes": [1, 1],
    "block": "basic",
    "width": 8,
    "num_parts": PARTS,
    "word_dim": 8,
    "global_dim": DIM,
    "relation_dim": RELATION,
    "view_dim": 5,
    "max_tokens": LENGTH,
}


def make(*, num_classes=5, dtype=jnp.float32, **fields):
    config = {**FIELDS, **fields}
    return build(config, vocab_size=20, num_classes=num_classes, dtype=dtype)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    lengths = np.array([[8, 3], [0, 5], [1, 0], [6, 2]], np.int32)
    tokens = rng.integers(1, 20, (BATCH, 2, LENGTH)).astype(np.int32)
    tokens[np.arange(LENGTH) >= lengths[..., None]] = 0
    arrays = {
        "images": rng.normal(size=(BATCH, 24, 16, 3)).astype(np.float32),
        "tokens": tokens,
        "lengths": lengths,
        "valid": np.array([[True, True], [True, True], [True, False], [True, True]]),
    }
    return {name: jnp.asarray(value) for name, value in arrays.items()}


def initial_shapes(model, batch):
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), **batch)


def made_up(shapes):
    """Variables from NumPy: compiling the random initial values takes longer than all the rest."""
    rng = np.random.default_rng(0)

    def value(path, leaf):
        name = path[-1].key
        if name in ("scale", "var", "bias", "mean"):
            return jnp.full(leaf.shape, float(name in ("scale", "var")))
        scale = 1.0 if name == "embedding" else np.prod(leaf.shape[:-1]) ** -0.5
        return jnp.asarray(rng.normal(0, scale, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(value, shapes)


class Compiled:
    """A network with made-up variables and its jitted functions."""

    def __init__(self, model, batch):
        self.model = model
        self.variables = made_up(initial_shapes(model, batch))
        self.encode_image = jax.jit(functools.partial(model.apply, method="encode_image"))
        self.encode_text = jax.jit(
            functools.partial(model.apply, method="encode_text"),
            static_argnames=("template", "train", "mutable"),
        )

    @functools.partial(jax.jit, static_argnames="self")
    def step(self, params, batch):
        """((total, (outputs, statistics)), gradients) of a smooth function of all features."""

        def total(params):
            outputs, new = self.model.apply(
                {**self.variables, "params": params},
                **batch,
                train=True,
                mutable="batch_stats",
                rngs={"dropout": jax.random.key(1)},
            )
            terms = [jnp.sum(jnp.sin(3.0 * feats["embedding"])) for feats in outputs.values()]
            for feats in outputs.values():
                for logits in feats.get("logits", {}).values():
                    terms.append(jnp.mean(jax.nn.logsumexp(logits, axis=-1)))
            return sum(terms), (outputs, new)

        return jax.value_and_grad(total, has_aux=True)(params)


@pytest.fixture(scope="module")
def released(batch):
    return Compiled(make(formulation="released"), batch)


@pytest.fixture(scope="module")
def paper(batch):
    return Compiled(make(formulation="paper"), batch)


@pytest.fixture(scope="module")
def released_step(released, batch):
    return released.step(released.variables["params"], batch)


def all_finite(tree):
    return all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(tree))


def test_features_of_a_training_step(released_step):
    """Captions of length 0 and an unreal weak caption are among them."""
    (_, (outputs, _)), _ = released_step
    assert set(outputs) == {"image", "strong", "weak"}
    common = {
        "global": (BATCH, DIM),
        "part": (BATCH, PARTS, DIM),
        "relation": (BATCH, PARTS, RELATION),
        "alpha": (BATCH, PARTS, PARTS),
        "embedding": (BATCH, DIM + PARTS * (DIM + RELATION)),
    }
    text = {"words": (BATCH, LENGTH, WIDTH), "scores": (BATCH, LENGTH, PARTS)}
    shapes = {
        "image": {**common, "map": (BATCH, 3, 2, WIDTH)},
        "strong": {**common, **text},
        "weak": {**common, **text},
    }
    for slot, feats in outputs.items():
        logits = feats.pop("logits", None)
        assert {name: x.shape for name, x in feats.items()} == shapes[slot]
        if slot == "weak":
            assert logits is None
            continue
        assert {name: x.shape for name, x in logits.items()} == {
            "global": (BATCH, 256),
            "part": (BATCH, PARTS, 256),
            "relation": (BATCH, PARTS, 256),
        }
        assert (np.asarray(logits["part"])[..., 5:] < -1e8).all()
    assert all_finite(outputs)


def test_gradients_are_finite_and_leave_the_padding_row(released_step):
    _, grads = released_step
    assert all_finite(grads)
    for name in ("embedding_global", "embedding_part"):
        table = np.asarray(grads[name]["embedding"])
        assert (table[0] == 0).all()
        assert np.abs(table).max() > 0


def test_initial_word_vectors():
    words, variables = WordEmbedding(500, 16).init_with_output(
        jax.random.key(0), jnp.array([[0, 3]]), train=False
    )
    table = np.asarray(variables["params"]["embedding"])
    assert (table[0] == 0).all()
    assert table[1:].std() == pytest.approx(1, rel=0.05)
    np.testing.assert_array_equal(words[0], table[[0, 3]])


def test_template_changes_nothing(released, batch):
    """Dropout included: it is drawn for all tokens, whatever the template leaves out."""

    def encode(template):
        return released.encode_text(
            released.variables,
            batch["tokens"].reshape(-1, LENGTH),
            batch["lengths"].reshape(-1),
            train=True,
            template=template,
            rngs={"dropout": jax.random.key(1)},
            mutable="batch_stats",
        )

    full, short = encode(None), encode(TEMPLATE)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), short, full)


def test_unreal_weak_captions_do_not_touch_the_statistics(released, batch, released_step):
    """What stands in them cannot be seen by the others."""
    tokens = batch["tokens"].at[2, 1].set(7)
    lengths = batch["lengths"].at[2, 1].set(4)
    other = released.step(
        released.variables["params"], {**batch, "tokens": tokens, "lengths": lengths}
    )
    (_, (outputs, stats)), _ = other
    (_, (expected, expected_stats)), _ = released_step
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), stats, expected_stats)
    rows = np.array([0, 1, 3])
    np.testing.assert_allclose(
        outputs["weak"]["relation"][rows], expected["weak"]["relation"][rows], atol=1e-5
    )


def test_no_real_weak_caption_at_all(released, batch):
    """The statistics are those of the other two calls, and nothing is NaN."""
    valid = jnp.array([[True, False]] * BATCH)
    params = released.variables["params"]
    with_weak = released.step(params, {**batch, "valid": valid})
    other_tokens = batch["tokens"].at[:, 1].set(3)
    other = released.step(params, {**batch, "valid": valid, "tokens": other_tokens})
    assert all_finite(with_weak)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        with_weak[0][1][1]["batch_stats"]["heads"],
        other[0][1][1]["batch_stats"]["heads"],
    )


def test_statistics_follow_the_order_image_strong_weak(released, batch, released_step):
    """The running mean ends at .081 image + .09 strong + .1 weak, each the mean of its batch."""
    (_, (outputs, new)), _ = released_step
    masks = [None, None, jnp.asarray(batch["valid"][:, 1])]
    relation = MultiViewNonLocal(RELATION, FIELDS["view_dim"], released=True)
    variables = {
        "params": released.variables["params"]["heads"]["relation"],
        "batch_stats": released.variables["batch_stats"]["heads"]["relation"],
    }
    expected = 0.0
    for slot, mask in zip(("image", "strong", "weak"), masks, strict=True):
        parts = outputs[slot]["part"]
        state = relation.apply(variables, parts, train=True, mask=mask, mutable="batch_stats")[1]
        # From a mean of 0, one call leaves a tenth of the mean of the batch.
        expected = 0.9 * expected + np.asarray(state["batch_stats"]["norm"]["mean"])
    found = new["batch_stats"]["heads"]["relation"]["norm"]["mean"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_encoders_agree_with_the_training_forward(released, batch):
    params = released.variables
    outputs = jax.jit(functools.partial(released.model.apply, train=False))(params, **batch)
    image = released.encode_image(params, batch["images"])
    text = released.encode_text(params, batch["tokens"][:, 1], batch["lengths"][:, 1])
    assert "logits" not in image
    for name, value in image.items():
        np.testing.assert_allclose(outputs["image"][name], value, atol=1e-5)
    for name, value in text.items():
        np.testing.assert_allclose(outputs["weak"][name], value, atol=1e-5)


@pytest.mark.parametrize("formulation", ["paper", "released"])
def test_padding_is_inert_bit_by_bit(formulation, request, batch):
    network = request.getfixturevalue(formulation)
    tokens, lengths = batch["tokens"][:, 1, :6], batch["lengths"][:, 1]
    longer = np.concatenate([tokens, np.full((BATCH, 5), 9, np.int32)], axis=1)
    short = network.encode_text(network.variables, tokens, lengths)
    padded = network.encode_text(network.variables, longer, lengths)
    for name in ("global", "part", "relation", "embedding", "alpha"):
        np.testing.assert_array_equal(short[name], padded[name])


def test_company_does_not_matter(paper, batch):
    """A few ulp only, because products of other sizes may sum in another order."""
    tokens, lengths = batch["tokens"][:, 0], batch["lengths"][:, 0]
    together = paper.encode_text(paper.variables, tokens, lengths)["embedding"]
    alone = paper.encode_text(paper.variables, tokens[3:], lengths[3:])["embedding"]
    np.testing.assert_allclose(alone[0], together[3], atol=1e-6)


def test_an_empty_caption_is_nobody(paper, batch):
    text = paper.encode_text(paper.variables, batch["tokens"][:, 0], batch["lengths"][:, 0])
    assert batch["lengths"][1, 0] == 0
    for name in ("global", "part", "relation", "embedding"):
        assert (np.asarray(text[name])[1] == 0).all()


def test_part_features_of_the_equations(paper, batch):
    """Eq. (8)-(11) from the words and the map."""
    params = paper.variables["params"]
    text = paper.encode_text(paper.variables, batch["tokens"][:, 0], batch["lengths"][:, 0])
    kernel = np.asarray(params["heads"]["part"]["kernel"])
    attention = np.asarray(params["word_attention"]["kernel"])
    words, length = np.asarray(text["words"])[3], batch["lengths"][3, 0]
    for k in range(PARTS):
        score = 1 / (1 + np.exp(-words[:length] @ attention[:, k]))
        np.testing.assert_allclose(text["scores"][3, :length, k], score, atol=1e-6)
        pooled = np.max(score[:, None] * words[:length], axis=0)
        np.testing.assert_allclose(text["part"][3, k], pooled @ kernel[k], atol=1e-5)
    pooled = words[:length].max(axis=0)
    np.testing.assert_allclose(
        text["global"][3], pooled @ np.asarray(params["heads"]["global"]["kernel"]), atol=1e-5
    )
    image = paper.encode_image(paper.variables, batch["images"])
    strip = np.asarray(image["map"])[0, 1:2].max(axis=(0, 1))
    np.testing.assert_allclose(image["part"][0, 1], strip @ kernel[1], atol=1e-4)


def test_paper_formulation_has_one_table_and_no_statistics_of_parts(paper):
    assert set(paper.variables["params"]) >= {"embedding", "lstm", "backbone"}
    assert set(paper.variables["batch_stats"]) == {"backbone"}


def test_released_global_pooling_sees_zeros_in_short_captions(batch):
    """Full captions do not; part=False, so that `words` are those of the global branch."""
    model = make(formulation="released", part=False, relation="none", max_tokens=2)
    network = Compiled(model, batch)
    assert set(network.variables["params"]) >= {"embedding_global"}
    assert "embedding_part" not in network.variables["params"]
    lengths = jnp.array([2, 1, 0, 2])
    tokens = jnp.array([[3, 4], [5, 0], [0, 0], [6, 7]])
    text = network.encode_text(network.variables, tokens, lengths)
    kernel = np.asarray(network.variables["params"]["heads"]["global"]["kernel"])
    for row, length in enumerate(lengths):
        words = np.asarray(text["words"])[row, :length]
        pooled = words.max(axis=0, initial=0.0 if length < 2 else -np.inf)
        if length == 2:
            assert pooled.min() < 0
        np.testing.assert_allclose(text["global"][row], pooled @ kernel, atol=1e-5)
    assert set(text) == {"global", "embedding", "words"}


def test_a_single_caption_of_one_token(paper, batch):
    outputs = jax.jit(functools.partial(paper.model.apply, train=False))(
        paper.variables,
        batch["images"],
        batch["tokens"][:, :1, :1],
        np.minimum(batch["lengths"][:, :1], 1),
        batch["valid"][:, :1],
    )
    assert set(outputs) == {"image", "strong"}
    assert all_finite(outputs)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("formulation", ["paper", "released"])
def test_strict_promotion_in_training(formulation, dtype, batch):
    model = make(formulation=formulation, dtype=dtype, remat=True)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        variables = initial_shapes(model, batch)
        outputs, new = jax.eval_shape(
            functools.partial(model.apply, train=True, mutable="batch_stats"),
            variables,
            **batch,
            rngs={"dropout": jax.random.key(0)},
        )
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, new))} == {jnp.dtype(jnp.float32)}
    for feats in outputs.values():
        for name, value in feats.items():
            if name != "logits":
                assert value.dtype == (dtype if name in ("map", "words") else jnp.float32)
    assert outputs["image"]["logits"]["part"].dtype == jnp.float32


def test_bfloat16_features_are_near_those_of_float32(paper, batch):
    narrow = Compiled(make(dtype=jnp.bfloat16), batch)
    caption = batch["tokens"][:, 1], batch["lengths"][:, 1]
    pairs = [
        (network.encode_image(paper.variables, batch["images"]), network.encode_text)
        for network in (paper, narrow)
    ]
    images = [np.asarray(feats["embedding"]) for feats, _ in pairs]
    texts = [np.asarray(encode(paper.variables, *caption)["embedding"]) for _, encode in pairs]
    np.testing.assert_allclose(np.sum(images[0] * images[1], axis=-1), 3, atol=0.02)
    rows = np.flatnonzero(batch["lengths"][:, 1])
    np.testing.assert_allclose(np.sum(texts[0] * texts[1], axis=-1)[rows], 3, atol=0.02)


def test_vgg_and_one_projection_per_part(batch):
    model = make(
        backbone="vgg", stage_sizes=(1, 1, 1), width=4, relation="conv1x1", shared_projection=False
    )
    outputs, variables = jax.eval_shape(
        functools.partial(model.init_with_output, train=False), jax.random.key(0), **batch
    )
    assert outputs["image"]["map"].shape == (BATCH, 3, 2, WIDTH)
    assert "alpha" not in outputs["image"]
    assert set(variables["params"]["heads"]) == {"global_image", "global_text", "part", "relation"}
    assert "batch_stats" not in variables

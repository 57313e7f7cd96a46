"""AXM-Net: sizes of the specification, context sharing, padding, and what each switch does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models.axm_net import AXMNet, build
from jaxreid.models.layers import count_parameters

pytestmark = pytest.mark.usefixtures("compile_fast")

TINY = {
    "channels": (8, 16, 16, 32),
    "blocks": 1,
    "num_parts": 3,
    "feature_dim": 8,
    "word_dim": 6,
    "max_tokens": 12,
}
VOCABULARY = 20


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def batch(size=4, height=48, width=16, length=12, seed=0):
    rng = np.random.default_rng(seed)
    lengths = jnp.asarray(rng.integers(1, length + 1, (size, 1)), jnp.int32)
    tokens = rng.integers(1, VOCABULARY, (size, 1, length))
    tokens = np.where(np.arange(length) < np.asarray(lengths)[..., None], tokens, 0)
    images = jnp.asarray(rng.normal(size=(size, height, width, 3)), jnp.float32)
    return images, jnp.asarray(tokens, jnp.int32), lengths, jnp.ones((size, 1), bool)


def tiny(**fields):
    return AXMNet(vocab_size=VOCABULARY, **{**TINY, **fields})


@functools.cache
def variables(model):
    init = jax.jit(functools.partial(model.init, train=False))
    start = init(jax.random.key(0), *batch())
    # Scales of zero would hide non-local attention: move every parameter a little.
    leaves, tree = jax.tree.flatten(start["params"])
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        leaf + 0.2 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return {**start, "params": jax.tree.unflatten(tree, moved)}


def shapes(model):
    """Parameters and outputs of the tiny batch, nothing computed."""
    init = functools.partial(model.init, train=False)
    start = jax.eval_shape(init, jax.random.key(0), *batch())
    outputs = jax.eval_shape(functools.partial(model.apply, train=False), start, *batch())
    return start["params"], outputs


@functools.cache
def forward(model, method="__call__"):
    """The compiled network, with its variables."""
    train = {"train": False} if method == "__call__" else {}
    return functools.partial(
        jax.jit(functools.partial(model.apply, method=method, **train)), variables(model)
    )


# --- sizes, Table 1 ---


@functools.cache
def full_size():
    """Nothing is allocated: shapes only."""
    model = AXMNet(vocab_size=VOCABULARY)
    given = batch(2, 224, 224, 56)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), *given)
    outputs = jax.eval_shape(functools.partial(model.apply, train=False), shapes, *given)
    return shapes["params"], outputs


def test_parameter_counts_of_the_specification():
    params, _ = full_size()
    gates = sum(count_parameters(value) for name, value in params.items() if "context" in name)
    counts = {name: count_parameters(value) for name, value in params.items()}
    assert gates == 8_036
    vision = params["vision"]
    stage = {
        stage: sum(
            count_parameters(vision[name])
            for name in (f"body_{2 * stage}", f"body_{2 * stage + 1}", f"transitions_{stage}")
            if name in vision
        )
        for stage in range(3)
    }
    assert count_parameters(vision["conv1"]) == 9_536
    assert stage[0] + 2 * 580 == 234_632
    assert stage[1] + 2 * 1_254 == 592_332
    assert stage[2] + 2 * 2_184 == 806_160
    assert count_parameters(vision["conv5"]) == 263_168
    assert counts["vision"] + gates == 1_905_828
    assert counts["text"] == 1_911_424
    assert counts["non_local"] == 525_568 + 1_024
    assert counts["part_branch"] == 33_312
    assert counts["fc_global"] == 2 * 263_680
    assert counts["fc_part"] == counts["fc_text"] == 263_680
    assert sum(counts.values()) - counts["embedding"] == 5_431_876


def test_shapes_of_table_1():
    _, outputs = full_size()
    vision = {name: x.shape[1:] for name, x in outputs["image"]["stages"].items()}
    assert vision == {
        "conv1": (56, 56, 64),
        "conv2": (28, 28, 256),
        "conv3": (14, 14, 384),
        "conv4": (14, 14, 512),
        "conv5": (14, 14, 512),
    }
    text = {name: x.shape[1:] for name, x in outputs["strong"]["stages"].items()}
    assert text == {
        "conv1": (1, 56, 64),
        "conv2": (1, 28, 256),
        "conv3": (1, 14, 384),
        "conv4": (1, 14, 512),
        "conv5": (1, 14, 512),
    }
    assert outputs["image"]["embedding"].shape == outputs["strong"]["embedding"].shape == (2, 1024)


def test_other_text_stem_has_the_parameters_of_the_other_reading():
    model = AXMNet(vocab_size=VOCABULARY, text_stem="separable")
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), *batch(1, 224, 224, 56))["params"]
    # pointwise 300 x 64, depthwise 3 x 64, batch normalisation 2 x 64
    assert count_parameters(shapes["text"]["conv1"]) == 19_520


# --- one modality and two ---


@pytest.mark.parametrize("context", ["shared", pytest.param("separate", marks=pytest.mark.slow)])
def test_an_image_alone_is_encoded_as_beside_any_text(context):
    model = tiny(context=context)
    images, tokens, lengths, valid = batch()
    one = forward(model)(images, tokens, lengths, valid)
    other = forward(model)(images, *batch(seed=7)[1:])
    alone = forward(model, "encode_image")(images)
    assert np.array_equal(one["image"]["embedding"], other["image"]["embedding"])
    assert np.array_equal(one["image"]["embedding"], alone["embedding"])
    assert not np.array_equal(one["strong"]["embedding"], other["strong"]["embedding"])


def test_a_shared_gate_is_one_and_separate_gates_are_two():
    shared, separate = (shapes(tiny(context=kind))[0] for kind in ("shared", "separate"))
    assert set(shared["context1"]) == {"shared"}
    assert set(separate["context1"]) == {"vision", "text"}


def test_joint_context_scales_an_image_by_its_sentence_and_refuses_an_image_alone():
    model = tiny(context="joint")
    images, tokens, lengths, valid = batch()
    one = forward(model)(images, tokens, lengths, valid)
    other = forward(model)(images, *batch(seed=7)[1:])
    assert not np.allclose(one["image"]["embedding"], other["image"]["embedding"])
    with pytest.raises(ValueError, match="vision alone.*gallery.*'shared' or 'separate'"):
        forward(model, "encode_image")(images)
    with pytest.raises(ValueError, match="text alone"):
        forward(model, "encode_text")(tokens[:, 0], lengths[:, 0])


# --- sentences ---


def test_padding_is_to_a_fixed_length_whatever_comes_in():
    model = tiny()
    _, tokens, _, _ = batch()
    lengths = jnp.full((4,), 5, jnp.int32)
    short, long = tokens[:, 0, :5], tokens[:, 0].at[:, 5:].set(0)
    assert np.array_equal(
        forward(model, "encode_text")(short, lengths)["embedding"],
        forward(model, "encode_text")(long, lengths)["embedding"],
    )
    garbage = tokens[:, 0].at[:, 5:].set(9)
    assert np.array_equal(
        forward(model, "encode_text")(garbage, lengths)["embedding"],
        forward(model, "encode_text")(long, lengths)["embedding"],
    )
    with pytest.raises(ValueError, match=r"16 tokens.*takes 12.*data\.max_tokens"):
        forward(model, "encode_text")(jnp.ones((1, 16), jnp.int32), jnp.ones((1,), jnp.int32))


def test_masked_padding_leaves_nothing_of_it_in_the_attention():
    model = tiny(mask_padding=True)
    _, tokens, _, _ = batch()
    lengths = jnp.asarray([4, 12, 1, 0], jnp.int32)
    phrases = forward(model, "encode_text")(tokens[:, 0], lengths)["phrases"]
    assert phrases.shape == (4, 3, 3)
    np.testing.assert_allclose(phrases.sum(2), 1.0, rtol=1e-5)
    assert np.all(np.asarray(phrases[0])[:, 1:] == 0)  # 4 words: one stretch of four
    assert np.all(np.asarray(phrases[1]) > 0)
    assert np.isfinite(forward(model, "encode_text")(tokens[:, 0], lengths)["embedding"]).all()


def test_embedding_adds_the_cosines_of_both_branches():
    model = tiny()
    out = forward(model)(*batch())

    def unit(x):
        return np.asarray(x) / np.linalg.norm(x, axis=1, keepdims=True)

    image, text = out["image"], out["strong"]
    wanted = sum(unit(image[name]) @ unit(text["text"]).T for name in ("global", "part"))
    np.testing.assert_allclose(image["embedding"] @ text["embedding"].T, wanted, atol=1e-5)


# --- switches ---


@pytest.mark.parametrize(
    ("fields", "present", "absent"),
    [
        ({"part": False}, {"global"}, {"part", "part_map"}),
        ({"global_branch": False}, {"part", "part_map"}, {"global"}),
    ],
)
def test_a_branch_left_out_is_left_out_of_the_score(fields, present, absent):
    _, out = shapes(tiny(**fields))
    assert present <= set(out["image"])
    assert not absent & set(out["image"])
    assert out["image"]["embedding"].shape == out["strong"]["embedding"].shape == (4, 8)


@pytest.mark.parametrize(("layers", "wanted"), [(0, (2, 1, 1)), (1, (1, 1, 1)), (2, (2, 2, 2))])
def test_number_of_dense_layers(layers, wanted):
    params, _ = shapes(tiny(fc_layers=layers))
    found = tuple(len(params[f"fc_{name}"]) // 2 for name in ("global", "part", "text"))
    assert found == wanted


def test_without_nla_there_are_no_phrases():
    params, out = shapes(tiny(nla=False))
    assert "phrases" not in out["strong"]
    assert "non_local" not in params


def test_new_non_local_attention_is_the_identity():
    with_nla, without = tiny(), tiny(nla=False)
    given = batch()
    start = jax.jit(functools.partial(with_nla.init, train=False))(jax.random.key(3), *given)
    params = {name: value for name, value in start["params"].items() if name != "non_local"}
    stats = {name: value for name, value in start["batch_stats"].items() if name != "non_local"}
    one = jax.jit(functools.partial(with_nla.apply, train=False))(start, *given)
    rest = {"params": params, "batch_stats": stats}
    other = jax.jit(functools.partial(without.apply, train=False))(rest, *given)
    assert np.array_equal(one["strong"]["text"], other["strong"]["text"])


def test_one_classifier_serves_all_features():
    model = tiny(num_classes=5)
    out = forward(model)(*batch())
    kernel = variables(model)["params"]["classifier"]["kernel"]
    assert kernel.shape == (8, 256)
    assert set(out["image"]["logits"]) == {"global", "part"}
    assert set(out["strong"]["logits"]) == {"text"}
    wanted = np.asarray(out["strong"]["text"]) @ np.asarray(kernel)[:, :5]
    bias = np.asarray(variables(model)["params"]["classifier"]["bias"])[:5]
    np.testing.assert_allclose(out["strong"]["logits"]["text"][:, :5], wanted + bias, rtol=2e-4)
    assert np.all(out["strong"]["logits"]["text"][:, 5:] < -1e8)


def test_two_captions_an_image_are_refused():
    images, tokens, lengths, valid = batch()
    two = (jnp.tile(x, (1, 2, *[1] * (x.ndim - 2))) for x in (tokens, lengths, valid))
    with pytest.raises(ValueError, match="2 captions per image.*captions_per_pair=1"):
        forward(tiny())(images, *two)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("context", "none", "choose one of shared, separate, joint"),
        ("fc_layers", 3, "choose 0"),
        ("channels", (6, 8, 8, 8), "multiples of 4"),
        ("num_parts", 0, "at least 1"),
        ("feature_drop", "all", "choose one of none, random, part"),
    ],
)
def test_fields_that_make_no_network(field, value, message):
    with pytest.raises(ValueError, match=message):
        tiny(**{field: value}).init(jax.random.key(0), *batch(), train=False)


def test_no_branch_at_all_is_refused():
    with pytest.raises(ValueError, match="an image would have no feature"):
        tiny(part=False, global_branch=False).init(jax.random.key(0), *batch(), train=False)


def test_build_takes_fields_and_refuses_unknown_ones():
    fields = {**TINY, "channels": list(TINY["channels"])}
    model = build(fields, vocab_size=VOCABULARY, num_classes=0, dtype=jnp.float32)
    assert model == tiny()
    with pytest.raises(ValueError, match=r"Unknown field.*chanels.*AXMNet.*channels"):
        build({"chanels": (8,)}, vocab_size=5, num_classes=0, dtype=jnp.float32)


@pytest.mark.slow
def test_bfloat16_stays_near_and_gives_float32_features():
    model, half = tiny(), tiny(dtype=jnp.bfloat16)
    images, *rest = batch()
    exact = forward(model)(images, *rest)
    narrow = jax.jit(functools.partial(half.apply, train=False))
    near = narrow(variables(model), images.astype(jnp.bfloat16), *rest)
    for side in ("image", "strong"):
        assert near[side]["embedding"].dtype == jnp.float32
        # bfloat16 keeps 8 bits; some twenty layers of it add up to a few percent.
        np.testing.assert_allclose(near[side]["embedding"], exact[side]["embedding"], atol=0.08)

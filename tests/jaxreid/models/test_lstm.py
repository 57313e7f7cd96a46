"""The Bi-LSTM against a slow loop, and the inertness of padding."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models.lstm import BiLSTM, RowTemplate

HIDDEN, WIDTH, LENGTH = 8, 6, 11
LENGTHS = np.array([5, 0, 11, 1, 7, 3], np.int32)
TEMPLATE = RowTemplate(steps=(4, 3, 4), rows=(5, 3, 1))
GROUPED = RowTemplate(steps=(5, 6), rows=(3, 1), groups=2)


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 0.5, (2, WIDTH, 4 * HIDDEN)).astype(np.float32)
    recurrent = rng.normal(0, 0.5, (2, HIDDEN, 4 * HIDDEN)).astype(np.float32)
    return {"kernel": kernel, "recurrent": recurrent}


@pytest.fixture(scope="module")
def words():
    return np.random.default_rng(1).normal(size=(len(LENGTHS), LENGTH, 1, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def encode():
    @functools.partial(jax.jit, static_argnames=("template", "dtype", "platform"))
    def encode(params, x, lengths, template=None, dtype=jnp.float32, platform="gpu"):
        module = BiLSTM(HIDDEN, dtype, platform=platform)
        return module.apply({"params": params}, x, lengths, template)

    return encode


@pytest.fixture(scope="module")
def gradients():
    """Gradients of a weighted sum of the outputs; weights go with captions and time."""

    @functools.partial(jax.jit, static_argnames=("template", "platform"))
    def gradients(params, x, lengths, template=None, platform="gpu"):
        def total(params, x):
            module = BiLSTM(HIDDEN, platform=platform)
            out = module.apply({"params": params}, x, lengths, template)
            weights = jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape)
            return jnp.sum(out * weights)

        return jax.grad(total, argnums=(0, 1))(params, x)

    return gradients


def slow_direction(xp, x, kernel, recurrent):
    """States of one direction over one caption, one word at a time; xp is numpy or jax.numpy."""
    h = c = xp.zeros(HIDDEN)
    states = []
    for word in x:
        i, f, g, o = xp.split(word @ kernel + h @ recurrent, 4)
        i, f, o = (1 / (1 + xp.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * xp.tanh(g)
        h = o * xp.tanh(c)
        states.append(h)
    return xp.stack(states) if states else xp.zeros((0, HIDDEN))


def slow_bilstm(xp, params, x, lengths):
    """[N, L, C] without batches, templates or tricks."""
    outputs = []
    for caption, length in zip(x[:, :, 0], lengths, strict=True):
        valid = caption[:length]
        forward = slow_direction(xp, valid, params["kernel"][0], params["recurrent"][0])
        backward = slow_direction(xp, valid[::-1], params["kernel"][1], params["recurrent"][1])
        mean = (forward + backward[::-1]) / 2
        outputs.append(xp.concatenate([mean, xp.zeros((len(caption) - length, HIDDEN))]))
    return xp.stack(outputs)


@pytest.mark.parametrize("platform", ["gpu", "cpu", "tpu"])
@pytest.mark.parametrize("template", [None, TEMPLATE, GROUPED], ids=["full", "chunks", "groups"])
def test_equals_a_slow_loop(encode, params, words, template, platform):
    out = np.asarray(encode(params, words, LENGTHS, template, platform=platform))
    assert out.shape == (len(LENGTHS), LENGTH, 1, HIDDEN)
    expected = slow_bilstm(np, params, words, LENGTHS)
    np.testing.assert_allclose(out[:, :, 0], expected, atol=1e-6)
    for row, length in zip(out, LENGTHS, strict=True):
        assert (row[length:] == 0).all()


@pytest.mark.parametrize("platform", ["gpu", "cpu", "tpu"])
def test_gradients_equal_those_of_a_slow_loop(gradients, params, words, platform):
    """A caption of 0 words is among them."""
    words, lengths = words[:3, :4], np.array([4, 0, 2], np.int32)

    def total(params, x):
        out = slow_bilstm(jnp, params, x, lengths)
        return jnp.sum(out * jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape))

    expected = jax.jit(jax.grad(total, argnums=(0, 1)))(params, words)
    found = gradients(params, words, lengths, platform=platform)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)


@pytest.mark.parametrize("template", [TEMPLATE, GROUPED], ids=["chunks", "groups"])
def test_templates_do_not_change_the_gradients(gradients, params, words, template):
    full = gradients(params, words, LENGTHS)
    short = gradients(params, words, LENGTHS, template)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-6), short, full)


def test_a_short_template_leaves_out_only_padding(encode, params, words):
    lengths = np.minimum(LENGTHS, 6)
    short = encode(params, words, lengths, RowTemplate((6,), (6,)))
    full = encode(params, words, lengths)
    assert short.shape[1] == 6
    np.testing.assert_allclose(short, full[:, :6], atol=1e-6)


def test_padding_is_inert_bit_by_bit(encode, gradients, params, words):
    """Neither what stands in the padding nor how much of it there is can be seen."""
    out = np.asarray(encode(params, words, LENGTHS))
    other = words.copy()
    for row, length in zip(other, LENGTHS, strict=True):
        row[length:] = 1e3
    np.testing.assert_array_equal(encode(params, other, LENGTHS), out)
    longer = np.concatenate([words, np.full_like(words[:, :5], 7.0)], axis=1)
    np.testing.assert_array_equal(encode(params, longer, LENGTHS)[:, :LENGTH], out)

    grad_params, grad_words = gradients(params, words, LENGTHS)
    other_params, other_words = gradients(params, other, LENGTHS)
    np.testing.assert_array_equal(other_words, grad_words)
    # The weight gradient multiplies the padding by exact zeros.
    jax.tree.map(np.testing.assert_array_equal, other_params, grad_params)
    for row, length in zip(np.asarray(grad_words), LENGTHS, strict=True):
        assert (row[length:] == 0).all()


def test_company_does_not_matter(encode, params, words):
    """A few ulp only, because a matrix product of other size may sum in another order."""
    together = encode(params, words, LENGTHS)
    alone = encode(params, words[2:3], LENGTHS[2:3])
    np.testing.assert_allclose(alone[0], together[2], atol=5e-7)


@pytest.mark.parametrize("platform", ["gpu", "cpu", "tpu"])
def test_streams_share_the_scan(encode, params, words, platform):
    both = np.concatenate([words, words[::-1]], axis=2)
    out = encode(params, both, LENGTHS, TEMPLATE, platform=platform)
    np.testing.assert_allclose(out[:, :, :1], encode(params, words, LENGTHS, TEMPLATE), atol=1e-6)
    np.testing.assert_allclose(
        out[:, :, 1], slow_bilstm(np, params, words[::-1], LENGTHS), atol=1e-6
    )


def test_one_token(encode, params, words):
    lengths = np.array([1, 0], np.int32)
    out = encode(params, words[:2, :1], lengths)
    np.testing.assert_allclose(
        out[:, :, 0], slow_bilstm(np, params, words[:2, :1], lengths), atol=1e-6
    )


@pytest.mark.parametrize("platform", ["gpu", "cpu", "tpu"])
def test_bfloat16_stays_near_float32(encode, params, words, platform):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        out = encode(params, words, LENGTHS, TEMPLATE, jnp.bfloat16, platform)
    assert out.dtype == jnp.bfloat16
    full = encode(params, words, LENGTHS, TEMPLATE)
    np.testing.assert_allclose(out.astype(jnp.float32), full, atol=0.03)


def test_sorting_never_crosses_devices(params, words, gradients):
    """On a mesh, only the gradients of the weights are summed over the devices, once."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("data"))
    arguments = (
        jax.device_put(params, jax.NamedSharding(mesh, jax.P())),
        *jax.device_put((words, LENGTHS), rows),
    )
    compiled = gradients.lower(*arguments, GROUPED).compile()
    program = compiled.as_text()
    assert len(re.findall(r"\ball-reduce\(", program)) == 1
    assert not re.search(r"\b(all-gather|all-to-all|collective-permute)\(", program)
    expected = gradients(params, words, LENGTHS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=5e-6), compiled(*arguments), expected
    )


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (RowTemplate((11,), (6,), groups=4), "groups=4"),
        (RowTemplate((11,), (7,)), "rows=\\(7,\\)"),
        (RowTemplate((12,), (6,)), "max_tokens=11"),
    ],
)
def test_templates_that_do_not_go_with_the_batch(params, words, template, message):
    with pytest.raises(ValueError, match=message):
        BiLSTM(HIDDEN).apply({"params": params}, jnp.asarray(words), jnp.asarray(LENGTHS), template)


@pytest.mark.parametrize(("platform", "scans"), [("gpu", 1), ("tpu", 2)])
def test_directions_follow_one_another_on_a_tpu(params, words, platform, scans):
    module = BiLSTM(HIDDEN, platform=platform)
    inputs = {"params": params}, words, LENGTHS, TEMPLATE
    program = str(jax.make_jaxpr(module.apply, static_argnums=3)(*inputs))
    assert program.count(" scan[") == scans * len(TEMPLATE.rows)

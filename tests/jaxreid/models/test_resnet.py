"""ResNet: shapes, where the stride sits, recomputation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models.resnet import ResNet


def init_shapes(model, images):
    init = functools.partial(model.init, use_running_average=True)
    return jax.eval_shape(init, jax.random.key(0), images)


@pytest.mark.parametrize(("last_stride", "rows"), [(2, 12), (1, 24)])
def test_resnet50_map(last_stride, rows):
    model = ResNet(last_stride=last_stride)
    images = jax.ShapeDtypeStruct((2, 384, 128, 3), jnp.float32)
    variables = init_shapes(model, images)
    apply = functools.partial(model.apply, use_running_average=True)
    final, outputs = jax.eval_shape(apply, variables, images)
    assert final.shape == (2, rows, rows // 3, 2048)
    assert model.out_features == 2048
    assert set(outputs) == {"stem", "stage1", "stage2", "stage3", "stage4"}
    assert outputs["stem"].shape == (2, 96, 32, 64)
    assert outputs["stage3"].shape == (2, 24, 8, 1024)
    assert variables["params"]["stage2_block1"]["downsample_conv"]["kernel"].shape == (
        *(1, 1),
        *(256, 512),
    )
    assert "downsample_conv" not in variables["params"]["stage2_block2"]


def test_stride_sits_on_the_3x3():
    """Version 1.5."""
    model = ResNet(stage_sizes=(1, 1), width=4)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = init_shapes(model, images)
    apply = functools.partial(model.apply, use_running_average=True, capture_intermediates=True)
    _, state = jax.eval_shape(apply, variables, images)
    block = state["intermediates"]["stage2_block1"]
    assert block["conv1"]["__call__"][0].shape[1] == 8
    assert block["conv2"]["__call__"][0].shape[1] == 4


@pytest.fixture(scope="module")
def tiny():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 16, 3)), jnp.float32)
    model = ResNet(stage_sizes=(1, 1), width=4, block="basic")
    variables = jax.jit(functools.partial(model.init, use_running_average=True))(
        jax.random.key(0), images
    )
    return images, variables


def train_step(images, variables, **fields):
    model = ResNet(stage_sizes=(1, 1), width=4, block="basic", **fields)

    @jax.jit
    def step(params):
        def total(params):
            (final, _), new = model.apply(
                {**variables, "params": params},
                images,
                use_running_average=False,
                mutable="batch_stats",
            )
            return jnp.sum(jnp.square(final.astype(jnp.float32))), new

        return jax.value_and_grad(total, has_aux=True)(params)

    return step(variables["params"])


def test_recomputation_changes_nothing(tiny):
    plain, again = train_step(*tiny), train_step(*tiny, remat=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4), plain, again)


def test_bfloat16_under_strict_promotion(tiny):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        (_, new), grads = train_step(*tiny, dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves((new, grads))} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"block": "wide"}, "block='wide'"), ({"last_stride": 3}, "last_stride=3")],
)
def test_unknown_choices(fields, message):
    images = jnp.zeros((1, 32, 32, 3))
    with pytest.raises(ValueError, match=message):
        ResNet(**fields).init(jax.random.key(0), images, use_running_average=True)


@pytest.mark.parametrize(("platform", "written_out"), [("cpu", True), ("gpu", False)])
def test_no_convolution_takes_a_form_that_was_not_asked_for(platform, written_out):
    """The stem too: what is compiled for an accelerator on a CPU must not look like a CPU's."""
    model = ResNet(width=4, stage_sizes=(1, 1), platform=platform)
    images = jnp.zeros((1, 32, 16, 3))
    init = functools.partial(model.init, use_running_average=True)
    program = str(jax.make_jaxpr(init)(jax.random.key(0), images))
    for name in ("convolution_on_cpu", "product_of_pixels"):
        assert (name in program) == written_out

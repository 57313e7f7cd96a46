"""Operations counted in a program against those counted by hand."""

import doctest
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxreid import flops, registry, step
from jaxreid.models.axm_net import AXMNet
from jaxreid.models.convolution import Conv
from jaxreid.models.light_convolution import LightConv
from jaxreid.models.lstm import BiLSTM
from tests.jaxreid import tiny


def _shape(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _convolution(image, kernel, *, strides=(1, 1), groups=1):
    return jax.lax.conv_general_dilated(
        image,
        kernel,
        strides,
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def test_docstring_examples():
    result = doctest.testmod(flops)
    assert result.failed == 0
    assert result.attempted > 0


def test_matrix_product_with_a_batch():
    found = flops.count_flops(
        lambda a, b: jnp.einsum("bij,bjk->bik", a, b), _shape(7, 2, 3), _shape(7, 3, 5)
    )
    assert found == flops.FlopCount(2 * 7 * 2 * 3 * 5)


def test_scan_counts_each_turn_and_nested_scans_multiply():
    def turn(state, _):
        return state @ state, None

    def loop(state, _):
        return jax.lax.scan(turn, state, None, length=3)

    one = 2 * 4**3
    found = flops.count_flops(lambda x: jax.lax.scan(turn, x, None, length=10), _shape(4, 4))
    assert found.total == 10 * one
    found = flops.count_flops(lambda x: jax.lax.scan(loop, x, None, length=5), _shape(4, 4))
    assert found.total == 15 * one


@pytest.mark.parametrize(("strides", "outputs"), [((1, 1), 8 * 6), ((2, 2), 4 * 3)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolution_in_groups_and_its_gradients(strides, outputs, groups):
    image, kernel = _shape(2, 8, 6, 4), _shape(3, 3, 4 // groups, 12)
    forward = 2 * (2 * outputs * 12) * (3 * 3 * 4 // groups)
    run = functools.partial(_convolution, strides=strides, groups=groups)
    assert flops.count_flops(run, image, kernel).total == forward

    def loss(image, kernel):
        return run(image, kernel).sum()

    for argnums, passes in ((0, 1), (1, 1), ((0, 1), 2)):
        found = flops.count_flops(jax.grad(loss, argnums=argnums), image, kernel).total
        # The sum's gradient needs no value of the convolution; JAX leaves it in the program.
        assert found == (1 + passes) * forward


@pytest.mark.parametrize("size", [(3, 3), (1, 3)])
def test_depthwise_convolution_and_its_gradients(size):
    """Each output sums over the window of its own channel; both gradients cost as much."""
    height, width = size
    image, kernel = _shape(2, 8, 6, 5), _shape(*size, 1, 5)
    forward = 2 * (2 * 8 * 6 * 5) * height * width

    def loss(image, kernel):
        return _convolution(image, kernel, groups=5).sum()

    gradient = jax.grad(loss, argnums=1)
    assert flops.count_flops(loss, image, kernel).total == forward
    assert flops.count_flops(jax.grad(loss), image, kernel).total == 2 * forward
    assert flops.count_flops(gradient, image, kernel).total == 2 * forward
    # JAX writes the kernel's gradient with the channels as groups of the batch.
    assert "batch_group_count=5" in str(jax.make_jaxpr(gradient)(image, kernel))


def test_groups_of_the_batch():
    """Group g of the images meets the outputs of group g alone."""
    found = flops.count_flops(
        functools.partial(
            jax.lax.conv_general_dilated,
            window_strides=(1, 1),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            batch_group_count=3,
        ),
        _shape(6, 5, 4, 7),
        _shape(2, 2, 7, 9),
    )
    images, rows, columns = 6 // 3, 5 - 1, 4 - 1
    assert found.total == 2 * (images * rows * columns * 9) * (2 * 2 * 7)


class _Light(nn.Module):
    """A light and a pointwise convolution, written as the device likes it."""

    platform: str = "cpu"
    remat: bool = True

    @nn.compact
    def __call__(self, x):
        light = nn.remat(LightConv, static_argnums=(2,)) if self.remat else LightConv
        x = light(6, (3, 3), platform=self.platform, name="light")(x, False)
        return Conv(7, platform=self.platform, name="pointwise")(x)


def test_a_network_counts_the_same_however_it_is_computed():
    x = _shape(2, 8, 4, 5)
    model = _Light()
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    one = 2 * (2 * 8 * 4) * (5 * 6 + 3 * 3 * 6 + 6 * 7)

    def work(model):
        def loss(variables, x):
            return model.apply(variables, x, mutable=["batch_stats"])[0].sum()

        return flops.count_flops(jax.grad(loss, argnums=(0, 1)), variables, x).total

    assert flops.counted_form(model) == _Light("gpu", remat=False)
    assert work(model) < work(flops.counted_form(model)) == 3 * one
    assert flops.counted_form(nn.Dense(3)) == nn.Dense(3)


def test_gradient_of_two_layers():
    def loss(weights, x):
        return jnp.sum(jnp.tanh(x @ weights[0]) @ weights[1])

    weights, x = (_shape(4, 8), _shape(8, 3)), _shape(5, 4)
    first, second = 2 * 5 * 4 * 8, 2 * 5 * 8 * 3
    # Backward: two products for each layer but no gradient of x.
    found = flops.count_flops(jax.grad(loss), weights, x)
    assert found.total == 2 * first + 3 * second


def test_branches_count_the_dearest_and_loops_of_unknown_length_once():
    def branches(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    found = flops.count_flops(branches, _shape(4, 4))
    assert found == flops.FlopCount(2 * 2 * 4**3)

    def loop(x):
        return jax.lax.while_loop(lambda x: x[0, 0] > 0, lambda x: x @ x, x)

    found = flops.count_flops(loop, _shape(4, 4))
    assert found.total == 2 * 4**3
    assert "while loop" in found.notes[0]


def test_programs_inside_programs():
    @jax.custom_vjp
    def square(x):
        return x @ x

    square.defvjp(lambda x: (x @ x, x), lambda x, grad: (grad @ x.T + x.T @ grad,))
    one = 2 * 4**3
    x = _shape(4, 4)
    assert flops.count_flops(square, x).total == one
    assert flops.count_flops(jax.jit(jax.jit(square)), x).total == one
    assert flops.count_flops(jax.jit(jax.grad(lambda x: square(x).sum())), x).total == 3 * one
    assert flops.count_flops(jax.checkpoint(lambda x: x @ x), x).total == one


def test_shards_add_up():
    mesh = tiny.mesh(4)
    rows = PartitionSpec(("data", "model"))
    sharded = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows)
    assert flops.count_flops(sharded, _shape(8, 3), _shape(3, 5)).total == 2 * 8 * 3 * 5


def test_lstm_pass_of_a_hundred_tokens():
    """Two directions; each token meets an input and a recurrent matrix of four gates."""
    width, hidden, length = 512, 2048, 100
    model = flops.counted_form(BiLSTM(hidden))
    x, lengths = _shape(1, length, 1, width), jax.ShapeDtypeStruct((1,), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x, lengths)
    found = flops.count_flops(model.apply, variables, x, lengths)
    assert found.total == 2 * 2 * length * (width + hidden) * 4 * hidden
    assert found.total == pytest.approx(8.4e9, rel=0.01)


def test_full_size_image_forward_is_that_of_resnet50():
    """4.1 G multiply-adds at 224 x 224 (He et al., Table 1) are 8.0 GFLOP at 384 x 128."""
    config = tiny.get_config("cuhk_pedes,baseline")
    model = registry.build_model(config, vocab_size=100, num_classes=10)
    variables = jax.eval_shape(functools.partial(step.init_variables, config, model))
    encode = functools.partial(model.apply, method="encode_image")
    found = flops.count_flops(encode, variables, _shape(1, 384, 128, 3))
    assert found.total == pytest.approx(8.0e9, rel=0.02)
    assert found.notes == ()


def test_training_axm_net_costs_three_times_its_forward_pass():
    """But for the gradient of the images, which nobody asks for: one pass of the first layer."""
    fields = {"channels": (8, 16, 16, 32), "blocks": 1, "num_parts": 3, "max_tokens": 12}
    model = flops.counted_form(AXMNet(vocab_size=20, num_classes=5, **fields))
    captions = jnp.ones((2, 1, 12), jnp.int32), jnp.full((2, 1), 12), jnp.ones((2, 1), bool)
    batch = _shape(2, 48, 16, 3), *captions
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), *batch)

    def loss(params, stats, *batch):
        apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
        outputs, _ = apply({"params": params, "batch_stats": stats}, *batch)
        return sum(outputs[side]["logits"][name].sum() for side, name in _LOGITS)

    given = variables["params"], variables["batch_stats"], *batch
    first = 2 * (2 * 24 * 8 * 8) * (7 * 7 * 3)
    forward = flops.count_flops(loss, *given).total
    assert flops.count_flops(jax.grad(loss), *given).total == 3 * forward - first


_LOGITS = (("image", "global"), ("image", "part"), ("strong", "text"))


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H200", 989e12),
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("TPU v4 lite", None),
        ("cpu", None),
    ],
)
def test_peaks(kind, peak):
    assert flops.peak_flops(kind) == (peak if peak is None else pytest.approx(peak))


def test_utilisation_is_the_share_of_all_devices_peaks():
    assert flops.utilisation(197e12, 2.0, "TPU v5 lite", 4) == pytest.approx(1 / 8)
    assert flops.utilisation(197e12, 2.0, "cpu", 4) is None


def test_a_program_without_products_costs_nothing():
    assert flops.count_flops(jnp.sort, np.zeros(8)).total == 0


def test_limits_of_a_device():
    chip = flops.device("TPU v5 lite")
    assert (chip.flops, chip.bandwidth, chip.memory) == (197e12, 819e9, 16 * 2**30)
    assert chip == flops.device("TPU v5e")
    assert flops.device("NVIDIA A100-SXM4-40GB").bandwidth == 1555e9
    assert flops.device("NVIDIA A100-SXM4-80GB").bandwidth == 2039e9
    assert flops.device("NVIDIA H200").bandwidth == 4800e9
    assert flops.device("NVIDIA H100 NVL") is None
    assert flops.device("cpu") is None

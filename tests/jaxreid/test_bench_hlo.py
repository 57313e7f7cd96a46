# ruff: noqa: E501 - programs stand here as compilers write them
"""Compiled programs are read, and their work counted, as counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxreid.bench import collectives, hlo, traffic
from tests.jaxreid import tiny

# As a TPU's compiler writes: a loop without its length, tiled layouts, memory on the chip (1),
# a fetch of a slice, a fused update in place, and a copy to the host's memory (space 5).
TPU = """
HloModule jit_step, is_scheduled=true

%update (p0: f32[4,8,128], p1: f32[8,128], p2: s32[]) -> f32[4,8,128] {
  %p0 = f32[4,8,128]{2,1,0:T(8,128)} parameter(0)
  %p1 = f32[8,128]{1,0:T(8,128)} parameter(1)
  %p2 = s32[]{:T(128)} parameter(2)
  %one = f32[1,8,128]{2,1,0:T(8,128)} bitcast(%p1)
  %zero = s32[]{:T(128)} constant(0)
  ROOT %dus = f32[4,8,128]{2,1,0:T(8,128)} dynamic-update-slice(%p0, %one, %p2, %zero, %zero)
}

%body (state: (s32[], f32[4,8,128], f32[8,128])) -> (s32[], f32[4,8,128], f32[8,128]) {
  %state = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}, f32[8,128]{1,0:T(8,128)S(1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %all = f32[4,8,128]{2,1,0:T(8,128)} get-tuple-element(%state), index=1
  %new = f32[8,128]{1,0:T(8,128)S(1)} get-tuple-element(%state), index=2
  %written = f32[4,8,128]{2,1,0:T(8,128)} fusion(%all, %new, %i), kind=kLoop, calls=%update, metadata={op_name="jit(step)/jvp(Net)/lstm/while/body/dynamic_update_slice"}
  ROOT %out = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}, f32[8,128]{1,0:T(8,128)S(1)}) tuple(%i, %written, %new)
}

%condition (state.1: (s32[], f32[4,8,128], f32[8,128])) -> pred[] {
  %limit = s32[]{:T(128)} constant(4)
  %state.1 = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}, f32[8,128]{1,0:T(8,128)S(1)}) parameter(0)
  %counter = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%counter, %limit), direction=LT
}

ENTRY %main (x: bf16[4,96], y: f32[4,8,128]) -> f32[8,128] {
  %x = bf16[4,96]{1,0:T(8,128)(2,1)} parameter(0)
  %y = f32[4,8,128]{2,1,0:T(8,128)} parameter(1)
  %turned = bf16[4,96]{0,1:T(8,128)(2,1)} copy(%x)
  %fetch = ((f32[4,8,128]{2,1,0:T(8,128)}), f32[1,8,128]{2,1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%y), slice={[0:1], [0:8], [0:128]}
  %fetched = f32[1,8,128]{2,1,0:T(8,128)S(1)} slice-done(%fetch)
  %first = f32[8,128]{1,0:T(8,128)S(1)} bitcast(%fetched)
  %start = s32[]{:T(128)} constant(0)
  %before = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}, f32[8,128]{1,0:T(8,128)S(1)}) tuple(%start, %y, %first)
  %loop = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}, f32[8,128]{1,0:T(8,128)S(1)}) while(%before), condition=%condition, body=%body
  %done = f32[8,128]{1,0:T(8,128)S(1)} get-tuple-element(%loop), index=2
  %away = f32[8,128]{1,0:T(8,128)S(5)} copy(%done)
  ROOT %result = f32[8,128]{1,0:T(8,128)} negate(%done), metadata={op_name="jit(step)/neg"}
}
"""
BLOCK = 8 * 128 * 4


@pytest.fixture(scope="module")
def counted():
    return traffic.measure(hlo.Program.read(TPU))


def _count(function, *arguments, devices=1):
    text = jax.jit(function).lower(*arguments).compile().as_text()
    return traffic.measure(hlo.Program.read(text), devices)


def test_tiles_are_filled_up():
    (array,) = hlo.arrays("bf16[4,96]{1,0:T(8,128)(2,1)}")
    assert (array.bytes, array.padded_bytes) == (4 * 96 * 2, 8 * 128 * 2)
    (turned,) = hlo.arrays("bf16[4,96]{0,1:T(8,128)(2,1)}")
    assert turned.padded_bytes == 96 * 128 * 2
    (short,) = hlo.arrays("f32[100]{0:T(8,128)}")
    assert short.padded_bytes == 8 * 128 * 4
    (plain,) = hlo.arrays("pred[3,5]{1,0}")
    assert (plain.bytes, plain.padded_bytes, plain.space) == (15, 15, 0)
    both = hlo.arrays("(f32[2]{0}, /*index=1*/s32[]{:T(128)S(1)})")
    assert [array.dims for array in both] == [(2,), ()]
    assert both[1].space == 1


def test_a_loop_counts_as_often_as_its_condition_says(counted):
    update = next(m for m in counted.movers if m.name == "written")
    # Each time a block is written in place; what it is made of lies on the chip.
    assert (update.runs, update.bytes) == (4, 4 * (BLOCK + 128 * 4))


def test_slices_are_fetched_by_their_size(counted):
    assert next(m for m in counted.movers if m.name == "fetch").bytes == BLOCK
    assert next(m for m in counted.movers if m.name == "result").bytes == BLOCK


def test_padding_copies_and_host_transfers_are_told(counted):
    copy = next(m for m in counted.movers if m.name == "turned")
    assert copy.is_layout_copy
    assert copy.bytes == 2 * (8 * 128 + 96 * 128)
    assert copy.padding == copy.bytes - 2 * 2 * 4 * 96
    assert counted.layout_copies == copy.bytes
    assert counted.host_transfers == ["away"]


def test_modules_are_told_apart(counted):
    places = traffic.by_place(counted.movers)
    assert places["Net/lstm"] == 4 * (BLOCK + 128 * 4)
    assert sum(places.values()) == counted.bytes


def test_names_of_operations_are_shortened():
    name = "jit(step)/transpose(jvp(SSAN))/SSAN.encode_image/backbone/conv1/dot_general"
    assert hlo.readable(name) == "SSAN/backbone/conv1/dot_general, backward"
    assert hlo.readable("jit(step)/add") == "add"
    assert hlo.module_of(name) == "SSAN/backbone"
    assert hlo.module_of("jit(step)/add") == ""
    assert hlo.module_of("jit(step)/jvp()/shard_map/ad,...bd->...ab/dot_general") == ""


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no compiled program"):
        hlo.Program.read("nothing")


def test_product():
    x, y = jnp.ones((16, 32)), jnp.ones((32, 64))
    found = _count(jnp.matmul, x, y)
    assert found.flops == 2 * 16 * 32 * 64
    assert found.bytes == 4 * (16 * 32 + 32 * 64 + 16 * 64)
    assert not found.collectives


def test_products_in_a_scan_count_as_often_as_it_runs():
    def run(x, w):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=7)[0]

    found = _count(run, jnp.ones((16, 32)), jnp.ones((32, 32)))
    assert found.flops == 7 * 2 * 16 * 32 * 32
    assert found.bytes > 7 * 4 * (2 * 16 * 32 + 32 * 32)
    assert not found.notes


def _convolve(x, kernel, strides=1):
    return jax.lax.conv_general_dilated(
        x, kernel, (strides, strides), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(("strides", "outputs"), [(1, 64), (2, 16)])
def test_convolution_and_its_gradients(strides, outputs):
    x, kernel = jnp.ones((2, 8, 8, 16)), jnp.ones((3, 3, 16, 32))
    once = 2 * (2 * outputs * 32) * 9 * 16
    assert _count(lambda x, k: _convolve(x, k, strides), x, kernel).flops == once

    def loss(x, kernel):
        return jnp.sum(jnp.square(_convolve(x, kernel, strides)))

    found = _count(jax.grad(loss, argnums=(0, 1)), x, kernel)
    assert found.flops == pytest.approx(3 * once, rel=0.2)  # how borders are padded differs


def test_sums_over_devices():
    mesh = tiny.mesh(8)
    total = jax.shard_map(
        lambda x: jax.lax.psum(x, ("data", "model")),
        mesh=mesh,
        in_specs=PartitionSpec(("data", "model")),
        out_specs=PartitionSpec(),
    )
    found = _count(total, jnp.ones((8, 100)), devices=8)
    (one,) = found.collectives
    assert (one.kind, one.devices, one.bytes) == ("all-reduce", 8, 400)
    assert one.sent == 400 * 2 * 7 / 8
    assert collectives.by_kind(found.collectives) == {"all-reduce": 400}


@pytest.mark.parametrize(
    "groups",
    [
        "replica_groups={{0,1,2,3},{4,5,6,7}}",
        "replica_groups=[2,4]<=[8]",
        "replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}",
        "replica_groups=mesh['axis_0'=2,'axis_1'=2,'axis_2'=2] {'axis_0','axis_2'}",
        "replica_groups=mesh['axis_0'=8] {'axis_0':(2)4}",
        "replica_groups=mesh['axis_0'=4,'axis_1'=2], device_ids=([2,4]T(1,0)) {'axis_0'}",
    ],
)
def test_groups_of_devices(groups):
    text = f"""
ENTRY %main (x: f32[100]) -> f32[400] {{
  %x = f32[100]{{0}} parameter(0)
  ROOT %all = f32[400]{{0}} all-gather(%x), channel_id=1, {groups}, dimensions={{0}}
}}
"""
    (one,) = traffic.measure(hlo.Program.read(text), 8).collectives
    assert (one.devices, one.bytes, one.sent) == (4, 400, 3 * 400)


def test_what_a_tpu_writes_as_a_convolution_of_a_batch_is_a_batch_of_products():
    text = """
ENTRY %main (x: bf16[6,8,16], y: bf16[6,16,32]) -> bf16[6,8,32] {
  %x = bf16[6,8,16]{2,1,0} parameter(0)
  %y = bf16[6,16,32]{2,1,0} parameter(1)
  ROOT %conv = bf16[6,8,32]{2,1,0} convolution(%x, %y), window={size=6 stride=5 lhs_dilate=6}, dim_labels=0bf_0io->0bf
}
"""
    assert traffic.measure(hlo.Program.read(text)).flops == 6 * 2 * 8 * 16 * 32


def test_products_in_library_calls_count():
    config = '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}'
    text = f"""
ENTRY %main (x: f32[8,16], y: f32[16,32]) -> f32[8,32] {{
  %x = f32[8,16]{{1,0}} parameter(0)
  %y = f32[16,32]{{1,0}} parameter(1)
  ROOT %gemm = f32[8,32]{{1,0}} custom-call(%x, %y), custom_call_target="__cublas$gemm", backend_config={config}
}}
"""
    assert traffic.measure(hlo.Program.read(text)).flops == 2 * 8 * 16 * 32


def test_our_count_is_near_that_of_xla():
    def loss(x, kernel):
        return jnp.sum(jax.nn.relu(_convolve(x, kernel)))

    arguments = jnp.ones((4, 16, 16, 8)), jnp.ones((3, 3, 8, 16))
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*arguments).compile()
    ours = traffic.measure(hlo.Program.read(compiled.as_text()))
    np.testing.assert_allclose(ours.bytes, compiled.cost_analysis()["bytes accessed"], rtol=0.3)


def test_a_loop_that_data_ends_counts_as_often_as_its_array_has_places():
    @jax.jit
    def fill(x, count):
        def advance(time, filled):
            return jax.lax.dynamic_update_index_in_dim(filled, (x + time) @ x, time, 0)

        return jax.lax.fori_loop(0, count, advance, jnp.zeros((7, 16, 16)))

    text = fill.lower(jnp.ones((16, 16)), jnp.int32(3)).compile().as_text()
    counted = traffic.measure(hlo.Program.read(text))
    assert counted.flops == 7 * 2 * 16**3
    assert any("unknown length counts as 7 runs" in note for note in counted.notes)


def test_a_collective_that_is_spread_over_fusions_counts_once():
    """As a TPU's compiler writes it: each fusion names the collective and hands its buffers on."""
    gather = (
        "all-gather({}), channel_id=85, replica_groups=mesh['axis_0'=8] {{'axis_0'}}, "
        "dimensions={{0}}"
    )
    text = f"""
%start (p.0: f32[100]) -> (f32[100], f32[800]) {{
  %p.0 = f32[100]{{0}} parameter(0)
  %g.0 = f32[800]{{0}} {gather.format("%p.0")}
  ROOT %call = (f32[100]{{0}}, f32[800]{{0}}) custom-call(%g.0), custom_call_target="AsyncStart"
}}

%async_collective_fusion.1 (p.1: f32[100], q.1: f32[800], x.1: f32[50]) -> (f32[50], f32[100], f32[800]) {{
  %p.1 = f32[100]{{0}} parameter(0)
  %q.1 = f32[800]{{0}} parameter(1)
  %x.1 = f32[50]{{0}} parameter(2)
  %g.1 = f32[800]{{0}} {gather.format("%p.1")}
  %double = f32[50]{{0}} add(%x.1, %x.1)
  ROOT %all.1 = (f32[50]{{0}}, f32[100]{{0}}, f32[800]{{0}}) tuple(%double, %p.1, %g.1)
}}

ENTRY %main (p: f32[100], x: f32[50]) -> f32[50] {{
  %p = f32[100]{{0}} parameter(0)
  %x = f32[50]{{0}} parameter(1)
  %async-collective-start = (f32[100]{{0}}, f32[800]{{0}}) fusion(%p), kind=kCustom, calls=%start
  %one = f32[100]{{0}} get-tuple-element(%async-collective-start), index=0
  %two = f32[800]{{0}} get-tuple-element(%async-collective-start), index=1
  %work = (f32[50]{{0}}, f32[100]{{0}}, f32[800]{{0}}) fusion(%one, %two, %x), kind=kOutput, output_to_operand_aliasing={{{{1}}: (0, {{}}), {{2}}: (1, {{}})}}, calls=%async_collective_fusion.1
  ROOT %found = f32[50]{{0}} get-tuple-element(%work), index=0
}}
"""
    found = traffic.measure(hlo.Program.read(text), 8)
    (one,) = found.collectives
    assert (one.kind, one.bytes, one.sent, one.channel) == ("all-gather", 400, 7 * 400, "85")
    moved = {mover.name: mover.bytes for mover in found.movers}
    assert moved["work"] == 2 * 50 * 4, "what is handed on is not moved"
    assert moved["async-collective-start"] <= (100 + 100 + 800) * 4


# As XLA writes for NVIDIA's GPUs: a strided convolution of 8 groups and its gradients, by cuDNN.
CUDNN = """
HloModule jit_step, is_scheduled=true

ENTRY %main (x: bf16[2,16,16,16], k: bf16[32,3,3,2], g: bf16[2,8,8,32]) -> bf16[2,16,16,16] {
  %x = bf16[2,16,16,16]{3,2,1,0} parameter(0)
  %k = bf16[32,3,3,2]{3,2,1,0} parameter(1)
  %g = bf16[2,8,8,32]{3,2,1,0} parameter(2)
  %forward = (bf16[2,8,8,32]{3,2,1,0}, u8[4194304]{0}) custom-call(%x, %k), window={size=3x3 stride=2x2 pad=0_1x0_1}, dim_labels=b01f_o01i->b01f, feature_group_count=8, custom_call_target="__cudnn$convForward"
  %of_kernel = (bf16[32,3,3,2]{3,2,1,0}, u8[0]{0}) custom-call(%x, %g), window={size=3x3 stride=2x2 pad=0_1x0_1}, dim_labels=b01f_o01i->b01f, feature_group_count=8, custom_call_target="__cudnn$convBackwardFilter"
  %of_x = (bf16[2,16,16,16]{3,2,1,0}, u8[0]{0}) custom-call(%g, %k), window={size=3x3 stride=2x2 pad=0_1x0_1}, dim_labels=b01f_o01i->b01f, feature_group_count=8, custom_call_target="__cudnn$convBackwardInput"
  ROOT %out = bf16[2,16,16,16]{3,2,1,0} get-tuple-element(%of_x), index=0
}
"""


def test_gradients_by_cudnn_cost_what_their_convolution_does():
    """And the room that it works in is not moved."""
    counted = traffic.measure(hlo.Program.read(CUDNN))
    one = 2 * (2 * 8 * 8 * 32) * (3 * 3 * 2)
    assert {mover.name: mover.flops for mover in counted.movers} == {
        "forward": one,
        "of_kernel": one,
        "of_x": one,
    }
    x, kernel, grad = 2 * 2 * 16 * 16 * 16, 2 * 32 * 3 * 3 * 2, 2 * 2 * 8 * 8 * 32
    assert {mover.bytes for mover in counted.movers} == {x + kernel + grad}

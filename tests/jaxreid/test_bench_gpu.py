"""Compiling for GPUs that are not here."""

import json

import jax
import pytest

from jaxreid import bench, cli, flops
from jaxreid.bench import abstract, compiling, gpu
from tests.jaxreid import tiny

CONFIG = "configs/ssan.py:cuhk_pedes,baseline,runlocal"
SIZES = abstract.Sizes(images=40, captions=80, num_ids=300, vocab_size=30)

needs_compiler = pytest.mark.skipif(
    not gpu.has_compiler(), reason="the compiler for GPUs is not installed"
)


def _config():
    config = tiny.get_config("cuhk_pedes,baseline,runlocal")
    config.model.update({"width": 4, "global_dim": 8, "word_dim": 8})
    config.data.update({"max_tokens": 16, "length_templates": 1, "image_size": (32, 16)})
    return config


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", gpu.GPUS)
def test_a_step_is_compiled_for_each_gpu(name):
    found = bench.bench_gpu(_config(), f"{name}x2", batch_per_device=2, sizes=SIZES)
    numbers, limits = found.numbers, flops.device(gpu.GPUS[name].kind)
    assert numbers["estimate"]
    assert (numbers["devices"], numbers["batch_size"]) == (2, 4)
    assert numbers["target"] == gpu.GPUS[name].kind
    assert numbers["memory"]["device"] == 0.75 * limits.memory
    assert numbers["roofline"]["device"] == limits
    assert numbers["collective_bytes"]["all-reduce"] > 0
    assert not numbers["host_transfers"]
    assert len(numbers["notes"]) == name.startswith("v100")  # no bfloat16
    assert numbers["kernels"] > 100
    table = found.table()
    for word in ("estimate", "kernels a step", "75%", "fits", "pairs/s", "a GPU"):
        assert word in table


@needs_compiler
@pytest.mark.slow
def test_convolutions_are_those_of_cudnn_and_counted_whole():
    numbers = bench.bench_gpu(_config(), "h100", batch_per_device=2, sizes=SIZES).numbers
    found = {
        m["name"].split(".")[0]: m["flops"]
        for m in numbers["movers"]
        if m["op_name"].endswith("backbone/stem_conv/conv_general_dilated")
    }
    # Two images of 32 x 16 in steps of two, 4 channels of 7 x 7 pixels in 3 colours.
    one = 2 * (2 * 16 * 8 * 4) * (7 * 7 * 3)
    assert found == {"cudnn-conv": one, "cudnn-conv-bw-filter": one}


@needs_compiler
def test_scaling_takes_gpus_too(capsys):
    words = ["scaling", "--config", CONFIG, "--topology", "h100x2", "--devices", "4"]
    assert cli.main(["bench", *words]) == 1
    assert "--devices has 4, and h100x2 has 2" in capsys.readouterr().err


def test_what_a_gpu_leaves_open_is_said(monkeypatch, tmp_path, compile_fast):
    """With the CPU in its place, so that it runs without the compiler."""
    monkeypatch.setattr(gpu, "topology_devices", lambda *given: jax.devices()[:1])
    found = bench.bench_gpu(_config(), "h100", batch_per_device=2, sizes=SIZES)
    found.write_json(tmp_path / "gpu.json")
    assert json.loads((tmp_path / "gpu.json").read_text())["kernels"] > 0
    table = found.table()
    assert "the device's limits are not known" in table
    assert "cuDNN chooses its algorithms on a GPU" in table


@pytest.mark.parametrize("name", gpu.GPUS)
def test_a_topology_is_a_gpu_and_how_many(name):
    assert gpu.parse(name) == (gpu.GPUS[name], 1)
    assert gpu.parse(f"{name}x8") == (gpu.GPUS[name], 8)
    assert flops.device(gpu.GPUS[name].kind) is not None


@pytest.mark.parametrize("topology", ["h100x0", "h100x", "b200x8", "", "8xh100", "h100x-1"])
def test_an_unknown_topology_is_answered_with_those_that_are(topology, capsys):
    assert cli.main(["bench", "gpu", "--config", CONFIG, "--topology", topology]) == 1
    said = capsys.readouterr().err
    assert f"--topology is {topology!r}" in said
    assert "a100-40" in said


def test_without_the_compiler_it_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "has_compiler", lambda: False)
    assert cli.main(["bench", "gpu", "--config", CONFIG]) == 1
    assert "pip install 'jaxreid[gpu-compiler]'" in capsys.readouterr().err


def test_a_compiler_that_cannot_be_used_is_told(monkeypatch):
    def refuse(**kwargs):
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr(gpu, "has_compiler", lambda: True)
    monkeypatch.setattr(gpu.topologies, "get_topology_desc", refuse)
    with pytest.raises(ValueError, match="JAX_PLATFORMS=cpu"):
        compiling.topology_devices("h100x8")


def test_an_assembler_that_is_too_old_is_told_with_what_to_install():
    class Step:
        def lower(self):
            raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: ptxas too old.")

    with pytest.raises(ValueError, match=r"v100 \(UNIMPLEMENTED.*pip install nvidia-cuda-nvcc"):
        compiling.compile_step(Step(), 9, "v100")


@pytest.mark.parametrize("topology", ["v5e", "b200", "8xh100"])
def test_where_both_are_taken_both_are_offered(topology, capsys):
    words = ["scaling", "--config", CONFIG, "--topology", topology]
    assert cli.main(["bench", *words]) == 1
    said = capsys.readouterr().err
    assert f"--topology is {topology!r}" in said
    assert "v5e:2x2, 2x4" in said
    assert "a100-40" in said


def test_where_the_compiler_finds_no_tiles_products_are_those_of_cublas():
    class Lowered:
        def compile(self, compiler_options=None):
            if compiler_options is None:
                raise jax.errors.JaxRuntimeError("INTERNAL: Couldn't find output tile sizes that")
            return compiler_options

    class Step:
        def lower(self):
            return Lowered()

    options, _ = compiling.compile_step(Step(), 376, "rtx4090")
    assert options == {"xla_gpu_enable_triton_gemm": False}

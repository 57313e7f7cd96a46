"""Compiling for devices that are not here: a TPU slice, or more of them."""

import json

import jax
import pytest

from jaxreid import bench, cli, flops, sharding
from jaxreid.bench import abstract, compiling, roofline, scaling, tpu
from tests.jaxreid import tiny
from tests.reference import plain_resnet

CONFIG = "configs/ssan.py:cuhk_pedes,baseline,runlocal"
SIZES = abstract.Sizes(images=40, captions=80, num_ids=300, vocab_size=30)

needs_compiler = pytest.mark.skipif(not tpu.has_compiler(), reason="libtpu is not installed")


def _config():
    config = tiny.get_config("cuhk_pedes,baseline,runlocal")
    config.model.update({"width": 4, "global_dim": 8, "word_dim": 8})
    config.data.update({"max_tokens": 16, "length_templates": 1, "image_size": (32, 16)})
    return config


@pytest.fixture(scope="module")
def compiled():
    if not tpu.has_compiler():
        pytest.skip("libtpu is not installed")
    return bench.bench_tpu(_config(), "v5e:2x2", batch_per_device=2, sizes=SIZES)


@pytest.mark.slow
def test_a_step_is_compiled_for_a_tpu_and_counted(compiled):
    numbers = compiled.numbers
    assert numbers["estimate"]
    assert (numbers["topology"], numbers["devices"]) == ("v5e:2x2", 4)
    assert numbers["target"] == "TPU v5 lite"
    assert numbers["batch_size"] == 8
    assert numbers["memory"]["fits"]
    assert numbers["roofline"]["device"] == flops.device("TPU v5e")
    assert not numbers["host_transfers"]
    assert not numbers["notes"]  # each loop's length was found
    assert numbers["collective_bytes"]["all-reduce"] > 0
    by_bound = numbers["roofline"]["seconds_by_bound"]
    assert numbers["pairs_per_second"] == pytest.approx(8 / max(by_bound.values()))
    lstm = [m for m in numbers["movers"] if "lstm/while/body" in m["op_name"]]
    assert {m["runs"] for m in lstm} == {16}


@pytest.mark.slow
def test_convolutions_stay_convolutions_on_a_tpu(compiled):
    assert abstract.for_platform(_network("auto"), "tpu").platform == "tpu"
    assert abstract.for_platform(_network("auto"), "gpu").platform == "gpu"
    assert abstract.for_platform(_network("auto"), "cpu").platform == "cpu"
    assert abstract.for_platform(_network("cpu"), "tpu").platform == "cpu"
    names = [m["op_name"] for m in compiled.numbers["movers"]]
    assert any("stage1_block1/conv1/conv_general_dilated" in name for name in names)


def _network(platform):
    from jaxreid.models.resnet import ResNet

    return ResNet(platform=platform)


@pytest.mark.slow
def test_resident_images_are_not_copied(compiled):
    assert compiled.numbers["feed"] == "device"
    moved = [m["bytes"] for m in compiled.numbers["movers"] if "images" in m["op_name"]]
    assert sum(moved) < SIZES.images * 32 * 16 * 3


@pytest.mark.slow
def test_the_table_calls_it_an_estimate(compiled, tmp_path):
    table = compiled.table()
    for word in ("estimate", "pairs/s", "temporaries", "fits", "largest movers", "all-reduce"):
        assert word in table
    compiled.write_json(tmp_path / "tpu.json")
    assert json.loads((tmp_path / "tpu.json").read_text())["memory"]["arguments"] > 0


@needs_compiler
@pytest.mark.parametrize("topology", ["v5p:4x4x4", "v5e:2x4"])
def test_eight_chips_share_a_classifier_whatever_the_sides_of_a_slice(topology):
    devices = tpu.topology_devices(topology)
    mesh = sharding.make_mesh(8, devices)
    assert dict(mesh.shape) == {"data": len(devices) // 8, "model": 8}
    assert set(mesh.devices.flat) == set(devices)


@needs_compiler
@pytest.mark.slow
def test_a_plain_network_for_comparison():
    net = plain_resnet.PlainResNet(stages=(1, 1), width=8, classes=16)
    compiled = plain_resnet.compile_step(net, "v5e:2x2", images=2, size=(32, 16))
    _, operations, moved, sent, *movers = plain_resnet.lines(compiled, devices=4)
    assert not operations.startswith("FLOPs: 0 T")
    assert not moved.startswith("moved: 0 GB")
    assert not sent.startswith("sent: 0 GB")  # gradients
    assert any("PlainResNet/" in mover for mover in movers)


@needs_compiler
@pytest.mark.parametrize("topology", ["v5e:3x77", "v5e", "v99:2x2"])
def test_an_unknown_topology_is_answered_with_those_that_are(topology, capsys):
    words = ["bench", "tpu", "--config", CONFIG, "--topology", topology]
    assert cli.main(words) == 1
    said = capsys.readouterr().err
    assert repr(topology) in said
    assert "v5p:2x2x1" in said


def test_without_the_compiler_it_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(tpu, "has_compiler", lambda: False)
    assert cli.main(["bench", "tpu", "--config", CONFIG]) == 1
    assert "pip install 'jaxreid[tpu-compiler]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "message",
    [
        "Ran out of memory in memory space hbm. Used 17.92G of 15.75G hbm. Exceeded hbm",
        "Ran out of memory on HBM, the total memory required for HLO temporaries (17.92G) exceeds "
        "available HBM (15.75G).",
    ],
)
def test_a_batch_that_does_not_fit_is_named(message):
    class Step:
        def lower(self):
            raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {message}")

    told = r"--batch_per_device is 9.*17.92G of 15.75G hbm"
    with pytest.raises(compiling.DoesNotFitError, match=told) as caught:
        compiling.compile_step(Step(), 9, "v5e:2x4")
    assert (caught.value.used, caught.value.limit) == (17.92 * 2**30, 15.75 * 2**30)


def test_images_live_on_the_chip_where_they_fit():
    config = _config()
    config.batch_size = 8
    fits = abstract.training_step(config, tiny.mesh(2), SIZES, device_memory=1e9)
    assert fits.feed == "device"
    assert fits.arguments[1]["images"].shape == (40, 12, 128)
    assert fits.arguments[1]["no_images"].shape == (0, 32, 16, 3)
    assert "images" not in fits.arguments[2]


def test_images_are_split_over_chips_where_a_copy_does_not_fit():
    config = _config()
    config.batch_size = 8
    image = 32 * 16 * 3
    # A quarter of this holds 21 images: half of 40, not all.
    split = abstract.training_step(config, tiny.mesh(2), SIZES, device_memory=4.0 * 21 * image)
    images = split.arguments[1]["images"]
    assert split.feed == "sharded"
    assert images.parts.shape == (40, 12, 128)
    assert images.parts.sharding.shard_shape(images.parts.shape) == (20, 12, 128)
    split.lower()  # the step takes them


@pytest.mark.slow
def test_images_are_streamed_where_they_do_not_fit(compiled):
    streamed = abstract.training_step(_config(), tiny.mesh(1), abstract.Sizes(num_ids=5))
    assert streamed.feed == "host"
    assert streamed.arguments[2]["images"].shape == (16, 32, 16, 3)
    assert compiled.numbers["feed"] == "device"


@pytest.fixture(scope="module")
def scaled(compile_fast):
    config = _config()
    config.mesh.model = 4
    return bench.bench_scaling(config, devices=(1, 4), batch_per_device=2, sizes=SIZES)


@pytest.mark.slow
def test_classifiers_are_shared_by_the_devices_of_the_mesh(scaled):
    one, four = (scaled.numbers["devices"][count] for count in ("1", "4"))
    assert [x["mesh"]["model"] for x in (one, four)] == [1, 4]
    assert [x["batch_size"] for x in (one, four)] == [2, 8]
    # A classifier of 8 features and a bias, padded to 512 classes.
    config = _config()
    shared = 4 * 512 * (config.model.global_dim + 1)
    assert one["parameter_bytes"] - four["parameter_bytes"] == pytest.approx(shared * 3 / 4)
    held = one["optimizer_bytes"] - four["optimizer_bytes"]
    assert held == pytest.approx(2 * shared * 3 / 4)  # Adam keeps two moments
    assert one["memory"]["arguments"] > four["memory"]["arguments"]


@pytest.mark.slow
def test_communication_is_told_by_kind(scaled):
    one, four = (scaled.numbers["devices"][count] for count in ("1", "4"))
    assert (one["bytes_sent"], one["collective_bytes"]) == (0, {})
    assert four["bytes_sent"] > 0
    assert four["collective_bytes"]["all-reduce"] > 0
    assert "all-reduce" in scaled.table()
    assert "4 devices (1 x 4)" in scaled.table()


@pytest.mark.slow
def test_devices_that_are_not_here_are_made_up_in_another_process(capsys, tmp_path):
    words = ["--config", CONFIG, "--devices", "1", "16", "--batch_per_device=1"]
    words += ["--num_ids=20", "--vocab_size=30", f"--json={tmp_path / 'scaling.json'}"]
    assert cli.main(["bench", "scaling", *words]) == 0
    read = json.loads((tmp_path / "scaling.json").read_text())
    assert read["devices"]["16"]["mesh"] == {"data": 16, "model": 1}
    assert read["devices"]["16"]["bytes_sent"] > 0


def test_a_child_that_fails_is_told(monkeypatch):
    monkeypatch.setattr(scaling, "_CHILD", "raise SystemExit(3)")
    with pytest.raises(ChildProcessError, match="status 3"):
        scaling._elsewhere(_config(), [1], 1, SIZES)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["scaling", "--devices", "0"], "--devices is 0"),
        (["tpu", "--batch_per_device", "0"], "--batch_per_device is 0"),
    ],
)
def test_numbers_out_of_range_are_named(words, named, capsys):
    assert cli.main(["bench", *words, "--config", CONFIG]) == 1
    assert named in capsys.readouterr().err


def test_the_nearest_limit_bounds():
    device = flops.Device(flops=100.0, bandwidth=10.0, memory=1.0, link=1.0)
    line = roofline.Roofline(flops=200.0, bytes=50.0, sent=1.0, device=device)
    assert line.seconds_by_bound == {"compute": 2.0, "memory": 5.0, "link": 1.0}
    assert (line.bound, line.seconds, line.intensity) == ("memory", 5.0, 4.0)
    numbers = line.numbers(10.0)
    assert numbers["share_reached"] == 0.5
    assert numbers["bytes_per_second"] == 5.0
    assert (
        "roofline",
        "5 s at least, by memory bandwidth; 50.0% of it reached; 2e-11 TFLOP/s and "
        "5e-09 GB/s reached on a device",
    ) in roofline.rows(numbers)


def test_no_limit_where_the_device_is_not_known():
    line = roofline.Roofline(flops=200.0, bytes=50.0, sent=0.0, device=None)
    assert (line.bound, line.seconds) == (None, None)
    assert line.numbers(10.0)["share_reached"] is None
    assert "limits not known" in dict(roofline.rows(line.numbers(10.0)))["roofline"]


def test_work_of_several_programs_adds_up():
    one = roofline.Roofline(1.0, 2.0, 3.0, None)
    both = roofline.total([one, one, one], 1 / 2)
    assert (both.flops, both.bytes, both.sent) == (1.5, 3.0, 4.5)
    assert roofline.total([one, None]) is None
    assert roofline.total([]) is None

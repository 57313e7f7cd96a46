"""Measuring beside PyTorch: both do the same, take turns, and what cannot be compared is told."""

import itertools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreid
from configs import axm_net
from jaxreid import bench, cli, registry, step, torch_names, train
from jaxreid.bench import beside, handover, made_up, torch_process
from tests.jaxreid import tiny

SIZES = {"num_ids": 20, "vocab_size": 30}


def _config(argument="cuhk_pedes,runlocal"):
    config = tiny.get_config(argument)
    config.model.update({"width": 4, "global_dim": 8, "relation_dim": 8, "view_dim": 8})
    config.model.word_dim = 8
    config.data.update({"max_tokens": 16, "length_templates": 1, "feed": "device"})
    return config


def _hand_over(config):
    """What the other side is given for one batch of a config's last stage."""
    trainer = train.make_trainer(config, made_up.run_data(config, num_images=32, **SIZES))
    # Drawn here, as compiling the network's own initial values takes longer than all the rest.
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(random.uniform(0.01, 0.2, leaf.shape), leaf.dtype), trainer.shapes
    )
    state = step.TrainState(step=jnp.int32(0), opt_state=(), **{"batch_stats": {}, **variables})
    return trainer, handover.training(trainer, trainer.stages[-1], state, 1)


@pytest.fixture(scope="module")
def compared(compile_fast):
    pytest.importorskip("torch")
    return bench.bench_train(_config(), steps=3, against="torch", **SIZES)


def test_both_sides_take_the_same_first_step(compared):
    losses = compared.numbers["first_loss"]
    # float32 sums in another order, through a network without a pretrained scale.
    assert losses["ours"] == pytest.approx(losses["as_written"], rel=1e-4)
    assert losses["ours"] == pytest.approx(losses["tuned"], rel=1e-4)
    assert losses["ours"] > 1


@pytest.mark.parametrize("side", ["as_written", "tuned"])
def test_the_ratio_stands_beside_the_times(side, compared, tmp_path):
    compared.write_json(tmp_path / "train.json")
    read = json.loads((tmp_path / "train.json").read_text())
    torch = read["torch"][side]
    spread = torch["ratio_spread"]
    assert torch["ratio"] == spread["median"]
    assert 0 < spread["min"] <= spread["median"] <= spread["max"]
    assert read["seconds_per_step"]["count"] == spread["count"] == read["steps"] == 3
    assert torch["seconds_per_step"]["count"] == 3
    assert torch["pairs_per_second"] == pytest.approx(16 / torch["seconds_per_step"]["median"])
    assert torch["peak_host_bytes"] > 50e6
    assert torch["peak_device_bytes"] is None
    assert min(torch["cpu_while_waiting"], read["cpu_while_waiting"]) >= 0
    table, name = compared.table(), f"torch {side.replace('_', ' ')}"
    for word in (f"{name}  ", f"{name}, ratio", f"{name}, seconds a step", f"{name}, host memory"):
        assert word in table
    for word in ("tried", "first loss", "threads", "torch, parameters"):
        assert word in table


def test_the_quickest_variant_is_the_tuned_one(compared):
    torch = compared.numbers["torch"]
    tried = [tuple(trial["variant"].values()) for trial in torch["tuned"]["trials"]]
    layouts, lstms = ("NCHW", "channels-last"), ("packed", "padded")
    assert tried == [("float32", *both) for both in itertools.product(layouts, lstms)]
    quickest = min(torch["tuned"]["trials"], key=lambda trial: trial["seconds"])
    assert torch["tuned"]["variant"] == quickest["variant"]
    assert torch["as_written"]["variant"] == torch["tuned"]["trials"][0]["variant"]


def test_padding_classes_are_no_parameters_of_the_network(compared):
    # 20 identities are padded to 256 here; K = 6 parts of 8 numbers, 6 relations of 8, 1 global.
    padding = (256 - 20) * 13 * (8 + 1)
    assert compared.numbers["parameters"] == compared.numbers["torch"]["parameters"] + padding


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(lambda: _config("cuhk_pedes,released,runlocal"), id="released"),
        pytest.param(lambda: _config("cuhk_pedes,pfl_1x1,vgg16,runlocal"), id="vgg16"),
        pytest.param(lambda: axm_net.get_config("cuhk_pedes,runlocal"), id="axm_net"),
        pytest.param(lambda: axm_net.get_config("cuhk_pedes,joint,word2vec,runlocal"), id="joint"),
        pytest.param(lambda: axm_net.get_config("cuhk_pedes,bfloat16,runlocal"), id="bfloat16"),
    ],
)
def test_every_network_has_another_side(config):
    pytest.importorskip("torch")
    trainer, given = _hand_over(config())
    with torch_process.Torch(*given) as torch:
        assert np.isfinite(list(torch.results("training").values())).all()
        for other in torch.processes("training").values():
            assert other.run(0, 0).seconds > 0
        size = handover.count_parameters(trainer.model, trainer.shapes["params"])
        assert torch.info["parameters"] == size


def _rates(config):
    model = registry.build_model(config, vocab_size=30, num_classes=20)
    shapes = jax.eval_shape(lambda: step.init_variables(config, model))
    names = torch_names.network(model, shapes)
    return handover._rates(names, config.stages[-1], shapes["params"])


def test_rates_of_groups_go_over_under_the_other_names():
    rates = _rates(_config())
    assert {name.split(".")[0] for name in rates} == {"ImageExtract"}
    assert set(rates.values()) == {0.1}
    assert "ImageExtract.4.0.conv1.weight" in rates


def test_frozen_parameters_have_no_rate():
    rates = _rates(axm_net.get_config("cuhk_pedes,word2vec,runlocal"))
    assert rates.pop("embedding.weight") is None
    assert set(rates.values()) == {0.1}
    assert {name.split(".")[0] for name in rates} == {"vision"}
    assert "vision.conv2.0.gate.fc1.weight" in rates


def test_as_written_is_float32_in_a_process_of_its_own():
    pytest.importorskip("torch")
    _, (task, arrays, weights) = _hand_over(_config())
    with torch_process.Torch({**task, "dtype": "bfloat16"}, arrays, weights) as torch:
        sides = torch.processes("training")
        assert list(sides) == ["as_written", "tuned"]
        assert sides["as_written"].pid != sides["tuned"].pid
        assert all(other.run(0).seconds > 0 for other in sides.values())
        plain = {"dtype": "float32", "layout": "NCHW", "lstm": "packed"}
        assert torch.info["as_written"]["training"] == plain
        assert torch.info["tuned"]["training"]["dtype"] == "bfloat16"
        assert sides["as_written"].info["trials"] == {"training": []}
        losses = torch.results("training")
    assert losses["as_written"] != losses["tuned"]
    assert losses["as_written"] == pytest.approx(losses["tuned"], rel=0.05)


class _Started:
    """A process that is never one: the quickest of images is as written, of captions it is not."""

    started = ()

    def __init__(self, folder, *words):
        type(self).started += (words,)
        self.info = {
            "as_written": {"image": {"layout": "NCHW"}, "text": {"lstm": "packed"}},
            "tuned": {"image": {"layout": "NCHW"}, "text": {"lstm": "padded"}},
        }
        for work in ("image", "text"):
            np.save(folder / f"{'as_written' if words else 'tuned'}-{work}.npy", len(words))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_a_quickest_variant_as_written_is_measured_once(monkeypatch):
    monkeypatch.setattr(torch_process, "Process", _Started)
    monkeypatch.setattr(_Started, "started", ())
    weights = {"weight": np.zeros(1, np.float32)}
    with torch_process.Torch({}, weights, weights) as torch:
        assert _Started.started == ((), ("--as_written", "text"))
        assert list(torch.processes("image")) == ["tuned"]
        assert list(torch.processes("text")) == ["as_written", "tuned"]
        assert torch.results("image") == {"as_written": 0, "tuned": 0}
        assert torch.results("text") == {"as_written": 2, "tuned": 0}


class _Scripted:
    """Another side whose seconds are known."""

    pid = os.getpid()

    def __init__(self, *seconds):
        self.seconds = list(seconds)
        self.work = []

    def run(self, *work):
        self.work.append(work)
        return torch_process.Turn(self.seconds.pop(0), waited=2.0, used=0.5, device_bytes=7)


def test_ratios_are_taken_turn_by_turn(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(beside.time, "perf_counter", lambda: float(next(clock)))
    # The first time of each turn, 50 and 90 seconds, does not count.
    plain = _Scripted(50.0, 6.0, 50.0, 9.0, 50.0, 7.0)
    tuned, ours = _Scripted(90.0, 3.0, 90.0, 8.0, 90.0, 4.0), []
    sides = {"as_written": plain, "tuned": tuned}
    found = beside.in_turns(sides, ours.append, lambda turn: [turn, turn + 1], turns=3, pieces=2)
    assert plain.work == tuned.work == [(0, 1), (0, 1), (1, 2), (1, 2), (2, 3), (2, 3)]
    assert ours == [0, 0, 1, 1, 2, 2]
    assert found.ours.median == 0.5  # a second a turn of two pieces
    other = found.others["tuned"]
    assert (other.seconds.min, other.seconds.median, other.seconds.max) == (1.5, 2.0, 4.0)
    assert (other.ratio.min, other.ratio.median, other.ratio.max) == (3.0, 4.0, 8.0)
    assert found.others["as_written"].ratio.median == 7.0
    assert other.waiting == 0.25
    assert other.device_bytes == 7


PLAIN, OTHER = {"layout": "NCHW", "lstm": "packed"}, {"layout": "NCHW", "lstm": "padded"}


def _say(tuned, *trials):
    """Numbers and rows of work in which this variant is the quickest of these trials."""
    sides = {"as_written": _Scripted(6.5, 6.0), "tuned": _Scripted(3.5, 3.0)}
    if tuned == PLAIN:
        del sides["as_written"]
    found = beside.in_turns(sides, lambda turn: None, lambda turn: [turn], turns=1)
    info = {"as_written": {"text": PLAIN}, "tuned": {"text": tuned}, "trials": {"text": trials}}
    numbers = beside.numbers(found, info, "text", lambda seconds: {"s": seconds.median})
    return numbers["torch"], beside.rows(numbers, lambda side: [("seconds", f"{side['s']:g}")])


def test_each_side_says_its_own():
    trials = [{"variant": PLAIN, "seconds": 2.0}, {"variant": OTHER, "seconds": 1.0}]
    torch, rows = _say(OTHER, *trials)
    assert torch["as_written"]["s"] == 6.0
    assert torch["tuned"]["s"] == 3.0
    assert "trials" not in torch["as_written"]
    assert ("torch as written", "NCHW, packed") in rows
    assert ("torch as written, seconds", "6") in rows
    assert ("torch tuned", "NCHW, padded") in rows
    assert ("", "tried NCHW, packed 2 s; NCHW, padded 1 s") in rows
    assert ("torch tuned, device memory", "0.00 GiB at most") in rows


def test_a_quickest_variant_as_written_stands_in_both_places():
    failed = {"variant": OTHER, "error": "no compiler"}
    torch, rows = _say(PLAIN, {"variant": PLAIN, "seconds": 2.0}, failed)
    trials = torch["tuned"].pop("trials")
    assert torch["as_written"] == torch["tuned"]
    assert trials == ({"variant": PLAIN, "seconds": 2.0}, failed)
    said = "as written; tried NCHW, packed 2 s; NCHW, padded failed: no compiler"
    assert ("", said) in rows
    assert ("torch as written, seconds", "3") in rows
    assert ("torch tuned, seconds", "3") in rows


@pytest.fixture
def there_is_torch(monkeypatch):
    monkeypatch.setattr(beside.importlib.util, "find_spec", lambda name: name)


def test_the_other_side_needs_a_checkout(tmp_path, monkeypatch, there_is_torch):
    monkeypatch.setattr(jaxreid, "__file__", str(tmp_path / "jaxreid" / "__init__.py"))
    beside.check("torch")  # found in the folder that one is in
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"needs a checkout.*tests/reference"):
        beside.check("torch")


def test_the_other_side_needs_pytorch(monkeypatch):
    monkeypatch.setattr(beside.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'jaxreid\[reference\]'"):
        beside.check("torch")


@pytest.mark.parametrize(
    ("platform", "count", "named"),
    [("tpu", 1, "JAX runs on tpu"), ("gpu", 4, "here are 4: set CUDA_VISIBLE_DEVICES")],
)
def test_devices_that_cannot_be_compared(platform, count, named, monkeypatch, there_is_torch):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(jax, "device_count", lambda: count)
    with pytest.raises(ValueError, match=named):
        beside.check("torch")


def test_another_side_that_is_not_known():
    with pytest.raises(ValueError, match="--against is 'tensorflow'; it takes torch"):
        beside.check("tensorflow")


def test_nothing_is_refused_where_nothing_is_compared(monkeypatch):
    monkeypatch.setattr(beside.importlib.util, "find_spec", lambda name: None)
    beside.check("")


def test_networks_of_two_sizes_are_not_compared():
    handover.check_parameters(7, 7)
    with pytest.raises(ValueError, match=r"1,000 parameters here and 7 in tests/reference"):
        handover.check_parameters(1000, 7)


def test_a_network_that_is_not_there(tmp_path):
    pytest.importorskip("torch")
    task = {"task": "training", "network": "mine.net", "fields": {}, "dtype": "float32"}
    weights = {"weight": np.zeros(1, np.float32)}
    with (
        pytest.raises(ValueError, match=r"config.model.name is 'mine.net'"),
        torch_process.Torch(task, weights, weights),
    ):
        pass


def test_another_side_that_ends_before_it_answers(capfd):
    pytest.importorskip("torch")
    task = {"task": "nothing of the kind"}
    weights = {"weight": np.zeros(1, np.float32)}
    with (
        pytest.raises(ChildProcessError, match="exit code 1"),
        torch_process.Torch(task, weights, weights),
    ):
        pass
    assert "KeyError" in capfd.readouterr().err


def test_the_option_reaches_the_measurement(compared, monkeypatch, capsys):
    asked = {}

    def bench_train(config, **options):
        asked.update(options)
        return compared

    monkeypatch.setattr(bench, "bench_train", bench_train)
    words = ["bench", "train", "--config", "configs/ssan.py:cuhk_pedes", "--against", "torch"]
    assert cli.main(words) == 0
    assert asked["against"] == "torch"
    assert "torch's seconds over ours" in capsys.readouterr().out


def test_a_plain_resnet50_by_itself():
    pytest.importorskip("torch")
    folder = pathlib.Path(__file__).parents[2]
    words = ["resnet50", "--batch_size=2", "--image_size", "32", "16", "--repeats=1"]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.reference.bench", *words],
        **{"cwd": folder, "capture_output": True, "text": True, "check": True},
    )
    assert "2 images of 32 x 16" in ran.stdout
    assert "channels-last: " in ran.stdout

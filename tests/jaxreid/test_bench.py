"""Measuring runs, and reports what it measured; how long anything takes is not tested."""

import dataclasses
import json
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxreid import bench, cli, flops, step, train
from jaxreid.bench import made_up, measure
from tests.jaxreid import tiny

CONFIG = "configs/ssan.py:cuhk_pedes,baseline,runlocal"


SIZES = {"num_ids": 20, "vocab_size": 30}


def _config():
    """Two stages, of which the first trains little."""
    config = tiny.get_config("cuhk_pedes,baseline,runlocal")
    config.model.update({"width": 4, "global_dim": 8, "word_dim": 8, "remat": True})
    config.data.update({"max_tokens": 16, "length_templates": 1, "image_size": (32, 16)})
    config.data.feed = "device"
    first = config.stages[0].copy_and_resolve_references()
    first.update({"frozen": ("^(backbone|lstm|embedding)",), "rates": {}})
    config.stages = (first, *config.stages)
    return config


@pytest.fixture(scope="module")
def trained():
    config = _config()
    jax.config.update("jax_disable_most_optimizations", True)  # it need not run fast
    try:
        return bench.bench_train(config, steps=3, **SIZES)
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def test_training_rates_go_with_the_seconds(trained):
    numbers = trained.numbers
    seconds = numbers["seconds_per_step"]
    assert seconds.count == 3
    assert 0 < seconds.min <= seconds.median <= seconds.max
    assert numbers["pairs_per_second"] == pytest.approx(16 / seconds.median)
    assert numbers["steps"] == 3
    assert numbers["peak_host_bytes"] > 10e6
    assert all(compiled["seconds"] > 0 for compiled in numbers["compile"])


def test_training_says_what_was_measured_on_what(trained, tmp_path):
    trained.write_json(tmp_path / "train.json")
    read = json.loads((tmp_path / "train.json").read_text())
    assert read["dtype"] == "float32"
    assert read["batch_size"] == 16
    assert read["num_ids"] == 20
    assert read["num_devices"] == jax.device_count()
    assert set(read["versions"]) == {"jax", "jaxlib", "flax", "jaxreid"}
    assert read["compile"][0]["template"]["groups"] == jax.device_count()
    table = trained.table()
    for word in ("pairs/s", "seconds a step", "compile", "host memory", "FLOP", "jaxlib", "20"):
        assert word in table


def test_the_last_stage_is_measured_and_its_work_counted_once(trained):
    config = _config()
    config.model.remat = False
    data = made_up.run_data(config, num_images=64, **SIZES)
    trainer = train.make_trainer(config, data)
    trainer = dataclasses.replace(trainer, model=flops.counted_form(trainer.model))

    def work(stage, template):
        optimizer = trainer.optimizer(stage)
        state = step.abstract_state(config, trainer.model, optimizer, trainer.mesh)
        batch = next(trainer.feed.batches(0, 1))[0]
        jitted = trainer.train_step(stage, optimizer)
        traced = jitted.trace(state, trainer.feed.resident, batch, template=template)
        return flops.count_jaxpr(traced.jaxpr).total

    compiled = trained.numbers["compile"][0]
    first, last = (work(stage, compiled["template"]) for stage in trainer.stages)
    assert compiled["flops"] == last > 2 * first
    assert (trained.numbers["stage"], trained.numbers["stages"]) == (1, 2)
    assert "1, the last of 2" in trained.table()


def test_no_utilisation_where_the_peak_is_not_known(trained):
    assert trained.numbers["model_flop_utilisation"] is None
    assert "peak is not known" in trained.table()
    assert trained.numbers["flops_per_step"] > 0


def test_work_of_the_compiled_program_is_beside_the_seconds(trained):
    line = trained.numbers["roofline"]
    median = trained.numbers["seconds_per_step"].median
    assert line["bytes_per_second"] == pytest.approx(line["bytes"] / median)
    assert line["flops_per_byte"] == pytest.approx(line["flops"] / line["bytes"])
    # Of all devices together it is about the work of the network, part of it done twice (remat).
    ratio = line["flops"] * jax.device_count() / trained.numbers["flops_per_step"]
    assert 0.8 < ratio < 1.8
    assert line["bound"] is None  # limits of a CPU are not known
    assert "limits not known" in trained.table()


def test_settings_reach_the_measurement(trained, monkeypatch, tmp_path, capsys):
    asked = {}

    def bench_train(config, **sizes):
        asked.update(sizes, batch_size=config.batch_size, rate=config.stages[0].learning_rate)
        return trained

    monkeypatch.setattr(bench, "bench_train", bench_train)
    words = ["--config", CONFIG, "--batch_size=24", "--steps=7", "--num_ids=9", "--vocab_size=8"]
    words += ["--config.stages[0].learning_rate=0.5", f"--json={tmp_path / 'train.json'}"]
    assert cli.main(["bench", "train", *words]) == 0
    sizes = {"steps": 7, "images": 256, "num_ids": 9, "vocab_size": 8, "against": ""}
    assert asked == {**sizes, "batch_size": 24, "rate": 0.5}
    assert trained.table() in capsys.readouterr().out
    assert json.loads((tmp_path / "train.json").read_text())["num_ids"] == 20


def test_retrieval_is_measured_beside_the_product(tmp_path, capsys):
    words = ["bench", "eval", "--queries=12", "--gallery=8", "--dim=4", "--repeats=2", "--scaling"]
    assert cli.main([*words, f"--json={tmp_path / 'eval.json'}"]) == 0
    read = json.loads((tmp_path / "eval.json").read_text())
    seconds = read["seconds"]
    assert set(seconds) == {"product", "both"}
    assert seconds["both"]["count"] == 2
    expected = seconds["both"]["median"] / seconds["product"]["median"]
    assert read["times_product"] == pytest.approx(expected)
    assert read["embeddings_bytes"] == 4 * 4 * (12 + 8)
    assert read["flops"] == 2 * 12 * 8 * 4
    assert read["flops_per_second"] == pytest.approx(read["flops"] / seconds["both"]["median"])
    assert read["least_bytes"] == 4 * 4 * (12 + 8) + 3 * 4 * 12 * 8
    assert read["share_of_bfloat16_peak"] is None  # of a CPU
    parts = read["scaling"]
    assert [(part["queries"], part["gallery"]) for part in parts] == [(3, 2), (6, 4), (12, 8)]
    assert parts[-1]["seconds"] == seconds["both"]
    for part in parts:
        pairs = part["queries"] * part["gallery"]
        expected = 1e9 * part["seconds"]["median"] / pairs
        assert part["nanoseconds_per_pair"] == pytest.approx(expected)
    shown = capsys.readouterr().out
    assert "12 captions, 8 images" in shown
    assert f"{read['times_product']:.2f} x the product" in shown
    assert "6 x 4, seconds" in shown


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["eval", "--queries=0"], "--queries is 0"),
        (["eval", "--gallery=3", "--scaling"], "--gallery 3"),
        (["train", "--config", CONFIG, "--steps=-1"], "--steps is -1"),
        (["train", "--config", CONFIG, "--num_ids=0"], "--num_ids is 0"),
        (["train", "--config", CONFIG, "--images=0"], "--images is 0; it takes 1 or more"),
        (["train", "--config", CONFIG, "--vocab_size=2"], "--vocab_size is 2"),
        (["train", "--config", CONFIG, "--batch_size=3"], "config.batch_size is 3"),
        (["train", "--config", "nowhere.py:cuhk_pedes"], "nowhere.py"),
    ],
)
def test_what_cannot_be_measured_is_explained(words, named, capsys):
    assert cli.main(["bench", *words]) == 1
    assert named in capsys.readouterr().err


def test_caption_lengths_are_those_of_cuhk_pedes():
    lengths = made_up.caption_lengths(6156, 100, seed=0)
    assert lengths.mean() == pytest.approx(23.6, abs=0.1)
    assert np.median(lengths) == 21
    assert np.quantile(lengths, 0.99) == 53
    assert lengths.max() == 96
    assert made_up.caption_lengths(100, 30, seed=0).max() == 30
    np.testing.assert_array_equal(lengths, made_up.caption_lengths(6156, 100, seed=0))
    assert np.any(lengths != made_up.caption_lengths(6156, 100, seed=1))


def test_made_up_data_has_the_shapes_asked_for():
    config = tiny.config()
    data = made_up.run_data(config, num_images=8, num_ids=30, vocab_size=40)
    assert len(data.classes) == 30
    assert len(data.vocabulary) == 40
    assert data.train.split.images.shape == (8, *config.data.image_size, 3)
    assert data.train.tokens.max() < 40
    np.testing.assert_array_equal((data.train.tokens > 0).sum(axis=1), data.train.lengths)
    np.testing.assert_array_equal(data.train.split.labels, [0] * 4 + [1] * 4)


def test_unit_vectors_have_unit_length():
    vectors = made_up.unit_vectors(10, 6, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert vectors.dtype == np.float32


def test_calls_take_turns_and_are_timed_after_warming_up():
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "ab"}
    timings = measure.time_in_turns(functions, repeats=3, warm_up=2)
    assert "".join(calls) == "ab" * 5
    assert [timings[name].count for name in "ab"] == [3, 3]


def test_median_and_extremes():
    assert measure.Timing.of([3.0, 1.0, 2.0]) == measure.Timing(2.0, 1.0, 3.0, 3)


def test_memory_at_its_peak_is_seen_after_it_is_free_again():
    with measure.HostMemory(interval=0.001) as memory:
        block = np.ones(100_000_000, np.uint8)
        time.sleep(0.1)
        del block
    assert memory.peak - memory.before > 50_000_000


def test_memory_of_another_process_is_seen_until_it_ends():
    words = [sys.executable, "-c", "block = bytearray(80_000_000); print(flush=True); input()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with measure.HostMemory(interval=0.001, pid=process.pid) as memory:
            process.communicate(b"\n")
        assert memory.peak > 80_000_000


@pytest.mark.parametrize(
    ("number", "text"), [(8.034e9, "8.03 GFLOP"), (1.5e12, "1.5 TFLOP"), (12, "12 FLOP")]
)
def test_operations_are_written_with_a_prefix(number, text):
    assert measure.operations(number) == text

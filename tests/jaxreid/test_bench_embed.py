"""Measuring the encoders; how long anything takes is not tested."""

import json

import numpy as np
import pytest

from jaxreid import bench, cli
from tests.jaxreid import tiny

CONFIG = "configs/ssan.py:cuhk_pedes,runlocal"


def _config():
    config = tiny.get_config("cuhk_pedes,runlocal")
    config.model.update({"width": 4, "global_dim": 8, "relation_dim": 8, "view_dim": 8})
    config.model.word_dim = 8
    config.data.max_tokens = 16
    config.eval.batch_size = 8
    return config


@pytest.fixture(scope="module")
def measured(compile_fast):
    return bench.bench_embed(_config(), images=12, repeats=2, vocab_size=30)


def test_rates_go_with_the_seconds(measured):
    numbers = measured.numbers
    assert (numbers["images"], numbers["captions"]) == (12, 16 * 8)
    image, text = numbers["image"], numbers["text"]
    assert image["images_per_second"] == pytest.approx(12 / image["seconds"].median)
    assert text["captions_per_second"] == pytest.approx(128 / text["seconds"].median)
    assert image["seconds"].count == text["seconds"].count == 2
    assert "ratio" not in image
    assert "torch" not in measured.table()


def test_it_is_said_what_was_embedded(measured, tmp_path):
    measured.write_json(tmp_path / "embed.json")
    read = json.loads((tmp_path / "embed.json").read_text())
    assert read["batch_size"] == 8
    assert read["dim"] == 8 + 6 * 8 + 6 * 8
    # Of CUHK-PEDES's lengths, most are cut at 16 tokens here.
    assert 15 < read["tokens_per_caption"] <= 16
    assert read["peak_host_bytes"] > 10e6
    assert "without identity classifiers" in measured.table()


def test_work_is_counted_beside_the_seconds(measured):
    image, text = (measured.numbers[work] for work in ("image", "text"))
    for found in (image, text):
        line = found["roofline"]
        median = found["seconds"].median
        assert line["flops_per_second"] == pytest.approx(line["flops"] / median)
        assert line["bytes"] > 0
        assert line["bound"] is None  # limits of a CPU are not known
    again = bench.bench_embed(_config(), images=24, repeats=1, vocab_size=30)
    assert again.numbers["image"]["roofline"]["flops"] == 3 / 2 * image["roofline"]["flops"]
    assert measured.table().count("FLOP a byte") == 2


def test_beside_torch_each_modality_has_a_ratio(compile_fast):
    pytest.importorskip("torch")
    found = bench.bench_embed(_config(), images=12, captions=20, vocab_size=30, against="torch")
    for work, variants in (
        ("image", [{"layout": "NCHW"}, {"layout": "channels-last"}]),
        ("text", [{"lstm": "packed"}, {"lstm": "padded"}]),
    ):
        numbers = found.numbers[work]
        variants = [{"dtype": "float32", **variant} for variant in variants]
        for side in ("as_written", "tuned"):
            other = numbers["torch"][side]
            assert other["ratio"] == other["ratio_spread"].median > 0
            assert other["seconds"].count == numbers["seconds"].count == 3
            # Unit vectors, computed in float32 in another order.
            assert numbers["largest_difference"][side] < 1e-5
        assert numbers["torch"]["as_written"]["variant"] == variants[0]
        assert [trial["variant"] for trial in numbers["torch"]["tuned"]["trials"]] == variants
    table = found.table()
    assert "torch as written, captions/s" in table
    assert "torch tuned, captions/s" in table


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--images=-1"], "--images is -1"),
        (["--captions=-1"], "--captions is -1"),
        (["--repeats=0"], "--repeats is 0"),
        (["--vocab_size=2"], "--vocab_size is 2"),
        (["--batch_size=0"], "--batch_size is 0"),
    ],
)
def test_what_cannot_be_measured_is_explained(words, named, capsys):
    assert cli.main(["bench", "embed", "--config", CONFIG, *words]) == 1
    assert named in capsys.readouterr().err


def test_options_reach_the_measurement(measured, monkeypatch, tmp_path, capsys):
    asked = {}

    def bench_embed(config, **options):
        asked.update(options, batch_size=config.eval.batch_size)
        return measured

    monkeypatch.setattr(bench, "bench_embed", bench_embed)
    words = ["--config", CONFIG, "--batch_size=24", "--images=7", "--captions=9", "--repeats=4"]
    words += ["--vocab_size=8", f"--json={tmp_path / 'embed.json'}"]
    assert cli.main(["bench", "embed", *words]) == 0
    counts = {"images": 7, "captions": 9, "repeats": 4, "vocab_size": 8}
    assert asked == {**counts, "batch_size": 24, "against": ""}
    assert measured.table() in capsys.readouterr().out
    read = json.loads((tmp_path / "embed.json").read_text())
    assert np.isfinite(read["image"]["images_per_second"])

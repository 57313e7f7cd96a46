"""A trace says where time went; how long anything takes is not tested."""

import json

import jax
import jax.numpy as jnp
import pytest

from jaxreid import bench, cli
from jaxreid.bench import trace
from jaxreid.bench.trace import Span
from tests.jaxreid import tiny

CONFIG = "configs/ssan.py:cuhk_pedes,baseline,runlocal"


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    config = tiny.get_config("cuhk_pedes,baseline,runlocal")
    config.model.update({"width": 4, "global_dim": 8, "word_dim": 8})
    config.data.update({"max_tokens": 16, "length_templates": 1, "image_size": (32, 16)})
    config.data.feed = "device"
    config.batch_size = 8
    jax.config.update("jax_disable_most_optimizations", True)  # it need not run fast
    try:
        out = tmp_path_factory.mktemp("trace")
        return bench.bench_profile(config, out, steps=2, num_ids=20, vocab_size=30), out
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def test_operations_are_named_by_their_place_in_the_network(profiled):
    found = profiled[0].numbers["operations"]
    convolutions = [x for x in found if "stage1_block1/conv1/conv_general" in x["op_name"]]
    assert convolutions
    assert all(x["opcode"] for x in found)
    assert any("stage1_block1/conv1" in value for _, value in profiled[0].rows) or len(found) > 10


def test_shares_are_of_the_whole_and_the_dearest_comes_first(profiled):
    found = profiled[0].numbers["operations"]
    shares = [x["share"] for x in found]
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)
    assert len(profiled[0].rows) < 20 < len(found)


def test_an_operation_of_the_recurrence_runs_once_a_word(profiled):
    body = [x for x in profiled[0].numbers["operations"] if "lstm/while/body" in x["op_name"]]
    assert 16 * jax.device_count() in {x["calls_per_step"] for x in body}


def test_trace_and_program_lie_in_the_folder(profiled):
    out = profiled[1]
    assert list(out.glob("plugins/profile/*/*.xplane.pb"))  # where TensorBoard looks
    assert "ENTRY" in (out / "program.txt").read_text()


def test_settings_reach_the_profile(profiled, monkeypatch, tmp_path, capsys):
    asked = {}

    def bench_profile(config, out, **options):
        asked.update(options, out=out, batch_size=config.batch_size)
        return profiled[0]

    monkeypatch.setattr(bench, "bench_profile", bench_profile)
    words = ["--config", CONFIG, "--out=there", "--batch_size=24", "--steps=7", "--num_ids=9"]
    words += ["--vocab_size=8", f"--json={tmp_path / 'profile.json'}"]
    assert cli.main(["bench", "profile", *words]) == 0
    sizes = {"steps": 7, "num_ids": 9, "vocab_size": 8}
    assert asked == {**sizes, "batch_size": 24, "out": "there"}
    assert profiled[0].table() in capsys.readouterr().out
    assert json.loads((tmp_path / "profile.json").read_text())["steps"] == 2


def test_steps_below_one_are_refused(capsys, tmp_path):
    words = ["bench", "profile", "--config", CONFIG, f"--out={tmp_path}", "--steps=0"]
    assert cli.main(words) == 1
    assert "--steps is 0" in capsys.readouterr().err


def test_time_is_shared_out_once():
    spans = [
        Span("loop", 0, 100),
        Span("body", 10, 20),
        Span("body", 30, 50),
        Span("inside", 35, 40),
        Span("later", 120, 130),
    ]
    assert trace.own_times(spans) == {"loop": 70, "body": 25, "inside": 5, "later": 10}
    assert trace.own_times([]) == {}


def test_of_two_at_a_time_the_one_that_began_last_counts():
    assert trace.own_times([Span("a", 0, 10), Span("b", 5, 15)]) == {"a": 5, "b": 10}


def test_only_the_program_asked_for_is_read(tmp_path):
    double = jax.jit(lambda x: jnp.sin(x) * 2)
    x = jnp.ones(1000)
    name = double.lower(x).compile().as_text().split(",", 1)[0].split()[1]
    with jax.profiler.trace(tmp_path):
        jax.block_until_ready(double(x))
    costs = trace.read_costs(tmp_path, name)
    assert sum(cost.calls for cost in costs) >= 1
    assert trace.read_costs(tmp_path, "another") == []


def test_a_folder_without_a_trace_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no trace"):
        trace.read_costs(tmp_path, "any")

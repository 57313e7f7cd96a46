"""Variants in which PyTorch's side of a bench runs, and one that does not compile."""

import json

import numpy as np
import pytest
import safetensors.numpy

torch = pytest.importorskip("torch")

from tests.reference import bench, bench_work  # noqa: E402


def _task(network="ssan", dtype="float32", device="cpu"):
    return {"network": network, "dtype": dtype, "device": device}


@pytest.mark.parametrize(
    ("task", "work", "count", "fields"),
    [
        (_task(), "training", 4, ["dtype", "layout", "lstm"]),
        (_task(), "text", 2, ["dtype", "lstm"]),
        (_task(), "image", 2, ["dtype", "layout"]),
        (_task("axm_net"), "text", 2, ["dtype", "layout"]),
        (_task(dtype="bfloat16"), "training", 4, ["dtype", "layout", "lstm"]),
        (_task(device="cuda"), "training", 8, ["dtype", "layout", "lstm", "mode"]),
        (_task("axm_net", "bfloat16", "cuda"), "training", 4, ["dtype", "layout", "mode"]),
    ],
)
def test_variants_differ_in_what_counts_for_the_work(task, work, count, fields):
    found = bench_work.options(task, work)
    assert len({tuple(variant.values()) for variant in found}) == len(found) == count
    assert all(list(variant) == fields for variant in found)
    assert {variant["dtype"] for variant in found} == {task["dtype"]}
    plain = bench_work.as_written(task, work)
    assert plain == {name: bench_work.PLAIN[name] for name in fields}
    assert (plain in found) == (task["dtype"] == "float32")


class _Work:
    """A piece of work that takes no time, with a network of one parameter."""

    works = ("training",)

    def __init__(self, task, weights, arrays, variant):
        self.variant = variant
        self.network = torch.nn.Linear(1, 1, bias=False)
        self.network.forward = bench_work.compiled(self.network.forward, variant)

    def pieces(self, work):
        return [0]

    @torch.inference_mode()
    def run(self, pieces):
        return self.network(torch.zeros(1))


def test_a_variant_that_does_not_compile_is_left_out(monkeypatch, tmp_path):
    def compile(function):
        def fail(*_):
            raise RuntimeError("backend='inductor' raised:\n  No C compiler\nfound")

        return fail

    variants = [{"mode": mode} for mode in bench_work.MODES]
    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(bench_work, "options", lambda task, work: variants)
    monkeypatch.setitem(bench_work.TASKS, "training", _Work)
    monkeypatch.setattr(bench, "set_up", lambda device: None)
    for name in ("arrays", "weights"):
        array = {"0": np.zeros(1, np.float32)}
        safetensors.numpy.save_file(array, tmp_path / f"{name}.safetensors")
    side = bench.Side({"task": "training", **_task()}, tmp_path)
    done, failed = side.info["trials"]["training"]
    assert failed == {"variant": {"mode": "compiled"}, "error": "No C compiler"}
    assert done["seconds"] > 0
    assert side.info["tuned"] == side.info["as_written"] == {"training": {"mode": "eager"}}
    assert json.loads(json.dumps(side.info))["parameters"] == 1
    assert side.run([0]) > 0


def test_what_is_said_of_an_error_without_words():
    assert bench._first_line(KeyError()) == "KeyError"

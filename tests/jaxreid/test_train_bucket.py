"""A run whose folder and whose data lie in a bucket: trained, stopped, resumed, read."""

import json
import pathlib

import pytest

from jaxreid import evaluate, logbook, report, retrieval, train
from tests.jaxreid import stopping, tiny

pytestmark = pytest.mark.usefixtures("compile_fast")


def _config(data_dir, cache_dir=""):
    """Two epochs of the tiny set: 16 identities, 128 pairs, 16 steps."""
    config = tiny.config()
    config.update_from_flattened_dict(tiny.SMALLEST)
    config.data.update(
        {"name": "synth_pedes/tiny", "data_dir": str(data_dir), "cache_dir": str(cache_dir)}
    )
    config.stages[0].update({"epochs": 2, "max_steps": 0})
    return config


@pytest.fixture
def data_dir(bucket, tiny_data_dir):
    """The tiny set in the bucket."""
    for file in sorted(tiny_data_dir.rglob("*")):
        if file.is_file() and "synth_pedes" in file.parts:
            bucket.put(f"data/{file.relative_to(tiny_data_dir).as_posix()}", file.read_bytes())
    return "gs://bucket/data"


@pytest.mark.slow
def test_a_run_in_a_bucket_is_that_of_a_local_folder(
    bucket, data_dir, tiny_data_dir, tmp_path, monkeypatch
):
    local = tmp_path / "local"
    train.train(_config(tiny_data_dir, tmp_path / "images"), local)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    workdir, config = "gs://bucket/runs/first", _config(data_dir)
    with pytest.raises(stopping.Stopped), stopping.watched_saves(stop=8):
        train.train(config, workdir)
    assert [line["step"] for line in logbook.read(workdir)][-1] == 8  # before its checkpoint
    assert train.train(config, workdir)["step"] == 16
    assert train.train(config, workdir)["finished"]

    stopping.assert_same(_variables(workdir), _variables(local))
    assert [line["step"] for line in logbook.read(workdir)] == [
        line["step"] for line in logbook.read(local)
    ]
    evaluate.evaluate_run(workdir, per_query="gs://bucket/runs/queries.csv")
    report.write_report(workdir)
    written = {name.removeprefix("runs/first/") for name in bucket.below("runs/first/")}
    assert {"config.json", "vocabulary.json", "classes.json", "eval/test.json"} <= written
    assert {"metrics.jsonl", "report.html"} <= written
    assert sum(name.startswith("tensorboard/") for name in written) == 2  # one a start
    assert bucket.get("runs/queries.csv").startswith(b"direction,person_id,")
    scores = json.loads(bucket.get("runs/first/eval/test.json"))
    assert scores == evaluate.evaluate_run(local)
    assert not any(pathlib.Path().iterdir())  # "gs:" is no folder of this disk


def _variables(workdir):
    return stopping.leaves_by_name(retrieval.load_run(workdir, which="last").variables)

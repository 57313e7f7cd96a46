"""What the README promises of a whole run and of memory, each as its own process. Minutes long."""

import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "ssan.py"

pytestmark = pytest.mark.slow


def _jaxreid(*words):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)
    subprocess.run(["jaxreid", *map(str, words)], check=True, env=environment)


def test_the_quickstart_finds_people_it_has_never_seen(tmp_path):
    run = tmp_path / "run"
    _jaxreid(
        "train",
        f"--config={CONFIG}:quickstart",
        f"--workdir={run}",
        f"--config.data.data_dir={tmp_path}/data",
        f"--config.data.cache_dir={tmp_path}/cache",
    )
    _jaxreid("evaluate", f"--workdir={run}")
    scores = json.loads((run / "eval" / "test.json").read_text())
    assert scores["t2i"]["rank1"] >= 65
    assert scores["t2i"]["rank1"] < scores["oracle_rank1"], "no one can see what nobody said"
    assert scores["word_part_accuracy"] >= 1.25 * scores["word_part_constant"]


def test_a_full_size_step_of_16_pairs_fits_in_9_gb(tmp_path):
    result = tmp_path / "bench.json"
    preset = f"--config={CONFIG}:cuhk_pedes"
    _jaxreid("bench", "train", preset, "--batch_size=16", "--steps=1", f"--json={result}")
    found = json.loads(result.read_text())
    assert found["parameters"] > 200e6
    assert found["peak_host_bytes"] < 9e9


def test_metrics_of_icfg_size_take_less_than_1_5_gb_besides_the_embeddings(tmp_path):
    result = tmp_path / "bench.json"
    size = ("--queries=19848", "--gallery=19848", "--dim=1024")
    _jaxreid("bench", "eval", *size, "--repeats=1", f"--json={result}")
    assert json.loads(result.read_text())["peak_host_bytes_besides_embeddings"] < 1.5e9

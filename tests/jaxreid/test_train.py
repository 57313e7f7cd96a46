"""Training runs: what they leave behind, resuming, killing, diverging, stages."""

import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import optax
import pytest

from jaxreid import checkpoint, loop, retrieval, sharding, train
from jaxreid import config as config_lib
from jaxreid.logbook import read
from tests.jaxreid import stopping, tiny, watching

ROOT = pathlib.Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("compile_fast")


def _config(data_dir):
    """Two epochs of the tiny set: 16 identities, 128 pairs."""
    config = tiny.config()
    config.data.name = "synth_pedes/tiny"
    config.data.data_dir = str(data_dir)
    config.data.cache_dir = str(data_dir / "cache")
    config.update_from_flattened_dict(tiny.SMALLEST)
    config.stages[0].update({"epochs": 2, "max_steps": 0})
    return config


def _variables(workdir, which="last"):
    return stopping.leaves_by_name(retrieval.load_run(workdir, which=which).variables)


@pytest.fixture(scope="module")
def watched():
    """Of the run of two epochs: compilations until each save, and what its steps fetched."""
    return {"compiled": [], "fetched": []}


@pytest.fixture(scope="module")
def finished(tiny_data_dir, tmp_path_factory, watched):
    """A run of two epochs: config, folder and what train returned."""
    config, workdir = _config(tiny_data_dir), tmp_path_factory.mktemp("run")
    save = checkpoint.Checkpoints.save
    with watching.compilations() as compiled, watching.guarded_steps() as watched["fetched"]:

        def counting(self, *arguments, **options):
            save(self, *arguments, **options)
            watched["compiled"].append(len(compiled))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint.Checkpoints, "save", counting)
            done = train.train(config, workdir)
    return config, workdir, done


def test_nothing_compiles_in_the_second_epoch(finished, watched):
    """Neither its steps nor validation nor saving does."""
    first, second = watched["compiled"]
    assert first > 0
    assert second == first


def test_no_step_waits_for_the_devices(finished, watched):
    assert watched["fetched"] == []  # and a transfer to them would have stopped the run


def test_a_run_leaves_all_that_search_needs(finished):
    config, workdir, done = finished
    names = {path.name for path in workdir.iterdir()}
    assert {
        "config.json",
        "vocabulary.json",
        "classes.json",
        "metrics.jsonl",
        "checkpoints",
    } <= names
    lines = read(workdir)
    validations = [line for line in lines if "val/t2i/rank1" in line]
    assert [line["step"] for line in validations] == [8, 16]
    assert done == {"finished": False, "step": 16, "best_step": done["best_step"]}
    assert done["best_step"] in (8, 16)
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert len(losses) == 8
    assert all(np.isfinite(losses))
    assert {"train/grad_norm", "train/learning_rate", "train/id_part"} <= lines[1].keys()
    assert list((workdir / "tensorboard").iterdir())


def test_validation_every_other_epoch_changes_nothing_else(finished, tmp_path):
    _, workdir, _ = finished
    config = config_lib.load(workdir)
    config.stages[0].update({"epochs": 3, "validate_epochs": 2})
    assert train.train(config, tmp_path)["step"] == 24
    lines = read(tmp_path)
    assert [line["step"] for line in lines if "val/t2i/rank1" in line] == [16, 24]
    losses = [line["train/loss"] for line in lines if "train/loss" in line][:8]
    assert losses == [line["train/loss"] for line in read(workdir) if "train/loss" in line]


def test_the_same_command_again_says_that_the_run_is_finished(finished):
    config, workdir, done = finished
    again = train.train(config, workdir)
    assert again["finished"]
    assert again["step"] == done["step"]


def test_another_config_is_refused_and_named(finished):
    _, workdir, _ = finished
    other = config_lib.load(workdir)
    other.stages[0].learning_rate = 0.5
    with pytest.raises(ValueError, match=r"stages\[0\].learning_rate: 0.002 -> 0.5"):
        train.train(other, workdir)


def test_a_run_stopped_between_epochs_goes_on_and_ends_the_same(finished, tmp_path):
    _, workdir, _ = finished
    config = config_lib.load(workdir)
    config.checkpoint_every_steps = 3
    stopping.train_until(config, tmp_path, 12)
    train.train(config, tmp_path)
    stopping.assert_same(_variables(tmp_path), _variables(workdir))
    steps = [line["step"] for line in read(tmp_path) if "train/loss" in line]
    assert steps == sorted(set(steps)), "no line is written twice"


_SCRIPT = """
import sys, jax
jax.config.update("jax_compilation_cache_dir", sys.argv[3])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_disable_most_optimizations", True)
from jaxreid import config, train
train.train(config.load(sys.argv[1]), sys.argv[2])
"""


def _start(config_dir, workdir):
    cache = jax.config.jax_compilation_cache_dir
    words = [sys.executable, "-c", _SCRIPT, str(config_dir), str(workdir), cache]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    with (workdir / "errors.txt").open("a") as errors:
        return subprocess.Popen(words, env=environment, stderr=errors)


def _errors(workdir):
    return (workdir / "errors.txt").read_text()[-3000:]


def _finish(config_dir, workdir):
    assert _start(config_dir, workdir).wait() == 0, _errors(workdir)


def test_killed_at_a_random_step_a_run_ends_bit_for_bit_the_same(tiny_data_dir, tmp_path):
    config = _config(tiny_data_dir)
    config.stages[0].epochs = 3
    config.checkpoint_every_steps = 1
    config.log_every_steps = 1
    for name in ("config", "whole", "killed"):
        (tmp_path / name).mkdir()
    config_lib.save(config, tmp_path / "config")
    _finish(tmp_path / "config", tmp_path / "whole")

    until = int(np.random.default_rng(int(time.time())).integers(2, 20))
    killed = _start(tmp_path / "config", tmp_path / "killed")
    while not any(line["step"] >= until for line in read(tmp_path / "killed")):
        assert killed.poll() is None, _errors(tmp_path / "killed")
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    _finish(tmp_path / "config", tmp_path / "killed")

    expected, found = _variables(tmp_path / "whole"), _variables(tmp_path / "killed")
    stopping.assert_same(found, expected, f"killed after step {until}: ")


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_checkpoint(tiny_data_dir, tmp_path):
    config = _config(tiny_data_dir)
    config.checkpoint_every_steps = 2
    config.stages[0].update({"optimizer": "sgd", "learning_rate": 1e30})
    with pytest.raises(train.TrainingDivergedError, match=r"step \d+: .*checkpoint is .*none"):
        train.train(config, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_the_last_good_checkpoint_is_named_and_can_be_started_from(finished, tmp_path):
    config, _, _ = finished
    config = config_lib.load(finished[1])
    config.checkpoint_every_steps = 2
    config.stages[0].update({"epochs": 1, "learning_rate": 0.0})
    plan = loop.plan

    def breaking(*arguments):
        def broken(program, state, *inputs):
            state, scalars = program(state, *inputs)
            bad = state.step >= 5
            return state, {**scalars, "loss": jax.numpy.where(bad, jax.numpy.nan, scalars["loss"])}

        return [functools.partial(broken, program) for program in plan(*arguments)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "plan", breaking)
        with pytest.raises(train.TrainingDivergedError) as caught:
            train.train(config, tmp_path / "broken")
    assert "step 5: the loss is nan" in str(caught.value)
    assert f"{tmp_path}/broken/checkpoints/4." in str(caught.value)
    assert f"--config.init_from={tmp_path}/broken" in str(caught.value)
    config.init_from = str(tmp_path / "broken")
    assert train.train(config, tmp_path / "next")["step"] == 8


def test_stages_follow_each_other_with_a_fresh_optimiser_and_frozen_parameters(
    tiny_data_dir, tmp_path
):
    config = _config(tiny_data_dir)
    first = config.stages[0].copy_and_resolve_references()
    frozen = ("^lstm/", "^embedding", "^backbone/")
    first.update({"epochs": 1, "frozen": frozen, "rates": {}, "objective": {"cr": False}})
    second = config.stages[0].copy_and_resolve_references()
    second.update({"epochs": 1, "optimizer": "sgd", "learning_rate": 1e-3})
    config.stages = (first,)
    train.train(config, tmp_path / "one")
    config.stages = (first, second)
    train.train(config, tmp_path / "two")
    before, after = _variables(tmp_path / "one"), _variables(tmp_path / "two")
    initial = _initial(config)
    held = [name for name in initial if re.search("^[a-z_]*/(lstm|embedding|backbone)/", name)]
    assert any(name.startswith("batch_stats/backbone/") for name in held)
    for name in held:
        np.testing.assert_array_equal(before[name], initial[name], err_msg=name)
        assert np.any(after[name] != initial[name]), name
    assert np.any(before["params/heads/global/kernel"] != initial["params/heads/global/kernel"])
    lines = [line for line in read(tmp_path / "two") if "train/loss" in line]
    assert "train/weak_global" not in lines[0]
    assert "train/weak_global" in lines[-1]
    with checkpoint.Checkpoints(tmp_path / "two") as checkpoints:
        assert checkpoints.meta(16)["stage"] == 1


def _initial(config):
    model = train.registry.build_model(config, vocab_size=_rows(config), num_classes=16)
    # As training draws them: another compilation may round the last digit otherwise.
    state = train.init_state(config, model, optax.identity(), sharding.make_mesh(1))
    return stopping.leaves_by_name(train.split_state(state)["variables"])


def _rows(config):
    from jaxreid import runs, text

    captions = runs.load(config, "train").captions
    return len(text.Vocabulary.from_captions(captions, config.data.min_count, "unk"))


def test_a_run_can_start_from_another(finished, tmp_path):
    config, workdir, _ = finished
    config = config_lib.load(workdir)
    config.init_from = str(workdir)
    config.stages[0].update({"epochs": 1, "learning_rate": 0.0})
    train.train(config, tmp_path)
    expected, found = _variables(workdir, "best"), _variables(tmp_path)
    for name, value in expected.items():
        if name.startswith("params/"):
            np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("kind", ["host", pytest.param("sharded", marks=pytest.mark.slow)])
def test_another_feed_trains_the_same(finished, tmp_path, kind):
    config, workdir, _ = finished
    config = config_lib.load(workdir)
    config.data.feed = kind
    train.train(config, tmp_path)
    stopping.assert_same(_variables(tmp_path), _variables(workdir))

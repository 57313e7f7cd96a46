"""Runs that are told to stop, lose their last checkpoint or run out of room, and go on."""

import functools
import itertools
import os
import signal

import pytest

from jaxreid import checkpoint, cli, exit_codes, lock, saving, train
from jaxreid import config as config_lib
from jaxreid.bench import survive
from jaxreid.logbook import read
from tests.jaxreid import disks, stopping, tiny
from tests.jaxreid.test_integrity import data_file, flip

pytestmark = pytest.mark.usefixtures("compile_fast")


def _config(data_dir):
    """Two epochs of the tiny set, of 8 steps each."""
    config = tiny.config()
    config.data.update({"name": "synth_pedes/tiny", "data_dir": str(data_dir)})
    config.data.cache_dir = str(data_dir / "cache")
    config.update_from_flattened_dict(tiny.SMALLEST)
    config.stages[0].update({"epochs": 2, "max_steps": 0})
    config.checkpoint_every_minutes = 0
    return config


@pytest.fixture(scope="module")
def whole(tiny_data_dir, tmp_path_factory):
    """A run of 16 steps that nobody disturbed: its config and what it saved, by step."""
    config, workdir = _config(tiny_data_dir), tmp_path_factory.mktemp("whole")
    with stopping.watched_saves() as saved:
        train.train(config, workdir)
    return config, saved, read(workdir)


def _signal_at(step, number, patch):
    """Sends this process a signal when a run is about to start a step."""
    asked = saving.Halts.__call__

    def sending(self, now):
        if now == step:
            os.kill(os.getpid(), number)
        return asked(self, now)

    patch.setattr(saving.Halts, "__call__", sending)


def _stop(config, workdir, step, number=signal.SIGTERM):
    with pytest.MonkeyPatch.context() as patch, stopping.watched_saves() as saved:
        _signal_at(step, number, patch)
        return train.train(config, workdir), saved


def _train_steps(lines):
    return [line["step"] for line in lines if "train/loss" in line]


def test_stopped_and_damaged_a_run_goes_on_and_ends_the_same(whole, tmp_path, caplog):
    config, expected, lines = whole
    config = config.copy_and_resolve_references()
    config.update({"max_to_keep": 2, "checkpoint_every_minutes": 10})
    done, saved = _stop(config, tmp_path, 5)
    assert done == {
        "finished": False,
        "stopped": True,
        "cause": "SIGTERM",
        "step": 5,
        "best_step": None,
    }
    assert list(saved) == [5]
    assert _train_steps(read(tmp_path)) == [2, 4, 5]  # the last window is cut, not lost

    clock = itertools.count(step=400)  # seconds; goes on each time that it is looked at
    init = functools.partialmethod(saving.Halts.__init__, clock=lambda: next(clock))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving.Halts, "__init__", init)
        done, saved = _stop(config, tmp_path, 13, signal.SIGINT)
    assert (done["cause"], done["step"]) == ("SIGINT", 13)
    assert done["best_step"] == 8

    folder = tmp_path / "checkpoints"
    steps = sorted(int(path.name) for path in folder.glob("[0-9]*"))
    assert steps[-1] == 13
    flip(data_file(folder / "13", "optimizer"))
    with stopping.watched_saves() as again:
        assert train.train(config, tmp_path)["step"] == 16
    assert "13 is damaged: optimizer/" in caplog.text
    assert (folder / "damaged-13").is_dir()
    stopping.assert_same(again[16], expected[16])
    validations = [line for line in read(tmp_path) if "val/t2i/rank1" in line]
    assert validations == [line for line in lines if "val/t2i/rank1" in line]
    assert _train_steps(read(tmp_path)) == sorted(set(_train_steps(read(tmp_path))))
    assert set(_train_steps(lines)) <= set(_train_steps(read(tmp_path)))
    assert any(step not in (8, 13, 16) for step in saved), "none was saved by the clock"


def test_nothing_is_saved_by_the_clock_unless_it_is_due():
    class Saved:
        checks = 0

        def check(self):
            self.checks += 1

    class Told:
        stopped = False

        def reached(self, step):
            return step == 9

    seconds, checkpoints = [0.0], Saved()
    halts = saving.Halts(checkpoints, 2, Told(), clock=lambda: seconds[0])
    for now, due in ((60, False), (119, False), (120, True)):
        seconds[0] = now
        halts.reported()
        assert halts(3) == due
    halts.saved()
    assert not halts(3)
    assert halts(9)
    seconds[0] = 1e9
    never = saving.Halts(checkpoints, 0, Told(), clock=lambda: seconds[0])
    seconds[0] = 2e9
    never.reported()
    assert not never(3)
    assert checkpoints.checks == 4


@pytest.mark.filterwarnings(  # of TensorStore's threads, which come back after Orbax gave up
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.slow
def test_a_disk_that_fills_up_ends_the_run_and_room_lets_it_go_on(whole, tmp_path):
    config, expected, _ = whole
    config = config.copy_and_resolve_references()
    config.checkpoint_every_steps = 3
    save = checkpoint.Checkpoints.save
    with disks.mounted(tmp_path, "size=16m") as workdir:

        def filling(self, step, **items):
            if step == 6:
                self.wait()
                disks.fill(workdir)
            save(self, step, **items)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint.Checkpoints, "save", filling)
            with pytest.raises(OSError, match=rf"{workdir}.*free.*the same command"):
                train.train(config, workdir)
        (workdir / "filler").unlink()
        with stopping.watched_saves() as saved:
            train.train(config, workdir)
        assert min(saved) == 6, "the checkpoint of step 3 was lost"
        stopping.assert_same(saved[16], expected[16])


def test_a_second_process_is_refused_and_changes_nothing(tiny_data_dir, tmp_path):
    config = _config(tiny_data_dir)
    with lock.held(tmp_path), pytest.raises(ValueError, match="is in use: process .* trains in it"):
        train.train(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [lock.FILE_NAME]


def test_told_to_stop_while_the_data_are_read(tiny_data_dir, tmp_path, monkeypatch):
    def told(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train.runs, "load_run_data", told)
    done = train.train(_config(tiny_data_dir), tmp_path)
    assert (done["stopped"], done["step"]) == (True, None)
    with lock.held(tmp_path):  # it was let go
        pass


@pytest.mark.parametrize(
    ("cause", "code"), [("SIGTERM", exit_codes.STOPPED), ("SIGINT", exit_codes.INTERRUPTED)]
)
@pytest.mark.parametrize(("step", "words"), [(7, "and saved at 7"), (None, "before its first")])
def test_the_command_tells_what_stopped_it_by_its_exit_code(
    monkeypatch, tmp_path, capsys, cause, code, step, words
):
    done = {"finished": False, "stopped": True, "cause": cause, "step": step, "best_step": None}
    monkeypatch.setattr(train, "train", lambda config, workdir: done)
    words_of_it = ["train", "--config", f"{tiny.CONFIGS}/ssan.py:quickstart", "--workdir"]
    assert cli.main([*words_of_it, str(tmp_path)]) == code
    assert f"was stopped by {cause} {words}" in capsys.readouterr().out


@pytest.mark.slow
def test_killed_twenty_times_a_run_ends_bit_for_bit_the_same(tiny_data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("PYTHONPATH", str(tiny.CONFIGS.parent))
    found = survive.survive(_config(tiny_data_dir), tmp_path, kills=20, seed=0)
    assert found.differing == ()
    assert found.arrays > 100
    ends = [life.end for life in found.lives]
    assert (ends.count("SIGKILL"), ends.count("SIGTERM"), ends[-1]) == (16, 4, "finished")
    assert max(life.repeated for life in found.lives) <= 3


def test_fields_that_may_change_are_documented():
    readme = (tiny.CONFIGS / "README.md").read_text()
    for name in config_lib.FREE_FIELDS:
        assert f"| `{name}` |" in readme, name

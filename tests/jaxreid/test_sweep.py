"""Sweeps: several runs from one config, in folders of their own."""

import json
import os
import re
import signal
import sys

import pytest

from jaxreid import batch_rule, cli, cli_config, exit_codes, sweep
from tests.jaxreid import tiny

CONFIG = f"{tiny.CONFIGS / 'ssan.py'}:quickstart,runlocal"

# Stands for `jaxreid train`: writes the config and a validation, and ends with a code of choice.
_CHILD = """
import json, os, pathlib, signal, sys, time
from jaxreid import config as config_lib
workdir, config, rank1, code = sys.argv[1:]
folder = pathlib.Path(workdir)
folder.mkdir(parents=True, exist_ok=True)
with (folder / "calls").open("a") as calls:
    calls.write("x")
(folder / "config.json").write_text(config)
with (folder / "metrics.jsonl").open("w") as file:
    for step, value in ((10, 1.0), (20, float(rank1)), (30, 2.0)):
        scores = {"val/t2i/rank1": value, "val/t2i/map": value / 2, "val/i2t/rank1": value + 1}
        file.write(json.dumps({"step": step, **scores}) + "\\n")
if code == "told to stop":
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
if code == "stops":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
if code in ("Ctrl-C", "Ctrl-C, dies"):
    def told(number, _):
        assert number == signal.SIGINT
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(0.5)  # in which no other signal may come
        sys.exit(130)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told if code == "Ctrl-C" else signal.SIG_DFL)
    if code == "Ctrl-C, dies":
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
sys.exit(int(code))
"""


@pytest.fixture(autouse=True)
def unhandled():
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    after = [signal.getsignal(number) for number in numbers]
    assert after == before  # a sweep leaves no handler behind


def _load(setting):
    words = [f"--config.{field}={value}" for field, value in setting.items()]
    return cli_config.load(CONFIG, cli_config.split(words))


def _plan(workdir, *words):
    return sweep.plan(sweep.parse(words), workdir, _load)


def _child(scores, codes=None):
    """Commands by the name of the run."""
    from jaxreid import config as config_lib

    def words(run):
        code = (codes or {}).get(run.name, 0)
        what = [run.workdir, config_lib.to_json(run.config), str(scores[run.name]), str(code)]
        return [sys.executable, "-c", _CHILD, *what]

    return words


def test_values_are_separated_by_commas_outside_of_brackets_and_quotes():
    assert sweep.parse(["config.seed=0,1,2"]) == {"seed": ("0", "1", "2")}
    words = ["config.stages[0].decay_epochs=(),(1, 2)", "--config.data.name='a,b', c"]
    assert sweep.parse(words) == {
        "stages[0].decay_epochs": ("()", "(1, 2)"),
        "data.name": ("'a,b'", "c"),
    }


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["seed=0,1"], "--sweep is 'seed=0,1'; it takes config.FIELD=VALUE,VALUE"),
        (["config.seed"], "--sweep is 'config.seed'"),
        (["config.seed="], "--sweep is 'config.seed='"),
        (["config.seed=0,,1"], "--sweep is 'config.seed=0,,1'"),
        (["config.seed=0,0"], "a value stands in it twice"),
        (["config.=1"], "--sweep is 'config.=1'; it takes config.FIELD=VALUE,VALUE"),
        (["config.seed=(0,1"], "--sweep is 'config.seed=(0,1', in which a bracket or a quote has"),
        (["config.seed=0),1"], "in which a bracket or a quote has no partner"),
        (["config.seed=(0],1"], "in which a bracket or a quote has no partner"),
        (["config.seed='0,1"], "in which a bracket or a quote has no partner"),
        (["config.seed=0", "config.seed=1"], "names config.seed twice"),
    ],
)
def test_what_is_no_sweep_is_refused(words, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        sweep.parse(words)


def test_runs_are_the_product_of_all_values(tmp_path):
    runs = _plan(tmp_path, "config.seed=0,1", "config.objective.beta=0.1,0.2")
    assert [run.name for run in runs] == [
        "seed=0,objective.beta=0.1",
        "seed=0,objective.beta=0.2",
        "seed=1,objective.beta=0.1",
        "seed=1,objective.beta=0.2",
    ]
    assert [(run.config.seed, run.config.objective.beta) for run in runs] == [
        (0, 0.1),
        (0, 0.2),
        (1, 0.1),
        (1, 0.2),
    ]
    assert runs[0].workdir == str(tmp_path / runs[0].name)


def test_values_are_read_as_those_of_other_options(tmp_path):
    (run,) = _plan(tmp_path, "config.data.image_size=(64,32)")
    assert run.config.data.image_size == (64, 32)
    with pytest.raises(ValueError, match="config.seed is 'many'; it takes a whole number"):
        _plan(tmp_path, "config.seed=0,many")
    with pytest.raises(ValueError, match="config has no field 'sede'"):
        _plan(tmp_path, "config.sede=0")


def test_names_of_folders_are_safe_and_no_longer_than_a_file_system_takes():
    name = sweep.folder_name({"pretrained": "../gs://a b/c*?.npz", "seed": "-1"})
    assert name == "pretrained=..-gs-a-b-c-.npz,seed=-1"
    long = [sweep.folder_name({"pretrained": "x" * 300 + end}) for end in "ab"]
    assert max(map(len, long)) < 250
    assert long[0] != long[1]


def test_runs_that_would_share_a_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="would share the folder"):
        _plan(tmp_path, "config.data.manual_dir=a/b,a//b")


def test_the_folder_of_a_run_is_refused(tmp_path):
    (tmp_path / "config.json").touch()
    with pytest.raises(ValueError, match="is the folder of a run"):
        _plan(tmp_path, "config.seed=0,1")


def test_scores_are_averaged_over_seeds(tmp_path):
    runs = _plan(tmp_path, "config.objective.beta=0.1,0.2", "config.seed=0,1,2")
    ranks = dict(zip([run.name for run in runs], [40, 50, 60, 71, 71, 71], strict=True))
    assert sweep.run_all(runs, tmp_path, _child(ranks)) == 0
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert [run["best_step"] for run in found["runs"]] == [20] * 6
    assert found["runs"][1]["scores"] == {"t2i/rank1": 50, "t2i/map": 25, "i2t/rank1": 51}
    first, second = found["settings"]
    assert (first["setting"], first["count"]) == ({"objective.beta": "0.1"}, 3)
    assert (first["mean"]["t2i/rank1"], first["std"]["t2i/rank1"]) == (50, 10)
    assert (first["mean"]["t2i/map"], first["std"]["t2i/map"]) == (25, 5)
    assert (second["mean"]["t2i/rank1"], second["std"]["t2i/rank1"]) == (71, 0)
    table = sweep.table(runs)
    assert "50.00 ± 10.00" in table
    assert table.count("finished") == 7  # six runs, and the title of the means


def test_without_seeds_there_is_nothing_to_average(tmp_path):
    runs = _plan(tmp_path, "config.objective.beta=0.1,0.2")
    assert sweep.run_all(runs, tmp_path, _child({run.name: 40 for run in runs})) == 0
    assert "Mean" not in sweep.table(runs)
    assert sweep.results(runs)["settings"][0]["std"]["t2i/rank1"] is None


def test_one_that_fails_is_told_and_the_others_run(tmp_path):
    runs = _plan(tmp_path, "config.seed=0,1,2")
    ranks = {run.name: 40 for run in runs}
    assert sweep.run_all(runs, tmp_path, _child(ranks, {"seed=1": 2})) == exit_codes.FAILED
    assert [run.state for run in runs] == ["finished", "failed", "finished"]
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert found["runs"][1]["exit_code"] == 2
    assert found["settings"][0]["count"] == 2
    assert "failed" in sweep.table(runs)


@pytest.mark.parametrize("code", [exit_codes.CRASHED, exit_codes.LOST, 137])
def test_one_that_crashes_has_launchers_start_the_sweep_again(tmp_path, code):
    runs = _plan(tmp_path, "config.seed=0,1,2")
    ranks = {run.name: 40 for run in runs}
    codes = {"seed=0": exit_codes.FAILED, "seed=1": code}
    assert sweep.run_all(runs, tmp_path, _child(ranks, codes)) == exit_codes.CRASHED
    assert [run.state for run in runs] == ["failed", "failed", "finished"]


def _calls(workdir, run):
    path = workdir / run.name / "calls"
    return len(path.read_text()) if path.exists() else 0


def test_what_is_finished_is_skipped_and_what_failed_goes_on(tmp_path):
    words = ("config.seed=0,1,2",)
    runs = _plan(tmp_path, *words)
    ranks = {run.name: 40 for run in runs}
    sweep.run_all(runs, tmp_path, _child(ranks, {"seed=1": 1}))
    again = _plan(tmp_path, *words)
    assert sweep.run_all(again, tmp_path, _child(ranks)) == 0
    assert [_calls(tmp_path, run) for run in again] == [1, 2, 1]
    assert [run.state for run in again] == ["finished"] * 3
    more = _plan(tmp_path, "config.seed=0,3")
    assert sweep.run_all(more, tmp_path, _child({**ranks, "seed=3": 50})) == 0
    assert [_calls(tmp_path, run) for run in more] == [1, 1]


def test_a_folder_of_another_config_is_left_to_the_run_to_refuse(tmp_path):
    runs = _plan(tmp_path, "config.seed=0")
    sweep.run_all(runs, tmp_path, _child({"seed=0": 40}))
    changed = _plan(tmp_path, "config.seed=0")
    changed[0].config.objective.beta = 0.7
    sweep.run_all(changed, tmp_path, _child({"seed=0": 40}))
    assert _calls(tmp_path, changed[0]) == 2


@pytest.mark.parametrize("how", ["told to stop", "stops"])
def test_told_to_stop_the_sweep_stops_its_run_and_goes_on_later(tmp_path, how):
    runs = _plan(tmp_path, "config.seed=0,1,2")
    ranks = {run.name: 40 for run in runs}
    code = sweep.run_all(runs, tmp_path, _child(ranks, {"seed=1": how}))
    assert code == exit_codes.STOPPED
    assert [run.state for run in runs] == ["finished", "stopped", "not begun"]
    again = _plan(tmp_path, "config.seed=0,1,2")
    assert sweep.run_all(again, tmp_path, _child(ranks)) == 0
    assert [_calls(tmp_path, run) for run in again] == [1, 2, 1]


@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-C, dies", exit_codes.INTERRUPTED])
def test_ctrl_c_ends_the_sweep_which_tells_no_run_again(tmp_path, how):
    runs = _plan(tmp_path, "config.seed=0,1,2")
    ranks = {run.name: 40 for run in runs}
    code = sweep.run_all(runs, tmp_path, _child(ranks, {"seed=1": how}))
    assert code == exit_codes.INTERRUPTED
    assert [run.state for run in runs] == ["finished", "stopped", "not begun"]
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert [run["state"] for run in found["runs"]] == ["finished", "stopped", "not begun"]
    assert runs[1].exit_code == (-signal.SIGINT if how == "Ctrl-C, dies" else 130)


def test_a_finished_run_of_a_batch_by_device_is_skipped(tmp_path):
    runs = _plan(tmp_path, "config.seed=0,1", "config.batch_per_device=4")
    ranks = {run.name: 40 for run in runs}

    def on_devices(count):
        def words(run):
            saved = sweep.Run(**vars(run) | {"config": batch_rule.resolve(run.config, count)})
            return _child(ranks)(saved)

        return words

    assert sweep.run_all(runs, tmp_path, on_devices(8)) == 0
    assert sweep.run_all(runs, tmp_path, on_devices(2)) == 0
    assert [_calls(tmp_path, run) for run in runs] == [1, 1]
    runs[0].config.batch_rule = "linear"
    assert sweep.run_all(runs, tmp_path, on_devices(8)) == 0
    assert [_calls(tmp_path, run) for run in runs] == [2, 1]


def test_a_run_that_stops_by_itself_stops_the_sweep(tmp_path):
    runs = _plan(tmp_path, "config.seed=0,1")
    codes = {"seed=0": exit_codes.STOPPED}
    ranks = {run.name: 40 for run in runs}
    assert sweep.run_all(runs, tmp_path, _child(ranks, codes)) == exit_codes.STOPPED
    assert [run.state for run in runs] == ["stopped", "not begun"]


def test_the_command_runs_what_one_would_type(monkeypatch, capsys, tmp_path):
    typed = []

    def pretend(*options):
        typed.append(options)
        return [sys.executable, "-c", "raise SystemExit(1)"]

    monkeypatch.setattr(sweep, "command", pretend)
    words = ["train", "--config", CONFIG, "--workdir", str(tmp_path), "--config.batch_size=8"]
    words += ["--sweep", "config.seed=0,1", "--sweep", "config.data.image_size=(64,32)"]
    assert cli.main(words) == 1
    assert len(typed) == 2
    assert typed[0] == (
        "--config",
        CONFIG,
        "--workdir",
        str(tmp_path / "seed=0,data.image_size=64-32"),
        "--config.batch_size=8",
        "--config.seed=0",
        "--config.data.image_size=(64,32)",
    )
    assert "failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--sweep", "config.seed=0", "--config.seed=1"], "--config.seed and by --sweep"),
        (["--sweep", "config.seed=0", "--coordinator=a:1"], "for a single host"),
        (["--sweep", "config.seed=0,x"], "config.seed is 'x'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(words, named, capsys, tmp_path):
    where = ["--config", CONFIG, "--workdir", str(tmp_path / "sweep")]
    assert cli.main(["train", *where, *words]) == 1
    assert named in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_two_seeds_are_trained(tiny_data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tiny.CONFIGS.parent), *sys.path]))
    monkeypatch.setenv("JAXREID_CACHE", str(tmp_path / "cache"))
    words = ["train", "--config", CONFIG, "--workdir", str(tmp_path / "sweep")]
    fields = {**tiny.SMALLEST, "data.data_dir": tiny_data_dir, "stages[0].max_steps": 2}
    words += [f"--config.{name}={value}" for name, value in fields.items()]
    words += ["--sweep", "config.seed=0,1"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert said.count("finished") == 3
    found = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [run["best_step"] for run in found["runs"]] == [2, 2]
    assert found["settings"][0]["count"] == 2
    scores = [run["scores"]["t2i/rank1"] for run in found["runs"]]
    assert found["settings"][0]["mean"]["t2i/rank1"] == pytest.approx(sum(scores) / 2)

"""The command line: what a person sees, above all when something is wrong."""

import collections
import csv
import importlib
import json
import pathlib
import shutil

import PIL.Image
import pytest

from jaxreid import cli, cli_config
from tests.jaxreid import tiny

CONFIG = str(tiny.CONFIGS / "ssan.py")


@pytest.fixture
def run(capsys):
    """Runs a command; returns its exit code, what it printed and its error."""

    def call(*words):
        code = cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.split("error: ")[-1]

    return call


def _train(workdir, preset="quickstart,runlocal", *more):
    return ["train", "--config", f"{CONFIG}:{preset}", "--workdir", workdir, *more]


def test_a_wrong_config_key_is_named(run, tmp_path):
    code, _, error = run(*_train(tmp_path, "quickstart", "--config.model.widht=3"))
    assert code == 1
    assert "config has no field 'model.widht'; accepted there: width, " in error
    assert "configs/ssan.py" in error
    code, _, error = run(*_train(tmp_path, "quickstart", "--config.stages[1].epochs=3"))
    assert code == 1
    assert "config has no field 'stages[1].epochs'; accepted there: stages[0]." in error


def test_a_number_out_of_range_is_named(run, tmp_path):
    code, _, error = run(*_train(tmp_path / "run", "quickstart", "--config.log_every_steps=0"))
    assert code == 1
    assert "config.log_every_steps is 0; it takes a whole number from 1" in error
    assert not (tmp_path / "run").exists()


def test_a_value_of_the_wrong_type_is_named(run, tmp_path):
    code, _, error = run(*_train(tmp_path, "quickstart", "--config.batch_size=many"))
    assert code == 1
    assert "config.batch_size is 'many'; it takes a whole number, for example 32." in error
    code, _, error = run(*_train(tmp_path, "quickstart", "--config.batch_size"))
    assert code == 1
    assert "config.batch_size is given no value" in error
    code, _, error = run(*_train(tmp_path, "quickstart", "--config.stages[0]=3"))
    assert code == 1
    assert "config.stages[0] is '3'; it takes a value for each of its fields" in error


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--config.model.formulation=released"], "objective.formulation", "released"),
        (["--config.objective.formulation=released"], "model.formulation", "released"),
        (["--config.seed", "-1"], "seed", -1),
        (["--config.model.remat"], "model.remat", True),
        (["--config.model.part", "false"], "model.part", False),
        (["--config.data.image_size=(192,64)"], "data.image_size", (192, 64)),
        (["--config.objective.fixed_margin=.1"], "objective.fixed_margin", 0.1),
        (["--config.seed=1", "--config.seed=2"], "seed", 2),
    ],
)
def test_values_reach_their_fields(words, field, value):
    config = cli_config.load(f"{CONFIG}:quickstart", cli_config.split(words))
    for part in field.split("."):
        config = config[part]
    assert config == value


def test_an_unknown_preset_lists_what_there_is(run, tmp_path):
    code, _, error = run(*_train(tmp_path, "market"))
    assert code == 1
    assert "'market'" in error
    assert "quickstart, synth_pedes, cuhk_pedes" in error


def test_a_preset_s_values_are_named(run, tmp_path):
    code, _, error = run(*_train(tmp_path / "run", "cross_domain,source=market,target=prid"))
    assert code == 1
    assert "'cross_domain' with target=prid; it takes source= one of sysu, " in error
    assert not (tmp_path / "run").exists()


def test_an_unknown_variant_lists_what_there_is(run, tmp_path):
    code, _, error = run(*_train(tmp_path, "quickstart,runlocla"))
    assert code == 1
    assert "'runlocla'" in error
    assert "runlocal" in error


def test_a_config_file_that_is_not_there(run, tmp_path):
    code, _, error = run("train", "--config", "nowhere.py:a", "--workdir", tmp_path)
    assert code == 1
    assert "'nowhere.py'" in error
    (tmp_path / "empty.py").touch()
    code, _, error = run("train", "--config", tmp_path / "empty.py", "--workdir", tmp_path)
    assert code == 1
    assert "does not define get_config()" in error
    (tmp_path / "text.txt").touch()
    code, _, error = run("train", "--config", tmp_path / "text.txt", "--workdir", tmp_path)
    assert code == 1
    assert "is no Python file" in error


def test_a_missing_dataset_says_what_to_do(run, tmp_path):
    data = f"--config.data.data_dir={tmp_path}/data"
    code, _, error = run(*_train(tmp_path / "run", "cuhk_pedes,runlocal", data))
    assert code == 1
    assert "manual_dir" in error
    assert "reid_raw.json" in error
    code, _, error = run(
        *_train(tmp_path / "run2", "quickstart,runlocal", data, "--config.data.name=nothing")
    )
    assert code == 1
    assert "'nothing'" in error
    assert "synth_pedes" in error


def test_a_corrupt_jpeg_is_named(run, tmp_path, cuhk_pedes_manual_dir):
    shutil.copytree(cuhk_pedes_manual_dir, tmp_path / "manual")
    broken = next(iter(sorted((tmp_path / "manual").rglob("*.jpg"))))
    broken.write_bytes(broken.read_bytes()[:100])
    code, _, error = run(
        *_train(tmp_path / "run", "cuhk_pedes,runlocal"),
        f"--config.data.data_dir={tmp_path}/data",
        f"--config.data.manual_dir={tmp_path}/manual",
    )
    assert code == 1
    assert broken.name in error


def test_the_next_command_can_be_copied(run, tmp_path, monkeypatch):
    done = {"finished": False, "step": 1, "best_step": 1}
    monkeypatch.setattr("jaxreid.train.train", lambda *_: done)
    assert f"evaluate --workdir '{tmp_path}/a run'\n" in run(*_train(tmp_path / "a run"))[1]


def test_a_workdir_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").touch()
    code, _, error = run(*_train(tmp_path / "file" / "run"))
    assert code == 1
    assert "--workdir" in error
    assert "cannot be written" in error


def test_a_folder_that_is_no_run(run, tmp_path):
    for command in ("evaluate", "report"):
        code, _, error = run(command, "--workdir", tmp_path)
        assert code == 1
        assert "config.json" in error


def test_unknown_words_are_refused(run, tmp_path, capsys):
    for words in (
        [*_train(tmp_path), "--confg.seed=1"],
        ["evaluate", "--workdir", tmp_path, "--seed=1"],
        ["evaluate", "--workdir", tmp_path, "seed"],
        ["bench", "eval", "--config.seed=1"],
        ["data", "synth_pedes/tiny", "--config.data.data_dir=here"],
        ["fly"],
    ):
        with pytest.raises(SystemExit) as exit:
            run(*words)
        assert exit.value.code == 2
    assert "invalid choice: 'fly'" in capsys.readouterr().err


def test_train_evaluate_and_report_in_a_row(run, tmp_path, tiny_data_dir, compile_fast):
    workdir = tmp_path / "run"
    words = [
        *_train(workdir),
        "--config.data.name=synth_pedes/tiny",
        f"--config.data.data_dir={tiny_data_dir}",
        f"--config.data.cache_dir={tmp_path}/cache",
        "--config.stages[0].max_steps=3",
        # The network of test_train.py, so that nothing is compiled twice.
        *(f"--config.{key}={value}" for key, value in tiny.SMALLEST.items()),
    ]
    code, out, _ = run(*words)
    assert code == 0
    assert "3 steps" in out
    assert f"jaxreid evaluate --workdir {workdir}" in out
    code, out, _ = run(*words)
    assert code == 0
    assert "was finished already" in out

    csv = tmp_path / "queries.csv"
    code, out, _ = run("evaluate", "--workdir", workdir, "--per_query", csv)
    assert code == 0
    assert "text to image" in out
    result = json.loads((workdir / "eval" / "test.json").read_text())
    for direction in ("t2i", "i2t"):
        scores = result[direction]
        assert {"rank1", "rank5", "rank10", "map", "minp", "map_trapezoid"} <= scores.keys()
        assert all(0 <= scores[name] <= 100 for name in ("rank1", "rank5", "rank10", "map"))
    assert (result["num_queries"], result["num_gallery"]) == (64, 32)
    assert result["checkpoint"] == "best"
    assert result["step"] == 3
    assert 50 < result["oracle_rank1"] <= 100
    assert {"word_part_accuracy", "word_part_constant"} <= result.keys()
    assert len(csv.read_text().splitlines()) == 1 + 64 + 32

    code, out, _ = run("report", "--workdir", workdir)
    assert code == 0
    assert pathlib.Path(out.split()[-1]).is_file()


def test_a_run_that_was_moved(run, run_folder, tmp_path):
    """Its data lie elsewhere than its config says."""
    old = json.loads((run_folder / "config.json").read_text())["data"]
    moved = tmp_path / "moved"
    shutil.copytree(run_folder, moved)
    content = json.loads((moved / "config.json").read_text())
    (tmp_path / "gone").touch()  # a file, so that no folder can be made there
    content["data"] |= {name: f"{tmp_path}/gone/{name}" for name in ("data_dir", "cache_dir")}
    (moved / "config.json").write_text(json.dumps(content))
    where = [f"--config.data.{name}={old[name]}" for name in ("data_dir", "cache_dir")]
    for command in (["evaluate", "--split", "val"], ["report"]):
        words = [*command, "--workdir", moved]
        code, _, error = run(*words)
        assert code == 1
        assert f"{tmp_path}/gone/data_dir" in error
        assert run(*words, *where)[0] == 0
        code, _, error = run(*words, *where, "--config.batch_size=3")
        assert code == 1
        assert "config.batch_size cannot be changed here" in error
        assert "data.data_dir" in error
        code, _, error = run(*words, "--config.log_every_steps=often")
        assert code == 1
        assert "config.log_every_steps is 'often'; it takes a whole number" in error


@pytest.mark.parametrize(
    "words", [["--verbose", "evaluate"], ["evaluate", "--verbose"], ["evaluate"]]
)
def test_verbose_before_and_after_the_command(words, tmp_path, capsys):
    arguments = cli._parser().parse_args([*words, "--workdir", str(tmp_path)])
    assert arguments.verbose == ("--verbose" in words)
    assert cli.main([*words, "--workdir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "jaxreid evaluate: error: " in said
    assert "is not a run" in said
    assert ("Traceback" in said) == arguments.verbose


# --- query and gallery, another set to test on ---


@pytest.fixture(scope="module")
def views_run(tmp_path_factory, compile_fast):
    """A run on made-up people seen in several views; only to be read and evaluated."""
    folder = tmp_path_factory.mktemp("views")
    importlib.import_module("tfds_builders.cross_re_id.dummy_data").make(folder)
    words = [
        *_train(folder / "run", "cuhk_pedes,baseline,runlocal", "--config.data.name=cross_re_id"),
        f"--config.data.data_dir={folder}/data",
        f"--config.data.cache_dir={folder}/cache",
        f"--config.data.manual_dir={folder}",
        "--config.stages[0].max_steps=2",
        *(f"--config.{key}={value}" for key, value in tiny.SMALLEST.items()),
    ]
    assert cli.main([str(word) for word in words]) == 0
    return folder / "run"


@pytest.fixture
def workdir(views_run, tmp_path):
    """A copy of that run."""
    return shutil.copytree(views_run, tmp_path / "run")


def _result(workdir, name):
    return json.loads((workdir / "eval" / f"{name}.json").read_text())


def test_a_run_searched_from_other_views(run, workdir):
    rows = workdir.parent / "rows.csv"
    code, out, _ = run(
        "evaluate", "--workdir", workdir, "--config.eval.draws=3", "--per_query", rows
    )
    assert code == 0
    assert "draws, seed 0" in out
    assert [path.name for path in (workdir / "eval").iterdir()] == ["query.json"]
    result = _result(workdir, "query")
    assert (result["protocol"], result["draws"], result["seed"]) == ("single_shot", 3, 0)
    assert (result["dataset"], result["split"]) == ("cross_re_id", "query")
    assert list(result["modes"]) == ["i2i", "t2i", "it2i"]
    assert result["num_ids"] == 9
    assert result["num_unmatched"] == {"query": 0, "gallery": 0}
    for scores in result["modes"].values():
        assert 0 <= scores["rank1"]["mean"] <= scores["rank5"]["mean"] <= 100
    queries = {mode: scores["num_queries"] for mode, scores in result["all"].items()}
    assert queries == {"i2i": 12, "t2i": 26, "it2i": 12}
    with rows.open(newline="") as file:
        asked = collections.Counter(row["direction"] for row in csv.DictReader(file))
    assert asked == queries

    assert run("evaluate", "--workdir", workdir, "--split", "query")[0] == 0
    assert _result(workdir, "query")["draws"] == 10
    assert run("evaluate", "--workdir", workdir, "--split", "val")[0] == 0
    assert "t2i" in _result(workdir, "val")
    code, _, error = run("evaluate", "--workdir", workdir, "--config.eval.draws=0")
    assert code == 1
    assert "config.eval.draws is 0; it takes a whole number from 1" in error
    code, _, error = run("evaluate", "--workdir", workdir, "--split", "tests")
    assert code == 1
    assert "has no split 'tests'; it has: gallery, query, train, val" in error


def test_the_report_of_a_run_searched_from_other_views(run, workdir):
    for is_evaluated in (False, True):
        code, out, error = run("report", "--workdir", workdir)
        assert code == 0, error
        page = (workdir / "report.html").read_text()
        assert "searched in cross_re_id/seed0:gallery, 15 images, 9 people" in page
        assert ("Not evaluated yet" in page) == (not is_evaluated)
        assert ("against gallery, best checkpoint (step 2)" in page) == is_evaluated
        assert run("evaluate", "--workdir", workdir)[0] == 0


def test_a_run_tested_on_another_set(run, workdir):
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["test_name"] = "cuhk_pedes/market"
    (workdir / "config.json").write_text(json.dumps(config))
    code, out, error = run("evaluate", "--workdir", workdir)
    assert code == 0, error
    assert "cuhk_pedes/market:test, best checkpoint (step 2): " in out
    assert run("evaluate", "--workdir", workdir, "--dataset", "cross_re_id")[0] == 0
    names = ["cuhk_pedes_market_test.json", "query.json"]
    assert sorted(path.name for path in (workdir / "eval").iterdir()) == names
    assert run("report", "--workdir", workdir)[0] == 0
    page = (workdir / "report.html").read_text()
    assert "SSAN on cross_re_id, tested on cuhk_pedes/market" in page
    # What the page is about comes first.
    assert 0 < page.index("cuhk_pedes/market:test, best") < page.index("cross_re_id:query")


def test_a_run_from_before_a_field_was_added(run, workdir):
    config = json.loads((workdir / "config.json").read_text())
    del config["data"]["test_name"], config["eval"]["draws"], config["eval"]["seed"]
    (workdir / "config.json").write_text(json.dumps(config))
    assert run("evaluate", "--workdir", workdir)[0] == 0
    assert _result(workdir, "query")["draws"] == 10
    moved = ["--config.data.test_name=cuhk_pedes/sysu", "--config.eval.seed=3"]
    assert run("evaluate", "--workdir", workdir, *moved)[0] == 0
    assert _result(workdir, "cuhk_pedes_sysu_test")["dataset"] == "cuhk_pedes/sysu"


# --- what is in a dataset ---


def test_statistics_and_a_contact_sheet(run, tiny_data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("data", "synth_pedes/tiny", "--data_dir", tiny_data_dir)
    assert code == 0
    assert out.startswith(f"synth_pedes/tiny/1.0.0, in {tiny_data_dir}")
    assert "words in the vocabulary, percent" in out
    assert out.endswith("Wrote synth_pedes_tiny.png\n")
    with PIL.Image.open(tmp_path / "synth_pedes_tiny.png") as sheet:
        assert sheet.size == (1796, 1364)


def test_statistics_for_machines_of_a_set_that_is_built_first(run, cuhk_pedes_manual_dir, tmp_path):
    sheet = tmp_path / "sheet.png"
    words = ["data", "cuhk_pedes", "--data_dir", tmp_path / "data", "--out", sheet, "--json"]
    code, _, error = run(*words)
    assert code == 1
    assert "set --manual_dir to the folder that holds them, or --data_dir to where" in error
    code, out, _ = run(*words, "--manual_dir", cuhk_pedes_manual_dir)
    assert code == 0
    content = json.loads(out)
    assert content["contact_sheet"] == str(sheet)
    assert sheet.is_file()
    assert content["splits"]["test"]["captions_per_image"]["max"] == 10


def test_statistics_of_what_is_not_there(run, tmp_path):
    code, _, error = run("data", "cuhk_pedess", "--data_dir", tmp_path)
    assert code == 1
    assert "NAME is 'cuhk_pedess': no builder has this name. tfds_builders (--register)" in error

"""The command line: what a person sees, above all when something is wrong."""

import json
import pathlib
import shutil

import pytest

from jaxreid import cli
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
    config = cli._load_config(f"{CONFIG}:quickstart", cli._overrides(words))
    for part in field.split("."):
        config = config[part]
    assert config == value


def test_an_unknown_preset_lists_what_there_is(run, tmp_path):
    code, _, error = run(*_train(tmp_path, "market"))
    assert code == 1
    assert "'market'" in error
    assert "quickstart, synth_pedes, cuhk_pedes" in error


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
    assert "synth_pedes/quickstart" in error


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
def test_verbose_before_and_after_the_command(words, tmp_path):
    arguments = cli._parser().parse_args([*words, "--workdir", str(tmp_path)])
    assert arguments.verbose == ("--verbose" in words)
    if arguments.verbose:
        with pytest.raises(ValueError, match="is not a run"):
            cli.main([*words, "--workdir", str(tmp_path)])
    else:
        assert cli.main([*words, "--workdir", str(tmp_path)]) == 1

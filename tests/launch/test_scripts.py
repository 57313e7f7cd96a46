"""The launch scripts: sound, with a head that tells, and a dry run; they pin what is declared."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.launch import harness

ROOT = pathlib.Path(__file__).parents[2]
SOURCED = [ROOT / "launch" / name for name in ("common.sh", "setup.sh", "tpu.sh")]
RUN = [
    path
    for pattern in ("*.sh", "*.sbatch", "gke/*.sh")
    for path in sorted((ROOT / "launch").glob(pattern))
    if path not in SOURCED
]
SCRIPTS = [*RUN, *SOURCED, ROOT / ".ci" / "run"]
NAME = {"ids": lambda path: path.name}


@pytest.mark.parametrize("script", SCRIPTS, **NAME)
def test_the_script_parses(script):
    subprocess.run(["bash", "-n", script], check=True)


def test_shellcheck_finds_nothing():
    here = pathlib.Path(sys.executable).parent  # of an environment that need not be active
    program = shutil.which("shellcheck", path=f"{here}:{os.environ['PATH']}")
    if not program:
        pytest.skip("shellcheck is not installed; it comes with the extra test")
    done = subprocess.run([program, *SCRIPTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", RUN, **NAME)
def test_the_head_says_what_it_takes_and_help_prints_it(script):
    done = subprocess.run(["bash", script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for word in ("Hardware", "ime", "ost", "--dry_run"):
        assert word in done.stdout
    head = [line.removeprefix("# ") for line in script.read_text().splitlines()[1:3]]
    assert done.stdout.splitlines()[0] == head[0] or head[0].startswith("#SBATCH")


@pytest.mark.parametrize("script", RUN, **NAME)
def test_a_dry_run_needs_nothing_and_calls_nothing(tmp_path, script):
    done = harness.Launch(tmp_path, script.relative_to(ROOT / "launch"), "--dry_run").run()
    assert done.code == 0, done.said
    assert done.out.count("\n") >= 1
    assert not done.calls()
    assert not list((tmp_path / "stubs" / "home").iterdir())


def test_a_dry_run_prints_words_that_a_shell_reads_back(tmp_path):
    words = ["--dry_run", "--", *harness.ODD]
    line = harness.Launch(tmp_path, "local.sh", *words).run().out.splitlines()[-1]
    read = subprocess.run(["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True)
    assert read.stdout.splitlines()[1:] == ["train", *harness.ODD]


def test_an_unknown_argument_is_refused():
    words = ["bash", ROOT / "launch" / "test.sh", "--fast"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--all" in done.stderr


def _find_python(path, python=""):
    script = f"PATH={path}; PYTHON={python}; find_python"
    words = ["/bin/bash", "-c", f". {ROOT}/launch/setup.sh; {script}"]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def _fake_python(path, lacks=""):
    """This Python under another name, as if a module were not there."""
    lines = ["import sys", f"sys.modules[{lacks!r}] = None" if lacks else "", "exec(sys.argv[2])"]
    path.write_text("\n".join([f"#!{sys.executable}", *lines]) + "\n")
    path.chmod(0o755)
    return path


def test_a_missing_python_is_named(tmp_path):
    done = _find_python(tmp_path)
    assert done.returncode == 1
    assert "No Python 3.11" in done.stderr


def test_a_python_without_ensurepip_is_passed_over(tmp_path):
    _fake_python(tmp_path / "python3", lacks="ensurepip")
    assert _find_python(tmp_path).returncode == 1
    good = _fake_python(tmp_path / "python3.12")
    done = _find_python(tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, str(good))


def test_a_python_asked_for_is_taken_or_refused(tmp_path):
    _fake_python(tmp_path / "python3")
    chosen = _fake_python(tmp_path / "mine")
    assert _find_python(tmp_path, python=chosen).stdout.strip() == str(chosen)
    _fake_python(chosen, lacks="ensurepip")
    for python in (chosen, tmp_path / "nowhere"):
        done = _find_python(tmp_path, python=python)
        assert done.returncode == 1
        assert f"PYTHON={python} cannot be used" in done.stderr
        assert not done.stdout


def test_every_dependency_has_a_tested_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    lines = (ROOT / "launch" / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    pinned = {_normal(name): version for name, version in pinned.items()}
    for requirement in wanted:
        name = _normal(re.match(r"[A-Za-z0-9_.-]+", requirement).group())
        assert name in pinned, requirement
    assert not any("://" in line or "@" in line for line in lines)


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()

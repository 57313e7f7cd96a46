"""The launch scripts: they parse, refuse what they do not know, and pin what is declared."""

import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "launch").glob("*.sh")) + [ROOT / ".ci" / "run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_script_parses(script):
    subprocess.run(["bash", "-n", script], check=True)


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

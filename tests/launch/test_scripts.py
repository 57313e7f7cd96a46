"""The launch scripts: they parse, refuse what they do not know, and pin what is declared."""

import pathlib
import re
import subprocess
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


def test_a_missing_python_is_named(tmp_path):
    script = f". {ROOT}/launch/setup.sh; PATH={tmp_path}; PYTHON=; find_python"
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Python 3.11" in done.stderr


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

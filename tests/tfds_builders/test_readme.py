"""What the READMEs say holds: five lines that run, numbers, commands."""

import pathlib
import re
import runpy

import pytest
import tensorflow_datasets as tfds

import tfds_builders
from tfds_builders.build import available_builders, build, make_builder
from tfds_builders.cuhk_pedes import annotations as cuhk_pedes
from tfds_builders.cuhk_pedes import dummy_data as dummy
from tfds_builders.icfg_pedes import icfg_pedes_dataset_builder as icfg_pedes
from tfds_builders.manual import ManualBuilder
from tfds_builders.rstp_reid import rstp_reid_dataset_builder as rstp_reid

ROOT = pathlib.Path(tfds_builders.__file__).parent
LICENSED = ["cuhk_pedes", "icfg_pedes", "rstp_reid"]
MANUAL = sorted(n for n, (cls, _) in available_builders().items() if issubclass(cls, ManualBuilder))


def readme(name="."):
    return (ROOT / name / "README.md").read_text(encoding="utf-8")


def test_the_five_lines_run(source, tmp_path, monkeypatch, capsys):
    code = readme().split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) == 5
    build("cuhk_pedes", str(tmp_path / "data"), str(source))
    monkeypatch.setenv("HOME", str(tmp_path))
    exec(code, {})
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("5 12")  # five images; an id of the test split
    sentences = [text for record in dummy.records() for text in record["captions"]]
    assert any(line.partition("(48, 16, 3) ")[2].strip() in text for text in sentences)


def test_every_dataset_has_its_row():
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\((\w+)/README\.md\)", readme(), re.MULTILINE))
    assert rows == {name: name for name in available_builders()}


def test_splits_of_the_rows_are_those_of_the_builders(tmp_path):
    for name in LICENSED:
        row = next(line for line in readme().splitlines() if f"[`{name}`]" in line)
        splits = re.findall(r"\w+", row.split("|")[4])
        builder = make_builder(name, str(tmp_path / "data"))
        builder.write_dummy_data(tmp_path / name)
        assert sorted(splits) == sorted(builder.read(tmp_path / name).splits)
        configs = re.findall(r"`(\w+)`", row.split("|")[3])
        assert configs == available_builders()[name][1]


@pytest.mark.parametrize("name", sorted(available_builders()))
def test_build_commands_name_datasets_that_exist(name, tmp_path):
    commands = re.findall(r"python -m tfds_builders\.build (\S+)", readme(name) + readme())
    assert any(command.partition("/")[0] == name for command in commands)
    for command in commands:
        assert make_builder(command, str(tmp_path)).name == command.partition("/")[0]


@pytest.mark.parametrize("name", MANUAL)
def test_dummy_data_are_written_as_said(name, tmp_path, monkeypatch, capsys):
    assert "python -m tfds_builders.cuhk_pedes.dummy_data FOLDER" in readme()
    monkeypatch.setattr("sys.argv", ["dummy_data", str(tmp_path)])
    runpy.run_path(str(ROOT / name / "dummy_data.py"), run_name="__main__")
    folder = pathlib.Path(capsys.readouterr().out.strip())
    assert folder.is_relative_to(tmp_path)
    assert list(folder.iterdir())


@pytest.mark.parametrize("name", LICENSED)
def test_whom_to_ask_tree_licence_and_training(name):
    text = " ".join(readme(name).split())
    cls = tfds.builder_cls(name)
    assert "## Whom to ask" in text
    assert cls.HOMEPAGE in text
    assert "**Licence.**" in text
    assert f"jaxreid doctor {name} --manual_dir" in text
    assert f"jaxreid train --config configs/ssan.py:{name} --workdir runs/" in text
    tree = cls.EXPECTED_TREE.splitlines()[1:]
    folder, file = (line.split()[0] for line in tree[:2])
    assert f"{folder} {file} list of" in text
    assert "imgs/" in text


def table(name):
    """Rows "split | ids / images / captions" of the sizes in a README."""
    rows = re.findall(r"^\| (\w+) \| ([\d,]+) / ([\d,]+) / ([\d,]+) \|", readme(name), re.MULTILINE)
    return {split: tuple(int(n.replace(",", "")) for n in numbers) for split, *numbers in rows}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("cuhk_pedes", cuhk_pedes.PUBLISHED),
        ("icfg_pedes", icfg_pedes.PUBLISHED),
        ("rstp_reid", rstp_reid.PUBLISHED),
    ],
)
def test_published_sizes(name, published):
    expected = {split: (size.ids, size.images, size.captions) for split, size in published.items()}
    assert table(name) == expected


def test_published_sizes_of_sources(source):
    rows = re.findall(
        r"^\| `(\w+)` \| [\w, ]+ \| ([\d,]+) \| ([\d,]+) / (\d+) \| ([\d,]+) / (\d+) \|",
        readme("cuhk_pedes"),
        re.MULTILINE,
    )
    assert len(rows) == 5
    for domain, *row in rows:
        numbers = [int(number.replace(",", "")) for number in row]
        counts = {c.name: c.published for c in cuhk_pedes.read_domain(source, domain).counts}
        ids = sum(counts[split].ids for split in ("train", "val", "test"))
        val, test = counts["val"], counts["test"]
        assert numbers == [ids, val.images, val.ids, test.images, test.ids]

"""The build command, and that a build can be repeated, killed and run twice at once."""

import json
import pathlib
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

import tfds_builders
from tfds_builders.build import available_builders, build, main, make_builder
from tfds_builders.cuhk_pedes import dummy_data as dummy

ROOT = pathlib.Path(tfds_builders.__file__).parents[1]
VERSION = "cuhk_pedes/official/1.0.0"


@pytest.fixture
def manual_dir(tmp_path):
    return dummy.make(tmp_path / "manual").parent


def start(code):
    """Runs Python code in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def everything(data_dir):
    """What a built set holds: split -> image_id -> the rest."""
    raw = {"image": tfds.decode.SkipDecoding()}
    found = {}
    for split, source in tfds.data_source("cuhk_pedes", data_dir=data_dir, decoders=raw).items():
        examples = {e["image_id"].decode(): e for e in source}
        assert len(examples) == len(source)
        found[split] = {
            name: (e["image"], e["person_id"], [text.decode() for text in e["captions"]])
            for name, e in examples.items()
        }
    return found


def expected(manual_dir):
    """The same from the made-up folder."""
    found = {"train": {}, "val": {}, "test": {}}
    for record in dummy.records():
        path = manual_dir / "CUHK-PEDES/imgs" / dummy.on_disk(record["file_path"])
        found[record["split"]][record["file_path"]] = (
            path.read_bytes(),
            record["id"],
            record["captions"],
        )
    return found


def num_images(data_dir):
    source = tfds.data_source("cuhk_pedes", data_dir=data_dir)
    return {split: len(examples) for split, examples in source.items()}


WHOLE = {"train": 12, "val": 3, "test": 5}


# --- the command ---


def test_builds_and_says_where(manual_dir, tmp_path, capsys):
    arguments = ["cuhk_pedes", "--data_dir", str(tmp_path), "--manual_dir", str(manual_dir)]
    assert main(arguments) == 0
    assert f"{VERSION} lies in {tmp_path / VERSION}" in capsys.readouterr().out
    assert num_images(tmp_path) == WHOLE
    info = tmp_path / VERSION / "dataset_info.json"
    assert json.loads(info.read_text())["fileFormat"] == "array_record"
    written = info.stat().st_mtime_ns
    assert main(arguments[:3]) == 0  # there already: needs no manual_dir
    assert "train: 12 images" in capsys.readouterr().out
    assert info.stat().st_mtime_ns == written


@pytest.mark.parametrize("name", ["cuhk_pede", "mnist", "mnist/a", ""])
def test_an_unknown_name_lists_what_there_is(name, tmp_path, capsys):
    assert main([name, "--data_dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: dataset {name!r} does not exist; accepted: ")
    assert all(f" {known}," in error for known in available_builders())
    assert "synth_pedes/quickstart" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cuhk_pedes/large", "synth_pedes/huge", "icfg_pedes/train"])
def test_an_unknown_config_lists_those_of_the_dataset(name, tmp_path, capsys):
    assert main([name, "--data_dir", str(tmp_path)]) == 1
    dataset = name.partition("/")[0]
    configs = available_builders()[dataset][1]
    names = ", ".join([dataset, *(f"{dataset}/{config}" for config in configs)])
    assert capsys.readouterr().err == f"error: dataset {name!r} does not exist; accepted: {names}\n"
    assert not list(tmp_path.iterdir())


def test_an_unusable_data_dir(tmp_path, manual_dir, capsys):
    (tmp_path / "file").write_text("")
    assert main(["cuhk_pedes", f"--data_dir={tmp_path}/file", f"--manual_dir={manual_dir}"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: cannot build cuhk_pedes: ")
    assert str(tmp_path / "file") in error


def test_a_file_in_place_of_manual_dir(tmp_path, manual_dir, capsys):
    file = manual_dir / "CUHK-PEDES/reid_raw.json"
    assert main(["cuhk_pedes", f"--data_dir={tmp_path}", f"--manual_dir={file}"]) == 1
    assert f"error: manual_dir = {file} is a file, not a folder\nexpected:" in (
        capsys.readouterr().err
    )


def test_a_wrong_source_folder_is_one_message(tmp_path, manual_dir, capsys):
    (manual_dir / "CUHK-PEDES/reid_raw.json").write_text("{}")
    assert main(["cuhk_pedes", f"--data_dir={tmp_path}", f"--manual_dir={manual_dir}"]) == 1
    captured = capsys.readouterr()
    assert "reid_raw.json holds {} of type dict; accepted: a list" in captured.err
    assert "Traceback" not in captured.err


def test_names():
    available = available_builders()
    assert {"cuhk_pedes", "icfg_pedes", "rstp_reid", "synth_pedes"} <= set(available)
    for name, (cls, configs) in available.items():
        assert tfds.builder_cls(name) is cls
        assert name != "synth_pedes" or {"quickstart", "full"} <= set(configs)


def test_a_name_without_config_takes_the_default(tmp_path):
    for name, (_, configs) in available_builders().items():
        builder = make_builder(name, str(tmp_path))
        assert builder.builder_config_name == (configs[0] if configs else None)
    assert make_builder("cuhk_pedes", str(tmp_path)).builder_config_name == "official"
    assert tfds.builder("cuhk_pedes", data_dir=tmp_path).builder_config_name == "official"


# --- without TensorFlow ---


def test_import_is_light():
    code = (
        "import sys, tfds_builders\n"
        "heavy = {'tensorflow', 'jax', 'flax', 'jaxreid', 'tfds_builders.synth_pedes.draw'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert finish(start(code)) == (0, "[]\n")


def test_build_and_read_without_tensorflow(manual_dir, tmp_path):
    code = (
        "import sys\n"
        "import tensorflow_datasets as tfds\n"
        "from tfds_builders.build import main\n"
        f"assert main(['cuhk_pedes', '--data_dir={tmp_path}', '--manual_dir={manual_dir}']) == 0\n"
        f"example = tfds.data_source('cuhk_pedes', split='val', data_dir='{tmp_path}')[0]\n"
        "print(sorted(example), 'tensorflow' in sys.modules, 'jax' in sys.modules)"
    )
    returncode, output = finish(start(code))
    assert returncode == 0, output
    last = "['camera_id', 'captions', 'image', 'image_id', 'person_id'] False False"
    assert output.splitlines()[-1] == last


def test_data_source_chooses_array_record_for_a_new_folder(manual_dir, tmp_path):
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    kwargs = {"download_config": config}
    source = tfds.data_source(
        "cuhk_pedes", split="train", data_dir=tmp_path, download_and_prepare_kwargs=kwargs
    )
    assert len(source) == 12


def test_another_file_format_may_be_asked_for(tmp_path):
    builder = tfds.builder("cuhk_pedes", data_dir=tmp_path, file_format="tfrecord")
    assert builder.info.file_format.value == "tfrecord"


# --- repeated, killed, twice at once ---


def test_killed_half_way_then_run_again(manual_dir, tmp_path):
    code = (
        "import os, signal\n"
        "from tfds_builders.build import main\n"
        "from tfds_builders.cuhk_pedes.cuhk_pedes_dataset_builder import Builder\n"
        "whole = Builder._generate_examples\n"
        "def cut(self, images, records):\n"
        "    yield from whole(self, images, records[:2])\n"
        "    if len(records) == 5: os.kill(os.getpid(), signal.SIGKILL)  # in the third split\n"
        "    yield from whole(self, images, records[2:])\n"
        "Builder._generate_examples = cut\n"
        f"main(['cuhk_pedes', '--data_dir={tmp_path}', '--manual_dir={manual_dir}'])"
    )
    returncode, output = finish(start(code))
    assert returncode == -9, output
    left = [path.name for path in (tmp_path / "cuhk_pedes/official").glob("incomplete.*")]
    assert len(left) == 1
    build("cuhk_pedes", str(tmp_path), str(manual_dir))
    assert everything(tmp_path) == expected(manual_dir)
    assert not list((tmp_path / "cuhk_pedes/official").glob("incomplete.*"))


def test_two_builds_at_once(manual_dir, tmp_path):
    code = (
        "from tfds_builders.build import build\n"
        f"builder = build('cuhk_pedes', '{tmp_path}', '{manual_dir}')\n"
        "print(builder.info.splits['train'].num_examples)"
    )
    results = [finish(process) for process in [start(code), start(code)]]
    assert [(code, output.splitlines()[-1]) for code, output in results] == [(0, "12")] * 2
    assert num_images(tmp_path) == WHOLE


def test_an_unfinished_folder_is_not_taken_for_the_dataset(manual_dir, tmp_path):
    (tmp_path / VERSION).mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no finished dataset"):
        build("cuhk_pedes", str(tmp_path), str(manual_dir))
    build("cuhk_pedes", str(tmp_path), str(manual_dir), overwrite=True)
    assert num_images(tmp_path) == WHOLE


def test_another_file_format_that_is_there_is_refused(manual_dir, tmp_path):
    build("cuhk_pedes", str(tmp_path), str(manual_dir))
    info = tmp_path / VERSION / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match="holds tfrecord files; accepted: array_record"):
        build("cuhk_pedes", str(tmp_path), str(manual_dir))
    build("cuhk_pedes", str(tmp_path), str(manual_dir), overwrite=True)
    assert num_images(tmp_path) == WHOLE


def test_overwrite_builds_anew(manual_dir, tmp_path):
    build("cuhk_pedes", str(tmp_path), str(manual_dir))
    dummy.write_json(manual_dir / "CUHK-PEDES", dummy.records()[:-1])
    assert num_images(tmp_path) == WHOLE
    build("cuhk_pedes", str(tmp_path), str(manual_dir), overwrite=True)
    assert num_images(tmp_path) == WHOLE | {"train": 11}
    folders = [path for path in (tmp_path / VERSION).parent.iterdir() if path.is_dir()]
    assert [path.name for path in folders] == ["1.0.0"]


def test_an_overwrite_that_fails_leaves_the_old_data(manual_dir, tmp_path):
    build("cuhk_pedes", str(tmp_path), str(manual_dir))
    (manual_dir / "CUHK-PEDES/imgs/cam_a/001_45.bmp").unlink()
    with pytest.raises(ValueError, match="1 of 20 annotated images are missing"):
        build("cuhk_pedes", str(tmp_path), str(manual_dir), overwrite=True)
    assert num_images(tmp_path) == WHOLE


def test_old_data_come_back_after_a_killed_overwrite(manual_dir, tmp_path):
    build("cuhk_pedes", str(tmp_path), str(manual_dir))
    # What kill -9 leaves in the middle of an overwrite.
    (tmp_path / VERSION).rename(tmp_path / "cuhk_pedes/official/replaced.1.0.0")
    with pytest.raises(ValueError, match="does not exist or is empty"):
        build("cuhk_pedes", str(tmp_path), str(tmp_path / "nowhere"))
    assert num_images(tmp_path) == WHOLE

"""The folder of a run, and the data it trains on."""

import json

import numpy as np
import pytest

from jaxreid import classes, config, logbook, runs, text
from tests.jaxreid import tiny


@pytest.fixture(scope="module")
def settings(tiny_data_dir, tmp_path_factory):
    """Fields of a run on the tiny drawn set."""

    def make(**data):
        made = tiny.config()
        made.data.update(
            {
                "name": "synth_pedes/tiny",
                "data_dir": str(tiny_data_dir),
                "cache_dir": str(cache),
                "image_size": (24, 8),
                **data,
            }
        )
        return made

    cache = tmp_path_factory.mktemp("cache")
    return make


def begin(folder):
    """As if the run had trained."""
    book = logbook.Logbook(folder)
    book.write(1, {"loss": 1.0})
    book.close()


def test_the_folder_is_made_and_holds_the_config(settings, tmp_path):
    folder = tmp_path / "runs" / "first"
    runs.prepare_folder(settings(), folder)
    assert config.load(folder) == settings()
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_the_same_command_again(settings, tmp_path):
    runs.prepare_folder(settings(), tmp_path)
    begin(tmp_path)
    runs.prepare_folder(settings(feed="host"), tmp_path)  # changes no number
    assert config.load(tmp_path).data.feed == "host"


@pytest.mark.parametrize("trace", ["line", "checkpoint"])
def test_a_run_with_another_config_is_not_overwritten(settings, tmp_path, trace):
    runs.prepare_folder(settings(), tmp_path)
    if trace == "line":
        begin(tmp_path)
    else:
        (tmp_path / "checkpoints" / "12").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"run with another config:\n  data.min_count: 2 -> 3\n"
    ) as caught:
        runs.prepare_folder(settings(min_count=3), tmp_path)
    assert f"may change when a run goes on: {', '.join(config.FREE_FIELDS)}." in str(caught.value)
    assert config.load(tmp_path).data.min_count == 2


def test_a_command_that_failed_before_its_first_step_may_be_mended(settings, tmp_path):
    wrong = settings(name="no_such_set")
    runs.prepare_folder(wrong, tmp_path)
    with pytest.raises(ValueError, match="no builder has this name"):
        runs.load_run_data(wrong, tmp_path)
    runs.prepare_folder(settings(min_count=3), tmp_path)
    runs.load_run_data(settings(min_count=3), tmp_path)
    (tmp_path / "checkpoints").mkdir()  # made, but nothing was saved
    runs.prepare_folder(settings(), tmp_path)
    data = runs.load_run_data(settings(), tmp_path)
    assert text.Vocabulary.from_json(tmp_path / "vocabulary.json") == data.vocabulary


def test_a_folder_that_cannot_be_written(settings, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ValueError, match=r"--workdir .*/file.* cannot be written \("):
            runs.prepare_folder(settings(), folder)


@pytest.fixture(scope="module")
def loaded(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, runs.load_run_data(settings(), folder)


def test_what_a_run_trains_on(loaded, settings):
    folder, data = loaded
    train = data.train
    assert train.split.name == "synth_pedes/tiny:train"
    assert data.val.split.name == "synth_pedes/tiny:val"
    assert train.split.images.shape[1:] == (24, 8, 3)
    assert train.tokens.shape == (len(train.split.captions), settings().data.max_tokens)
    words = text.tokenize(train.split.captions[0])[:16]
    known = [word if word in data.vocabulary else "<unk>" for word in words]
    first = train.tokens[0, : train.lengths[0]].tolist()
    assert [data.vocabulary.word(i) for i in first] == known
    assert data.val.report.num_captions == len(data.val.split.captions)


def test_a_missing_split_is_noticed_before_anything_is_decoded(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "load", None)
    config = settings()
    config.data.val_split = "vall"
    with pytest.raises(ValueError, match="has no split 'vall'; it has: test, train, val"):
        runs.load_run_data(config, tmp_path)


def test_the_folder_is_self_contained(loaded):
    folder, data = loaded
    assert text.Vocabulary.from_json(folder / "vocabulary.json") == data.vocabulary
    assert classes.load(folder) == data.classes
    assert data.classes[:2] == ("synth_pedes/tiny:0", "synth_pedes/tiny:1")
    assert len(data.classes) == 16


def test_other_data_than_at_the_start_is_refused(settings, tmp_path):
    runs.load_run_data(settings(), tmp_path)
    begin(tmp_path)
    runs.load_run_data(settings(), tmp_path)
    names = list(classes.load(tmp_path))
    classes.save((*names[:-1], "synth_pedes/tiny:77"), tmp_path)
    with pytest.raises(ValueError, match="is not the one that .* was started on.*data_dir"):
        runs.load_run_data(settings(), tmp_path)


@pytest.mark.parametrize("content", [None, "["])
def test_classes_that_cannot_be_read(tmp_path, content):
    if content:
        (tmp_path / "classes.json").write_text(content)
    with pytest.raises(ValueError, match=r"classes\.json cannot be read .*restore it from a copy"):
        classes.load(tmp_path)


def test_numbers_of_two_datasets_are_two_people(tmp_path):
    split = tiny.split().split
    one, other = (classes.class_names(name, split) for name in ("a", "b/c"))
    assert one[0] == f"a:{split.identities[0]}"
    assert not set(one) & set(other)
    classes.save(other, tmp_path)
    assert classes.load(tmp_path) == other
    assert json.loads((tmp_path / "classes.json").read_text()) == list(other)


def test_another_dataset_and_split(settings):
    split = runs.load(settings(name="no_such_set"), "test", dataset="synth_pedes/tiny")
    assert split.name == "synth_pedes/tiny:test"
    assert len(np.unique(split.pids)) == 8


def test_the_folder_of_a_run_in_a_bucket(settings, bucket):
    workdir = "gs://bucket/runs/first"
    runs.prepare_folder(settings(), workdir)
    assert bucket.below("") == ["runs/first/config.json"]
    runs.prepare_folder(settings(min_count=3), workdir)  # nothing has begun
    data = runs.load_run_data(settings(min_count=3), workdir)
    assert text.Vocabulary.from_json(f"{workdir}/vocabulary.json") == data.vocabulary
    assert classes.load(workdir) == data.classes
    begin(workdir)
    with pytest.raises(ValueError, match="'gs://bucket/runs/first' holds a run with another"):
        runs.prepare_folder(settings(), workdir)


def test_a_bucket_that_cannot_be_written(settings, bucket):
    bucket.refuses = PermissionError("403")
    with pytest.raises(ValueError, match="--workdir is .*, which cannot be used: .*gcloud auth"):
        runs.prepare_folder(settings(), "gs://bucket/run")
    with pytest.raises(ValueError, match="--workdir is 's3://b/run'; it takes a local path or gs"):
        runs.prepare_folder(settings(), "s3://b/run")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"mesh.model": 2}, "mesh.model: 1 -> 2"),
        ({"checkpoint_every_minutes": 3}, "checkpoint_every_minutes: 10 -> 3"),
        ({"data.feed": "host"}, "data.feed: 'auto' -> 'host'"),
        ({"seed": 5}, "seed: 0 -> 5"),
    ],
)
def test_hosts_take_the_same_fields_but_for_their_own_disks(
    settings, tmp_path, monkeypatch, fields, wrong
):
    monkeypatch.setattr(runs.time, "sleep", lambda seconds: None)
    runs.prepare_folder(settings(), tmp_path)
    config = settings()
    config.data.update({"data_dir": "/local", "cache_dir": "/fast", "manual_dir": "/files"})
    runs.check_shared(config, tmp_path)
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=f"started with other fields:\n  {wrong}"):
        runs.check_shared(config, tmp_path)
    with pytest.raises(ValueError, match="is not a run"):
        runs.check_shared(settings(), tmp_path / "elsewhere")

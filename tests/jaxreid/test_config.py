"""Presets and variants by name, and JSON that reads back."""

import json
import re

import pytest
from ml_collections import ConfigDict, config_dict

from jaxreid import config as config_lib


def base():
    return ConfigDict(
        {
            "seed": 0,
            "batch_size": 64,
            "batch_per_device": config_dict.placeholder(int),
            "batch_rule": "sqrt",
            "checkpoint_every_minutes": 0,
            "max_to_keep": 1,
            "init_from": "",
            "pretrained": "",
            "pretrained_sha256": "",
            "runlocal": False,
            "log_every_steps": 50,
            "margin": config_dict.placeholder(float),
            "model": {"width": 64},
            "data": {
                "name": "",
                "data_dir": "~/data",
                "image_size": (384, 128),
                "resize": "area",
                "max_tokens": 100,
                "feed": "auto",
                "test_name": "",
                "sampling": "pairs",
                "word_vectors": "",
            },
            "augment": {
                "erase": 0.0,
                "erase_area": (0.02, 0.4),
                "erase_ratio": (0.3, 3.3),
                "turn_words": False,
            },
            "eval": {"batch_size": 128, "draws": 10, "seed": 0},
            "stages": tuple(
                ConfigDict(
                    {
                        "epochs": epochs,
                        "max_steps": 0,
                        "validate_epochs": 1,
                        "decay_epochs": (20, 40),
                        "rates": {"^backbone/": 0.1},
                        "frozen": (),
                    }
                )
                for epochs in (60, 10)
            ),
        }
    )


def small(config):
    config.model.width = 4


def wide(config):
    config.model.width = 128
    config.batch_size = 512


def wider(config):
    config.model.width *= 2


def thin(config):
    config.model.width = 8


def flat(config):
    config.model.width = 2
    config.batch_size = 2


def presets(argument):
    def real(config):
        config.data.name = "real_set"

    def moved(config, start, end):
        config.data.name = f"{start} to {end}"

    places = {"start": ("here", "there"), "end": ("there", "nowhere")}
    return config_lib.from_presets(
        argument,
        base,
        datasets={
            "real": real,
            "other": lambda config: None,
            "moved": config_lib.Parametric(moved, places),
        },
        variants={"wide": wide, "wider": wider, "thin": thin, "flat": flat},
        small=small,
        exclusive=[("thin", "flat")],
    )


def test_presets_and_variants_in_the_order_given():
    assert presets("real").data.name == "real_set"
    assert presets("other").data.name == ""
    assert presets("real,wide,wider").model.width == 256
    assert presets("real, wider ,wide").model.width == 128


def test_a_variant_of_a_group_comes_first_and_alone():
    assert presets("real,wider,thin").model.width == 16
    assert presets("real,thin,thin").model.width == 8
    with pytest.raises(ValueError, match=r"'flat' and 'thin', .* take one of: thin, flat\."):
        presets("real,flat,wider,thin")


def test_presets_do_not_share_anything():
    presets("real").stages[0].epochs = 1
    assert presets("real").stages[0].epochs == 60


@pytest.mark.parametrize("argument", ["real,runlocal,wide", "real,wide,runlocal"])
def test_runlocal_is_always_last(argument):
    config = presets(argument)
    assert config.runlocal
    assert config.model.width == 4
    assert config.batch_size == 16
    assert config.data.image_size == (96, 32)
    assert [stage.max_steps for stage in config.stages] == [20, 20]
    assert not presets("real,wide").runlocal


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "reel",
            "asks for preset 'reel'; the first word after the colon is one of: real, other, moved.",
        ),
        ("", "asks for preset ''"),
        ("wide", "asks for preset 'wide'"),
        (
            "real,wyde",
            "asks for variant 'wyde'; after the preset come any of: wide, wider, thin, f",
        ),
        ("real,", "asks for variant ''"),
        ("real,other", "asks for variant 'other'"),
    ],
)
def test_unknown_names(argument, message):
    with pytest.raises(ValueError, match=message):
        presets(argument)


@pytest.mark.parametrize(
    "argument",
    [
        "moved,start=here,end=nowhere,wide",
        "moved, wide, end = nowhere, start=here",
    ],
)
def test_values_of_a_preset_stand_anywhere_behind_it(argument):
    config = presets(argument)
    assert config.data.name == "here to nowhere"
    assert config.model.width == 128


TAKES = "; it takes start= one of here, there and end= one of there, nowhere, for example moved,"


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        ("moved", "with no start and no end" + TAKES + "start=here,end=nowhere."),
        ("moved,start=here,wide", "with no end" + TAKES),
        ("moved,start=here,end=here", "with end=here" + TAKES),
        ("moved,start=,end=there", "with start=" + TAKES),
        ("moved,start=here,start=there,end=there", "with start twice" + TAKES),
        ("moved,strat=here,end=there", "with strat=here and no start" + TAKES),
        ("real,start=here", "preset 'real' with start=here; it takes no values, unlike moved."),
        ("moved,start=here,end=there,wyde", "asks for variant 'wyde'"),
    ],
)
def test_values_that_a_preset_does_not_take(argument, wrong):
    with pytest.raises(ValueError, match=re.escape(wrong)):
        presets(argument)


def test_values_where_no_preset_takes_any():
    with pytest.raises(ValueError, match=r"with a=b; it takes no values\.$"):
        config_lib.from_presets("one,a=b", base, datasets={"one": small}, variants={}, small=small)


@pytest.fixture
def config():
    return presets("real")


@pytest.fixture
def loaded(config, tmp_path):
    config_lib.save(config, tmp_path)
    return config_lib.load(tmp_path)


def test_reads_back_equal(config, loaded):
    assert loaded == config
    assert config_lib.to_json(loaded) == config_lib.to_json(config)
    assert config_lib.differences(config, loaded) == []


def test_a_run_from_before_a_field_was_added(config, tmp_path):
    later = {
        "data": ["resize", "test_name", "sampling", "word_vectors"],
        "augment": ["erase", "erase_area", "erase_ratio", "turn_words"],
        "eval": ["draws", "seed"],
    }
    content = json.loads(config_lib.to_json(config))
    for section, fields in later.items():
        for field in fields:
            del content[section][field]
    outside = ("pretrained", "pretrained_sha256", "batch_per_device", "batch_rule")
    for field in (*outside, "checkpoint_every_minutes", "max_to_keep"):
        del content[field]
    for stage in content["stages"]:
        del stage["validate_epochs"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert config_lib.load(tmp_path) == config
    # What somebody's own config has no room for is not put there.
    for strange in ({"seed": 0, "eval": 3}, {"stages": 3}, {"stages": (1, "x")}):
        strange |= {"data": {"resize": "area"}, "model": {}}
        strange["data"] |= {"sampling": "pairs", "test_name": "", "word_vectors": ""}
        (tmp_path / "config.json").write_text(json.dumps(strange))
        assert config_lib.load(tmp_path).to_dict() == strange


def test_reads_back_with_the_same_types(loaded):
    assert isinstance(loaded.data, ConfigDict)
    assert loaded.data.image_size == (384, 128)
    assert isinstance(loaded.stages, tuple)
    assert isinstance(loaded.stages[1], ConfigDict)
    assert loaded.stages[1].decay_epochs == (20, 40)
    assert loaded.stages[1].frozen == ()
    assert loaded.stages[0].rates.to_dict() == {"^backbone/": 0.1}
    assert loaded.margin is None


def test_a_loaded_config_can_be_changed(loaded):
    loaded.margin = 0.1
    loaded.stages[0].epochs = 3
    loaded.data.image_size = (96, 32)
    with pytest.raises(TypeError):
        loaded.seed = "zero"
    with pytest.raises(AttributeError):
        _ = loaded.data.nme


def test_saved_whole_or_not_at_all(config, tmp_path):
    config_lib.save(config, tmp_path)
    config.seed = 1
    config_lib.save(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1


def test_differences_name_what_matters(config):
    other = presets("real")
    other.data.data_dir = "/elsewhere"
    other.data.feed = "host"
    other.log_every_steps = 1
    other.data.test_name = "another_set"
    other.eval.draws = 3
    assert config_lib.differences(config, other) == []
    other.seed = 7
    other.margin = 0.1
    other.data.image_size = (96, 32)
    other.stages[1].epochs = 11
    other.stages[0].rates["^lstm/"] = 0.5
    assert config_lib.differences(config, other) == [
        "data.image_size: [384, 128] -> [96, 32]",
        "margin: None -> 0.1",
        "seed: 0 -> 7",
        "stages[0].rates.^lstm/: None -> 0.5",
        "stages[1].epochs: 10 -> 11",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_every_steps": 0}, "config.log_every_steps is 0; it takes a whole number from 1"),
        ({"batch_size": -2}, "config.batch_size is -2; it takes"),
        ({"data": {"max_tokens": 0}}, "config.data.max_tokens is 0"),
        ({"eval": {"draws": 0}}, "config.eval.draws is 0; it takes a whole number from 1"),
        ({"eval": {"seed": -1}}, "config.eval.seed is -1; it takes a whole number from 0"),
        ({"data": {"image_size": (384,)}}, r"image_size is \(384,\); it takes height and width"),
        ({"data": {"image_size": (0, 1)}}, r"image_size is \(0, 1\)"),
        ({"data": {"image_size": ("a", "b")}}, "image_size is"),
        ({"stages": (3,)}, r"config.stages\[0\] is 3; a stage has fields"),
    ],
)
def test_numbers_out_of_range(config, change, message):
    config_lib.check(config)
    config.update(change)
    with pytest.raises(ValueError, match=message):
        config_lib.check(config)


def test_numbers_of_a_stage_out_of_range(config):
    config.stages[1].epochs = 0
    with pytest.raises(ValueError, match=r"config.stages\[1\].epochs is 0; .* from 1"):
        config_lib.check(config)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.widht", r"no field 'model.widht'; accepted there: width\."),
        ("date.name", "accepted there: data, augment, batch_"),
        (
            "stages[2].epochs",
            r"no field 'stages\[2\].epochs'; accepted .* stages\[0\], stages\[1\]",
        ),
        ("stages[0].epoch", "accepted there: epochs, "),
        ("stages.epochs", r"accepted there: stages\[0\], "),
        ("seed.more", "no field 'seed.more'; accepted there: nothing"),
        ("seed.", "no field 'seed.'; accepted there: "),
        ("data.image_size[0]", "accepted there: nothing"),
    ],
)
def test_names_of_no_field(config, name, message):
    with pytest.raises(ValueError, match=message):
        config_lib.check_field(config, name)


def test_names_of_fields(config):
    for name in ("seed", "data.image_size", "stages[1].rates", 'stages[0].rates["^backbone/"]'):
        config_lib.check_field(config, name)


def test_only_free_fields_are_overridden(config):
    config_lib.override_free(config, {"data.data_dir": "/here", "log_every_steps": 3})
    assert (config.data.data_dir, config.log_every_steps) == ("/here", 3)
    with pytest.raises(ValueError, match=r"config.seed cannot be changed here.*data.data_dir, "):
        config_lib.override_free(config, {"data.feed": "host", "seed": 3})
    assert config.data.feed == "auto"
    with pytest.raises(ValueError, match="config.log_every_steps is 'often'"):
        config_lib.override_free(config, {"log_every_steps": "often"})
    with pytest.raises(ValueError, match="config.eval.draws is 0; it takes a whole number from 1"):
        config_lib.override_free(config, {"eval.draws": 0})


def test_free_fields_exist():
    """A field that was renamed would no longer be free."""
    from configs import ssan

    fields = ssan.get_config("cuhk_pedes")
    for name in config_lib.FREE_FIELDS:
        value = fields
        for part in name.split("."):
            value = value[part]


def test_another_number_of_stages_differs(config):
    other = presets("real")
    other.stages = other.stages[:1]
    assert any(line.startswith("stages[1].epochs: 10") for line in _differences(config, other))


def _differences(one, other):
    return config_lib.differences(one, other)

"""The batch by device, and the rates that go with it."""

import json

import pytest

from jaxreid import batch_rule, runs
from jaxreid import config as config_lib
from tests.jaxreid import tiny


def _config(**fields):
    config = tiny.config()
    config.update({"batch_size": 16, **fields})
    return config


def test_a_batch_of_all_devices_stays_as_it_is():
    config = _config()
    assert batch_rule.resolve(config, 8) is config


@pytest.mark.parametrize(("rule", "factor"), [("sqrt", 2.0), ("linear", 4.0), ("none", 1.0)])
def test_a_batch_by_device_scales_the_rates(rule, factor):
    config = _config(batch_per_device=8, batch_rule=rule)
    rates = [stage.learning_rate for stage in config.stages]
    resolved = batch_rule.resolve(config, 8)
    assert resolved.batch_size == 64
    assert [stage.learning_rate for stage in resolved.stages] == [r * factor for r in rates]
    assert config.batch_size == 16, "the config that was given is left as it was"
    assert [stage.learning_rate for stage in config.stages] == rates


def test_as_many_pairs_as_before_change_nothing():
    config = _config(batch_per_device=2)
    assert config_lib.differences(batch_rule.resolve(config, 8), config) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_per_device": 0}, "config.batch_per_device is 0; it takes a whole number from 1"),
        ({"batch_rule": "cube"}, "config.batch_rule is 'cube'; it takes one of sqrt, linear, none"),
    ],
)
def test_says_what_is_wrong(fields, message):
    with pytest.raises(ValueError, match=message):
        batch_rule.resolve(_config(**fields), 8)


def test_a_run_that_goes_on_keeps_the_batch_it_began_with(tmp_path, monkeypatch):
    config = _config(batch_per_device=2, batch_rule="linear")
    monkeypatch.setattr(runs.jax, "device_count", lambda: 32)
    began = runs.with_batch(config, tmp_path)
    assert began.batch_size == 64
    runs.prepare_folder(began, tmp_path)
    monkeypatch.setattr(runs.jax, "device_count", lambda: 8)
    assert runs.with_batch(config, tmp_path).batch_size == 16, "it had not made a step"
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    again = runs.with_batch(config, tmp_path)
    assert config_lib.differences(began, again) == []
    runs.prepare_folder(again, tmp_path)
    config.batch_per_device = 4
    with pytest.raises(ValueError, match="batch_per_device: 2 -> 4"):
        runs.prepare_folder(runs.with_batch(config, tmp_path), tmp_path)


@pytest.mark.parametrize("stored", [16, 60, None])
def test_a_batch_that_nobody_has_resolved_does_not_count(stored, tmp_path, monkeypatch):
    config = _config(batch_per_device=64)
    content = json.loads(config_lib.to_json(config)) | {"batch_size": stored}
    if stored is None:
        del content["batch_size"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    monkeypatch.setattr(runs.jax, "device_count", lambda: 2)
    again = runs.with_batch(config, tmp_path)
    assert again.batch_size == 128
    with pytest.raises(ValueError, match=f"batch_size: {stored} -> 128"):
        runs.prepare_folder(again, tmp_path)


def test_the_devices_of_a_resolved_batch():
    config = _config(batch_per_device=8)
    saved = batch_rule.resolve(config, 4)
    assert batch_rule.devices_of(saved, config) == 4
    assert batch_rule.devices_of(saved, _config(batch_per_device=16)) is None
    assert batch_rule.devices_of(saved, _config()) is None
    assert batch_rule.devices_of(_config(), _config()) is None

"""Networks and objectives by name, also those of somebody else."""

import sys
import types

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from jaxreid import registry


def config(**model):
    return ConfigDict(
        {
            "dtype": "bfloat16",
            "model": {"name": "ssan", **model},
            "objective": {"name": "ssan", "formulation": "paper"},
        }
    )


def build(fields, **changes):
    fields.update(changes)
    return registry.build_model(fields, vocab_size=10, num_classes=3)


def test_a_network_of_ours():
    model = build(config(global_dim=32))
    assert (type(model).__name__, model.global_dim, model.vocab_size) == ("SSAN", 32, 10)
    assert model.dtype == jnp.bfloat16


def test_an_objective_of_ours():
    assert callable(registry.build_objective(config()))


def test_a_module_of_somebody_else(monkeypatch):
    module = types.ModuleType("their_package.net")
    module.build = lambda fields, **more: (fields, more)
    monkeypatch.setitem(sys.modules, "their_package", types.ModuleType("their_package"))
    monkeypatch.setitem(sys.modules, "their_package.net", module)
    fields, more = build(config(name="their_package.net", width=3))
    assert fields == {"width": 3}
    assert more == {"vocab_size": 10, "num_classes": 3, "dtype": jnp.bfloat16}


@pytest.mark.parametrize("name", ["sssan", "no_such_package.net", "jaxreid.models.no", "layers"])
def test_what_is_no_network(name):
    with pytest.raises(ValueError, match=f"config.model.name is '{name}', and there is no module"):
        build(config(name=name))


def test_what_is_no_objective():
    fields = config()
    fields.objective.name = "sssan"
    with pytest.raises(ValueError, match="config.objective.name is 'sssan'.*jaxreid/objectives/"):
        registry.build_objective(fields)


def test_a_module_that_itself_lacks_one(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import not_installed_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_at_all"):
        build(config(name="half_installed.net"))


def test_an_unknown_field_and_type():
    with pytest.raises(ValueError, match="global_dimm"):
        build(config(global_dimm=32))
    for dtype in ("float23", "float16", "float64", "int32", ""):
        message = f"config.dtype is '{dtype}'; it takes float32 or bfloat16"
        with pytest.raises(ValueError, match=message):
            build(config(), dtype=dtype)

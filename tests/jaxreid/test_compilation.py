"""Programs compiled ahead, what is said of them, and the folder that keeps them."""

import os
import re
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid import compilation


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that should be taken while JAX's configuration names none."""
    before = jax.config.jax_compilation_cache_dir
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    monkeypatch.setenv("JAXREID_CACHE", str(tmp_path / "cache"))
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "cache" / "compiled"
    jax.config.update("jax_compilation_cache_dir", before)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


def test_programs_are_kept_in_a_private_folder(folder):
    assert compilation.keep_programs() == folder
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_is_there_already_is_taken(folder):
    folder.mkdir(parents=True, mode=0o755)  # others may read what runs here
    assert compilation.keep_programs() == folder


@pytest.mark.parametrize("name", ["/somewhere/else", ""])
def test_what_the_user_has_set_stays(folder, name):
    jax.config.update("jax_compilation_cache_dir", name)
    assert compilation.keep_programs() is None
    assert jax.config.jax_compilation_cache_dir == name
    assert not folder.exists()


def _refused(caplog):
    with caplog.at_level("WARNING"):
        assert compilation.keep_programs() is None
    assert jax.config.jax_compilation_cache_dir is None
    assert "compiled programs are not kept" in caplog.text
    return caplog.text


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_that_others_can_write_to_is_refused(folder, caplog, mode):
    folder.mkdir(parents=True)
    folder.chmod(mode)
    assert f"others can write to {folder} (mode {mode:o})" in _refused(caplog)


def test_a_folder_of_somebody_else_is_refused(folder, caplog, monkeypatch):
    mine = os.geteuid()
    monkeypatch.setattr(compilation.os, "geteuid", lambda: mine + 1)
    assert f"{folder} belongs to another user" in _refused(caplog)


def test_a_folder_that_cannot_be_written_is_a_warning(folder, caplog, monkeypatch):
    monkeypatch.setattr(compilation.os, "access", lambda *_: False)
    assert f"{folder} cannot be written to" in _refused(caplog)


def test_a_folder_that_cannot_be_made_is_a_warning(folder, caplog):
    folder.parent.touch()
    assert f"{folder} cannot be made" in _refused(caplog)


def _function():
    """A function that no cache knows, and the same once more."""
    factor = np.float32(np.random.default_rng().random())
    return [jax.jit(lambda x: jnp.sin(x) * factor) for _ in range(2)]


def test_what_was_compiled_is_reported(caplog):
    one, same = _function()
    shape = jax.ShapeDtypeStruct((256, 1024), jnp.float32)
    with caplog.at_level("INFO"):
        program = compilation.compile_ahead(one, shape, what="sine")
        compilation.compile_ahead(same, shape, what="sine")
    first, second = (
        record.getMessage() for record in caplog.records if "sine" in record.msg % record.args
    )
    assert re.fullmatch(
        r"compiled sine in \d+\.\d s; 0.00 GiB on each device: arguments 0.00 GiB, .*", first
    )
    assert second.startswith("read from the cache sine in ")
    x = jnp.ones((256, 1024))
    np.testing.assert_array_equal(program(x), one(x))


def test_each_key_is_compiled_once():
    traced = []

    def function(x, *, times):
        traced.append(times)
        return x * times

    programs = compilation.Programs(jax.jit(function, static_argnames="times"), "product")
    x = jnp.ones(3)
    for times in (2, 3, 2, 3):
        assert programs.get(times, x, times=times)(x).tolist() == [times] * 3
    assert traced == [2, 3]


def test_other_shapes_are_refused_not_compiled():
    program = compilation.Programs(jax.jit(jnp.sin), "sine").get("", jnp.ones(3))
    with pytest.raises(TypeError, match="4"):
        program(jnp.ones(4))

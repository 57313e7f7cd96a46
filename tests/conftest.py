"""Settings of every test: eight virtual CPU devices, one persistent compilation cache."""

import os
import pathlib
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

_CACHE = pathlib.Path(tempfile.gettempdir()) / f"jaxreid-test-cache-{os.getuid()}"

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture(scope="session")
def tiny_data_dir(tmp_path_factory):
    """A TFDS folder that holds `synth_pedes/tiny`, drawn once by the loader itself."""
    from jaxreid.data import source

    folder = tmp_path_factory.mktemp("tiny_data")
    builder = source.find_builder("synth_pedes/tiny", data_dir=folder, register="tfds_builders")
    source.prepare(builder)
    return folder


@pytest.fixture(scope="session")
def cuhk_pedes_manual_dir(tmp_path_factory):
    """A folder with a made-up `CUHK-PEDES` folder in it, in the official layout."""
    from tfds_builders.cuhk_pedes import dummy_data

    return dummy_data.make(tmp_path_factory.mktemp("manual")).parent


@pytest.fixture(scope="module")
def compile_fast():
    """Spares XLA's optimisations, for tests in which speed and the last digits do not matter."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)

"""A run's folder and a bucket, shared by the tests of what reads them."""

import jax.numpy as jnp
import pytest


@pytest.fixture(scope="session")
def run_folder(tiny_data_dir, tmp_path_factory):
    """The folder of a run on `synth_pedes/tiny` whose tiny network has only its initial values."""
    from jaxreid import checkpoint, registry, runs, step
    from tests.jaxreid import tiny

    folder = tmp_path_factory.mktemp("run")
    config = tiny.config()
    config.data.update(
        {
            "name": "synth_pedes/tiny",
            "data_dir": str(tiny_data_dir),
            "cache_dir": str(tmp_path_factory.mktemp("cache")),
        }
    )
    runs.prepare_folder(config, folder)
    data = runs.load_run_data(config, folder)
    model = registry.build_model(
        config, vocab_size=len(data.vocabulary), num_classes=len(data.classes)
    )
    with checkpoint.Checkpoints(folder, create=True) as checkpoints:
        checkpoints.save(
            3,
            variables=step.init_variables(config, model),
            optimizer={"step": jnp.int32(3)},
            meta={"stage": 0, "epoch": 1.0},
            score=12.5,
        )
    return folder


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The objects of gs://bucket, and a cache folder for what is copied from there."""
    from tests.jaxreid import bucket

    monkeypatch.setenv("JAXREID_CACHE", str(tmp_path / "cache"))
    with bucket.serve() as store:
        yield store

"""A run that starts from a file of weights, and goes on without it."""

import functools

import jax
import numpy as np
import pytest

from jaxreid import (
    pretrained,
    registry,
    retrieval,
    torch_names,
    train,
    weight_files,
    weight_sources,
)
from tests.jaxreid import stopping, tiny
from tests.jaxreid.test_torch_names import drawn

pytestmark = pytest.mark.usefixtures("compile_fast")


@pytest.fixture
def config(tiny_data_dir):
    """Two steps that leave parameters as they are: what a run began with is there at its end."""
    config = tiny.config()
    config.data.name = "synth_pedes/tiny"
    config.data.data_dir = str(tiny_data_dir)
    config.data.cache_dir = str(tiny_data_dir / "cache")
    config.update_from_flattened_dict(tiny.SMALLEST)
    config.stages[0].update({"epochs": 1, "max_steps": 2, "learning_rate": 0.0})
    config.checkpoint_every_steps = 1
    return config


@pytest.fixture
def weights(config, tmp_path):
    """A file of weights for the backbone, and its tensors."""
    model = registry.build_model(config, vocab_size=2, num_classes=0)
    net = model.image_backbone(parent=None)
    images = jax.ShapeDtypeStruct((1, 96, 32, 3), np.float32)
    init = functools.partial(net.init, use_running_average=True)
    tree = drawn(jax.eval_shape(init, jax.random.key(0), images))
    # Small, and variances positive: two steps must come to finite losses.
    placed = {kind: {"backbone": jax.tree.map(lambda x: abs(x) / 4, tree[kind])} for kind in tree}
    tensors = pretrained.to_torch(torch_names.backbone(model, placed), placed)
    weight_files.write(tmp_path / "resnet.npz", tensors, field="--out")
    return tmp_path / "resnet.npz", tensors


@pytest.mark.slow
def test_a_run_starts_from_the_file_and_goes_on_without_it(config, weights, tmp_path):
    path, tensors = weights
    config.pretrained = str(path)
    workdir = tmp_path / "run"
    stopping.train_until(config, workdir, 1)
    record = pretrained.load_record(workdir)
    assert record["sha256"] == weight_sources.digest_of(path, "x")
    path.unlink()  # a run that goes on has no use for it
    assert train.train(config, workdir)["step"] == 2
    assert pretrained.load_record(workdir) == record
    run = retrieval.load_run(workdir, which="last")
    found = pretrained.to_torch(torch_names.backbone(run.model, run.variables), run.variables)
    for name, tensor in tensors.items():
        if "running" not in name and "tracked" not in name:
            assert np.array_equal(found[name], tensor), name
    moved = found["bn1.running_mean"]
    assert not np.array_equal(moved, tensors["bn1.running_mean"])


def test_a_file_that_is_not_there_is_told_before_any_data_is_read(config, tmp_path):
    config.pretrained = str(tmp_path / "nowhere.pth")
    config.data.name = "no_such_dataset"
    with pytest.raises(ValueError, match=r"config\.pretrained is .*there is no such file"):
        train.train(config, tmp_path / "run")

"""Classifiers split over devices: the same training, less memory, no logits on the way."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from jaxreid import sharding
from jaxreid.models.layers import is_classifier, padded_classes
from tests.jaxreid import tiny

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compile_fast")]

CLASSES = 1700
PADDED = 1792  # seven times 256: nothing else in the network has this size
STEPS = 20
MESHES = {"2x4": (8, 4), "1x8": (8, 8)}


@dataclasses.dataclass
class Trained:
    """Twenty steps on one mesh.

    Attributes:
      devices: of the mesh.
      model: those that share the classifiers.
      text: the compiled program.
      state: after the last step.
      losses: of each step, by name.
    """

    devices: int
    model: int
    text: str
    state: object
    losses: dict[str, np.ndarray]


def _train(devices, model):
    config = tiny.config("quickstart,runlocal")
    config.data.length_templates = 0
    # Adam would take a full step the other way where a gradient of nearly 0 changes its sign, and a
    # higher rate carries the smallest difference on to the next steps, many times as large.
    config.stages[0].update({"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.005})
    stepper = tiny.Stepper(config, tiny.mesh(devices, model), CLASSES)
    state, resident = stepper.state(), stepper.feed.resident
    lowered = stepper.train_step.lower(
        state, resident, stepper.feed.batch_shapes(), template=stepper.templates[-1]
    )
    program, found = lowered.compile(), []
    for batch, _ in stepper.feed.batches(0, STEPS):
        state, scalars = program(state, resident, batch)
        found.append(scalars)
    found = jax.device_get(found)
    losses = {name: np.array([scalars[name] for scalars in found]) for name in found[0]}
    return Trained(devices, model, program.as_text(), state, losses)


@pytest.fixture(scope="module")
def one(request):
    assert padded_classes(CLASSES) == PADDED
    return _train(1, 1)


@pytest.fixture(scope="module", params=MESHES.values(), ids=MESHES.keys())
def sharded(request):
    return _train(*request.param)


def test_twenty_steps_have_the_losses_of_one_device(one, sharded):
    total = one.losses["loss"]
    assert total[-1] < 0.95 * total[0], "training should change something"
    # Sums over the batch are taken in another order: a unit or two in the last place of float32.
    # There is room for an activation that ends on the other side of a ReLU's kink, which moves a
    # gradient by some thousandths; of it, ranking losses, which are what is left of cosines that
    # nearly cancel, show more than the total.
    np.testing.assert_allclose(sharded.losses["loss"][:3], total[:3], rtol=5e-7)
    np.testing.assert_allclose(sharded.losses["loss"], total, rtol=5e-6)
    for name in one.losses:
        if name != "grad_norm":
            np.testing.assert_allclose(
                sharded.losses[name], one.losses[name], rtol=1e-5, atol=1e-5, err_msg=name
            )


def _bytes_per_device(tree):
    """Bytes on each device, of classifiers and of all else."""
    found = {True: 0, False: 0}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        sizes = {shard.data.nbytes for shard in leaf.addressable_shards}
        assert len(sizes) == 1, "every device holds as much"
        found[leaf.ndim > 0 and is_classifier(sharding.path_name(path))] += sizes.pop()
    return found


@pytest.mark.parametrize("part", ["params", "opt_state"])
def test_each_device_holds_its_share_of_classifiers_and_of_their_optimiser(one, sharded, part):
    whole, here = (_bytes_per_device(getattr(run.state, part)) for run in (one, sharded))
    assert here[True] * sharded.model == whole[True]
    assert here[False] == whole[False]
    assert whole[True] > whole[False], "classifiers should be the larger part"


def _shapes(text):
    """Result shapes of all operations: {operation: {(1, 2, 3), ...}}; of tuples, of each member."""
    found = {}
    for result, operation in re.findall(r"= (\(.*?\)|\S+) ([a-z][a-z-]*)\(", text):
        for dims in re.findall(r"\bf32\[([\d,]+)\]", result):
            found.setdefault(operation, set()).add(tuple(map(int, dims.split(","))))
    return found


def test_no_device_ever_sees_all_classes(one, sharded):
    """No full logits and no full kernel, gathered or computed: nothing has all classes' width."""
    assert any(PADDED in shape for shapes in _shapes(one.text).values() for shape in shapes)
    wide = {
        operation: shape
        for operation, shapes in _shapes(sharded.text).items()
        for shape in shapes
        if PADDED in shape
    }
    assert not wide


def test_features_are_gathered_and_rows_are_reduced(sharded):
    rows, width = 16 * sharded.model // sharded.devices, 16
    shapes = _shapes(sharded.text)
    everything = set().union(*shapes.values())
    assert (rows, PADDED // sharded.model) in everything  # the logits of a model group
    assert (2, rows, width) in shapes["all-gather"]  # of images and of captions at once
    local = PADDED // sharded.model
    for operation in ("all-gather", "all-to-all", "collective-permute"):
        assert not [shape for shape in shapes.get(operation, ()) if local in shape], operation

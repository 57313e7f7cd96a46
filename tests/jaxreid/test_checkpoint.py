"""The last and the best checkpoint of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxreid import sharding
from jaxreid.checkpoint import Checkpoints


def state(seed, places=None):
    """Variables and optimiser state of a tiny run, with a count and an empty branch."""
    random = np.random.default_rng(seed)
    variables = {
        "params": {
            "classifier_global": {"kernel": random.normal(size=(4, 16)).astype(np.float32)},
            "lstm": {"kernel": random.normal(size=(3, 5)).astype(np.float32)},
        },
        "batch_stats": {},
    }
    optimizer = {
        "step": np.int32(seed),
        "opt_state": {"mu": jax.tree.map(np.negative, variables["params"]), "count": np.int32(7)},
    }
    put = jnp.asarray if places is None else jax.device_put
    trees = {"variables": variables, "optimizer": optimizer}
    return jax.tree.map(put, trees) if places is None else jax.device_put(trees, places(trees))


def save(checkpoints, step, score=None, **fields):
    checkpoints.save(step, **state(step), meta={"stage": 0, **fields}, score=score)


def kept(workdir):
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


@pytest.fixture
def checkpoints(tmp_path):
    with Checkpoints(tmp_path, create=True) as opened:
        yield opened


def test_the_last_and_the_best_are_kept(checkpoints, tmp_path):
    history = {1: None, 2: 50.0, 3: 60.0, 4: 40.0, 5: None}
    for step, score in history.items():
        save(checkpoints, step, score)
    checkpoints.wait()
    assert (checkpoints.last, checkpoints.best) == (5, 3)
    assert kept(tmp_path) == [3, 5]
    assert (checkpoints.find("last"), checkpoints.find("best")) == (5, 3)
    with Checkpoints(tmp_path) as again:
        assert (again.last, again.best) == (5, 3)


def test_of_equals_the_later_is_best(checkpoints, tmp_path):
    for step, score in {1: 60.0, 2: 60.0, 3: 10.0}.items():
        save(checkpoints, step, score)
        checkpoints.wait()
    assert checkpoints.best == 2
    assert kept(tmp_path) == [2, 3]


def test_a_score_of_zero_counts(checkpoints):
    save(checkpoints, 1, 0.0)
    checkpoints.wait()
    assert checkpoints.best == 1


def test_a_step_is_saved_once(checkpoints):
    save(checkpoints, 1, note="first")
    with pytest.raises(ValueError, match="step 1 is saved already"):
        save(checkpoints, 1, 30.0, note="again")
    checkpoints.wait()
    assert checkpoints.meta(1)["note"] == "first"
    assert checkpoints.best is None


def test_restores_every_bit_where_it_lay(checkpoints):
    mesh = sharding.make_mesh(4)
    placed = state(3, lambda trees: sharding.state_shardings(trees, mesh))
    checkpoints.save(3, **placed, meta={})
    checkpoints.wait()
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), placed
    )
    variables, optimizer = checkpoints.restore(3, **like)
    found = {"variables": variables, "optimizer": optimizer}
    assert jax.tree.structure(found) == jax.tree.structure(placed)
    for one, other in zip(jax.tree.leaves(placed), jax.tree.leaves(found), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
        assert one.sharding == other.sharding
    kernel = variables["params"]["classifier_global"]["kernel"]
    assert kernel.sharding.spec == PartitionSpec(None, "model")


def test_restores_on_another_mesh(checkpoints, tmp_path):
    placed = state(3, lambda trees: sharding.state_shardings(trees, sharding.make_mesh(8)))
    checkpoints.save(3, **placed, meta={})
    checkpoints.wait()
    one = NamedSharding(
        jax.make_mesh((1, 1), sharding.BATCH_AXES, devices=jax.devices()[:1]), PartitionSpec()
    )
    with Checkpoints(tmp_path) as opened:
        found = opened.restore_variables(3, one)
    assert found["batch_stats"] == {}
    jax.tree.map(np.testing.assert_array_equal, found["params"], placed["variables"]["params"])
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(found))


def test_arrays_may_be_donated_once_saving_has_begun(checkpoints):
    trees = state(1)
    wanted = np.array(trees["variables"]["params"]["lstm"]["kernel"])
    checkpoints.save(1, **trees, meta={})
    for leaf in jax.tree.leaves(trees):
        leaf.delete()
    checkpoints.wait()
    found = checkpoints.restore_variables(1, sharding.replicated(sharding.make_mesh(1)))
    np.testing.assert_array_equal(found["params"]["lstm"]["kernel"], wanted)


def test_a_kill_while_saving_leaves_the_one_before(checkpoints, tmp_path):
    save(checkpoints, 1, 10.0)
    save(checkpoints, 2, 20.0)
    checkpoints.wait()
    torn = tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp"
    (torn / "variables.orbax-checkpoint-tmp").mkdir(parents=True)
    (torn / "variables.orbax-checkpoint-tmp" / "manifest.ocdbt").write_bytes(b"half")
    with Checkpoints(tmp_path) as reading:
        assert (reading.last, reading.best) == (2, 2)
    with Checkpoints(tmp_path, create=True) as training:
        assert (training.last, training.best) == (2, 2)
        save(training, 3, 5.0)
        training.wait()
        assert (training.last, training.best) == (3, 2)
    assert kept(tmp_path) == [2, 3]


def test_nothing_there_yet(checkpoints, tmp_path):
    assert checkpoints.last is None
    assert checkpoints.best is None
    for which in ("best", "last"):
        with pytest.raises(ValueError, match=f"has no '{which}' checkpoint yet: .* command again"):
            checkpoints.find(which)


def test_no_best_one_without_a_score(checkpoints):
    save(checkpoints, 1)
    checkpoints.wait()
    assert checkpoints.find("last") == 1
    with pytest.raises(ValueError, match="has no 'best' checkpoint yet"):
        checkpoints.find("best")


def test_another_word(checkpoints):
    with pytest.raises(ValueError, match="--checkpoint is 'newest'; it takes one of best, last"):
        checkpoints.find("newest")


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="holds no checkpoints"):
        Checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


def test_in_a_bucket_the_last_and_the_best_are_kept(bucket):
    with Checkpoints("gs://bucket/run", create=True) as checkpoints:
        for step, score in {1: 60.0, 2: 50.0, 3: 40.0}.items():
            save(checkpoints, step, score)
        checkpoints.wait()
        assert (checkpoints.last, checkpoints.best) == (3, 1)
    steps = {name.split("/")[2] for name in bucket.below("run/checkpoints/")}
    assert steps == {"1", "3"}
    with Checkpoints("gs://bucket/run") as checkpoints:
        assert (checkpoints.find("last"), checkpoints.find("best")) == (3, 1)
        placement = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        found = checkpoints.restore_variables(1, placement)
    expected = state(1)["variables"]["params"]
    jax.tree.map(np.testing.assert_array_equal, found["params"], expected)


def test_in_a_bucket_a_checkpoint_cut_short_is_not_seen(bucket):
    with Checkpoints("gs://bucket/run", create=True) as checkpoints:
        save(checkpoints, 1, 60.0)
        save(checkpoints, 2, 50.0)
        checkpoints.wait()
    del bucket.objects["run/checkpoints/2/commit_success.txt"]  # what is written last
    with Checkpoints("gs://bucket/run", create=True) as checkpoints:
        assert checkpoints.last == 1
        save(checkpoints, 2, 50.0)
        checkpoints.wait()
    with Checkpoints("gs://bucket/run") as checkpoints:
        assert checkpoints.last == 2


def test_no_checkpoints_in_a_bucket(bucket):
    bucket.put("other/config.json", b"{}")
    with pytest.raises(ValueError, match="'gs://bucket/run' holds no checkpoints"):
        Checkpoints("gs://bucket/run")

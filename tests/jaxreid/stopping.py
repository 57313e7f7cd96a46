"""Runs that stop where a test wants it, and what they saved until then."""

import contextlib

import jax
import numpy as np
import pytest

from jaxreid import checkpoint, sharding, train


class Stopped(Exception):
    """The test stops the run here."""


@contextlib.contextmanager
def watched_saves(stop=None):
    """Gathers what is saved, {step: {path of a leaf: its value}}; stops when `stop` is on disk."""
    saved = {}
    save = checkpoint.Checkpoints.save

    def watched(self, step, **items):
        saved[step] = leaves_by_name({name: items[name] for name in ("variables", "optimizer")})
        save(self, step, **items)
        if step == stop:
            self.wait()
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.Checkpoints, "save", watched)
        yield saved


def train_until(config, workdir, stop):
    """Trains until the checkpoint of a step is on disk; returns what was saved."""
    with watched_saves(stop) as saved, pytest.raises(Stopped):
        train.train(config, workdir)
    with checkpoint.Checkpoints(workdir) as checkpoints:
        assert checkpoints.last == stop
    return saved


def leaves_by_name(tree):
    """Values of a tree's leaves by their path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {sharding.path_name(path): np.array(leaf) for path, leaf in leaves}


def assert_same(found, expected, hint=""):
    """Fails, and names the leaf, where two such trees differ in a bit."""
    assert found.keys() == expected.keys(), hint
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=f"{hint}{name}", strict=True)

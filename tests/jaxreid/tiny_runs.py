"""Folders of runs that nobody trained, for the tests of what reads a run."""

import functools

import jax
import numpy as np

from jaxreid import checkpoint, registry, runs, step


def make_run(config, workdir):
    """Writes the folder of a run with arbitrary positive parameters; returns its variables."""
    runs.prepare_folder(config, workdir)
    data = runs.load_run_data(config, workdir)
    model = registry.build_model(
        config, vocab_size=len(data.vocabulary), num_classes=len(data.classes)
    )
    # Drawn here, as compiling the network's own initial values takes longer than all the rest.
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: random.uniform(0.01, 0.2, leaf.shape).astype(leaf.dtype),
        jax.eval_shape(functools.partial(step.init_variables, config, model)),
    )
    save(workdir, variables, step=3, score=None)
    return variables


def save(workdir, variables, step, score):
    """Writes a checkpoint."""
    with checkpoint.Checkpoints(workdir, create=True) as checkpoints:
        optimizer = {"step": np.zeros((), np.int32)}
        checkpoints.save(step, variables=variables, optimizer=optimizer, meta={}, score=score)

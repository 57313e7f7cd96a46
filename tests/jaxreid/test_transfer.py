"""Weights of another run, words and identities matched by name."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid import config as config_lib
from jaxreid import registry, retrieval, runs, sharding, step, text, transfer


def tree(rows, classes, *, width=3, seed, extra=None):
    random = np.random.default_rng(seed)

    def array(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    return {
        "params": {
            "backbone": {"kernel": array(width, 4)},
            "embedding": {"embedding": array(rows, 5)},
            "classifier_part": {"kernel": array(2, 6, classes), "bias": array(2, classes)},
            "lstm": {"kernel": array(7)},
            **(extra or {}),
        },
        "batch_stats": {"backbone": {"mean": array(4)}},
    }


WORDS = np.array([0, 1, -1, 3, 2])  # this run's word i is the other's word WORDS[i]
CLASSES = np.array([-1, 2, 0])


def test_what_becomes_of_each_array():
    source = tree(4, 256, seed=0, extra={"old": {"kernel": jnp.ones(2)}})
    target = tree(5, 512, width=9, seed=1, extra={"new": {"kernel": jnp.ones((2, 8))}})
    found, fit = transfer.fit_variables(source, target, words=WORDS, classes=CLASSES)
    assert fit.loaded == ("batch_stats/backbone/mean", "params/lstm/kernel")
    assert fit.mapped == (
        "params/classifier_part/bias: 2 of 3 found by name",
        "params/classifier_part/kernel: 2 of 3 found by name",
        "params/embedding/embedding: 4 of 5 found by name",
    )
    assert fit.missing == ("params/new/kernel (2, 8)",)
    assert fit.unexpected == ("params/old/kernel",)
    assert fit.wrong_shape == ("params/backbone/kernel (3, 4) there, (9, 4) here",)
    assert jax.tree.structure(found) == jax.tree.structure(target)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(target), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
    lines = str(fit).split("\n  ")
    assert lines[0] == "2 arrays loaded as they are"
    assert lines[1] == "3 mapped"
    assert "1 wrong shape" in lines
    for name in (*fit.mapped, *fit.missing, *fit.unexpected, *fit.wrong_shape):
        assert f"    {name}" in str(fit)


def test_rows_go_to_the_word_and_columns_to_the_identity_of_the_same_name():
    source, target = tree(4, 256, seed=0), tree(5, 512, seed=1)
    found, _ = transfer.fit_variables(source, target, words=WORDS, classes=CLASSES)
    old, new, out = (t["params"] for t in (source, target, found))
    table = np.array(new["embedding"]["embedding"])
    for row, position in enumerate(WORDS):
        if position >= 0:
            table[row] = old["embedding"]["embedding"][position]
    np.testing.assert_array_equal(out["embedding"]["embedding"], table)
    for name in ("kernel", "bias"):
        columns = np.array(new["classifier_part"][name])
        columns[..., 1] = old["classifier_part"][name][..., 2]
        columns[..., 2] = old["classifier_part"][name][..., 0]
        np.testing.assert_array_equal(out["classifier_part"][name], columns)
    np.testing.assert_array_equal(out["lstm"]["kernel"], old["lstm"]["kernel"])


def test_a_word_table_of_another_width_does_not_fit():
    target = tree(5, 256, seed=1)
    target["params"]["embedding"]["embedding"] = jnp.zeros((5, 6))
    _, fit = transfer.fit_variables(tree(4, 256, seed=0), target, words=WORDS, classes=CLASSES)
    assert fit.wrong_shape == ("params/embedding/embedding (4, 5) there, (5, 6) here",)


def test_arrays_lie_where_those_of_the_new_run_lay():
    mesh = sharding.make_mesh(4)
    target = tree(5, 512, seed=1)
    target = jax.device_put(target, sharding.state_shardings(target, mesh))
    found, _ = transfer.fit_variables(tree(4, 256, seed=0), target, words=WORDS, classes=CLASSES)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(target), strict=True):
        assert one.sharding == other.sharding


# --- from a run's folder ---


@dataclasses.dataclass
class New:
    """What `start_from` reads of a run's data."""

    vocabulary: text.Vocabulary
    classes: tuple[str, ...]


def start(config, new):
    model = registry.build_model(
        config, vocab_size=len(new.vocabulary), num_classes=len(new.classes)
    )
    initial = step.init_variables(config, model)
    return initial, transfer.start_from(config, new, initial)


@pytest.fixture
def new(run_folder):
    old = text.Vocabulary.from_json(run_folder / runs.VOCABULARY_FILE)
    words = ("unheard", *old.words[5:2:-1])
    return New(text.Vocabulary(words), ("other_set:1", "synth_pedes/tiny:3"))


@pytest.fixture
def config(run_folder):
    made = config_lib.load(run_folder)
    made.init_from = str(run_folder)
    made.seed = 1
    return made


def test_start_from_a_run(config, new, run_folder, caplog):
    with caplog.at_level("INFO"):
        initial, started = start(config, new)
    source = retrieval.load_run(run_folder)
    old, out, first = (t["params"] for t in (source.variables, started, initial))
    jax.tree.map(np.testing.assert_array_equal, out["backbone"], old["backbone"])
    jax.tree.map(
        np.testing.assert_array_equal, started["batch_stats"], source.variables["batch_stats"]
    )
    (before,), (table,), (begun,) = (
        [
            leaf
            for path, leaf in jax.tree_util.tree_flatten_with_path(t)[0]
            if "embedding" in str(path)
        ]
        for t in (old, out, first)
    )
    for row in range(len(new.vocabulary)):
        word = new.vocabulary.word(row)
        expected = begun[row] if word == "unheard" else before[_row(source.vocabulary, word)]
        np.testing.assert_array_equal(table[row], expected)
    kernel = "classifier_global"
    np.testing.assert_array_equal(out[kernel]["kernel"][:, 1], old[kernel]["kernel"][:, 3])
    np.testing.assert_array_equal(out[kernel]["kernel"][:, 0], first[kernel]["kernel"][:, 0])
    assert "step 3:" in caplog.text
    assert "arrays loaded as they are" in caplog.text
    assert "1 of 2 found by name" in caplog.text


def _row(vocabulary, word):
    rows = [row for row in range(len(vocabulary)) if vocabulary.word(row) == word]
    return rows[0]


def test_no_run_named(config, new):
    config.init_from = ""
    initial, started = start(config, new)
    assert started is initial


def test_a_folder_that_is_no_run(config, new, tmp_path):
    config.init_from = str(tmp_path)
    with pytest.raises(
        ValueError, match=r"config\.init_from is .* cannot be loaded: .*holds no checkpoints"
    ):
        start(config, new)


def test_nothing_fits(config, new):
    variables = {"params": {"another": {"kernel": jnp.ones(3)}}}
    with pytest.raises(ValueError, match="a run of another network: not one array fits") as error:
        transfer.start_from(config, new, variables)
    assert "1 missing\n      params/another/kernel (3,)" in str(error.value)

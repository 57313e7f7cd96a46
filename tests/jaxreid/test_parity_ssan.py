"""SSAN beside its PyTorch implementation, in both formulations and with parts taken out.

Weights go from PyTorch's names into jaxreid; features, running statistics, losses, gradients and an
optimiser's steps are compared. Fixtures need no PyTorch; other cases run where it is installed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models.templates import RowTemplate, fits
from tests.reference import cases, compare, fixtures, gaps, ours

FIXTURES = [name for name in cases.FIXTURES if name.startswith("ssan")]
LIVE = [name for name in cases.LIVE if name.startswith("ssan")]

# float32 against float64.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def networks():
    """jaxreid's networks, with their records, by fixture."""
    records = {name: fixtures.load(name) for name in FIXTURES}
    return {name: (ours.Ours(cases.CASES[name], x), x) for name, x in records.items()}


@pytest.mark.parametrize("name", FIXTURES)
def test_features_statistics_and_losses(name, networks):
    network, record = networks[name]
    kinds = ("eval", "train", "text", "stats", "loss")
    compare.assert_close(network.outputs(), ours.only(record, *kinds), TOLERANCE)


@pytest.mark.parametrize("name", FIXTURES)
def test_no_maximum_is_near_a_tie(name):
    """Or the numbers of the other tests would say nothing.

    Rounding moves float32 cosines by some 1e-6, and the gradients' float64 by 1e-15.
    """
    found = gaps.smallest(cases.CASES[name], fixtures.load(name))
    assert found["mining"] > 1e-3
    assert found["pooling"] > 1e-5


def test_released_case_holds_what_it_is_for():
    """Weak captions that are masked, weak terms left out for their margin, and others that count.

    The statistics of the relation's BatchNorm, which three calls of a step change in turn, are
    among those compared above.
    """
    case, record = cases.CASES["ssan_released"], fixtures.load("ssan_released")
    assert 0 < record["in/weak_valid"].sum() < cases.BATCH
    inside, outside = gaps.anchors(case, record)
    assert inside > 0
    assert outside > 0
    for branch in case.branches:
        assert record[f"loss/rank_{branch}"] > 0
        assert record[f"loss/weak_{branch}"] > 0


@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_steps_of_an_optimiser(rule, networks):
    """On one gradient, with the backbone at its lower rate; what is compared is the change."""
    network, record = networks["ssan_released"]
    before = ours.part_of(record, "state")
    found, expected = (
        {name: x - before[name.removeprefix(f"{rule}/")] for name, x in arrays.items()}
        for arrays in (network.updated(rule, record), ours.only(record, rule))
    )
    assert max(np.abs(x).max() for x in expected.values()) > 0.01
    # Parameters of size 1 are rounded to 6e-8, changes of size 1e-3 thereby to a share of 1e-4.
    compare.assert_close(found, expected, 5e-4)


def test_lstm_over_a_shrinking_number_of_rows(networks):
    """A template of rows gives PyTorch's words at every length, 0 and full included."""
    network, record = networks["ssan_paper"]
    lengths = record["in/caption_lengths"]
    template = RowTemplate(steps=(2, 5), rows=(3, 2))
    assert sorted(lengths) == [0, 1, 4, 7]
    assert fits(template, lengths)
    encode = functools.partial(network.model.apply, template=template, method="encode_text")
    captions = (jnp.asarray(x, jnp.int32) for x in (record["in/captions"], lengths))
    text = jax.jit(encode)(network.variables, *captions)
    expected = ours.only(record, "text")
    compare.assert_close({f"text/{name}": x for name, x in text.items()}, expected, TOLERANCE)


@pytest.mark.parametrize("name", LIVE)
def test_live(name):
    pytest.importorskip("torch")
    from tests.reference import record

    case = cases.CASES[name]
    expected = record.record(case)
    assert min(gaps.smallest(case, expected).values()) > 1e-5
    found = ours.Ours(case, expected).outputs()
    kinds = ("eval", "train", "text", "stats", "loss")
    compare.assert_close(found, ours.only(expected, *kinds), TOLERANCE)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["ssan_released"], id="released"),
        pytest.param(["ssan_paper", "ssan_vgg"], id="paper", marks=pytest.mark.slow),
    ],
)
def test_gradients_in_float64(names):
    compare.assert_gradients(names, live=False)


@pytest.mark.slow
def test_live_gradients_in_float64():
    pytest.importorskip("torch")
    compare.assert_gradients([*FIXTURES, *LIVE], live=True)

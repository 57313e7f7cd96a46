"""AXM-Net beside its PyTorch implementation, and with each of its options.

The map behind every block and stage, the phrases of NLA, V_g, V_p and T, running statistics,
losses, gradients and an optimiser's steps are compared. Fixtures need no PyTorch.
"""

import numpy as np
import pytest

from tests.reference import cases, compare, fixtures, gaps, ours

FIXTURE = "axm_net"
LIVE = [name for name in cases.LIVE if name.startswith("axm_net")]

# float32 against float64.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def record():
    return fixtures.load(FIXTURE)


@pytest.fixture(scope="module")
def network(record):
    return ours.Ours(cases.CASES[FIXTURE], record)


def test_maps_features_statistics_and_losses(network, record):
    expected = ours.only(record, "eval", "train", "text", "stats", "loss")
    names = {f"train/{side}/stages/block{block}" for side in ("image", "strong") for block in "012"}
    assert names | {"text/phrases", "eval/image/part_map", "loss/affinity_part"} <= set(expected)
    compare.assert_close(network.outputs(), expected, TOLERANCE)


def test_no_maximum_is_near_a_tie(record):
    """Or the numbers of the other tests would say nothing."""
    found = gaps.smallest(cases.CASES[FIXTURE], record)
    assert found["mining"] > 1e-3
    assert found["pooling"] > 1e-5


def test_steps_of_sgd(network, record):
    """On one gradient, with the backbone and its gates at their lower rate; the change."""
    before = ours.part_of(record, "state")
    found, expected = (
        {name: x - before[name.removeprefix("sgd/")] for name, x in arrays.items()}
        for arrays in (network.updated("sgd", record), ours.only(record, "sgd"))
    )
    # A gradient that is only noise moves nothing that a float32 could hold.
    moved = {name for name, x in expected.items() if np.abs(x).max() > 1e-5}
    assert len(moved) > 100
    # Parameters of size 1 are rounded to 6e-8, the smallest changes thereby to a share of 6e-3.
    compare.assert_close(
        {name: found[name] for name in moved}, {name: expected[name] for name in moved}, 1e-2
    )


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


@pytest.mark.slow
def test_gradients_in_float64():
    compare.assert_gradients([FIXTURE], live=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIVE)
def test_live_gradients_in_float64(name):
    pytest.importorskip("torch")
    compare.assert_gradients([name], live=True)

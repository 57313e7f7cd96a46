"""ResNet, VGG and OSNet beside their PyTorch implementations: every stage, BatchNorm both ways."""

import pytest

from tests.reference import cases, compare, fixtures, ours, ours_backbones

# float32 against float64: what rounding leaves of agreement. In training mode it grows with every
# BatchNorm; a full ResNet-50 comes to 3e-5, and PyTorch's own float32 is no nearer.
TOLERANCE = 1e-4


def _compare(case, record):
    found, report = ours_backbones.outputs(case, record)
    expected = ours.only(record, "eval", "train", "stats")
    if case.kind == "osnet":
        # Its own dense layer and the classifier of ImageNet are no part of AXM-Net.
        expected = {
            name: value
            for name, value in expected.items()
            if not name.endswith("logits") and ".fc." not in name.replace("/", ".")
        }
        assert {"fc.0.weight", "fc.1.running_var", "classifier.bias"} <= set(report.left_out)
    compare.assert_close(found, expected, TOLERANCE)
    return report


@pytest.mark.parametrize("name", cases.BACKBONE_FIXTURES)
def test_fixture(name):
    _compare(cases.BACKBONES[name], fixtures.load(name))


@pytest.mark.parametrize("name", [*cases.BACKBONES_LIVE, *cases.BACKBONES_FULL])
def test_live(name):
    pytest.importorskip("torch")
    from tests.reference import record

    case = cases.BACKBONES[name]
    report = _compare(case, record.record_backbone(case))
    if name == "OSNet x1.0":
        # All of the authors' 567 tensors: none is missing, none unexpected.
        assert len(report.loaded) + len(report.left_out) == 567


def test_a_changed_weight_is_seen():
    """The comparison can fail."""
    record = fixtures.load("resnet")
    record["state/layer3.0.bn3.bias"][0] += 0.01
    with pytest.raises(AssertionError, match="/layer3"):
        _compare(cases.BACKBONES["resnet"], record)

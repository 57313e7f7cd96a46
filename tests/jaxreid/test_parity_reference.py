"""The PyTorch side by itself: sizes, ways to run it that must not matter, fixtures up to date."""

import numpy as np
import pytest

from tests.reference import cases, compare, fixtures

torch = pytest.importorskip("torch")

from tests.reference import record  # noqa: E402
from tests.reference.axm_net import AXMNet  # noqa: E402
from tests.reference.osnet import OSNet  # noqa: E402
from tests.reference.resnet import ResNet  # noqa: E402
from tests.reference.ssan import SSAN  # noqa: E402
from tests.reference.vgg import VGG  # noqa: E402
from tests.reference.weights import randomise  # noqa: E402


@pytest.mark.parametrize("name", cases.FIXTURES)
def test_fixtures_are_what_the_reference_gives(name):
    """If not, python -m tests.reference.fixtures writes them anew."""
    compare.assert_close(fixtures.load(name), record.record(cases.FIXTURES[name]), 1e-6)


@pytest.mark.parametrize("name", cases.BACKBONE_FIXTURES)
def test_fixtures_of_backbones(name):
    expected = record.record_backbone(cases.BACKBONE_FIXTURES[name])
    compare.assert_close(fixtures.load(name), expected, 1e-6)


def test_fixtures_are_small():
    sizes = [path.stat().st_size for path in fixtures.FOLDER.glob("*.npz")]
    assert len(sizes) == len(cases.FIXTURES) + len(cases.BACKBONE_FIXTURES)
    assert max(sizes) < 500_000
    assert sum(sizes) < 2_000_000


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: SSAN(5000), 95_286_336),
        (lambda: SSAN(5000, formulation="released"), 97_858_624),
        (lambda: SSAN(5000, 11003), 95_286_336 + 112_813_759),
        (lambda: ResNet(), 23_508_032),
        (lambda: VGG(), 14_714_688),
        (lambda: OSNet(num_classes=1000), 2_682_508),
        (lambda: AXMNet(50), 5_431_876 + 50 * 300),
    ],
)
def test_parameters(make, size):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in make().parameters()) == size


def test_tensors_of_osnet():
    with torch.device("meta"):
        assert len(OSNet(num_classes=1000).state_dict()) == 567


def test_packed_and_padded_lstm():
    """One state runs through the padding as 0, the other never sees it."""
    case = cases.CASES["ssan_released"]
    given = cases.batch(case)
    captions = [torch.from_numpy(given[name]) for name in ("captions", "caption_lengths")]
    found = []
    for packed in (True, False):
        model = SSAN(**case.all_fields, packed=packed)
        randomise(model, 0)
        with torch.no_grad():
            found.append(model.double().eval().encode_text(*captions))
    for name in ("pooled", "pooled_parts", "embedding", "alpha"):
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-12, atol=1e-12)
    # The captions' words too; what stands behind them is nobody's.
    for number, length in enumerate(given["caption_lengths"]):
        one, other = (feats["words"][number, :length] for feats in found)
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["ssan_paper", "axm_net"])
def test_channels_last(name):
    case = cases.CASES[name]
    images = torch.from_numpy(cases.normalised(cases.batch(case)["images"])).double()
    model = record.NETWORKS[case.network](**case.all_fields)
    randomise(model, 0)
    with torch.no_grad():
        expected = model.double().eval().encode_image(images)
        model.to(memory_format=torch.channels_last)
        found = model.encode_image(images.contiguous(memory_format=torch.channels_last))
    assert found["map"].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found["embedding"], expected["embedding"], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [SSAN, AXMNet])
def test_fields_of_the_other_side(make):
    with torch.device("meta"):
        make(20, dtype="float32", platform="auto")
        with pytest.raises(TypeError, match="has no field num_part"):
            make(20, num_part=3)


def test_joint_context_encodes_no_image_alone():
    with torch.device("meta"):
        model = AXMNet(20, context="joint")
    with pytest.raises(ValueError, match="at once"):
        model.encode_image(torch.zeros(1))


@pytest.mark.parametrize("drop", ["random", "part"])
def test_feature_drop_blanks_in_training_only(drop):
    """A rectangle of a third of the rows and half of the columns, or one strip."""
    case = cases.CASES["axm_net"]
    model = AXMNet(**{**case.all_fields, "feature_drop": drop, "pooling": "average"})
    x = torch.ones(2, 12, 6, 4)
    pooled, attended = model.part.train()(x)
    share = (pooled / attended.mean((2, 3))).detach().numpy()
    blank = {"random": 2 * 2 / 24, "part": 1 / 3}[drop]
    np.testing.assert_allclose(share.mean(1), 1 - blank, atol=0.1)
    pooled, attended = model.part.eval()(x)
    torch.testing.assert_close(pooled, attended.mean((2, 3)))

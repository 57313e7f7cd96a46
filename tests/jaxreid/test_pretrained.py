"""Weights of torch origin in a network: the report, and the start of a run."""

import json
import re

import jax
import numpy as np
import pytest

from jaxreid import pretrained, sharding, torch_names, weight_files, weight_sources
from tests.jaxreid.test_torch_names import CONFIGS, SMALL, drawn, shapes


@pytest.fixture(scope="module", params=list(SMALL))
def network(request):
    """A small network, its variables, and a file's worth of tensors for its backbone."""
    model, tree = shapes(request.param, SMALL[request.param])
    variables = drawn(tree)
    tensors = pretrained.to_torch(torch_names.backbone(model, variables), drawn(tree, seed=1), 5)
    classifier = {"fc.weight": np.ones((1000, 4), np.float32), "fc.bias": np.ones(1000, np.float32)}
    return model, variables, tensors | classifier


def fit(network, tensors):
    model, variables, _ = network
    return pretrained.fit(torch_names.backbone(model, variables), tensors, variables)


def flat(tree):
    return {
        sharding.path_name(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_the_backbone_is_filled_and_nothing_else(network):
    _, variables, tensors = network
    filled, report = fit(network, tensors)
    before, after = flat(variables), flat(filled)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == set(report.loaded)
    assert {name.split("/")[1] for name in changed} <= {
        "backbone",
        "vision",
        *(f"context{index}" for index in range(1, 7)),
    }
    assert {"fc.weight", "fc.bias"} < set(report.left_out)
    counters = {name for name in tensors if name.endswith("num_batches_tracked")}
    assert set(report.left_out) == counters | {"fc.weight", "fc.bias"}
    assert str(report).splitlines()[0] == f"{len(changed)} arrays loaded"


def test_the_report_of_what_does_not_fit_is_complete(network):
    _, _, tensors = network
    norm, stem, *_ = (
        next(name for name in tensors if re.search(pattern, name))
        for pattern in (r"bn1?\.bias$", r"^conv1\.(conv\.)?weight$")
    )
    broken = {name: x for name, x in tensors.items() if name != norm}
    broken[stem] = broken[stem][:, :1]
    broken["layer9.weight"] = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="the weights do not fit") as caught:
        fit(network, broken)
    message = str(caught.value)
    shape = tensors[stem].shape
    assert f"1 missing\n      {norm} {tensors[norm].shape}, for params/" in message
    assert "1 unexpected\n      layer9.weight (2, 3)" in message
    there = (shape[0], 1, *shape[2:])
    assert f"1 wrong shape\n      {stem} {there} there, {shape} here (for images of 1" in message
    assert (
        "left out on purpose (the classifier of ImageNet" in message or "the dense layer" in message
    )


def test_weights_of_another_network(network):
    with pytest.raises(ValueError, match="0 arrays loaded"):
        fit(network, {"encoder.weight": np.ones(3, np.float32)})


def test_a_classifier_of_other_identities_is_left_out():
    model, tree = shapes("ssan", f"{SMALL['ssan']},released")
    other, other_tree = shapes("ssan", f"{SMALL['ssan']},released", num_classes=12)
    tensors = pretrained.to_torch(torch_names.network(other, other_tree), drawn(other_tree))
    variables = drawn(tree, seed=1)
    filled, report = pretrained.fit(torch_names.network(model, variables), tensors, variables)
    assert report.fits
    left_out = {name for name in report.left_out if not name.endswith("tracked")}
    assert left_out == {name for name in tensors if re.match(r"W[LN]?\.", name)}
    assert report.left_out["W.W.0.block.bias"].endswith("of other identities, (12,) there")
    for name in filled["params"]:
        if name.startswith("classifier"):
            kernel = filled["params"][name]["kernel"]
            assert np.array_equal(kernel, variables["params"][name]["kernel"])


def test_other_kinds_of_numbers():
    model, tree = shapes("ssan", SMALL["ssan"])
    names, variables = torch_names.network(model, tree), drawn(tree)
    tensors = pretrained.to_torch(names, variables)
    name = "TextExtract.lstm.weight_hh_l0"
    with pytest.raises(ValueError, match=rf"1 wrong shape\n      {name} int8 there, float32 here"):
        pretrained.fit(names, tensors | {name: tensors[name].astype(np.int8)}, variables)
    double = {key: x.astype(np.float64) if x.ndim else x for key, x in tensors.items()}
    filled, report = pretrained.fit(names, double, variables)
    assert len(report.rounded) == len(report.loaded)
    assert f"arrays loaded, {len(report.rounded)} of them rounded from float64" in str(report)
    assert {leaf.dtype for leaf in jax.tree.leaves(filled)} == {np.dtype(np.float32)}


def test_a_part_of_a_stack_is_missing():
    model, tree = shapes("ssan", SMALL["ssan"])
    names, variables = torch_names.network(model, tree), drawn(tree)
    tensors = pretrained.to_torch(names, variables)
    del tensors["conv_local.2.block.0.weight"]
    with pytest.raises(ValueError, match=r"1 missing\n      conv_local\.2\.block\.0\.weight"):
        pretrained.fit(names, tensors, variables)


def test_each_array_lies_where_the_one_before_it_lay():
    model, tree = shapes("ssan", SMALL["ssan"])
    place = jax.sharding.SingleDeviceSharding(jax.devices()[3])
    variables = jax.device_put(drawn(tree), place)
    names = torch_names.network(model, variables)
    filled, _ = pretrained.fit(names, pretrained.to_torch(names, variables), variables)
    assert all(leaf.sharding == place for leaf in jax.tree.leaves(filled))


@pytest.fixture
def start(tmp_path, network):
    """Starts a run of the network with the weights in a file."""
    model, variables, tensors = network
    path = tmp_path / "weights.safetensors"
    weight_files.write(path, tensors, field="--out")
    config = CONFIGS[type(model).__module__.rsplit(".", 1)[-1]].get_config("quickstart,runlocal")
    config.pretrained = str(path)

    def begin():
        pretrained.check(config)
        return pretrained.start_from_file(config, model, variables, tmp_path)

    return config, begin


def test_a_run_begins_with_the_weights_and_writes_them_down(network, start, tmp_path):
    config, begin = start
    filled, report = fit(network, network[2])
    found = flat(begin())
    assert found.keys() == flat(filled).keys()
    assert all(np.array_equal(found[name], array) for name, array in flat(filled).items())
    record = pretrained.load_record(tmp_path)
    assert record["source"] == config.pretrained
    assert record["sha256"] == weight_sources.digest_of(tmp_path / "weights.safetensors", "x")
    assert record["loaded"] == len(report.loaded)
    assert record["left_out"] == dict(report.left_out)
    assert set(record["counters"].values()) == {5}
    assert json.loads((tmp_path / "pretrained.json").read_text()) == record


def test_a_run_that_cannot_begin_so(start, tmp_path):
    config, begin = start
    config.init_from = "runs/other"
    with pytest.raises(ValueError, match=r"a run starts from one of them"):
        begin()
    config.init_from = ""
    config.pretrained_sha256 = "0" * 64
    with pytest.raises(ValueError, match=r"the config says 0000"):
        begin()
    config.pretrained_sha256 = ""
    weight_files.write(tmp_path / "odd.npz", {"odd": np.ones(2, np.float32)}, field="--out")
    config.pretrained = str(tmp_path / "odd.npz")
    with pytest.raises(ValueError, match=r"config\.pretrained is '.*odd\.npz': the weights do not"):
        begin()
    assert pretrained.load_record(tmp_path) is None


def test_a_run_without_such_weights(network, start, tmp_path, caplog):
    config, begin = start
    begin()  # and stopped before its first step
    config.pretrained = ""
    assert begin() is network[1]
    assert not (tmp_path / "pretrained.json").exists()
    assert "keeps the image backbone at its random values" not in caplog.text
    frozen = "^backbone/" if "backbone" in network[1]["params"] else r"^(vision|context\d+)/"
    config.stages[0].frozen = (frozen,)
    begin()
    assert "config.stages[0].frozen keeps the image backbone at its random values" in caplog.text

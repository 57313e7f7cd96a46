"""Names of our arrays in torch programs: known counts, and back and forth bit for bit."""

import functools
import re

import flax.linen as nn
import jax
import numpy as np
import pytest

from configs import axm_net, ssan
from jaxreid import pretrained, registry, sharding, step, torch_names

SMALL = {"ssan": "quickstart,runlocal", "axm_net": "quickstart,runlocal"}
CONFIGS = {"ssan": ssan, "axm_net": axm_net}


def shapes(network, argument, *, vocab_size=30, num_classes=11):
    """A network and the shapes of its variables."""
    config = CONFIGS[network].get_config(argument)
    model = registry.build_model(config, vocab_size=vocab_size, num_classes=num_classes)
    return model, jax.eval_shape(functools.partial(step.init_variables, config, model))


def drawn(tree, seed=0):
    """Arrays of these shapes, no two values alike."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(leaf.dtype), tree)


@pytest.mark.parametrize(
    ("network", "argument", "tensors", "tensors_of_backbone"),
    [
        # ResNet-50 has 320 tensors with its classifier of two, 53 of them counters.
        ("ssan", "cuhk_pedes,released", 353 + 59, 318),
        ("ssan", "cuhk_pedes", 328 + 53, 318),
        # VGG-16: 13 convolutions with bias.
        ("ssan", "cuhk_pedes,vgg16", 26 + (328 - 265), 26),
        # OSNet x1.0 has 567, with seven of its dense layer and two of its classifier.
        ("axm_net", "cuhk_pedes", 977 + 163, 558),
        # Of a joint context network the backbone knows no gates: four arrays in each of six blocks.
        ("axm_net", "cuhk_pedes,joint", 977 + 163, 558 - 24),
    ],
)
def test_counts_of_the_full_networks(network, argument, tensors, tensors_of_backbone):
    model, tree = shapes(network, argument, vocab_size=5000, num_classes=11003)
    whole = torch_names.network(model, tree)
    assert len(whole.entries) == len(jax.tree.leaves(tree))
    names = [name for entry in whole.entries for name in entry.theirs] + list(whole.counters)
    assert len(set(names)) == len(names) == tensors
    backbone = torch_names.backbone(model, tree)
    assert len(backbone.entries) + len(backbone.counters) == tensors_of_backbone


def test_some_names_and_shapes():
    model, tree = shapes("ssan", "cuhk_pedes,released", vocab_size=5000, num_classes=11003)
    found = shapes_of(torch_names.network(model, tree), tree)
    assert found["ImageExtract.0.weight"] == (64, 3, 7, 7)
    assert found["ImageExtract.5.0.downsample.1.running_var"] == (512,)
    assert found["TextExtract.embedding_local.weight"] == (5000, 512)
    assert found["TextExtract.lstm.weight_ih_l0_reverse"] == (8192, 512)
    assert found["conv_word_classifier.0.weight"] == (6, 2048, 1, 1)
    assert found["conv_local.5.block.0.weight"] == (1024, 2048, 1, 1)
    assert found["non_local_net.up_dim_conv.0.block.0.weight"] == (1024, 512, 1, 1)
    assert found["non_local_net.up_dim_conv.0.block.1.bias"] == (1024,)
    assert found["WN.W.3.block.weight"] == (11003, 512)
    assert found["W.W.0.block.bias"] == (11003,)
    model, tree = shapes("axm_net", "cuhk_pedes")
    found = shapes_of(torch_names.backbone(model, tree), tree)
    assert found["conv1.conv.weight"] == (64, 3, 7, 7)
    assert found["conv2.0.conv2a.conv2.weight"] == (64, 1, 3, 3)
    assert found["conv4.1.conv2d.3.bn.running_mean"] == (128,)
    assert found["conv3.0.gate.fc1.weight"] == (6, 96, 1, 1)
    assert found["conv3.2.0.conv.weight"] == (384, 384, 1, 1)
    model, tree = shapes("ssan", "cuhk_pedes,vgg16")
    found = shapes_of(torch_names.backbone(model, tree), tree)
    assert [name for name in found if name.endswith("weight")] == [
        f"features.{place}.weight" for place in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    ]


def shapes_of(names, tree):
    """Shape of each tensor by torch name; of full networks, whose values take seconds to draw."""
    leaves = {
        sharding.path_name(path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    return {
        name: entry.layout.torch_shape(leaves[entry.ours])
        for entry in names.entries
        for name in entry.theirs
    }


ALL = [
    *(
        ("ssan", f"{SMALL['ssan']},{v}")
        for v in ("released", "unshared", "pfl_1x1", "vgg16", "pfl")
    ),
    *(("axm_net", f"{SMALL['axm_net']},{v}") for v in ("no_share", "joint", "strips_separate")),
    *SMALL.items(),
]


@pytest.mark.parametrize(("network", "argument"), ALL)
def test_there_and_back_is_bit_for_bit_the_same(network, argument):
    model, tree = shapes(network, argument)
    names = torch_names.network(model, tree)
    counters = {name: number for number, name in enumerate(names.counters.values())}
    tensors = pretrained.to_torch(names, drawn(tree), counters)
    ours, report = pretrained.fit(names, tensors, drawn(tree, seed=1))
    assert report.fits
    assert len(report.loaded) == len(jax.tree.leaves(tree))
    assert report.counters == counters
    back = pretrained.to_torch(names, ours, report.counters)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype, name
        assert np.array_equal(back[name], tensor), name
        assert back[name].flags["C_CONTIGUOUS"], name


def test_a_layout_puts_each_value_where_it_belongs():
    model, tree = shapes("ssan", f"{SMALL['ssan']},released")
    names, variables = torch_names.network(model, tree), drawn(tree)
    tensors, ours = pretrained.to_torch(names, variables), variables["params"]
    conv = ours["backbone"]["stage1_block1"]["conv1"]["kernel"]
    assert tensors["ImageExtract.4.0.conv1.weight"][3, 2, 1, 0] == conv[1, 0, 2, 3]
    part = ours["heads"]["part"]["kernel"]
    assert tensors["conv_local.4.block.0.weight"][7, 5, 0, 0] == part[4, 5, 7]
    backward = ours["lstm"]["recurrent"][1]
    assert tensors["TextExtract.lstm.weight_hh_l0_reverse"][9, 2] == backward[2, 9]
    classifier = ours["classifier_relation"]["kernel"]
    assert tensors["WN.W.2.block.weight"][10, 3] == classifier[2, 3, 10]
    assert len(tensors["WN.W.2.block.weight"]) == 11  # and not the 256 that it is padded to


def test_an_array_without_a_name():
    model, tree = shapes("ssan", SMALL["ssan"])
    tree["params"]["novelty"] = {"kernel": jax.ShapeDtypeStruct((2, 2), np.float32)}
    with pytest.raises(ValueError, match=r"params/novelty/kernel has no torch name"):
        torch_names.network(model, tree)
    torch_names.backbone(model, tree)  # where it plays no part


class Stranger(nn.Module):
    """A network that torch does not know."""


def test_a_network_without_names():
    wanted = re.escape("belong into jaxreid/torch_names/test_torch_names.py")
    with pytest.raises(ValueError, match=wanted):
        torch_names.network(Stranger(), {})

"""Names of SSAN, those of the authors' released program.

Its checkpoint is a dictionary: "network" holds the network, "WL" and "WN" the identity classifiers
of parts and relations; that of the global branch was not saved. Here and in flat files their names
begin with ``WL.`` and ``WN.``, and with ``W.`` for that of the global branch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from jaxreid.models.ssan import SSAN
from jaxreid.models.vgg import VGG
from jaxreid.torch_names import backbones
from jaxreid.torch_names.table import PART, Rule, Table, rows, under

NETWORK, HEADS = "network", ("W", "WL", "WN")

_BRANCHES = {
    "global": "W.W.0.block",
    "part": f"WL.W.{PART}.block",
    "relation": f"WN.W.{PART}.block",
}
_RELATIONS = {
    "theta": f"cur_sim_conv.{PART}.block.0",
    "phi": f"part_sim_conv.{PART}.block.0",
    "gamma": f"up_dim_conv.{PART}.block.0",
    "output": f"conv_local_att.{PART}.block.0",
}
# The released program keeps its word tables in another order, and one table is ours.
_TABLES = {"_global": "_global", "_part": "_local", "": ""}
_NOT_SAVED = "the released program does not save the classifier of its global branch"


def backbone(model: SSAN) -> Table:
    """The image backbone, as torchvision's ImageNet weights name it."""
    table = _image_net(model)
    return Table(under("backbone", lambda name: name, table.rules), table.left_out)


def network(model: SSAN) -> Table:
    """All of it."""
    rules = (
        *under("backbone", _inside_sequential, _image_net(model).rules),
        Rule(
            r"embedding(|_global|_part)",
            lambda m: f"TextExtract.embedding{_TABLES[m[1]]}",
            "embedding",
        ),
        Rule("lstm", lambda _: "TextExtract.lstm", "lstm"),
        Rule("word_attention", lambda _: "conv_word_classifier.0", "pointwise"),
        Rule(r"heads/global(|_image|_text)", lambda m: f"conv_global{m[1]}.block.0", "pointwise"),
        Rule("heads/part", lambda _: f"conv_local.{PART}.block.0", "pointwise"),
        # Without MV-NLN only its output W_n remains.
        Rule("heads/relation", lambda _: f"non_local_net.{_RELATIONS['output']}", "pointwise"),
        Rule(
            rf"heads/relation/({'|'.join(_RELATIONS)})",
            lambda m: f"non_local_net.{_RELATIONS[m[1]]}",
            "pointwise",
        ),
        Rule("heads/relation/norm", lambda _: f"non_local_net.up_dim_conv.{PART}.block.1", "norm"),
        Rule(
            r"classifier_(global|part|relation)",
            lambda m: _BRANCHES[m[1]],
            "dense",
            classes=model.num_classes,
        ),
    )
    return Table(rules, optional={r"W\..*": _NOT_SAVED})


def num_classes(tensors: Mapping[str, np.ndarray]) -> int:
    """Identities of the classifiers in a file; 0 without one."""
    names = ("W.W.0.block.weight", "WL.W.0.block.weight", "WN.W.0.block.weight")
    return next((rows(tensors[name]) for name in names if name in tensors), 0)


def vocab_size(tensors: Mapping[str, np.ndarray]) -> int:
    """Rows of the word table in a file; 0 without one."""
    names = [f"TextExtract.embedding{table}.weight" for table in _TABLES.values()]
    return next((rows(tensors[name]) for name in names if name in tensors), 0)


def _image_net(model: SSAN) -> Table:
    net = model.image_backbone(parent=None)
    return backbones.vgg(net) if isinstance(net, VGG) else backbones.resnet(net)


def _inside_sequential(name: str) -> str:
    """The released program keeps the children of torchvision's network by number."""
    name = re.sub(r"^conv1\b", "0", re.sub(r"^bn1\b", "1", name.removeprefix("features.")))
    return "ImageExtract." + re.sub(r"^layer(\d+)", lambda m: str(int(m[1]) + 3), name)

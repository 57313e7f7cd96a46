"""Names of AXM-Net: its backbones as OSNet's authors have them; beside them the names are ours.

A gate that both modalities share stands in the image backbone, so that this loads into OSNet.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxreid.models.axm_net import AXMNet
from jaxreid.models.osnet import OSNet
from jaxreid.torch_names import backbones
from jaxreid.torch_names.table import Rule, Table, rows, under

NETWORK, HEADS = "", ()

_GATES_OF_IMAGES = "shared|vision"
_JOINT = "a joint context network is trained from the start"


def backbone(model: AXMNet) -> Table:
    """The image backbone with its gates, as OSNet's ImageNet weights name it."""
    table = backbones.osnet(_osnet(model, "vision"))
    gate = backbones.osnet_gate(f"(?:{_GATES_OF_IMAGES})", model.blocks)
    left_out = dict(table.left_out)
    if model.context == "joint":
        left_out[r"conv\d\.\d\.gate\..*"] = _JOINT
    return Table((*under("vision", lambda name: name, table.rules), gate), left_out)


def network(model: AXMNet) -> Table:
    """All of it."""
    rules: list[Rule] = []
    for modality in ("vision", "text"):
        table = backbones.osnet(_osnet(model, modality))
        rules += under(modality, f"{modality}.{{}}".format, table.rules)
        gates = _GATES_OF_IMAGES if modality == "vision" else modality
        gate = backbones.osnet_gate(f"(?:{gates})", model.blocks)
        rules.append(_renamed(gate, modality))
    rules += [
        Rule(r"context(\d+)/joint/(fc[12])", lambda m: f"joint.{int(m[1]) - 1}.{m[2]}", "dense"),
        Rule("embedding", lambda _: "embedding", "embedding"),
        Rule(r"(fc_\w+)/fc(\d)", lambda m: f"{m[1]}.{3 * (int(m[2]) - 1)}", "dense"),
        Rule(r"(fc_\w+)/bn(\d)", lambda m: f"{m[1]}.{3 * (int(m[2]) - 1) + 1}", "norm"),
        Rule(r"part_branch/strip/(fc[12])", lambda m: f"part.gate.{m[1]}", "dense"),
        Rule(
            r"part_branch/strip(\d+)/(fc[12])",
            lambda m: f"part.gates.{int(m[1]) - 1}.{m[2]}",
            "dense",
        ),
        Rule(r"non_local/(theta|phi|g)", lambda m: f"nla.{m[1]}", "dense"),
        Rule("non_local/output", lambda _: "nla.out", "dense"),
        Rule("non_local/bn", lambda _: "nla.bn", "norm"),
        Rule("classifier", lambda _: "classifier", "dense", classes=model.num_classes),
    ]
    return Table(tuple(rules))


def num_classes(tensors: Mapping[str, np.ndarray]) -> int:
    """Identities of the classifier in a file; 0 without one."""
    return rows(tensors["classifier.weight"]) if "classifier.weight" in tensors else 0


def vocab_size(tensors: Mapping[str, np.ndarray]) -> int:
    """Rows of the word table in a file; 0 without one."""
    return rows(tensors["embedding.weight"]) if "embedding.weight" in tensors else 0


def _renamed(rule: Rule, modality: str) -> Rule:
    return Rule(rule.ours, lambda match: f"{modality}.{rule.theirs(match)}", rule.kind)


def _osnet(model: AXMNet, modality: str) -> OSNet:
    return OSNet(modality, channels=model.channels, blocks=model.blocks, parent=None)

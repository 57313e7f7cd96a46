"""Names of the backbones: ResNet and VGG as torchvision has them, OSNet as its authors have it."""

from __future__ import annotations

import re

from jaxreid.models.osnet import OSNet
from jaxreid.models.resnet import ResNet
from jaxreid.models.vgg import VGG
from jaxreid.torch_names.table import Rule, Table

_OF_IMAGENET = "the classifier of ImageNet; identities have one of their own"


def resnet(_: ResNet) -> Table:
    """ResNet: ``conv1``, ``bn1``, ``layer1.0.conv1`` ..., ``fc``."""

    def block(match: re.Match[str]) -> str:
        return f"layer{match[1]}.{int(match[2]) - 1}"

    path = r"stage(\d+)_block(\d+)"
    return Table(
        rules=(
            Rule("stem_conv", lambda _: "conv1", "conv"),
            Rule("stem_bn", lambda _: "bn1", "norm"),
            Rule(rf"{path}/conv(\d)", lambda m: f"{block(m)}.conv{m[3]}", "conv"),
            Rule(rf"{path}/bn(\d)", lambda m: f"{block(m)}.bn{m[3]}", "norm"),
            Rule(rf"{path}/downsample_conv", lambda m: f"{block(m)}.downsample.0", "conv"),
            Rule(rf"{path}/downsample_bn", lambda m: f"{block(m)}.downsample.1", "norm"),
        ),
        left_out={r"fc\..*": _OF_IMAGENET},
    )


def vgg(net: VGG) -> Table:
    """VGG without BatchNorm: ``features.0`` ..., each convolution followed by a ReLU."""

    def index(match: re.Match[str]) -> str:
        before = sum(2 * convolutions + 1 for convolutions in net.stage_sizes[: int(match[1]) - 1])
        return f"features.{before + 2 * (int(match[2]) - 1)}"

    return Table(
        rules=(Rule(r"stage(\d+)/conv(\d+)", index, "conv"),),
        left_out={r"(classifier|pre_logits|head)\..*": _OF_IMAGENET},  # timm has the last two
    )


def osnet(net: OSNet) -> Table:
    """OSNet without its gates, which belong to the context networks: see `osnet_gate`."""

    def block(match: re.Match[str]) -> str:
        stage, index = divmod(int(match[1]), net.blocks)
        return f"conv{stage + 2}.{index}"

    def stream(match: re.Match[str]) -> str:
        number, layer = int(match[2]), match[3]
        return f"{block(match)}.conv2{'abcd'[number]}" + (f".{layer}" if number else "")

    def transition(match: re.Match[str]) -> str:
        return f"conv{int(match[1]) + 2}.{net.blocks}.0"

    sides = {"reduce": "conv1", "expand": "conv3", "shortcut": "downsample"}
    side, stream_path = rf"body_(\d+)/({'|'.join(sides)})", r"body_(\d+)/streams_(\d)_(\d)"
    return Table(
        rules=(
            Rule(r"(conv[15])/(conv\d?)", lambda m: f"{m[1]}.{m[2]}", "conv"),
            Rule(r"(conv[15])/bn", lambda m: f"{m[1]}.bn", "norm"),
            Rule(rf"{side}/conv", lambda m: f"{block(m)}.{sides[m[2]]}.conv", "conv"),
            Rule(rf"{side}/bn", lambda m: f"{block(m)}.{sides[m[2]]}.bn", "norm"),
            Rule(rf"{stream_path}/(conv[12])", lambda m: f"{stream(m)}.{m[4]}", "conv"),
            Rule(rf"{stream_path}/bn", lambda m: f"{stream(m)}.bn", "norm"),
            Rule(r"transitions_(\d+)/conv", lambda m: f"{transition(m)}.conv", "conv"),
            Rule(r"transitions_(\d+)/bn", lambda m: f"{transition(m)}.bn", "norm"),
        ),
        left_out={
            r"classifier\..*": _OF_IMAGENET,
            r"fc\..*": "the dense layer behind OSNet; each branch has one of its own",
        },
    )


def osnet_gate(path: str, blocks: int) -> Rule:
    """Names of the gates of a backbone, one a block.

    Args:
      path: of our gates inside the context networks, a regular expression: ``shared``.
      blocks: in each stage.
    """

    def name(match: re.Match[str]) -> str:
        stage, index = divmod(int(match[1]) - 1, blocks)
        return f"conv{stage + 2}.{index}.gate.{match[2]}"

    return Rule(rf"context(\d+)/{path}/(fc[12])", name, "pointwise")

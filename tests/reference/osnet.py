"""OSNet (Zhou et al.) under its authors' parameter names, in two dimensions or along words.

The text backbone of AXM-Net is the same network on pictures of height 1, with kernels of (1, 3).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pool = Callable[[Tensor], Tensor]
Gating = Callable[[Tensor], Tensor]


class ConvLayer(nn.Module):
    """Convolution, BatchNorm and, unless told otherwise, ReLU."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: tuple[int, int] = (1, 1),
        stride: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        padding = kernel[0] // 2, kernel[1] // 2
        self.conv = nn.Conv2d(channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class LightConv(nn.Module):
    """Pointwise, then depthwise convolution, one BatchNorm, ReLU."""

    def __init__(self, channels: int, out_channels: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = kernel[0] // 2, kernel[1] // 2
        self.conv1 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.conv2 = nn.Conv2d(
            out_channels, out_channels, kernel, padding=padding, groups=out_channels, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv2(self.conv1(x))))


class Gate(nn.Module):
    """Two 1x1 convolutions on a pooled vector, as scales of channels in (0, 1)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, pooled: Tensor) -> Tensor:
        return torch.sigmoid(self.fc2(F.relu(self.fc1(pooled))))


def mean_pool(x: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, C, 1, 1]."""
    return x.mean((2, 3), keepdim=True)


class Block(nn.Module):
    """Omni-scale residual block; its streams stack one to four light convolutions."""

    STREAMS = ("conv2a", "conv2b", "conv2c", "conv2d")

    def __init__(
        self, channels: int, out_channels: int, kernel: tuple[int, int] = (3, 3), gate: bool = True
    ) -> None:
        super().__init__()
        middle = out_channels // 4
        self.conv1 = ConvLayer(channels, middle)
        for depth, name in enumerate(self.STREAMS, start=1):
            layers = [LightConv(middle, middle, kernel) for _ in range(depth)]
            self.add_module(name, layers[0] if depth == 1 else nn.Sequential(*layers))
        if gate:
            self.gate = Gate(middle)
        self.conv3 = ConvLayer(middle, out_channels, relu=False)
        if channels != out_channels:
            self.downsample = ConvLayer(channels, out_channels, relu=False)

    def streams(self, x: Tensor) -> list[Tensor]:
        """Four maps [B, m, h, w] with receptive fields of 3, 5, 7 and 9."""
        x = self.conv1(x)
        return [getattr(self, name)(x) for name in self.STREAMS]

    def fuse(self, x: Tensor, streams: list[Tensor], scales: list[Tensor]) -> Tensor:
        """Output of the block for its input x; scales are [B, m, 1, 1]."""
        y = streams[0] * scales[0]
        for stream, scale in zip(streams[1:], scales[1:], strict=True):
            y = torch.addcmul(y, stream, scale)
        y = self.conv3(y)
        identity = self.downsample(x) if hasattr(self, "downsample") else x
        return F.relu(identity + y, inplace=True)

    def forward(self, x: Tensor, gate: Gating | None = None, pool: Pool = mean_pool) -> Tensor:
        """Run with a gate of its own, or one from elsewhere."""
        gate = gate or self.gate
        streams = self.streams(x)
        return self.fuse(x, streams, [gate(pool(stream)) for stream in streams])


class OSNet(nn.Module):
    """OSNet x1.0 by default; `num_classes` adds the authors' `fc` and `classifier`."""

    def __init__(
        self,
        channels: tuple[int, int, int, int] = (64, 256, 384, 512),
        blocks: int = 2,
        in_channels: int = 3,
        words: bool = False,
        stem: str = "conv",
        gates: bool = True,
        feature_dim: int = 512,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        kernel = (1, 3) if words else (3, 3)
        first, *widths = channels
        if not words:
            self.conv1: nn.Module = ConvLayer(in_channels, first, (7, 7), stride=2)
            self.maxpool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            layer = LightConv if stem == "separable" else ConvLayer
            self.conv1 = layer(in_channels, first, kernel)
            self.maxpool = nn.Identity()
        before = first
        for stage, width in enumerate(widths):
            layers: list[nn.Module] = []
            for _ in range(blocks):
                layers.append(Block(before, width, kernel, gates))
                before = width
            if stage + 1 < len(widths):
                pool = nn.AvgPool2d((1, 2) if words else 2)
                layers.append(nn.Sequential(ConvLayer(width, width), pool))
            self.add_module(f"conv{stage + 2}", nn.Sequential(*layers))
        self.conv5 = ConvLayer(before, before)
        if num_classes:
            self.fc = nn.Sequential(
                nn.Linear(before, feature_dim), nn.BatchNorm1d(feature_dim), nn.ReLU(inplace=True)
            )
            self.classifier = nn.Linear(feature_dim, num_classes)

    def stages(self) -> list[nn.Sequential]:
        """conv2, conv3 and conv4; all but the last end with a transition."""
        return [self.conv2, self.conv3, self.conv4]

    def blocks(self) -> list[Block]:
        """All blocks in order."""
        return [layer for stage in self.stages() for layer in stage if isinstance(layer, Block)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps behind conv1 (pooled) to conv5 and behind each block, and logits."""
        x = self.maxpool(self.conv1(images))
        outputs = {"conv1": x}
        for number, stage in enumerate(self.stages(), start=2):
            for layer in stage:
                x = layer(x)
                if isinstance(layer, Block):
                    outputs[f"block{sum(name.startswith('block') for name in outputs)}"] = x
            outputs[f"conv{number}"] = x
        outputs["conv5"] = x = self.conv5(x)
        if hasattr(self, "fc"):
            outputs["logits"] = self.classifier(self.fc(x.mean((2, 3))))
        return outputs

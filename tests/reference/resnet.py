"""ResNet v1.5 (stride on the 3x3) under torchvision's parameter names."""

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, and 1x1 with four times the width."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == out_channels:
        return None
    conv = nn.Conv2d(channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNet(nn.Module):
    """ResNet-50 by default; with `num_classes` also its ImageNet classifier."""

    def __init__(
        self,
        stage_sizes: tuple[int, ...] = (3, 4, 6, 3),
        block: str = "bottleneck",
        width: int = 64,
        last_stride: int = 2,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        make = BLOCKS[block]
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = width
        self.stages = [f"layer{stage + 1}" for stage in range(len(stage_sizes))]
        for stage, (name, count) in enumerate(zip(self.stages, stage_sizes, strict=True)):
            stride = 1 if stage == 0 else last_stride if stage + 1 == len(stage_sizes) else 2
            blocks = []
            for index in range(count):
                blocks.append(make(channels, width * 2**stage, stride if index == 0 else 1))
                channels = width * 2**stage * make.expansion
            self.add_module(name, nn.Sequential(*blocks))
        self.out_channels = channels
        if num_classes:
            self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps [B, C, h, w] behind the stem and every stage, and logits with a classifier."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        outputs = {"stem": x}
        for name in self.stages:
            outputs[name] = x = getattr(self, name)(x)
        if hasattr(self, "fc"):
            outputs["logits"] = self.fc(x.mean((2, 3)))
        return outputs

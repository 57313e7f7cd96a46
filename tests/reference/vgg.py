"""VGG without BatchNorm and without its classifier, under torchvision's parameter names."""

from torch import Tensor, nn


class VGG(nn.Module):
    """VGG-16 by default, through its last pooling."""

    def __init__(self, stage_sizes: tuple[int, ...] = (2, 2, 3, 3, 3), width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage, count in enumerate(stage_sizes):
            for _ in range(count):
                conv = nn.Conv2d(channels, width * min(2**stage, 8), 3, padding=1)
                layers += [conv, nn.ReLU(inplace=True)]
                channels = conv.out_channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.out_channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps [B, C, h, w] behind every stage, "stage1" onwards."""
        x, outputs = images, {}
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                outputs[f"stage{len(outputs) + 1}"] = x
        return outputs

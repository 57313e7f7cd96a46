"""AXM-Net (Farooq et al., equations (1), (2)) in plain PyTorch; no program of the authors exists.

Of the image backbone the parameters bear OSNet's names.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference.osnet import Block, OSNet, mean_pool
from tests.reference.ssan import ONLY_JAX, Features

LAYERS = {"global": 2, "part": 1, "text": 1}
"""FC layers that the paper proposes for V_g, V_p and T."""

DROPPED = 1 / 3, 1 / 2
"""Height and width of the rectangle that feature drop blanks, as shares of the map."""


class VectorGate(nn.Module):
    """Two dense layers on vectors, as scales in (0, 1)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.fc2(F.relu(self.fc1(x))))


class PartBranch(nn.Module):
    """Every strip scales its own channels, then the whole map is pooled."""

    def __init__(
        self, channels: int, strips: int, network: str, pooling: str, drop: str, reduction: int
    ) -> None:
        super().__init__()
        self.strips, self.pooling, self.drop = strips, pooling, drop
        hidden = max(1, channels // reduction)
        if network == "shared":
            self.gate = VectorGate(channels, hidden)
        else:
            self.gates = nn.ModuleList(VectorGate(channels, hidden) for _ in range(strips))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled [B, C], and the map of scaled strips that it comes from."""
        if x.shape[2] % self.strips:
            raise ValueError(f"{self.strips} strips, but {x.shape[2]} rows.")
        strips = x.unflatten(2, (self.strips, -1))  # [B, C, P, rows, columns]
        pooled = strips.mean((3, 4)).transpose(1, 2)
        if hasattr(self, "gate"):
            scales = self.gate(pooled)
        else:
            each = [gate(pooled[:, part]) for part, gate in enumerate(self.gates)]
            scales = torch.stack(each, dim=1)
        attended = (strips * scales.transpose(1, 2)[..., None, None]).flatten(2, 3)
        seen = attended
        if self.training and self.drop != "none":
            seen = attended.masked_fill(self._blank(x), 0)
        pool = F.adaptive_avg_pool2d if self.pooling == "average" else F.adaptive_max_pool2d
        return pool(seen, 1).flatten(1), attended

    def _blank(self, x: Tensor) -> Tensor:
        """Positions [B, 1, h, w] to drop: one strip, or a rectangle."""
        count, _, rows, columns = x.shape
        if self.drop == "part":
            part = torch.randint(self.strips, (count, 1, 1, 1), device=x.device)
            strip = torch.arange(rows, device=x.device) // (rows // self.strips)
            return (strip[:, None] == part).expand(-1, -1, -1, columns)
        height = _span(rows, max(1, round(DROPPED[0] * rows)), count, x.device)
        width = _span(columns, max(1, round(DROPPED[1] * columns)), count, x.device)
        return (height[:, :, None] & width[:, None])[:, None]


def _span(size: int, length: int, count: int, device: torch.device) -> Tensor:
    start = torch.randint(size - length + 1, (count, 1), device=device)
    place = torch.arange(size, device=device)
    return (place >= start) & (place < start + length)


class NonLocal(nn.Module):
    """Embedded-Gaussian attention over the positions of a sentence, with a residual BatchNorm."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.theta, self.phi, self.g = (nn.Linear(channels, inner) for _ in range(3))
        self.out = nn.Linear(inner, channels)
        self.bn = nn.BatchNorm1d(channels)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[B, L, C] -> [B, L, C], and the weight of j for i [B, L, L]; `real` are the keys."""
        affinity = self.theta(x) @ self.phi(x).transpose(1, 2)
        if real is not None:
            # Finite: a sentence without a word attends evenly.
            affinity = affinity.masked_fill(~real[:, None], torch.finfo(x.dtype).min)
        weights = affinity.softmax(-1)
        y = self.out(weights @ self.g(x))
        return x + self.bn(y.flatten(0, 1)).view_as(y), weights


def make_fc(dim: int, out_dim: int, layers: int) -> nn.Sequential:
    """Dense layers, each with BatchNorm and ReLU."""
    modules: list[nn.Module] = []
    for _ in range(layers):
        modules += [nn.Linear(dim, out_dim), nn.BatchNorm1d(out_dim), nn.ReLU(inplace=True)]
        dim = out_dim
    return nn.Sequential(*modules)


class AXMNet(nn.Module):
    """AXM-Net; fields are those of `jaxreid.models.axm_net.AXMNet`."""

    def __init__(
        self,
        vocab_size: int,
        num_classes: int = 0,
        channels: tuple[int, int, int, int] = (64, 256, 384, 512),
        blocks: int = 2,
        context: str = "shared",
        global_branch: bool = True,
        part: bool = True,
        nla: bool = True,
        num_parts: int = 7,
        strip_network: str = "shared",
        pooling: str = "max",
        feature_drop: str = "none",
        part_reduction: int = 16,
        nla_reduction: int = 2,
        fc_layers: int = 0,
        feature_dim: int = 512,
        word_dim: int = 300,
        word_std: float = 0.1,
        max_tokens: int = 56,
        text_stem: str = "conv",
        mask_padding: bool = False,
        **only_jax: Any,
    ) -> None:
        super().__init__()
        if unknown := set(only_jax) - ONLY_JAX:
            raise TypeError(f"AXMNet has no field {', '.join(sorted(unknown))}.")
        self.context, self.max_tokens, self.mask_padding = context, max_tokens, mask_padding
        self.embedding = nn.Embedding(vocab_size, word_dim, padding_idx=0)
        with torch.no_grad():
            self.embedding.weight.mul_(word_std)
        channels = tuple(channels)
        self.vision = OSNet(channels, blocks, gates=context != "joint")
        self.text = OSNet(
            *(channels, blocks, word_dim),
            words=True,
            stem=text_stem,
            gates=context == "separate",
        )
        if context == "joint":
            middles = [width // 4 for width in channels[1:] for _ in range(blocks)]
            self.joint = nn.ModuleList(VectorGate(8 * middle, middle) for middle in middles)
        present = {"global": global_branch, "part": part}
        self.branches = [name for name, there in present.items() if there]
        for name in (*self.branches, "text"):
            fc = make_fc(channels[-1], feature_dim, fc_layers or LAYERS[name])
            self.add_module(f"fc_{name}", fc)
        if part:
            self.part = PartBranch(
                channels[-1], num_parts, strip_network, pooling, feature_drop, part_reduction
            )
        if nla:
            self.nla = NonLocal(channels[-1], nla_reduction)
        if num_classes:
            self.classifier = nn.Linear(feature_dim, num_classes)

    def forward(
        self,
        images: Tensor,
        tokens: Tensor,
        lengths: Tensor,
        weak_tokens: Tensor | None = None,
        weak_lengths: Tensor | None = None,
        weak_valid: Tensor | None = None,
    ) -> dict[str, Features]:
        """Encode pairs: "image" and "strong".

        Args:
          images: [B, 3, H, W], normalised.
          tokens: [B, L], 0 is padding.
          lengths: [B].
          weak_tokens: not used, nor are the others of the weak captions.

        Returns:
          What `encode_image` and `encode_text` return, with "logits" where there is a classifier.
        """
        if self.context != "joint":
            outputs = {
                "image": self.encode_image(images),
                "strong": self.encode_text(tokens, lengths),
            }
        else:
            words, real = self._words(tokens, lengths)
            vision, text, halved = self._both(images, words, real)
            outputs = {"image": self._of_image(vision), "strong": self._of_text(text, halved)}
        if hasattr(self, "classifier"):
            for side, names in (("image", self.branches), ("strong", ("text",))):
                feats = outputs[side]
                feats["logits"] = {name: self.classifier(feats[name]) for name in names}
        return outputs

    def encode_image(self, images: Tensor) -> Features:
        """Images [B, 3, H, W]: maps, V_g "global", V_p "part", embedding."""
        return self._of_image(self._alone(self.vision, images, None)[0])

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Features:
        """Captions [N, L]: maps, "phrases" (weights of NLA), T "text", embedding."""
        words, real = self._words(tokens, lengths)
        return self._of_text(*self._alone(self.text, words, real))

    def _words(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """Word vectors as a picture [N, V, 1, L], and which positions are words [N, L]."""
        tokens = F.pad(tokens, (0, self.max_tokens - tokens.shape[1]))
        real = torch.arange(self.max_tokens, device=tokens.device) < lengths[:, None]
        words = self.embedding(tokens * real).transpose(1, 2)[:, :, None]
        return words, real if self.mask_padding else None

    def _alone(
        self, net: OSNet, x: Tensor, real: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Maps of one modality, and the words that are left at its end."""
        if self.context == "joint":
            raise ValueError("A joint context needs images and sentences at once.")
        # The text has no gates of its own unless they are separate.
        owner = self.text if net is self.text and self.context == "separate" else self.vision
        gates = iter([block.gate for block in owner.blocks()])
        x = net.maxpool(net.conv1(x))
        maps = {"conv1": x}
        for number, stage in enumerate(net.stages(), start=2):
            for layer in stage:
                if isinstance(layer, Block):
                    x = layer(x, next(gates), _pool_over(real))
                    maps[f"block{_count(maps)}"] = x
                else:
                    x, real = layer(x), _halve(real)
            maps[f"conv{number}"] = x
        maps["conv5"] = net.conv5(x)
        return maps, real

    def _both(
        self, images: Tensor, words: Tensor, real: Tensor | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor | None]:
        """Maps of both modalities, one gate for the eight streams of a block."""
        nets, x = (self.vision, self.text), [images, words]
        x = [net.maxpool(net.conv1(y)) for net, y in zip(nets, x, strict=True)]
        maps: tuple[dict[str, Tensor], ...] = {"conv1": x[0]}, {"conv1": x[1]}
        gates = iter(self.joint)
        for number, stages in enumerate(zip(*(net.stages() for net in nets), strict=True), start=2):
            for layers in zip(*stages, strict=True):
                if isinstance(layers[0], Block):
                    x = self._joint_block(layers, x, next(gates), _pool_over(real))
                    for of_net, y in zip(maps, x, strict=True):
                        of_net[f"block{_count(of_net)}"] = y
                else:
                    x, real = [layer(y) for layer, y in zip(layers, x, strict=True)], _halve(real)
            for of_net, y in zip(maps, x, strict=True):
                of_net[f"conv{number}"] = y
        for net, of_net, y in zip(nets, maps, x, strict=True):
            of_net["conv5"] = net.conv5(y)
        return *maps, real

    def _joint_block(
        self,
        blocks: tuple[Block, Block],
        x: list[Tensor],
        gate: VectorGate,
        pool_words: Callable[[Tensor], Tensor],
    ) -> list[Tensor]:
        streams = [block.streams(y) for block, y in zip(blocks, x, strict=True)]
        pooled = [mean_pool(stream) for stream in streams[0]]
        pooled += [pool_words(stream) for stream in streams[1]]
        scales = gate(torch.cat(pooled, dim=1).flatten(1)).chunk(len(pooled), dim=1)
        scales = [scale[:, :, None, None] for scale in scales]
        half = len(streams[0])
        return [
            blocks[0].fuse(x[0], streams[0], scales[:half]),
            blocks[1].fuse(x[1], streams[1], scales[half:]),
        ]

    def _of_image(self, maps: dict[str, Tensor]) -> Features:
        final = maps["conv5"]
        feats: Features = {"stages": maps, "map": final}
        if "global" in self.branches:
            feats["global"] = self.fc_global(final.mean((2, 3)))
        if "part" in self.branches:
            feats["part_pooled"], feats["part_map"] = self.part(final)
            feats["part"] = self.fc_part(feats["part_pooled"])
        units = [F.normalize(feats[name]) for name in self.branches]
        return feats | {"embedding": torch.cat(units, dim=1)}

    def _of_text(self, maps: dict[str, Tensor], real: Tensor | None) -> Features:
        feats: Features = {"stages": maps}
        words = maps["conv5"][:, :, 0].transpose(1, 2)
        if hasattr(self, "nla"):
            words, feats["phrases"] = self.nla(words, real)
            feats["attended"] = words
        if real is None:
            pooled = words.mean(1)
        else:
            pooled = (words * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        feats["text"] = self.fc_text(pooled)
        unit = F.normalize(feats["text"])
        return feats | {"embedding": unit.repeat(1, len(self.branches))}


def _count(maps: dict[str, Tensor]) -> int:
    return sum(name.startswith("block") for name in maps)


def _pool_over(real: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Mean over all positions, or over the words [B, L] of a picture of height 1."""
    if real is None:
        return mean_pool
    words, count = real[:, None, None], real.sum(1).clamp(min=1)[:, None, None, None]
    return lambda x: (x * words).sum((2, 3), keepdim=True) / count


def _halve(real: Tensor | None) -> Tensor | None:
    """Words after a pooling of pairs: a pair with one word is one."""
    if real is None:
        return None
    return real[:, : real.shape[1] // 2 * 2].unflatten(1, (-1, 2)).any(2)

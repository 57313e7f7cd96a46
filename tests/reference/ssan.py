"""SSAN (Ding et al., equations (1)-(17)) in plain PyTorch.

Parameters bear the names of the authors' released program, so that a checkpoint of it loads.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import rnn

from tests.reference.resnet import ResNet
from tests.reference.vgg import VGG

LEAK = 0.25
BRANCHES = ("global", "part", "relation")
ONLY_JAX = {"dtype", "remat", "platform"}
"""Fields that say how the other side computes, nothing of what; accepted and not used."""

Features = dict[str, Any]


class Projection(nn.Module):
    """Bias-free 1x1 convolution on pooled vectors [B, C], with BatchNorm where asked for."""

    def __init__(self, channels: int, out_channels: int, norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, out_channels, 1, bias=False)]
        self.block = nn.Sequential(*layers, *([nn.BatchNorm2d(out_channels)] if norm else []))

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.block[0].weight.flatten(1))
        if len(self.block) == 1:
            return x
        norm = self.block[1]
        if self.training and len(x) < 2:
            # One row has no variance: the running statistics have to do.
            return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        return norm(x[:, :, None, None]).flatten(1)


class PerPart(nn.ModuleList):
    """One projection for each part: [B, K, C] -> [B, K, D]."""

    def __init__(self, parts: int, channels: int, out_channels: int, norm: bool = False) -> None:
        super().__init__(Projection(channels, out_channels, norm) for _ in range(parts))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([layer(x[:, part]) for part, layer in enumerate(self)], dim=1)


class MultiViewNonLocal(nn.Module):
    """MV-NLN, eq. (13)-(16); without `relate` only W_n ("+ 1x1 conv" of Table I)."""

    def __init__(
        self, parts: int, dim: int, out_dim: int, view_dim: int, released: bool, relate: bool
    ) -> None:
        super().__init__()
        self.released, self.relate = released, relate
        if relate:
            self.cur_sim_conv = PerPart(parts, dim, view_dim)
            self.part_sim_conv = PerPart(parts, dim, view_dim)
            self.up_dim_conv = PerPart(parts, view_dim, dim, norm=released)
        self.conv_local_att = PerPart(parts, dim, out_dim)

    def forward(self, parts: Tensor) -> Features:
        """Relation features [B, K, N], and alpha [B, K, K] where parts look at each other."""
        if not self.relate:
            return {"relation": self.conv_local_att(parts)}
        theta, phi = self.cur_sim_conv(parts), self.part_sim_conv(parts)
        if self.released:
            theta, phi = F.leaky_relu(theta, LEAK), F.leaky_relu(phi, LEAK)
        unit_phi = F.normalize(phi, dim=-1)
        cosine = F.normalize(theta, dim=-1) @ unit_phi.transpose(1, 2)
        itself = torch.eye(parts.shape[1], dtype=torch.bool, device=parts.device)
        alpha = cosine.masked_fill(itself, float("-inf")).softmax(dim=-1)
        update = self.up_dim_conv(alpha @ (unit_phi if self.released else phi))
        if self.released:
            update = F.leaky_relu(update, LEAK)
        return {"relation": self.conv_local_att(parts + update), "alpha": alpha}


class TextEncoder(nn.Module):
    """Word tables and the Bi-LSTM, eq. (1)-(3)."""

    def __init__(
        self, tables: tuple[str, ...], vocab_size: int, word_dim: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        self.tables = tables
        for name in tables:
            self.add_module(name, nn.Embedding(vocab_size, word_dim, padding_idx=0))
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(word_dim, width, batch_first=True, bidirectional=True, bias=False)

    def forward(self, tokens: Tensor, lengths: Tensor, packed: bool) -> tuple[Tensor, ...]:
        """Words [N, L, C] of each table, anything at padding; all tables go through one pass."""
        words = torch.cat([self.dropout(getattr(self, name)(tokens)) for name in self.tables])
        if packed:
            lengths = lengths.cpu().clamp(min=1).repeat(len(self.tables))
            sequence = rnn.pack_padded_sequence(words, lengths, True, enforce_sorted=False)
            encoded, _ = rnn.pad_packed_sequence(
                self.lstm(sequence)[0], batch_first=True, total_length=tokens.shape[1]
            )
        else:
            # Without biases a state of 0 stays 0 on words of 0, so the backward direction may
            # begin in the padding.
            encoded, _ = self.lstm(words)
        forward, backward = encoded.chunk(2, dim=-1)
        return ((forward + backward) / 2).chunk(len(self.tables))


class _Classifier(nn.Module):
    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.block = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Classifiers(nn.Module):
    """Identity classifiers of one branch, one for each of its features."""

    def __init__(self, count: int, dim: int, num_classes: int) -> None:
        super().__init__()
        self.W = nn.ModuleList(_Classifier(dim, num_classes) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, ids], [B, K, D] -> [B, K, ids]."""
        if x.ndim == 2:
            return self.W[0](x)
        return torch.stack([layer(x[:, part]) for part, layer in enumerate(self.W)], dim=1)


class SSAN(nn.Module):
    """Semantically Self-Aligned Network; fields are those of `jaxreid.models.ssan.SSAN`.

    `packed` says how the LSTM runs: over packed sequences, or over sequences padded to the longest
    of the batch. Both give the same numbers.
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int = 0,
        backbone: str = "resnet",
        stage_sizes: tuple[int, ...] = (),
        block: str = "bottleneck",
        width: int = 64,
        last_stride: int = 2,
        formulation: str = "paper",
        part: bool = True,
        relation: str = "mv_nln",
        shared_projection: bool = True,
        num_parts: int = 6,
        word_dim: int = 512,
        global_dim: int = 1024,
        relation_dim: int = 512,
        view_dim: int = 512,
        max_tokens: int = 100,
        dropout: float | None = None,
        packed: bool = True,
        **only_jax: Any,
    ) -> None:
        super().__init__()
        if unknown := set(only_jax) - ONLY_JAX:
            raise TypeError(f"SSAN has no field {', '.join(sorted(unknown))}.")
        self.released = formulation == "released"
        self.num_parts = num_parts if part else 0
        self.max_tokens, self.packed = max_tokens, packed

        self.ImageExtract, channels = _image_net(backbone, stage_sizes, block, width, last_stride)
        tables: tuple[str, ...] = ("embedding",)
        if self.released:
            tables = ("embedding_global", "embedding_local") if part else ("embedding_global",)
        if dropout is None:
            dropout = 0.3 if self.released else 0.0
        self.TextExtract = TextEncoder(tables, vocab_size, word_dim, channels, dropout)

        projections = ("conv_global",) if shared_projection else _UNSHARED
        for name in projections:
            self.add_module(name, Projection(channels, global_dim))
        self._projections = projections[0], projections[-1]
        dims = {"global": (1, global_dim)}
        if part:
            conv = nn.Conv2d(channels, num_parts, 1, bias=False)
            self.conv_word_classifier = nn.Sequential(conv, nn.Sigmoid())
            self.conv_local = PerPart(num_parts, channels, global_dim)
            dims["part"] = num_parts, global_dim
        if part and relation != "none":
            sizes = num_parts, global_dim, relation_dim, view_dim
            self.non_local_net = MultiViewNonLocal(*sizes, self.released, relation == "mv_nln")
            dims["relation"] = num_parts, relation_dim
        self._classifiers = {name: _CLASSIFIERS[name] for name in dims if num_classes}
        for name, classifier in self._classifiers.items():
            self.add_module(classifier, Classifiers(*dims[name], num_classes))

    def forward(
        self,
        images: Tensor,
        tokens: Tensor,
        lengths: Tensor,
        weak_tokens: Tensor | None = None,
        weak_lengths: Tensor | None = None,
        weak_valid: Tensor | None = None,
    ) -> dict[str, Features]:
        """Encode pairs: "image", "strong" and, with weak captions, "weak".

        Args:
          images: [B, 3, H, W], normalised.
          tokens: [B, L], 0 is padding.
          lengths: [B].
          weak_tokens: [B, L'] captions of other images of the same identities.
          weak_lengths: [B].
          weak_valid: [B] bool, those that are real; all when None.

        Returns:
          What `encode_image` and `encode_text` return; with classifiers, "logits" of each branch
          for images and strong captions.
        """
        image = self.encode_image(images)
        if weak_tokens is None:
            outputs = {"image": image, "strong": self.encode_text(tokens, lengths)}
        else:
            # Both captions of an image in one pass of the LSTM.
            longest = max(tokens.shape[1], weak_tokens.shape[1])
            both = [F.pad(x, (0, longest - x.shape[1])) for x in (tokens, weak_tokens)]
            text = self._pool_text(torch.cat(both), torch.cat([lengths, weak_lengths]))
            strong, weak = ({k: v.chunk(2)[half] for k, v in text.items()} for half in (0, 1))
            outputs = {
                "image": image,
                "strong": strong | self._heads(strong, text=True),
                "weak": weak | self._heads(weak, text=True, valid=weak_valid),
            }
        if self._classifiers:
            for side in ("image", "strong"):
                feats = outputs[side]
                feats["logits"] = {
                    branch: getattr(self, name)(feats[branch])
                    for branch, name in self._classifiers.items()
                }
        return outputs

    def encode_image(self, images: Tensor) -> Features:
        """Images [B, 3, H, W]: pooled map, features of each branch, alpha, embedding."""
        feature_map = self.ImageExtract(images)
        feats = {"map": feature_map}
        if self.num_parts:
            if feature_map.shape[2] % self.num_parts:
                raise ValueError(f"{self.num_parts} parts, but {feature_map.shape[2]} rows.")
            strips = F.adaptive_max_pool2d(feature_map, (self.num_parts, 1))
            feats["pooled_parts"] = strips[..., 0].transpose(1, 2)
            feats["pooled"] = feats["pooled_parts"].max(1).values
        else:
            feats["pooled"] = F.adaptive_max_pool2d(feature_map, 1).flatten(1)
        return feats | self._heads(feats, text=False)

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Features:
        """Captions [N, L]: words, scores of words, pooled words, features as of images."""
        text = self._pool_text(tokens, lengths)
        return text | self._heads(text, text=True)

    def _pool_text(self, tokens: Tensor, lengths: Tensor) -> Features:
        longest = max(1, int(lengths.max()))
        tokens = tokens[:, :longest]
        real = torch.arange(longest, device=tokens.device) < lengths[:, None]
        encoded = self.TextExtract(tokens * real, lengths, self.packed)
        filled = [x.masked_fill(~real[..., None], torch.finfo(x.dtype).min) for x in encoded]
        some = real.any(1, keepdim=True)
        # A caption without a word is 0.
        pooled = torch.where(some, filled[0].max(1).values, 0)
        if self.released:
            # The program pads to max_tokens, and its maximum runs over the zeros too.
            short = (lengths < self.max_tokens)[:, None]
            pooled = torch.where(short, pooled.clamp(min=0), pooled)
        words = encoded[-1]
        text = {"words": words, "global_words": encoded[0], "pooled": pooled}
        if self.num_parts:
            conv, sigmoid = self.conv_word_classifier
            text["scores"] = scores = sigmoid(F.linear(words, conv.weight.flatten(1)))
            parts = [(s[..., None] * filled[-1]).max(1).values for s in scores.unbind(-1)]
            text["pooled_parts"] = torch.where(some[..., None], torch.stack(parts, dim=1), 0)
        return text

    def _heads(self, pooled: Features, *, text: bool, valid: Tensor | None = None) -> Features:
        feats = {"global": getattr(self, self._projections[text])(pooled["pooled"])}
        if self.num_parts:
            feats["part"] = self.conv_local(pooled["pooled_parts"])
            if self.released:
                feats["part"] = F.leaky_relu(feats["part"], LEAK)
            if hasattr(self, "non_local_net"):
                feats |= self._relations(feats["part"], valid)
        units = [F.normalize(feats[name].flatten(1)) for name in BRANCHES if name in feats]
        return feats | {"embedding": torch.cat(units, dim=1)}

    def _relations(self, parts: Tensor, valid: Tensor | None) -> Features:
        if valid is None or not (self.released and self.training):
            return self.non_local_net(parts)
        # Captions that are not real must not enter the statistics of the batch.
        return {
            name: x.new_zeros(len(parts), *x.shape[1:]).index_put((valid,), x)
            for name, x in self.non_local_net(parts[valid]).items()
        }


_UNSHARED = ("conv_global_image", "conv_global_text")
_CLASSIFIERS = {"global": "W", "part": "WL", "relation": "WN"}


def _image_net(
    backbone: str, stage_sizes: tuple[int, ...], block: str, width: int, last_stride: int
) -> tuple[nn.Sequential, int]:
    """The backbone as a chain of layers, and its channels."""
    sizes = {"stage_sizes": tuple(stage_sizes)} if stage_sizes else {}
    if backbone == "vgg":
        vgg = VGG(width=width, **sizes)
        return vgg.features, vgg.out_channels
    resnet = ResNet(block=block, width=width, last_stride=last_stride, **sizes)
    return nn.Sequential(*resnet.children()), resnet.out_channels

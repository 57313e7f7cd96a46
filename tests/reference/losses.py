"""Losses of SSAN, eq. (18)-(21), and of AXM-Net, eq. (3)-(5), in plain PyTorch.

Row i of every matrix [B, B] is image i, column j caption j; the diagonal holds the pairs.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

Draws = tuple[Tensor, Tensor]
"""Two tables [B, B] of uniform numbers: for the anchors that are images, and captions."""


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """[A, ...], [B, ...] -> [A, B]; trailing axes are one long vector."""
    return F.normalize(a.flatten(1)) @ F.normalize(b.flatten(1)).T


def identity_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of [B, ids] or, over parts too, of [B, K, ids]."""
    if logits.ndim == 3:
        labels = labels[:, None].expand(logits.shape[:2]).flatten()
        logits = logits.flatten(0, 1)
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def different(labels: Tensor) -> Tensor:
    """[B, B], True for two identities."""
    return labels[:, None] != labels


def _terms(similarity: Tensor, positive: Tensor, margin: Tensor | float) -> Tensor:
    """Loss of each anchor (row) with each candidate, before the hinge."""
    if isinstance(margin, Tensor):
        margin = margin[:, None]
    return margin - positive[:, None] + similarity


def hardest(terms: Tensor, negative: Tensor) -> Tensor:
    """Hinge [B] on the hardest negative of each row; 0 for a row without one."""
    return terms.masked_fill(~negative, float("-inf")).amax(1).clamp(min=0)


def drawn(terms: Tensor, candidates: Tensor, draw: Tensor | None) -> Tensor:
    """Hinge [B] on one candidate of each row, the one with the greatest number of a table."""
    draw = torch.rand_like(terms) if draw is None else draw
    index = draw.masked_fill(~candidates, -1).argmax(1, keepdim=True)
    loss = terms.gather(1, index)[:, 0].clamp(min=0)
    return torch.where(candidates.any(1), loss, 0)


def semi_hard(
    terms: Tensor, negative: Tensor, margin: Tensor | float, draw: Tensor | None
) -> Tensor:
    """`drawn` from the negatives whose loss lies strictly between 0 and the margin (released)."""
    bound = margin[:, None] if isinstance(margin, Tensor) else margin
    return drawn(terms, negative & (terms > 0) & (terms < bound), draw)


def ranking_loss(similarity: Tensor, negative: Tensor, margin: float) -> Tensor:
    """SSAN eq. (18) and AXM-Net eq. (4) with the hardest negatives, [B]."""
    positive = similarity.diagonal()
    of_image = hardest(_terms(similarity, positive, margin), negative)
    return of_image + hardest(_terms(similarity.T, positive, margin), negative)


def random_ranking_loss(
    similarity: Tensor, negative: Tensor, margin: float, draws: Draws | None = None
) -> Tensor:
    """AXM-Net eq. (4) with negatives at random, [B]."""
    rows, columns = draws or (None, None)
    positive = similarity.diagonal()
    of_image = drawn(_terms(similarity, positive, margin), negative, rows)
    return of_image + drawn(_terms(similarity.T, positive, margin), negative, columns)


def weak_ranking_loss(
    strong: Tensor, weak: Tensor, negative: Tensor, has_weak: Tensor, margin: Tensor | float
) -> Tensor:
    """Weak terms of eq. (19), the paper: an image's negatives are strong captions, [B]."""
    positive = weak.diagonal()
    negative = negative & has_weak
    of_image = hardest(_terms(strong, positive, margin), negative)
    of_caption = hardest(_terms(weak.T, positive, margin), negative)
    return (of_image + of_caption) * has_weak


def released_ranking_loss(
    similarity: Tensor,
    negative: Tensor,
    margin: Tensor | float,
    draws: Draws | None = None,
    anchor: Tensor | None = None,
) -> Tensor:
    """Semi-hard negatives on both sides, for strong and, with `anchor`, weak captions, [B]."""
    rows, columns = draws or (None, None)
    positive = similarity.diagonal()
    of_image = semi_hard(_terms(similarity, positive, margin), negative, margin, rows)
    of_caption = semi_hard(_terms(similarity.T, positive, margin), negative, margin, columns)
    loss = of_image + of_caption
    return loss if anchor is None else loss * anchor


def weak_ratio(strong: Tensor, weak: Tensor) -> Tensor:
    """Lambda of eq. (21) in [0, 1], without a gradient; 1 where the strong cosine is not above."""
    strong, weak = strong.detach(), weak.detach()
    usable = strong > 1e-6
    return torch.where(usable, weak / torch.where(usable, strong, 1), 1).clamp(0, 1)


def adaptive_margin(ratio: Tensor, margin: float) -> Tensor:
    """alpha_2 of eq. (20)."""
    return (ratio + 1) * margin / 2


def affinity_loss(similarity: Tensor, same: Tensor, usual: bool = False) -> Tensor:
    """AXM-Net eq. (5) as printed, or the usual cross-entropy, [B, B]."""
    apart = F.logsigmoid(-similarity if usual else 1 - similarity)
    return -torch.where(same, F.logsigmoid(similarity), apart)

"""Totals of SSAN and AXM-Net over the outputs of `SSAN.forward` and `AXMNet.forward`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tests.reference import losses

Outputs = Mapping[str, Mapping[str, Any]]
Parts = dict[str, Tensor]
FIXED_EPOCHS = 5
"""Epochs in which the released program holds the margin of the weak terms."""
SMALLEST_SHARE = 0.8
"""Of alpha_1: anchors with a smaller alpha_2 are left out later (released: 0.16 of 0.2)."""


def ssan_objective(
    outputs: Outputs,
    labels: Tensor,
    weak_valid: Tensor | None = None,
    *,
    epoch: float = 0,
    formulation: str = "paper",
    cr: bool = True,
    margin: float = 0.2,
    beta: float = 0.1,
    adaptive: bool = True,
    fixed_margin: float | None = None,
    part_weight: float = 0.5,
    relation_weight: float = 0.5,
    id_weight: float = 1.0,
    draws: Mapping[str, Mapping[str, losses.Draws]] | None = None,
) -> tuple[Tensor, Parts]:
    """Total of SSAN, and each part before its weight.

    Args:
      outputs: of `SSAN.forward`.
      labels: [B].
      weak_valid: [B] bool; all when None.
      epoch: passes over the training pairs so far (released).
      formulation: "paper": hardest negatives, mean over anchors; "released": semi-hard negatives
        at random, sum over anchors.
      cr: with the weak terms.
      margin: alpha_1.
      beta: weight of the weak terms.
      adaptive: alpha_2 by eq. (20); else `fixed_margin`, alpha_1 / 2 when None.
      fixed_margin: alpha_2.
      part_weight: of the branch "part".
      relation_weight: of the branch "relation".
      id_weight: of the identity losses.
      draws: by branch and by "strong" and "weak", the tables of random numbers of the released
        formulation; torch draws when None.
    """
    weights = {"global": 1.0, "part": part_weight, "relation": relation_weight}
    negative = losses.different(labels)
    fixed = None if adaptive else margin / 2 if fixed_margin is None else fixed_margin
    if weak_valid is None:
        weak_valid = torch.ones_like(labels, dtype=torch.bool)
    total: Tensor | float = 0.0
    parts: Parts = {}
    for branch, weight in weights.items():
        if branch not in outputs["image"]:
            continue
        image = outputs["image"][branch]
        strong = losses.cosine(image, outputs["strong"][branch])
        weak = losses.cosine(image, outputs["weak"][branch]) if cr else None
        drawn = (draws or {}).get(branch, {})
        if formulation == "released":
            found = _released(strong, weak, negative, weak_valid, margin, epoch, fixed, drawn)
        else:
            found = _paper(strong, weak, negative, weak_valid, margin, fixed)
        if id_weight:
            found["id"] = sum(
                losses.identity_loss(outputs[side]["logits"][branch], labels)
                for side in ("image", "strong")
            )
        loss = found["rank"] + beta * found.get("weak", 0) + id_weight * found.get("id", 0)
        total = total + weight * loss
        parts |= {f"{name}_{branch}": value for name, value in found.items()}
    return total, parts


def _paper(
    strong: Tensor,
    weak: Tensor | None,
    negative: Tensor,
    has_weak: Tensor,
    margin: float,
    fixed: float | None,
) -> Parts:
    found = {"rank": losses.ranking_loss(strong, negative, margin).mean()}
    if weak is None:
        return found
    ratio = losses.weak_ratio(strong.diagonal(), weak.diagonal())
    alpha_2 = losses.adaptive_margin(ratio, margin) if fixed is None else fixed
    loss = losses.weak_ranking_loss(strong, weak, negative, has_weak, alpha_2)
    return found | {"weak": loss.mean(), "lambda": _mean(ratio, has_weak)}


def _released(
    strong: Tensor,
    weak: Tensor | None,
    negative: Tensor,
    has_weak: Tensor,
    margin: float,
    epoch: float,
    fixed: float | None,
    draws: Mapping[str, losses.Draws],
) -> Parts:
    loss = losses.released_ranking_loss(strong, negative, margin, draws.get("strong"))
    found = {"rank": loss.sum()}
    if weak is None:
        return found
    ratio = losses.weak_ratio(strong.diagonal().abs(), weak.diagonal().abs())
    anchor = has_weak
    if fixed is not None:
        alpha_2: Tensor | float = fixed
    elif epoch < FIXED_EPOCHS:
        alpha_2 = margin / 2
    else:
        alpha_2 = losses.adaptive_margin(ratio, margin)
        anchor = has_weak & (alpha_2 >= SMALLEST_SHARE * margin)
    loss = losses.released_ranking_loss(
        weak, negative & has_weak, alpha_2, draws.get("weak"), anchor
    )
    return found | {"weak": loss.sum(), "lambda": _mean(ratio, has_weak)}


def _mean(x: Tensor, real: Tensor) -> Tensor:
    return (x * real).sum() / real.sum().clamp(min=1)


def axm_objective(
    outputs: Outputs,
    labels: Tensor,
    *,
    image_id_weight: float = 1.0,
    text_id_weight: float = 1.0,
    triplet_weight: float = 1.0,
    affinity_weight: float = 1.0,
    margin: float = 0.2,
    negatives: str = "hard",
    affinity: str = "literal",
    label_smoothing: float = 0.1,
    draws: Mapping[str, losses.Draws] | None = None,
) -> tuple[Tensor, Parts]:
    """Total of AXM-Net, eq. (3), and each part before its weight.

    Args:
      outputs: of `AXMNet.forward`.
      labels: [B].
      image_id_weight: of the identity losses of V_g and V_p.
      text_id_weight: of that of T.
      triplet_weight: of eq. (4).
      affinity_weight: of eq. (5).
      margin: of eq. (4).
      negatives: of eq. (4), "hard" or "random".
      affinity: eq. (5) "literal" or "usual".
      label_smoothing: of the identity losses.
      draws: tables of random numbers by branch, for random negatives.
    """
    image, text = outputs["image"], outputs["strong"]
    negative = losses.different(labels)
    weights = {"id": image_id_weight, "triplet": triplet_weight, "affinity": affinity_weight}
    parts: Parts = {}
    for branch in ("global", "part"):
        if branch not in image:
            continue
        similarity = losses.cosine(image[branch], text["text"])
        if weights["id"]:
            logits = image["logits"][branch]
            parts[f"id_{branch}"] = losses.identity_loss(logits, labels, label_smoothing)
        if weights["triplet"]:
            if negatives == "random":
                draw = (draws or {}).get(branch)
                loss = losses.random_ranking_loss(similarity, negative, margin, draw)
            else:
                loss = losses.ranking_loss(similarity, negative, margin)
            parts[f"triplet_{branch}"] = loss.mean()
        if weights["affinity"]:
            loss = losses.affinity_loss(similarity, ~negative, affinity == "usual")
            parts[f"affinity_{branch}"] = loss.mean()
    total = sum(weights[name.split("_")[0]] * value for name, value in parts.items())
    if text_id_weight:
        loss = losses.identity_loss(text["logits"]["text"], labels, label_smoothing)
        parts["id_text"] = loss
        total = total + text_id_weight * loss
    return total, parts

"""The objective of AXM-Net, eq. (3): shared identity loss + triplet losses + affinity losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from ml_collections import ConfigDict

from jaxreid import losses
from jaxreid.objectives import keywords

NEGATIVES = ("hard", "random")
AFFINITIES = ("literal", "usual")

# Image branches by name, each against the text; a network may have one of them.
_BRANCHES = ("global", "part")

Parts = dict[str, Float[Array, ""]]


def axm_objective(
    outputs: Mapping[str, Mapping[str, Any]],
    labels: Int[Array, " B"],
    valid: Bool[Array, "B 1"],
    *,
    rng: PRNGKeyArray,
    epoch: losses.Scalar,
    image_id_weight: float = 1.0,
    text_id_weight: float = 1.0,
    triplet_weight: float = 1.0,
    affinity_weight: float = 1.0,
    margin: float = 0.2,
    negatives: str = "hard",
    affinity: str = "literal",
    label_smoothing: float = 0.1,
) -> tuple[Float[Array, ""], Parts]:
    """Total loss of one global batch, AXM-Net eq. (3).

    Args:
      outputs: "image" with "global" and "part" [B, D], or one of them, "strong" with "text"
        [B, D]; both with "logits" of the same names, unless the identity weights are 0.
      labels: [B] dense identity.
      valid: [B, 1]; each image has a caption.
      rng: key of random negatives.
      epoch: not used.
      image_id_weight: weight of the identity loss of V_g and V_p.
      text_id_weight: likewise of T.
      triplet_weight: weight of eq. (4), for each image branch against the text.
      affinity_weight: weight of eq. (5), likewise.
      margin: of eq. (4), in units of cosine.
      negatives: of eq. (4), the "hard"est of the global batch or a "random" one.
      affinity: eq. (5) as printed, "literal", or the "usual" cross-entropy.
      label_smoothing: share that the identity loss spreads over all identities.

    Returns:
      The total and, for the log, each part before its weight: "id_BRANCH", "triplet_BRANCH",
      "affinity_BRANCH".

    Raises:
      ValueError: an identity loss without logits.
    """
    del valid, epoch
    parts: Parts = {}
    weights = {"id": image_id_weight, "triplet": triplet_weight, "affinity": affinity_weight}
    negative = losses.negative_pairs(labels)
    branches = [branch for branch in _BRANCHES if branch in outputs["image"]]
    for key, branch in zip(jax.random.split(rng, len(branches)), branches, strict=True):
        similarity = losses.cosine_similarity(outputs["image"][branch], outputs["strong"]["text"])
        # A loss that does not count is not computed either.
        if image_id_weight:
            parts[f"id_{branch}"] = _identity(outputs, "image", branch, labels, label_smoothing)
        if triplet_weight:
            draw = key if negatives == "random" else None
            parts[f"triplet_{branch}"] = losses.ranking_loss(
                similarity, negative, margin=margin, rng=draw, semi_hard=False
            ).mean()
        if affinity_weight:
            parts[f"affinity_{branch}"] = losses.affinity_loss(
                similarity, ~negative, usual=affinity == "usual"
            ).mean()
    total = sum((weights[name.split("_")[0]] * x for name, x in parts.items()), jnp.zeros(()))
    if text_id_weight:
        parts["id_text"] = _identity(outputs, "strong", "text", labels, label_smoothing)
        total = total + text_id_weight * parts["id_text"]
    return total, parts


def _identity(
    outputs: Mapping[str, Any],
    side: str,
    branch: str,
    labels: Int[Array, " B"],
    smoothing: float,
) -> Float[Array, ""]:
    if "logits" not in outputs[side]:
        raise ValueError(
            "config.objective.image_id_weight and text_id_weight are not both 0, but the network "
            "has no identity classifier: give it num_classes, or set both to 0."
        )
    return losses.identity_loss(outputs[side]["logits"][branch], labels, smoothing=smoothing).mean()


def build(config: Mapping[str, Any] | ConfigDict) -> Callable[..., tuple[Float[Array, ""], Parts]]:
    """Makes the objective from the fields of a configuration.

    Args:
      config: any of the keyword arguments of `axm_objective` that have a default.

    Raises:
      ValueError: an unknown field, or a value that is not accepted.
    """
    return keywords.bind(
        axm_objective,
        config,
        {"negatives": keywords.one_of(NEGATIVES), "affinity": keywords.one_of(AFFINITIES)},
    )

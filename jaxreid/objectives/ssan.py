"""The objective of SSAN: total = L(global) + 0.5 L(part) + 0.5 L(relation), L = ID + ranking."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from ml_collections import ConfigDict

from jaxreid import losses
from jaxreid.objectives import keywords

FORMULATIONS = ("paper", "released")

Parts = dict[str, Float[Array, ""]]


def ssan_objective(
    outputs: Mapping[str, Mapping[str, Any]],
    labels: Int[Array, " B"],
    valid: Bool[Array, "B T"],
    *,
    rng: PRNGKeyArray,
    epoch: losses.Scalar,
    formulation: str = "paper",
    cr: bool = True,
    margin: float = 0.2,
    beta: float = 0.1,
    adaptive: bool = True,
    fixed_margin: float | None = None,
    part_weight: float = 0.5,
    relation_weight: float = 0.5,
    id_weight: float = 1.0,
) -> tuple[Float[Array, ""], Parts]:
    """Total loss of one global batch, SSAN section IV.

    Each branch present in `outputs["image"]` adds weight * (id_weight * ID + ranking). ID is the
    cross-entropy of image and strong caption added, the mean over items and parts. Ranking is
    eq. (18), or eq. (19) with `cr`, on the cosine of the branch's concatenated parts.

    Args:
      outputs: "image", "strong" and, with `cr`, "weak", each with "global" [B, M], "part"
        [B, K, M], "relation" [B, K, N] (absent branches are skipped); "image" and "strong" also
        with "logits" of the same branches, classes last, unless `id_weight` is 0.
      labels: [B] dense identity.
      valid: [B, T] caption slots that hold a caption; slot 1 is the weak one.
      rng: key of the random negatives (released).
      epoch: passes over the training pairs so far, 0 in the first (released).
      formulation: "paper": hardest negatives, mean over items; "released": random semi-hard
        negatives, sum over items, and the margins of `losses.released_margin`.
      cr: compound ranking; False leaves the plain ranking loss.
      margin: alpha_1, in units of cosine.
      beta: weight of the weak terms.
      adaptive: alpha_2 of eq. (20); False takes `fixed_margin` for all (Fig. 7).
      fixed_margin: alpha_2 where not adaptive; None is alpha_1 / 2.
      part_weight: weight of the branch "part".
      relation_weight: weight of the branch "relation".
      id_weight: weight of ID within each branch.

    Returns:
      The total and, for the log, each part before its weight: "id_BRANCH", "rank_BRANCH",
      "weak_BRANCH", and "lambda_BRANCH", the mean over the items that have a weak caption.

    Raises:
      ValueError: `cr` without weak captions, or an ID loss without logits.
    """
    _check_outputs(outputs, cr=cr, id_weight=id_weight)
    weights = {"global": 1.0, "part": part_weight, "relation": relation_weight}
    ranking = functools.partial(
        _ranking,
        labels=labels,
        valid=valid,
        epoch=epoch,
        margin=margin,
        weak_margin=None if adaptive else margin / 2 if fixed_margin is None else fixed_margin,
    )
    total = jnp.zeros(())
    parts: Parts = {}
    for key, (branch, weight) in zip(jax.random.split(rng, 3), weights.items(), strict=True):
        if branch not in outputs["image"]:
            continue
        similarity = _similarity(outputs, branch, ("strong", "weak") if cr else ("strong",))
        found = ranking(similarity, rng=key if formulation == "released" else None)
        if id_weight:
            found["id"] = _identity(outputs, labels, branch)
        loss = found["rank"] + beta * found.get("weak", 0.0) + id_weight * found.get("id", 0.0)
        total = total + weight * loss
        parts |= {f"{name}_{branch}": value for name, value in found.items()}
    return total, parts


def build(config: Mapping[str, Any] | ConfigDict) -> Callable[..., tuple[Float[Array, ""], Parts]]:
    """Makes the objective from the fields of a configuration.

    Args:
      config: any of the keyword arguments of `ssan_objective` that have a default; what is left
        out keeps it.

    Returns:
      A function (outputs, labels, valid, *, rng, epoch) -> (total, parts).

    Raises:
      ValueError: an unknown field, or a value that is not accepted.
    """
    return keywords.bind(
        ssan_objective,
        config,
        {
            "formulation": keywords.one_of(FORMULATIONS),
            "cr": keywords.SWITCH,
            "adaptive": keywords.SWITCH,
            "fixed_margin": keywords.optional(keywords.NUMBER),
        },
    )


def _check_outputs(outputs: Mapping[str, Any], *, cr: bool, id_weight: float) -> None:
    if cr and "weak" not in outputs:
        raise ValueError(
            "config.objective.cr is True, but the batch holds one caption an item: set "
            "config.data.captions_per_pair=2, which adds one of another image of the same "
            "identity, or config.objective.cr=False."
        )
    if id_weight and "logits" not in outputs["image"]:
        raise ValueError(
            f"config.objective.id_weight is {id_weight!r}, but the network has no identity "
            "classifiers: give it num_classes, or set config.objective.id_weight=0."
        )


def _similarity(
    outputs: Mapping[str, Any], branch: str, roles: Sequence[str]
) -> dict[str, Float[Array, "B B"]]:
    """Cosines of images and captions, the parts of each concatenated, eqs. (7), (12), (17)."""
    image, *captions = (
        outputs[role][branch].reshape(len(outputs[role][branch]), -1) for role in ("image", *roles)
    )
    found = losses.cosine_similarity(image, jnp.stack(captions))
    return dict(zip(roles, found, strict=True))


def _identity(
    outputs: Mapping[str, Any], labels: Int[Array, " B"], branch: str
) -> Float[Array, ""]:
    image = losses.identity_loss(outputs["image"]["logits"][branch], labels)
    strong = losses.identity_loss(outputs["strong"]["logits"][branch], labels)
    return image.mean() + strong.mean()


def _ranking(
    similarity: dict[str, Float[Array, "B B"]],
    *,
    labels: Int[Array, " B"],
    valid: Bool[Array, "B T"],
    rng: PRNGKeyArray | None,
    epoch: losses.Scalar,
    margin: float,
    weak_margin: float | None,
) -> Parts:
    """Ranking losses of one branch; a key `rng` stands for the released formulation."""
    over_items = jnp.mean if rng is None else jnp.sum
    strong_key, weak_key = (None, None) if rng is None else jax.random.split(rng)
    negative = losses.negative_pairs(labels)
    strong = similarity["strong"]
    strong_loss = losses.ranking_loss(strong, negative, margin=margin, rng=strong_key)
    if "weak" not in similarity:
        return {"rank": over_items(strong_loss)}
    weak, has_weak = similarity["weak"], valid[:, 1]
    pairs = jnp.diagonal(strong), jnp.diagonal(weak)
    ratio = losses.weak_ratio(*(pairs if rng is None else map(jnp.abs, pairs)))
    alpha_2, anchor = jnp.full_like(ratio, weak_margin or 0.0), has_weak
    if weak_margin is None and rng is None:
        alpha_2 = losses.adaptive_margin(ratio, margin=margin)
    elif weak_margin is None:
        alpha_2, anchor = losses.released_margin(ratio, margin=margin, epoch=epoch)
    weak_loss = losses.weak_ranking_loss(
        strong, weak, negative, has_weak, margin=alpha_2, anchor=anchor, rng=weak_key
    )
    count = jnp.maximum(has_weak.sum(), 1).astype(ratio.dtype)
    return {
        "rank": over_items(strong_loss),
        "weak": over_items(weak_loss),
        "lambda": jnp.where(has_weak, ratio, 0).sum() / count,
    }

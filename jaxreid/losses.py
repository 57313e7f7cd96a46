"""Losses between images and captions: pure functions of arrays, the batch axis kept.

Row i of every array belongs to item i of the global batch: image I_i, its own caption D_i (the
*strong* pair) and, where there is one, D'_i, a caption of another image of the same identity (the
*weak* pair). Similarities are cosines. Nothing here averages over the batch; the caller does.

Equations are those of SSAN: Ding et al., "Semantically Self-Aligned Network for Text-to-Image
Part-aware Person Re-identification", arXiv:2107.12666; and of AXM-Net: Farooq et al., "AXM-Net:
Cross-Modal Context Sharing Attention Network for Person Re-ID", arXiv:2101.08238.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxreid.arrays import mesh_in_use, unit

Scalar = int | float | Float[Array, ""] | Int[Array, ""]

_SMALLEST_STRONG = 1e-6
_LARGEST_PADDING = -1e8


def cosine_similarity(
    a: Float[Array, "A D"], b: Float[Array, "*sets B D"]
) -> Float[Array, "*sets A B"]:
    """Cosine of every row of `a` with every row of `b`: S = a.b / (|a| |b|), SSAN eq. (7).

    On a mesh in use (`arrays.mesh_in_use`) rows of both are split evenly over all devices, and each
    computes the columns of its own rows of `b`: `a` travels, once for all sets, and `b` stays.

    Args:
      a: [A, D] features, any float type.
      b: [..., B, D] features, any float type; several sets are compared with the same `a`.

    Returns:
      [..., A, B] float32; 0, with gradient 0, for a row shorter than 1e-6.

    >>> cosine_similarity(jnp.array([[3.0, 4.0], [0.0, 0.0]]), jnp.array([[6.0, 8.0]])).tolist()
    [[1.0], [0.0]]
    """
    mesh = mesh_in_use()
    if mesh is None:
        return _cosines(a, b)
    devices, sets = mesh.axis_names, [None] * (b.ndim - 2)
    places = PartitionSpec(devices), PartitionSpec(*sets, devices)
    cosines = functools.partial(_cosines, devices=devices)
    columns = PartitionSpec(*sets, None, devices)
    return jax.shard_map(cosines, in_specs=places, out_specs=columns)(a, b)


def _cosines(a: Array, b: Array, devices: Sequence[str] = ()) -> Array:
    """Cosines of all rows of `a`, wherever they lie, with the rows of `b` that are here."""
    a = unit(a)
    if devices:
        a = jax.lax.all_gather(a, devices, tiled=True)
    return jnp.einsum("ad,...bd->...ab", a, unit(b), precision=jax.lax.Precision.HIGHEST)


def identity_loss(
    logits: Float[Array, "B *parts N"], labels: Int[Array, " B"], *, smoothing: float = 0.0
) -> Float[Array, "B *parts"]:
    """Cross-entropy of an identity classifier: log sum_n exp(z_n) - z_label, SSAN's ID loss.

    With label smoothing e, the label is worth 1 - e and every class e / N besides.

    Args:
      logits: [B, N], or [B, K, N] for one classifier per part; classes that only pad N hold a
        large negative finite value, -1e8 or less.
      labels: [B] identity of each item, in [0, N).
      smoothing: e.

    Returns:
      [B] or [B, K] float32, in nats.

    >>> print(identity_loss(jnp.array([[0.0, 0.0, -1e9]]), jnp.array([1])).round(4))
    [0.6931]
    >>> smooth = identity_loss(jnp.array([[2.0, 0.0, -1e9]]), jnp.array([0]), smoothing=0.5)
    >>> [f"{loss:.4f}" for loss in smooth]
    ['0.6269']

    Reference: Zheng et al., "Dual-path convolutional image-text embeddings", arXiv:1711.05535;
    Szegedy et al., "Rethinking the Inception architecture", arXiv:1512.00567 (smoothing).
    """
    logits = logits.astype(jnp.float32)
    last = logits.ndim - 1
    classes = jax.lax.broadcasted_iota(labels.dtype, logits.shape, last)
    own = classes == labels.reshape(labels.shape + (1,) * last)
    # A masked sum instead of a gather: it stays local where the classes are split over devices.
    picked = jnp.sum(jnp.where(own, logits, 0), axis=-1)
    if smoothing:
        real = logits > _LARGEST_PADDING
        count = jnp.sum(real, axis=-1, dtype=jnp.float32)
        mean = jnp.sum(jnp.where(real, logits, 0), axis=-1) / count
        picked = (1 - smoothing) * picked + smoothing * mean
    return jax.nn.logsumexp(logits, axis=-1) - picked


def negative_pairs(labels: Int[Array, " B"]) -> Bool[Array, "B B"]:
    """Pairs of two identities.

    Args:
      labels: [B] identity of each item.

    Returns:
      [B, B], True where items i and j are two people.

    >>> negative_pairs(jnp.array([7, 7, 2])).astype(int).tolist()
    [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    """
    return labels[:, None] != labels[None, :]


def hardest_negative(
    similarity: Float[Array, "B C"], negative: Bool[Array, "B C"]
) -> tuple[Int[Array, " B"], Bool[Array, " B"]]:
    """The most similar negative of each anchor.

    Args:
      similarity: [B, C] of anchor i and candidate j.
      negative: [B, C] candidates that may be chosen.

    Returns:
      [B] column of the chosen candidate (the first of equals; 0 where there is none) and [B] bool,
      whether there is one.

    >>> similarity = jnp.array([[0.9, 0.1, 0.3]])
    >>> index, found = hardest_negative(similarity, jnp.array([[False, True, True]]))
    >>> index.tolist(), found.tolist()
    ([2], [True])
    """
    return jnp.argmax(jnp.where(negative, similarity, -jnp.inf), axis=1), negative.any(axis=1)


def semi_hard_negative(
    similarity: Float[Array, "B C"],
    negative: Bool[Array, "B C"],
    positive: Float[Array, " B"],
    *,
    margin: Scalar | Float[Array, " B"],
    rng: PRNGKeyArray,
) -> tuple[Int[Array, " B"], Bool[Array, " B"]]:
    """One negative of each anchor at random among those with 0 < margin - positive + s < margin.

    Such a negative breaks the margin and yet is less similar than the positive.

    Args:
      similarity: [B, C] of anchor i and candidate j.
      negative: [B, C] candidates that may be chosen.
      positive: [B] similarity of each anchor's positive pair.
      margin: scalar or [B], in units of cosine.
      rng: key of the draw.

    Returns:
      [B] column of the chosen candidate (0 where there is none) and [B] bool, whether there is one.

    >>> index, found = semi_hard_negative(
    ...     jnp.array([[0.5, 0.7, 0.2, 0.45]]), jnp.array([[False, True, True, True]]),
    ...     jnp.array([0.5]), margin=0.2, rng=jax.random.key(0))
    >>> index.tolist(), found.tolist()
    ([3], [True])

    Reference: what SSAN's released program does; Ge et al., arXiv:1912.03083.
    """
    margin = jnp.broadcast_to(margin, positive.shape)[:, None]
    loss = margin - positive[:, None] + similarity
    candidates = negative & (loss > 0) & (loss < margin)
    draw = jax.random.uniform(rng, similarity.shape)
    return jnp.argmax(jnp.where(candidates, draw, -1.0), axis=1), candidates.any(axis=1)


def random_negative(
    negative: Bool[Array, "B C"], rng: PRNGKeyArray
) -> tuple[Int[Array, " B"], Bool[Array, " B"]]:
    """One negative of each anchor at random.

    Args:
      negative: [B, C] candidates that may be chosen.
      rng: key of the draw.

    Returns:
      [B] column of the chosen candidate (0 where there is none) and [B] bool, whether there is one.

    >>> index, found = random_negative(jnp.array([[False, False, True]]), jax.random.key(0))
    >>> index.tolist(), found.tolist()
    ([2], [True])
    """
    draw = jax.random.uniform(rng, negative.shape)
    return jnp.argmax(jnp.where(negative, draw, -1.0), axis=1), negative.any(axis=1)


def hinge_loss(
    similarity: Float[Array, "B C"],
    negative: Bool[Array, "B C"],
    positive: Float[Array, " B"],
    *,
    margin: Scalar | Float[Array, " B"],
    rng: PRNGKeyArray | None = None,
    semi_hard: bool = True,
) -> Float[Array, " B"]:
    """One term of the ranking losses: max(margin - positive + negative, 0), one negative an anchor.

    Args:
      similarity: [B, C] of anchor i and candidate j.
      negative: [B, C] candidates that may be the negative.
      positive: [B] similarity of each anchor's positive pair.
      margin: scalar or [B], in units of cosine.
      rng: None takes the hardest negative; a key draws one.
      semi_hard: draw among those less similar than the positive by less than the margin.

    Returns:
      [B] loss of each anchor; 0 for an anchor without a negative.

    >>> negative = jnp.array([[False, True]])
    >>> print(hinge_loss(jnp.array([[0.5, 0.375]]), negative, jnp.array([0.5]), margin=0.25))
    [0.125]
    """
    if rng is None:
        index, found = hardest_negative(similarity, negative)
    elif not semi_hard:
        index, found = random_negative(negative, rng)
    else:
        index, found = semi_hard_negative(similarity, negative, positive, margin=margin, rng=rng)
    chosen = jnp.take_along_axis(similarity, index[:, None], axis=1)[:, 0]
    return jnp.where(found, jax.nn.relu(margin - positive + chosen), 0)


def ranking_loss(
    similarity: Float[Array, "B B"],
    negative: Bool[Array, "B B"],
    *,
    margin: Scalar,
    rng: PRNGKeyArray | None = None,
    semi_hard: bool = True,
) -> Float[Array, " B"]:
    """Hinge on a negative caption of each image and a negative image of each caption.

    L = max(a - S(I_p, D_p) + S(I_p, D_n), 0) + max(a - S(I_p, D_p) + S(I_n, D_p), 0), SSAN
    eq. (18): the first two terms of eq. (19). It is also AXM-Net eq. (4).

    Args:
      similarity: [B, B] cosine of image i and caption j; the diagonal holds the matching pairs.
      negative: [B, B] bool, symmetric, pairs of two identities.
      margin: a, in units of cosine.
      rng: None takes the hardest negatives (the papers); a key draws them.
      semi_hard: draw semi-hard ones (SSAN, released); False draws any (AXM-Net, an option).

    Returns:
      [B] loss of each item; an anchor without a negative adds 0.

    >>> similarity = jnp.array([[0.75, 0.625], [0.25, 1.0]])
    >>> print(ranking_loss(similarity, negative_pairs(jnp.array([0, 1])), margin=0.25))
    [0.125 0.   ]

    Reference: SSAN eq. (18); Faghri et al., "VSE++", arXiv:1707.05612.
    """
    rows, columns = (None, None) if rng is None else jax.random.split(rng)
    positive = jnp.diagonal(similarity)
    hinge = functools.partial(hinge_loss, margin=margin, semi_hard=semi_hard)
    of_image = hinge(similarity, negative, positive, rng=rows)
    of_caption = hinge(similarity.T, negative, positive, rng=columns)
    return of_image + of_caption


def weak_ranking_loss(
    strong: Float[Array, "B B"],
    weak: Float[Array, "B B"],
    negative: Bool[Array, "B B"],
    has_weak: Bool[Array, " B"],
    *,
    margin: Scalar | Float[Array, " B"],
    anchor: Bool[Array, " B"] | None = None,
    rng: PRNGKeyArray | None = None,
) -> Float[Array, " B"]:
    """The weak terms of the compound ranking loss, whose positives are captions of other images.

    L = max(a_2 - S(I_p, D'_p) + S(I_p, D_n), 0) + max(a_2 - S(I_p, D'_p) + S(I_n, D'_p), 0), SSAN
    eq. (19), terms 3 and 4; the whole of (19) is `ranking_loss` + beta * `weak_ranking_loss`.

    Args:
      strong: [B, B] cosine of image i and caption D_j.
      weak: [B, B] cosine of image i and caption D'_j; columns without D' may hold anything finite.
      negative: [B, B] bool, symmetric, pairs of two identities.
      has_weak: [B] items that have a D'; the others are neither anchor nor negative here.
      margin: a_2, scalar or [B], in units of cosine.
      anchor: [B] items that act as anchor, all those of `has_weak` if None.
      rng: None takes the hardest negatives, an image's among the captions D_n (the paper); a key
        draws semi-hard ones, an image's among the captions D'_n (released).

    Returns:
      [B] loss of each item, 0 for an item that is no anchor.

    >>> strong, weak = jnp.array([[0.8, 0.7], [0.2, 0.9]]), jnp.array([[0.6, 0.1], [0.65, 0.5]])
    >>> negative, has_weak = negative_pairs(jnp.array([0, 1])), jnp.array([True, True])
    >>> print(weak_ranking_loss(strong, weak, negative, has_weak, margin=0.1).round(4))
    [0.35 0.  ]
    """
    rows, columns = (None, None) if rng is None else jax.random.split(rng)
    positive = jnp.diagonal(weak)
    negative = negative & has_weak[None, :]
    captions = strong if rng is None else weak
    of_image = hinge_loss(captions, negative, positive, margin=margin, rng=rows)
    of_caption = hinge_loss(weak.T, negative, positive, margin=margin, rng=columns)
    anchor = has_weak if anchor is None else has_weak & anchor
    return jnp.where(anchor, of_image + of_caption, 0)


def weak_ratio(strong: Float[Array, " B"], weak: Float[Array, " B"]) -> Float[Array, " B"]:
    """How well a caption of another image describes this one: lambda = min(S' / S, 1), eq. (21).

    The denominator is that of the strong pair of the same image, S(I_p, D_p); the paper's indices
    "n" there are a slip. Below 0 lambda is cut, and it is 1 where S is not above 1e-6.

    Args:
      strong: [B] cosine of I_p and D_p.
      weak: [B] cosine of I_p and D'_p.

    Returns:
      [B] lambda in [0, 1]; no gradient passes.

    >>> print(weak_ratio(jnp.array([0.8, 0.5, 0.5, 0.0]), jnp.array([0.4, 0.6, -0.1, 0.3])))
    [0.5 1.  0.  1. ]
    """
    usable = strong > _SMALLEST_STRONG
    ratio = jnp.where(usable, weak / jnp.where(usable, strong, 1.0), 1.0)
    return jax.lax.stop_gradient(jnp.clip(ratio, 0.0, 1.0))


def adaptive_margin(ratio: Float[Array, " B"], *, margin: Scalar) -> Float[Array, " B"]:
    """Margin of the weak terms: a_2 = (lambda + 1) a_1 / 2, SSAN eq. (20).

    Args:
      ratio: [B] lambda of `weak_ratio`.
      margin: a_1, the margin of the strong terms, in units of cosine.

    Returns:
      [B] a_2, between a_1 / 2 and a_1.

    >>> print(adaptive_margin(jnp.array([0.0, 0.5, 1.0]), margin=0.2))
    [0.1  0.15 0.2 ]
    """
    return (ratio + 1.0) * (margin / 2.0)


def released_margin(
    ratio: Float[Array, " B"],
    *,
    margin: Scalar,
    epoch: Scalar,
    fixed_epochs: int = 5,
    smallest: float = 0.8,
) -> tuple[Float[Array, " B"], Bool[Array, " B"]]:
    """Margin of the weak terms, and who takes part, as SSAN's released program has it.

    Args:
      ratio: [B] |S'| / |S|, cut at 1: `weak_ratio` of the absolute cosines.
      margin: a_1, in units of cosine.
      epoch: passes over the training pairs so far, 0 in the first, whole or broken.
      fixed_epochs: for so many epochs a_2 is a_1 / 2 and everyone takes part.
      smallest: later an item whose a_2 = (lambda + 1) a_1 / 2 is below this share of a_1 is no
        anchor; the program's 0.16 for its a_1 of 0.2, which is lambda below 0.6.

    Returns:
      [B] a_2 and [B] bool, whether the item is an anchor of the weak terms.

    >>> released_margin(jnp.array([0.5, 1.0]), margin=0.2, epoch=5)[1].tolist()
    [False, True]
    """
    early = jnp.asarray(epoch) < fixed_epochs
    adaptive = adaptive_margin(ratio, margin=margin)
    return jnp.where(early, margin / 2.0, adaptive), early | (adaptive >= smallest * margin)


def affinity_loss(
    similarity: Float[Array, "B C"], same: Bool[Array, "B C"], *, usual: bool = False
) -> Float[Array, "B C"]:
    """Binary cross-entropy of "one person" on the cosine S of each pair, AXM-Net eq. (5).

    As printed, a pair of two people costs -log sigmoid(1 - S) = softplus(S - 1), which still grows
    from S = 0 on; the usual cross-entropy would be -log(1 - sigmoid(S)) = softplus(S).

    Args:
      similarity: [B, C] of image i and caption j.
      same: [B, C] bool, pairs of one identity.
      usual: the usual cross-entropy for pairs of two people.

    Returns:
      [B, C] loss of each pair, in nats.

    >>> similarity = jnp.array([[0.0, 0.0, 1.0]])
    >>> losses = affinity_loss(similarity, jnp.array([[True, False, False]]))
    >>> [f"{loss:.4f}" for loss in losses[0]]
    ['0.6931', '0.3133', '0.6931']
    """
    different = jax.nn.softplus(similarity if usual else similarity - 1)
    return jnp.where(same, jax.nn.softplus(-similarity), different)

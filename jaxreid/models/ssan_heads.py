"""What lies between the encoders and the similarity in SSAN: word attention, parts, relations."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxreid.arrays import unit
from jaxreid.models.layers import Linear, PartLinear, product, symmetric_uniform
from jaxreid.models.normalization import BatchNorm
from jaxreid.typing import DType

BRANCHES = ("global", "part", "relation")
LEAK = 0.25


class WordAttention(nn.Module):
    """Word Attention Module: which part a word speaks of, eq. (8).

    Attributes:
      num_parts: K.
      dtype: compute type; scores are float32.
    """

    num_parts: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self, words: Float[Array, "N L C"], lengths: Int[Array, " N"]
    ) -> Float[Array, "N L K"]:
        """Scores s in (0, 1); 0 at padding."""
        width = words.shape[-1]
        init = symmetric_uniform(width**-0.5)
        kernel = self.param("kernel", init, (width, self.num_parts), jnp.float32)
        logits = product("nlc,ck->nlk", words, kernel, self.dtype)
        valid = jnp.arange(words.shape[1]).reshape(1, -1) < lengths.reshape(-1, 1)
        return jnp.where(valid[..., None], jax.nn.sigmoid(logits), 0.0)


class MultiViewNonLocal(nn.Module):
    """MV-NLN, eq. (13)-(16): every part feature looks at the other parts.

    Attributes:
      features: width N of the output.
      view_features: width M' of the views theta and phi.
      released: LeakyReLU after theta, phi and gamma, BatchNorm per part after gamma, and the
        aggregated phi of length 1.
      dtype: compute type; cosines, weights and outputs are float32.
    """

    features: int
    view_features: int
    released: bool = False
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self,
        parts: Float[Array, "B K M"],
        *,
        train: bool,
        mask: Bool[Array, " B"] | None = None,
    ) -> tuple[Float[Array, "B K N"], Float[Array, "B K K"]]:
        """Relation features and alpha[b, k, i], the weight of part i in part k (0 for i = k).

        Args:
          parts: part features.
          train: BatchNorm takes the statistics of the batch.
          mask: rows that count for these statistics.
        """
        theta = PartLinear(self.view_features, self.dtype, name="theta")(parts)
        phi = PartLinear(self.view_features, self.dtype, name="phi")(parts)
        if self.released:
            theta, phi = jax.nn.leaky_relu(theta, LEAK), jax.nn.leaky_relu(phi, LEAK)
        alpha = _relation_weights(theta, phi)
        gathered = jnp.einsum("bki,bim->bkm", alpha, unit(phi) if self.released else phi)
        update = PartLinear(parts.shape[-1], self.dtype, name="gamma")(gathered)
        if self.released:
            norm = BatchNorm(feature_axes=2, name="norm")
            update = norm(update, use_running_average=not train, mask=mask)
            update = jax.nn.leaky_relu(update, LEAK)
        output = PartLinear(self.features, self.dtype, name="output")
        return output(parts + update), alpha


def _relation_weights(
    theta: Float[Array, "B K m"], phi: Float[Array, "B K m"]
) -> Float[Array, "B K K"]:
    """Softmax over i != k of the cosine of theta_k and phi_i, eq. (13) and (14)."""
    similarity = jnp.einsum("bkm,bim->bki", unit(theta), unit(phi))
    others = ~jnp.eye(theta.shape[1], dtype=bool)[None]
    # Finite, so that a single part, which has no others, gets weights of 0 rather than NaN.
    weights = jax.nn.softmax(jnp.where(others, similarity, jnp.finfo(jnp.float32).min), axis=-1)
    return jnp.where(others, weights, 0.0)


class Heads(nn.Module):
    """From pooled maps or words to the features of the branches, shared by both modalities.

    Attributes: those of `SSAN` of the same names.
    """

    formulation: str
    part: bool
    relation: str
    shared_projection: bool
    global_dim: int
    relation_dim: int
    view_dim: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self,
        pooled: Float[Array, "B C"],
        pooled_parts: Float[Array, "B K C"] | None,
        *,
        modality: str,
        train: bool,
        mask: Bool[Array, " B"] | None = None,
    ) -> dict[str, Array]:
        """Features "global", "part", "relation", "alpha" and "embedding", float32.

        Args:
          pooled: GMP of the map or RMP of the words.
          pooled_parts: the same of each part.
          modality: "image" or "text".
          train: BatchNorm takes the statistics of the batch.
          mask: rows that count for these statistics.
        """
        released = self.formulation == "released"
        name = "global" if self.shared_projection else f"global_{modality}"
        feats = {"global": Linear(self.global_dim, self.dtype, name=name)(pooled)}
        if self.part and pooled_parts is not None:
            parts = PartLinear(self.global_dim, self.dtype, name="part")(pooled_parts)
            feats["part"] = parts = jax.nn.leaky_relu(parts, LEAK) if released else parts
            if self.relation == "mv_nln":
                relation = MultiViewNonLocal(
                    self.relation_dim, self.view_dim, released, self.dtype, name="relation"
                )
                feats["relation"], feats["alpha"] = relation(parts, train=train, mask=mask)
            elif self.relation == "conv1x1":
                output = PartLinear(self.relation_dim, self.dtype, name="relation")
                feats["relation"] = output(parts)
        feats["embedding"] = embed(feats)
        return feats


def embed(feats: Mapping[str, Float[Array, "B ..."]]) -> Float[Array, "B D"]:
    """Concatenate the unit vectors of the branches, parts of a branch concatenated first.

    The dot product of two embeddings is the similarity S_g + S_l + S_n, eq. (7), (12), (17).
    """
    present = [feats[branch] for branch in BRANCHES if branch in feats]
    return jnp.concatenate([unit(x.reshape(x.shape[0], -1)) for x in present], axis=-1)

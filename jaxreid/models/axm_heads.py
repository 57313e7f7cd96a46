"""What lies between the backbones and the features in AXM-Net: part branch, NLA, FC layers."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxreid.models.normalization import BatchNorm, relu
from jaxreid.models.osnet import Gate, dense_init, mean_over_positions
from jaxreid.models.pooling import peak
from jaxreid.typing import DType

STRIP_NETWORKS = ("shared", "separate")
POOLINGS = ("max", "average")
FEATURE_DROPS = ("none", "random", "part")

# Sides of the rectangle that feature drop blanks, as shares of the map.
_DROP_HEIGHT, _DROP_WIDTH = 1 / 3, 1 / 2


class FC(nn.Module):
    """Dense layers, each with batch normalisation and ReLU.

    Attributes:
      features: width of each.
      layers: how many.
      dtype: compute type of the products; the output is float32.
    """

    features: int
    layers: int = 1
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B I"], use_running_average: bool) -> Float[Array, "B O"]:
        """Features."""
        for index in range(1, self.layers + 1):
            dense = nn.Dense(
                self.features, dtype=self.dtype, kernel_init=dense_init, name=f"fc{index}"
            )
            norm = BatchNorm(name=f"bn{index}")
            x = relu(norm(dense(x), use_running_average=use_running_average))
        return x


class PartBranch(nn.Module):
    """Attentive local features: every strip scales its own channels, then all are pooled.

    Attributes:
      num_parts: P strips, dividing the rows of the map.
      network: "shared" by the strips or "separate".
      pooling: "max" over the whole map (GMP) or "average" (GAP).
      feature_drop: in training "random" blanks a rectangle of the map, "part" one strip.
      reduction: channels of the map for each hidden one of a strip's network.
      dtype: compute type.
      platform: how it is computed, see `platforms.PLATFORMS`.
    """

    num_parts: int = 7
    network: str = "shared"
    pooling: str = "max"
    feature_drop: str = "none"
    reduction: int = 16
    dtype: DType = jnp.float32
    platform: str = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], *, train: bool
    ) -> tuple[Float[Array, "B C"], Float[Array, "B H W C"]]:
        """Pooled features, and the map of scaled strips that they come from.

        Raises:
          ValueError: the strips do not divide the rows.
        """
        batch, rows, columns, width = x.shape
        if rows % self.num_parts:
            raise ValueError(
                f"num_parts={self.num_parts} does not divide the {rows} rows of the final map "
                f"(a 16th of the image's): choose a divisor of {rows}, or another image size."
            )
        strips = x.reshape(batch, self.num_parts, -1, columns, width)
        pooled = jnp.mean(strips.astype(jnp.float32), (2, 3))
        hidden = max(1, width // self.reduction)
        if self.network == "shared":
            scales = Gate(hidden, width, self.dtype, name="strip")(pooled)
        else:
            gates = [
                Gate(hidden, width, self.dtype, name=f"strip{part + 1}")
                for part in range(self.num_parts)
            ]
            scales = jnp.stack([gate(pooled[:, k]) for k, gate in enumerate(gates)], axis=1)
        attended = (strips * scales.astype(x.dtype)[:, :, None, None]).reshape(x.shape)
        seen = attended
        if train and self.feature_drop != "none":
            seen = jnp.where(self._dropped(x.shape), 0, attended)
        if self.pooling == "average":
            return mean_over_positions(seen), attended
        return peak(seen.reshape(batch, -1, width), 1, self.platform).astype(jnp.float32), attended

    def _dropped(self, shape: tuple[int, ...]) -> Bool[Array, "B H W 1"]:
        """Positions that feature drop blanks in each image of the batch."""
        batch, rows, columns, _ = shape
        keys = jax.random.split(self.make_rng("dropout"))
        if self.feature_drop == "part":
            part = jax.random.randint(keys[0], (batch, 1), 0, self.num_parts)
            strip = jnp.arange(rows)[None] // (rows // self.num_parts)
            return jnp.broadcast_to((strip == part)[:, :, None, None], (batch, rows, columns, 1))
        tall, wide = (
            max(1, round(share * size))
            for share, size in ((_DROP_HEIGHT, rows), (_DROP_WIDTH, columns))
        )
        across = _span(keys[0], batch, rows, tall)
        along = _span(keys[1], batch, columns, wide)
        return (across[:, :, None] & along[:, None, :])[..., None]


def _span(key: Array, batch: int, size: int, length: int) -> Bool[Array, "B S"]:
    """A stretch of so many of `size` places, drawn for each row."""
    start = jax.random.randint(key, (batch, 1), 0, size - length + 1)
    place = jnp.arange(size)[None]
    return (place >= start) & (place < start + length)


class NonLocal(nn.Module):
    """Non-local attention (NLA) over the positions of a sentence, embedded Gaussian [34].

    out = x + BN(W y), y_i = sum_j softmax_j(theta_i . phi_j) g_j; the scale of BN starts at 0, so
    that the layer starts as the identity.

    Attributes:
      reduction: channels of the input for each one that theta, phi and g have.
      dtype: compute type; the softmax is float32.
    """

    reduction: int = 2
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L C"],
        use_running_average: bool,
        mask: Bool[Array, "B L"] | None = None,
    ) -> tuple[Float[Array, "B L C"], Float[Array, "B L L"]]:
        """Output, and the weight of position j for position i; a mask leaves positions out."""
        inner = max(1, x.shape[-1] // self.reduction)

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, kernel_init=dense_init, name=name)

        theta, phi, g = (dense(inner, name)(x) for name in ("theta", "phi", "g"))
        affinity = jnp.einsum("bic,bjc->bij", theta, phi).astype(jnp.float32)
        if mask is not None:
            # Finite, so that a sentence without a word attends evenly rather than to NaN.
            affinity = jnp.where(mask[:, None], affinity, jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(affinity, axis=-1)
        y = dense(x.shape[-1], "output")(jnp.einsum("bij,bjc->bic", weights.astype(g.dtype), g))
        norm = BatchNorm(initial_scale=0.0, dtype=self.dtype, name="bn")
        return x + norm(y, use_running_average=use_running_average), weights

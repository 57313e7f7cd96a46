"""Batch normalisation and what follows it, with gradients that pass over the maps few times."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxreid.arrays import lead
from jaxreid.typing import DType


class BatchNorm(nn.Module):
    """Batch normalisation with float32 statistics and parameters, whatever the compute type.

    Like torch, the running variance takes the unbiased estimate, since pretrained statistics come
    from there. Fewer than two rows say nothing of a variance: then the running statistics
    normalise, and stay as they are.

    Attributes:
      feature_axes: trailing axes with statistics of their own (2: one set per part).
      momentum: share of the old running statistics that is kept.
      epsilon: added to the variance.
      initial_scale: of every feature.
      dtype: type of the output.
    """

    feature_axes: int = 1
    momentum: float = 0.9
    epsilon: float = 1e-5
    initial_scale: float = 1.0
    dtype: DType = jnp.float32

    @nn.compact
    def of_features(self, features: tuple[int, ...]) -> tuple[Array, Array, Any, Any]:
        """Scale and bias, and the variables that hold running mean and variance.

        Args:
          features: shape of each.
        """
        start = nn.initializers.constant(self.initial_scale)
        scale = self.param("scale", start, features, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, features, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, features, jnp.float32)
        return scale, bias, mean, var

    def __call__(
        self,
        x: Float[Array, "B ..."],
        *,
        use_running_average: bool,
        mask: Bool[Array, " B"] | None = None,
    ) -> Float[Array, "B ..."]:
        """Normalise.

        Args:
          x: rows first, features last.
          use_running_average: normalise with the running statistics and keep them.
          mask: rows that count for the statistics; all when None.
        """
        return normalise_side_by_side([self], x, use_running_average=use_running_average, mask=mask)


def normalise_side_by_side(
    norms: Sequence[BatchNorm],
    x: Float[Array, "B ..."],
    *,
    use_running_average: bool,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, "B ..."]:
    """Normalises maps that lie side by side along the features, each with a layer of its own.

    Args:
      norms: one for each map, all alike; of equal widths.
      x: rows first, features last.
      use_running_average: normalise with the running statistics and keep them.
      mask: rows that count for the statistics; all when None.
    """
    layer = norms[0]
    *others, last = x.shape[x.ndim - layer.feature_axes :]
    own = [norm.of_features((*others, last // len(norms))) for norm in norms]
    scale, bias = _joined([one[0] for one in own]), _joined([one[1] for one in own])
    mean = _joined([found.value for _, _, found, _ in own])
    var = _joined([found.value for _, _, _, found in own])
    share = jnp.zeros(())
    if not use_running_average:
        batch_mean, batch_var, count = batch_statistics(x, layer.feature_axes, mask)
        enough = count >= 2.0
        if not layer.is_initializing():
            rate = jnp.where(enough, 1.0 - layer.momentum, 0.0)
            unbiased = batch_var * (count / jnp.maximum(count - 1.0, 1.0))
            means = _parted(mean + rate * (batch_mean - mean), len(norms))
            variances = _parted(var + rate * (unbiased - var), len(norms))
            for one, new_mean, new_var in zip(own, means, variances, strict=True):
                one[2].value, one[3].value = new_mean, new_var
        mean = jnp.where(enough, batch_mean, mean)
        var = jnp.where(enough, batch_var, var)
        share = jnp.where(enough, 1.0 / jnp.maximum(count, 1.0), 0.0)
        if mask is not None:
            share = share * mask.astype(jnp.float32).reshape(-1, *[1] * (x.ndim - 1))
    mean, var = jax.lax.stop_gradient((mean, var))
    return normalise(layer.epsilon, layer.dtype, x, mean, var, scale, bias, share)


def _joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


def _parted(x: Array, count: int) -> list[Array]:
    return [x] if count == 1 else jnp.split(x, count, axis=-1)


def batch_statistics(
    x: Float[Array, "B ..."], feature_axes: int, mask: Bool[Array, " B"] | None = None
) -> tuple[Float[Array, " ..."], Float[Array, " ..."], Float[Array, ""]]:
    """Mean, biased variance and number of rows over all but the trailing axes, float32.

    Both moments come from one pass over x, which is what counts where memory bandwidth is short.
    """
    x = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - feature_axes))
    inner = math.prod(x.shape[1 : x.ndim - feature_axes])
    if mask is None:
        count = jnp.float32(x.shape[0] * inner)
    else:
        x = jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, 0.0)
        count = jnp.sum(mask, dtype=jnp.float32) * inner
    total = jnp.maximum(count, 1.0)
    mean = jnp.sum(x, axes) / total
    var = jnp.maximum(jnp.sum(jnp.square(x), axes) / total - jnp.square(mean), 0.0)
    return mean, var, count


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def normalise(
    epsilon: float,
    dtype: DType,
    x: Float[Array, "B ..."],
    mean: Float[Array, " ..."],
    var: Float[Array, " ..."],
    scale: Float[Array, " ..."],
    bias: Float[Array, " ..."],
    share: Float[Array, ...],
) -> Float[Array, "B ..."]:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, computed in float32.

    The gradient knows that mean and variance come from x, so these themselves have none. It keeps
    x alone, which the layer before has in memory anyway, and not what lies between.

    Args:
      epsilon: added to the variance.
      dtype: of the result.
      x: rows first, features last.
      mean: of each feature.
      var: likewise.
      scale: likewise.
      bias: likewise.
      share: of each row in mean and variance, 0 where these do not depend on it; broadcasts with x.
    """
    factor = scale * jax.lax.rsqrt(var + epsilon)
    # Not (x - mean) * factor: a compiler would keep x - mean, which the gradient needs, as well.
    y = x.astype(jnp.float32) * lead(factor, x) + lead(bias - mean * factor, x)
    return y.astype(dtype)


def _normalise_forward(
    epsilon: float, dtype: DType, x: Array, mean: Array, var: Array, scale: Array, *rest: Array
) -> tuple[Array, tuple[Array, ...]]:
    bias, share = rest
    return normalise(epsilon, dtype, x, mean, var, scale, bias, share), (x, mean, var, scale, share)


def _normalise_backward(
    epsilon: float, dtype: DType, saved: tuple[Array, ...], grad: Array
) -> tuple[Array | None, ...]:
    del dtype
    x, mean, var, scale, share = saved
    centre, rest = jax.lax.platform_dependent(mean, cpu=_around_zero, default=_around_mean)
    grad, centred = grad.astype(jnp.float32), x.astype(jnp.float32) - lead(centre, x)
    inverse = jax.lax.rsqrt(var + epsilon)
    axes = tuple(range(x.ndim - mean.ndim))
    of_bias = jnp.sum(grad, axes)
    of_scale = (jnp.sum(grad * centred, axes) - rest * of_bias) * inverse
    slope = of_scale * inverse
    common = lead(of_bias - rest * slope, x) + centred * lead(slope, x)
    of_x = lead(scale * inverse, x) * (grad - share.reshape(share.shape or (1,) * x.ndim) * common)
    return of_x.astype(x.dtype), None, None, of_scale, of_bias, None


def _around_mean(mean: Array) -> tuple[Array, Array]:
    """What is subtracted from the map, and what is left of its mean then."""
    return mean, jnp.zeros_like(mean)


def _around_zero(mean: Array) -> tuple[Array, Array]:
    """Likewise for a CPU, where XLA would centre the map in the forward pass and keep it."""
    return jnp.zeros_like(mean), mean


normalise.defvjp(_normalise_forward, _normalise_backward)


@jax.custom_vjp
def relu(x: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """max(x, 0); the gradient looks at the result, which is kept anyway, and not at x."""
    return jnp.maximum(x, 0)


def _relu_forward(x: Array) -> tuple[Array, Array]:
    y = jnp.maximum(x, 0)
    return y, y


def _relu_backward(y: Array, grad: Array) -> tuple[Array]:
    return (jnp.where(y > 0, grad, jnp.zeros_like(grad)),)


relu.defvjp(_relu_forward, _relu_backward)

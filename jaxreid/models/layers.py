"""Layers that the networks share: products and classifiers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from jaxreid.arrays import after, lead, placed
from jaxreid.typing import DType

Initializer = Callable[..., Any]

kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
kaiming_fan_out_per_part = nn.initializers.variance_scaling(
    2.0, "fan_out", "normal", in_axis=-2, out_axis=-1, batch_axis=(0,)
)

CLASS_MULTIPLE = 256
PADDED_CLASS_LOGIT = -1e9


def symmetric_uniform(bound: float) -> Initializer:
    """Initial values uniform in [-bound, bound)."""

    def init(key: Any, shape: tuple[int, ...], dtype: DType = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def accumulate(
    spec: str, x: Float[Array, " ..."], y: Float[Array, " ..."], out_dtype: DType = jnp.float32
) -> Float[Array, " ..."]:
    """`jnp.einsum` of two arrays of one type, summed in float32.

    XLA's CPU runtime lacks some products of bfloat16 summed in float32, so there the factors are
    widened first. The platform is that of the lowering, not of the host that compiles.
    """

    def narrow(x: Array, y: Array) -> Array:
        return jnp.einsum(spec, x, y, preferred_element_type=out_dtype)

    def wide(x: Array, y: Array) -> Array:
        x, y = x.astype(jnp.float32), y.astype(jnp.float32)
        return jnp.einsum(spec, x, y).astype(out_dtype)

    if x.dtype == jnp.float32:
        return wide(x, y)
    return jax.lax.platform_dependent(x, y, cpu=wide, default=narrow)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3, 4))
def product(
    spec: str,
    x: Float[Array, " ..."],
    kernel: Float[Array, " ..."],
    dtype: DType,
    out_dtype: DType = jnp.float32,
) -> Float[Array, " ..."]:
    """Einsum with a float32 parameter, computed in `dtype` and summed in float32.

    Its gradient computes in `dtype` too, but that of the kernel is never rounded to it.

    Args:
      spec: subscripts; every letter of an operand is in the other one or in the result.
      x: activations.
      kernel: the parameter.
      dtype: type of the factors.
      out_dtype: type of the result.
    """
    operands, result = spec.split("->")
    left, right = operands.split(",")
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    in_order = functools.partial(accumulate, spec, out_dtype=out_dtype)
    if result[0] in right:
        return in_order(x, kernel)

    def turned(x: Array, kernel: Array) -> Array:
        """The same, given the other way round.

        Where both have an axis that is not the first, such as that of the parts, `jnp.einsum`
        else multiplies in an order for which XLA's CPU back end takes 2 to 6 times as long.
        """
        return accumulate(f"{right},{left}->{result}", kernel, x, out_dtype)

    return jax.lax.platform_dependent(x, kernel, cpu=turned, default=in_order)


def _product_forward(
    spec: str, x: Array, kernel: Array, dtype: DType, out_dtype: DType
) -> tuple[Array, tuple[Array, Array]]:
    return product(spec, x, kernel, dtype, out_dtype), (x, kernel)


def _product_backward(
    spec: str, dtype: DType, out_dtype: DType, saved: tuple[Array, Array], grad: Array
) -> tuple[Array, Array]:
    del out_dtype
    return product_gradients(spec, *saved, grad.astype(dtype))


def product_gradients(
    spec: str, x: Float[Array, " ..."], kernel: Float[Array, " ..."], grad: Float[Array, " ..."]
) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
    """Gradients of `product` for its activations and, float32, for its parameter.

    Args:
      spec: of the product.
      x: activations.
      kernel: the parameter.
      grad: of the result, of the type of the factors.
    """
    operands, result = spec.split("->")
    left, right = operands.split(",")
    grad_x = accumulate(f"{result},{right}->{left}", grad, kernel.astype(grad.dtype), x.dtype)
    x = after(x.astype(grad.dtype), grad_x)  # the last use of the kernel comes before its gradient
    return grad_x, accumulate(f"{left},{result}->{right}", x, grad)


product.defvjp(_product_forward, _product_backward)


class Linear(nn.Module):
    """Bias-free projection: the "1x1 Conv" of the papers on pooled features.

    Attributes:
      features: output width.
      dtype: compute type; the output is float32.
    """

    features: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B I"]) -> Float[Array, "B O"]:
        """Project."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", kaiming_fan_out, shape, jnp.float32)
        return product("bi,io->bo", x, kernel, self.dtype)


class PartLinear(nn.Module):
    """One bias-free projection per part, as one parameter [K, in, out].

    Attributes:
      features: output width.
      dtype: compute type; the output is float32.
    """

    features: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B K I"]) -> Float[Array, "B K O"]:
        """Project part k with its own weights."""
        shape = (x.shape[-2], x.shape[-1], self.features)
        kernel = self.param("kernel", kaiming_fan_out_per_part, shape, jnp.float32)
        return product("bki,kio->bko", x, kernel, self.dtype)


def padded_classes(num_classes: int) -> int:
    """Classes rounded up to a multiple of 256, so that checkpoints fit any mesh."""
    return -(-num_classes // CLASS_MULTIPLE) * CLASS_MULTIPLE


class Classifier(nn.Module):
    """Linear identity classifier with bias, on [B, I] or one per part on [B, K, I].

    The class axis comes last, padded to a multiple of 256; logits of padding classes are a large
    negative number, so that they never count.

    Attributes:
      num_classes: real classes.
      dtype: compute type; logits are float32.
      initial_std: standard deviation of the initial weights.
    """

    num_classes: int
    dtype: DType = jnp.float32
    initial_std: float = 0.001

    @nn.compact
    def __call__(self, *features: Float[Array, "B ..."]) -> list[Float[Array, "B ..."]]:
        """Logits [B, classes_padded] or [B, K, classes_padded] of each kind of features.

        All are classified in one product, which passes over the weights once, and so does its
        gradient. On a mesh in use the batch lies on its axes "data" and "model", and classes are
        split over "model".
        """
        x = jnp.stack(features)  # on an axis of its own: rows stay on their devices
        # Devices that share the classes share their rows, too. Left to itself the compiler may
        # bring each device all classes for its own rows, as it did on a TPU slice of 32 x 8.
        x = placed(x, PartitionSpec(None, "data"))
        classes = padded_classes(self.num_classes)
        parts = x.shape[2:-1]
        init = nn.initializers.normal(self.initial_std)
        kernel = self.param("kernel", init, (*parts, x.shape[-1], classes), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (*parts, classes), jnp.float32)
        spec = "sbki,kio->sbko" if parts else "sbi,io->sbo"
        logits = product(spec, x, kernel, self.dtype)
        by_class = PartitionSpec(None, "data", *[None] * len(parts), "model")
        logits = placed(logits, by_class, by_class)
        real = jnp.arange(classes) < self.num_classes
        logits = jnp.where(lead(real, logits), logits + lead(bias, logits), PADDED_CLASS_LOGIT)
        return list(logits)


def is_classifier(name: str) -> bool:
    """Tells whether a parameter (or its optimiser state) belongs to an identity classifier.

    Args:
      name: its path, ``module/sub_module/kernel``. Below a module whose name starts with
        "classifier" the last axis is that of the classes.
    """
    return any(part.startswith("classifier") for part in name.split("/"))


def count_parameters(params: Any, num_classes: int = 0) -> int:
    """Number of parameters, padding classes of the classifiers not counted.

    Args:
      params: tree of arrays or of shapes (`jax.eval_shape`).
      num_classes: real classes of the identity classifiers, see `is_classifier`.
    """
    total = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        size = 1
        for length in leaf.shape:
            size *= int(length)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if num_classes and is_classifier(name):
            size = size // int(leaf.shape[-1]) * num_classes
        total += size
    return total

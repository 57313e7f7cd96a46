"""Bidirectional LSTM over captions of uneven length, in one scan for both directions.

Captions are sorted by length and the scan runs over a shrinking number of rows, as a static
`RowTemplate` says; the host chooses the template from the lengths of the batch.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxreid.models.layers import accumulate, product, symmetric_uniform
from jaxreid.models.templates import RowTemplate, choose_template, fits, make_templates
from jaxreid.typing import DType

__all__ = ["BiLSTM", "RowTemplate", "choose_template", "fits", "make_templates"]

DIRECTIONS = 2


class BiLSTM(nn.Module):
    """Bi-LSTM without biases, SSAN eq. (1)-(4); gates in the order i, f, g, o.

    Attributes:
      hidden: width C of each direction.
      dtype: type of the matrix products; the cell state is float32.
    """

    hidden: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "N L S V"],
        lengths: Int[Array, " N"],
        template: RowTemplate | None = None,
    ) -> Float[Array, "N P S C"]:
        """Encode captions.

        A caption's features do not depend on how far it is padded or on the other captions.

        Args:
          x: word embeddings; S streams with the same lengths (several embedding tables) share the
            weights and the scan.
          lengths: valid tokens of each caption, 0 allowed.
          template: rows alive per chunk, which must fit the lengths (`fits`); None: full size.

        Returns:
          e = (forward + backward) / 2 over P = template.length tokens, 0 at padding.
        """
        count, length, streams, width = x.shape
        template = template or RowTemplate.full(count, length)
        _check_template(template, count, length)
        init = symmetric_uniform(self.hidden**-0.5)
        gates = 4 * self.hidden
        kernel = self.param("kernel", init, (DIRECTIONS, width, gates), jnp.float32)
        recurrent = self.param("recurrent", init, (DIRECTIONS, self.hidden, gates), jnp.float32)

        groups, rows, length = template.groups, count // template.groups, template.length
        cells = groups, rows * length
        into, outof = _cell_orders(lengths.reshape(groups, rows), length)
        x = x[:, :length].astype(self.dtype).reshape(1, *cells, streams * width)
        x = jnp.broadcast_to(x, (DIRECTIONS, *x.shape[1:]))
        x = _permute(x, into, outof).reshape(DIRECTIONS, groups, rows, length, streams, width)
        hidden = _run_chunks(x, kernel, recurrent, template)
        hidden = _permute(hidden.reshape(DIRECTIONS, *cells, -1), outof, into)
        mean = (hidden[0] + hidden[1]) * 0.5
        mean = mean.reshape(count, length, streams, self.hidden)
        valid = jnp.arange(length).reshape(1, -1) < lengths.reshape(-1, 1)
        return jnp.where(valid[..., None, None], mean, 0.0)


def _check_template(template: RowTemplate, count: int, length: int) -> None:
    if count % template.groups or template.rows[0] > count // template.groups:
        raise ValueError(
            f"template with groups={template.groups}, rows={template.rows} does not go with "
            f"{count} captions: make templates for {count} / groups captions per group."
        )
    if template.length > length:
        raise ValueError(
            f"template of {template.length} steps does not go with tokens padded to {length}: "
            f"make templates with max_tokens={length}."
        )


def _cell_orders(
    lengths: Int[Array, "G R"], length: int
) -> tuple[Int[Array, "2 G cells"], Int[Array, "2 G cells"]]:
    """Permutations of a group's (caption, token) cells for the forward and backward direction.

    Into the scan, captions go longest first, and the backward direction sees the valid words in
    reverse; padding stays where it is. The second permutation undoes the first.
    """
    rows = lengths.shape[1]
    order = jnp.argsort(-lengths, axis=1, stable=True)
    rank = jnp.argsort(order, axis=1)
    time = jnp.arange(length).reshape(1, 1, -1)

    def cells(source: Array, lengths: Array) -> Array:
        last = lengths[..., None] - 1
        reverse = jnp.where(time <= last, last - time, time)
        forward = jnp.broadcast_to(time, reverse.shape)
        cell = source[None, ..., None] * length + jnp.stack([forward, reverse])
        return cell.reshape(DIRECTIONS, -1, rows * length)

    return cells(order, jnp.take_along_axis(lengths, order, axis=1)), cells(rank, lengths)


@jax.custom_vjp
def _permute(x: Array, index: Array, inverse: Array) -> Array:
    """x[d, g, index[d, g, c]]; the gradient is a gather too, never a scatter."""
    del inverse
    return jnp.take_along_axis(x, index[..., None], axis=2)


def _permute_forward(x: Array, index: Array, inverse: Array) -> tuple[Array, tuple[Array, Array]]:
    return _permute(x, index, inverse), (index, inverse)


def _permute_backward(orders: tuple[Array, Array], grad: Array) -> tuple[Array, None, None]:
    index, inverse = orders
    return _permute(grad, inverse, index), None, None


_permute.defvjp(_permute_forward, _permute_backward)


def _run_chunks(
    x: Float[Array, "2 G R P S V"],
    kernel: Float[Array, "2 V gates"],
    recurrent: Float[Array, "2 C gates"],
    template: RowTemplate,
) -> Float[Array, "2 G R P S C"]:
    """Hidden states of sorted captions; 0 for rows that a chunk leaves out."""
    _, groups, rows, _, streams, _ = x.shape
    hidden = recurrent.shape[1]
    h = jnp.zeros((DIRECTIONS, groups, rows, streams, hidden), x.dtype)
    c = h.astype(jnp.float32)
    outputs = []
    for start, steps, alive in zip(template.starts, template.steps, template.rows, strict=True):
        chunk = x[:, :, :alive, start : start + steps]
        projected = product("dgrtsv,dvk->tdgrsk", chunk, kernel, x.dtype, x.dtype)
        hs, h, c = _scan(projected, recurrent, h[:, :, :alive], c[:, :, :alive])
        missing = [(0, 0)] * 3 + [(0, rows - alive)] + [(0, 0)] * 2
        outputs.append(jnp.pad(hs, missing))
    return jnp.moveaxis(jnp.concatenate(outputs), 0, 3)


def _cell(z: Array, c: Array) -> tuple[Array, Array]:
    """One LSTM step from the summed inputs of the gates; float32."""
    i, f, g, o = jnp.split(z.astype(jnp.float32), 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


@jax.custom_vjp
def _scan(z: Array, recurrent: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
    """Run one chunk: inputs z [t, 2, G, R, S, 4C], states [2, G, R, S, C].

    The gradient is written out because that of a plain scan adds a weight gradient of full size in
    every time step; here it is one matrix product over all time steps.
    """
    return _scan_forward(z, recurrent, h, c)[0]


def _scan_forward(z: Array, recurrent: Array, h: Array, c: Array) -> tuple[tuple, tuple]:
    weights = recurrent.astype(h.dtype)

    def step(state: tuple[Array, Array], z: Array) -> tuple[tuple[Array, Array], tuple]:
        h, c = state
        into = accumulate("dgrsh,dhk->dgrsk", h, weights)
        z = (z.astype(jnp.float32) + into).astype(z.dtype)
        new_h, new_c = _cell(z, c)
        new_h = new_h.astype(h.dtype)
        return (new_h, new_c), (new_h, z, c)

    (h_last, c_last), (hs, zs, cs) = jax.lax.scan(step, (h, c), z)
    return (hs, h_last, c_last), (zs, cs, jnp.concatenate([h[None], hs[:-1]]), recurrent)


def _scan_backward(saved: tuple, grads: tuple) -> tuple[Array, Array, Array, Array]:
    zs, cs, h_before, recurrent = saved
    grad_hs, grad_h, grad_c = grads
    weights = recurrent.astype(h_before.dtype)

    def step(state: tuple[Array, Array], inputs: tuple) -> tuple[tuple[Array, Array], Array]:
        grad_h, grad_c = state
        z, c, grad_out = inputs
        pull = jax.vjp(_cell, z, c)[1]
        grad_z, grad_c = pull((grad_h + grad_out.astype(jnp.float32), grad_c))
        grad_h = accumulate("dgrsk,dhk->dgrsh", grad_z, weights)
        return (grad_h, grad_c), grad_z

    first = grad_h.astype(jnp.float32), grad_c
    (grad_h, grad_c), grad_zs = jax.lax.scan(step, first, (zs, cs, grad_hs), reverse=True)
    grad_recurrent = accumulate("tdgrsh,tdgrsk->dhk", h_before, grad_zs)
    return grad_zs, grad_recurrent, grad_h.astype(h_before.dtype), grad_c


_scan.defvjp(_scan_forward, _scan_backward)

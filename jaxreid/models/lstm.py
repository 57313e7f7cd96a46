"""Bidirectional LSTM over captions of uneven length.

Captions are sorted by length and the scan runs over a shrinking number of rows, as a static
`RowTemplate` says; the host chooses the template from the lengths of the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxreid.models.layers import accumulate, product, product_gradients, symmetric_uniform
from jaxreid.models.platforms import on_cpu, on_tpu
from jaxreid.models.templates import RowTemplate, Size, choose_template, fits, make_templates
from jaxreid.typing import DType

__all__ = ["BiLSTM", "RowTemplate", "choose_template", "fits", "make_templates"]

DIRECTIONS = 2
_PROJECTION = "dgcv,dvk->dgck"


class BiLSTM(nn.Module):
    """Bi-LSTM without biases, SSAN eq. (1)-(4); gates in the order i, f, g, o.

    Attributes:
      hidden: width C of each direction.
      dtype: type of the matrix products; the cell state is float32.
      platform: how it is computed, see `platforms.PLATFORMS`. On a CPU the recurrence ends with the
        longest caption, wherever the template ends, since a time step costs as much as a dozen
        captions (a GPU would have to ask the host each time); and weights stand on the left of its
        products, since XLA would pack them anew for each time step on the right. On a TPU one
        direction follows the other: the recurrent weights of one stay on the chip from step to
        step, whereas those of both are too large for some (v5p, by its compiler).
    """

    hidden: int
    dtype: DType = jnp.float32
    platform: str = "auto"

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
        longest = jnp.max(lengths) if on_cpu(self.platform) else None
        together = 1 if on_tpu(self.platform) else DIRECTIONS
        hidden = _run_chunks(x, kernel, recurrent, template, together, longest)
        hidden = _permute(hidden.reshape(DIRECTIONS, *cells, -1), outof, into)
        mean = (hidden[0] + hidden[1]) * 0.5
        mean = mean.reshape(count, length, streams, self.hidden)
        valid = jnp.arange(length).reshape(1, -1) < lengths.reshape(-1, 1)
        return jnp.where(valid[..., None, None], mean, 0.0)


def _check_template(template: RowTemplate, count: Size, length: int) -> None:
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
    together: int,
    longest: Int[Array, ""] | None,
) -> Float[Array, "2 G R P S C"]:
    """Hidden states of sorted captions, 0 for rows that a chunk leaves out.

    Each scan takes `together` directions.
    """
    rows, streams = x.shape[2], x.shape[4]
    chunks = [
        jnp.moveaxis(x[:, :, :alive, start : start + steps], 3, 0)
        for start, steps, alive in zip(template.starts, template.steps, template.rows, strict=True)
    ]
    cells = _pack(chunks)
    ways = [slice(first, first + together) for first in range(0, DIRECTIONS, together)]
    hidden = jnp.concatenate(
        [
            _recur(template, streams, cells[way], kernel[way], recurrent[way], longest)
            for way in ways
        ]
    )
    grid = []
    for chunk, alive in zip(_unpack(hidden, template, streams), template.rows, strict=True):
        missing = [(0, 0)] * 3 + [(0, rows - alive)] + [(0, 0)] * 2
        grid.append(jnp.pad(chunk, missing))
    return jnp.moveaxis(jnp.concatenate(grid), 0, 3)


def _pack(chunks: Sequence[Array]) -> Float[Array, "D G cells F"]:
    """Cells of the chunks [t, D, G, r, S, F] in one axis, so that one product serves them all."""
    cells = [jnp.moveaxis(x, 0, 3).reshape(*x.shape[1:3], -1, x.shape[-1]) for x in chunks]
    return jnp.concatenate(cells, axis=2)


def _unpack(cells: Float[Array, "D G cells F"], template: RowTemplate, streams: int) -> list[Array]:
    """The chunks of packed cells, time first: [t, D, G, r, S, F]."""
    chunks, end = [], 0
    for steps, alive in zip(template.steps, template.rows, strict=True):
        start, end = end, end + alive * steps * streams
        chunk = cells[:, :, start:end]
        chunk = chunk.reshape(*chunk.shape[:2], alive, steps, streams, chunk.shape[-1])
        chunks.append(jnp.moveaxis(chunk, 3, 0))
    return chunks


def _multiplier(
    weights: Float[Array, "D C gates"], on_the_left: bool, *, back: bool = False
) -> Callable[[Array], Array]:
    """Returns the product of a step's rows [D, G, r, S, in] with the weights, float32.

    Args:
      weights: from hidden states to gates; a TPU keeps them on the chip as they are here.
      on_the_left: the form for CPUs, see `BiLSTM.platform`.
      back: from gates to hidden states.
    """
    if not on_the_left:
        spec = "dgrsk,dhk->dgrsh" if back else "dgrsh,dhk->dgrsk"
        return lambda x: accumulate(spec, x, weights)
    left = weights if back else jnp.swapaxes(weights, 1, 2)

    def multiply(x: Array) -> Array:
        product = accumulate("doi,dgrsi->dogrs", left, x)
        # Without the barrier XLA would turn product and transposition into one on the right.
        return jnp.moveaxis(jax.lax.optimization_barrier(product), 1, -1)

    return multiply


def _time_steps(template: RowTemplate, longest: Array | None) -> list[Array | None]:
    """How many time steps of each chunk any caption lives through; None for all of them."""
    if longest is None:
        return [None] * len(template.steps)
    pairs = zip(template.starts, template.steps, strict=True)
    return [jnp.clip(longest - start, 0, steps) for start, steps in pairs]


def _scan(
    step: Callable[..., Any], state: Any, inputs: Any, count: Array | None, reverse: bool = False
) -> tuple[Any, Any]:
    """`jax.lax.scan` over the first `count` inputs alone; the results of the others are 0."""
    if count is None:
        return jax.lax.scan(step, state, inputs, reverse=reverse)

    def read(time: Array) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, time, keepdims=False), inputs)

    def advance(number: Array, carried: tuple[Any, Any]) -> tuple[Any, Any]:
        state, results = carried
        time = count - 1 - number if reverse else number
        state, result = step(state, read(time))
        put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=time, axis=0)
        return state, jax.tree.map(put, results, result)

    length = jax.tree.leaves(inputs)[0].shape[0]
    shapes = jax.eval_shape(lambda: step(state, read(jnp.int32(0)))[1])
    empty = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)
    return jax.lax.fori_loop(0, count, advance, (state, empty))


def _cell(z: Array, c: Array) -> tuple[Array, Array]:
    """One LSTM step from the summed inputs of the gates; float32."""
    i, f, g, o = jnp.split(z.astype(jnp.float32), 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recur(
    template: RowTemplate,
    streams: int,
    x: Float[Array, "D G cells V"],
    kernel: Float[Array, "D V gates"],
    recurrent: Float[Array, "D C gates"],
    longest: Int[Array, ""] | None,
) -> Float[Array, "D G cells C"]:
    """Hidden states from word embeddings.

    The gradient is written out because that of a plain scan adds a weight gradient of full size in
    every time step; here it is one matrix product over all cells (and, on a mesh, one sum over the
    devices). Without a gradient, where the recurrence ends with the longest caption, words and
    hidden states go through one product in each time step: none is spent on padding.
    """
    if longest is None:
        return _recur_forward(template, streams, x, kernel, recurrent, longest)[0]
    weights = jnp.concatenate([recurrent, kernel], axis=1).astype(x.dtype)
    multiply = _multiplier(weights, on_the_left=True)

    def step(state: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        h, c = state
        h, c = _cell(multiply(jnp.concatenate([h, x], axis=-1)), c)
        return (h.astype(x.dtype), c), h.astype(x.dtype)

    state, hs = _empty_state(x, template, streams, recurrent.shape[1]), []
    counts = _time_steps(template, longest)
    for chunk, count in zip(_unpack(x, template, streams), counts, strict=True):
        alive = chunk.shape[3]
        state, out = _scan(step, tuple(x[:, :, :alive] for x in state), chunk, count)
        hs.append(out)
    return _pack(hs)


def _empty_state(
    x: Float[Array, "D G cells F"], template: RowTemplate, streams: int, hidden: int
) -> tuple[Array, Array]:
    shape = (*x.shape[:2], template.rows[0], streams, hidden)
    return jnp.zeros(shape, x.dtype), jnp.zeros(shape, jnp.float32)


def _recur_forward(
    template: RowTemplate,
    streams: int,
    x: Array,
    kernel: Array,
    recurrent: Array,
    longest: Array | None,
) -> tuple[Array, tuple]:
    z = product(_PROJECTION, x, kernel, x.dtype, x.dtype)
    multiply = _multiplier(recurrent.astype(z.dtype), longest is not None)

    def step(state: tuple[Array, ...], z: Array) -> tuple[tuple[Array, ...], tuple]:
        h, c = state
        into = multiply(h)
        z = (z.astype(jnp.float32) + into).astype(z.dtype)
        new_h, new_c = _cell(z, c)
        new_h = new_h.astype(h.dtype)
        return (new_h, new_c), (new_h, z, h, c)

    state = _empty_state(z, template, streams, recurrent.shape[1])
    saved = []
    counts = _time_steps(template, longest)
    for chunk, count in zip(_unpack(z, template, streams), counts, strict=True):
        alive = chunk.shape[3]
        state, out = _scan(step, tuple(x[:, :, :alive] for x in state), chunk, count)
        saved.append(out)
    hs, zs, h_before, c_before = zip(*saved, strict=True)
    return _pack(hs), (x, kernel, zs, c_before, _pack(h_before), recurrent, longest)


def _recur_backward(
    template: RowTemplate, streams: int, saved: tuple, grad: Array
) -> tuple[Array, Array, Array, None]:
    x, kernel, zs, c_before, h_before, recurrent, longest = saved
    multiply = _multiplier(recurrent.astype(grad.dtype), longest is not None, back=True)

    def step(state: tuple[Array, ...], inputs: tuple) -> tuple[tuple[Array, ...], Array]:
        grad_h, grad_c = state
        z, c, grad_out = inputs
        pull = jax.vjp(_cell, z, c)[1]
        grad_z, grad_c = pull((grad_h + grad_out.astype(jnp.float32), grad_c))
        return (multiply(grad_z), grad_c), grad_z

    grads = _unpack(grad, template, streams)
    state: tuple[Array, ...] = (jnp.zeros(grads[-1].shape[1:], jnp.float32),) * 2
    grad_zs = []
    counts = _time_steps(template, longest)
    for inputs, count in zip(
        zip(reversed(zs), reversed(c_before), reversed(grads), strict=True),
        reversed(counts),
        strict=True,
    ):
        woken = inputs[0].shape[3] - state[0].shape[2]
        padding = [(0, 0)] * 2 + [(0, woken)] + [(0, 0)] * 2
        state = tuple(jnp.pad(x, padding) for x in state)
        state, grad_z = _scan(step, state, inputs, count, reverse=True)
        grad_zs.append(grad_z)
    grad_z = _pack(grad_zs[::-1])
    of_recurrent = accumulate("dgch,dgck->dhk", h_before, grad_z)
    return *product_gradients(_PROJECTION, x, kernel, grad_z), of_recurrent, None


_recur.defvjp(_recur_forward, _recur_backward)

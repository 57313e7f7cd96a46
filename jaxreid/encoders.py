"""Compiled encoders of a network: any number of images or captions in, features out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, use_abstract_mesh
from jaxtyping import Float, Int, UInt8
from ml_collections import ConfigDict

from jaxreid import compilation, sharding
from jaxreid.data import augment
from jaxreid.models.templates import RowTemplate
from jaxreid.typing import PyTree

# Captions are padded to a multiple of this in evaluation, so that few shapes are compiled.
_LENGTH_STEP = 16
# Captions of like length go this many batches at once, up to so many rows: a recurrent step reads
# all of its weights however few rows it has.
_CAPTION_BATCHES, _MOST_CAPTIONS = 4, 256


class Encoder:
    """Compiled encoders of a network on a mesh; any number of images or captions goes in.

    Args:
      model: linen module with ``encode_image`` and ``encode_text``.
      mesh: the devices.
      batch_size: images a call, a multiple of the number of devices; captions of like length go
        several times as many at once.
      mean: of each colour channel.
      std: likewise.
      dtype: compute type.
      on_call: is told the compiled program of each block that is embedded.

    Attributes:
      mesh: the devices.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        mesh: Mesh,
        batch_size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        dtype: jnp.dtype,
        on_call: Callable[[Any], None] | None = None,
    ) -> None:
        sharding.check_batch_size(batch_size, mesh, "config.eval.batch_size")
        self.mesh, self._batch_size, self._on_call = mesh, batch_size, on_call

        def image_features(variables: PyTree, images: jax.Array) -> Any:
            pixels = augment.normalise(images, mean=mean, std=std, dtype=dtype)
            with use_abstract_mesh(mesh.abstract_mesh):
                return model.apply(variables, pixels, method="encode_image")

        def text_features(variables: PyTree, tokens: jax.Array, lengths: jax.Array) -> Any:
            rows, length = tokens.shape
            template = RowTemplate.full(rows // mesh.size, length, mesh.size)
            given = variables, tokens, lengths
            with use_abstract_mesh(mesh.abstract_mesh):
                return model.apply(*given, template=template, method="encode_text")

        self._encode: dict[str, Any] = {"image": image_features, "text": text_features}
        self._programs: dict[tuple[str, ...], compilation.Programs] = {}

    def compile_ahead(
        self,
        variables: PyTree,
        images: UInt8[np.ndarray, "N H W 3"],
        tokens: Int[np.ndarray, "M L"],
        lengths: Int[np.ndarray, " M"],
    ) -> None:
        """Compiles what embedding a split will take.

        Args:
          variables: ``params`` and ``batch_stats``, as they will lie on the devices then.
          images: [N, H, W, 3] of the split.
          tokens: [M, L] word ids.
          lengths: [M] number of tokens.
        """
        place = sharding.by_batch(self.mesh)

        def block(array: np.ndarray, rows: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype, sharding=place)

        self._program("image", ("embedding",), variables, block(images, self._batch_size))
        for rows, width in sorted(
            {(r, w) for _, r, w in self._by_length(lengths, tokens.shape[1])}
        ):
            words = block(tokens[:, :width], rows), block(lengths, rows)
            self._program("text", ("embedding",), variables, *words)

    def images(
        self, variables: PyTree, images: UInt8[np.ndarray, "N H W 3"]
    ) -> Float[np.ndarray, "N D"]:
        """Embeds images.

        Args:
          variables: ``params`` and ``batch_stats``.
          images: [N, H, W, 3] uint8 RGB of the run's image size; N may be 0.

        Returns:
          [N, D] float32, one unit vector per branch, side by side.
        """
        found = self.image_outputs(variables, images, "embedding")
        return found.get("embedding", np.zeros((0, 0), np.float32))

    def image_outputs(
        self, variables: PyTree, images: UInt8[np.ndarray, "N H W 3"], *names: str
    ) -> dict[str, Float[np.ndarray, "N ..."]]:
        """Fetches what ``encode_image`` returns.

        Args:
          variables: ``params`` and ``batch_stats``.
          images: [N, H, W, 3] uint8 RGB of the run's image size.
          *names: of outputs that are one array, compiled when first asked for.

        Returns:
          float32 arrays of N rows by name; what the network does not have is left out.
        """
        encode = self._encoder("image", names, variables)
        chunks = [
            {
                name: np.asarray(rows, np.float32)[:count]
                for name, rows in encode(self._put(block)).items()
            }
            for block, count in self._blocks(images)
        ]
        there = chunks[0] if chunks else {}
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in there}

    def captions(
        self,
        variables: PyTree,
        tokens: Int[np.ndarray, "M L"],
        lengths: Int[np.ndarray, " M"],
    ) -> Float[np.ndarray, "M D"]:
        """Embeds captions; the order they come in does not matter.

        Args:
          variables: ``params`` and ``batch_stats``.
          tokens: [M, L] word ids.
          lengths: [M] number of tokens.

        Returns:
          [M, D] float32, on the same scale as `images`.
        """
        found = self.caption_outputs(variables, tokens, lengths, "embedding")
        return found.get("embedding", np.zeros((0, 0), np.float32))

    def caption_outputs(
        self,
        variables: PyTree,
        tokens: Int[np.ndarray, "M L"],
        lengths: Int[np.ndarray, " M"],
        *names: str,
    ) -> dict[str, Float[np.ndarray, "M ..."]]:
        """Fetches what ``encode_text`` returns.

        Args:
          variables: ``params`` and ``batch_stats``.
          tokens: [M, L] word ids.
          lengths: [M] number of tokens.
          *names: of outputs that are one array, compiled when first asked for.

        Returns:
          float32 arrays of M rows by name, those of short captions padded with 0 to the longest;
          what the network does not have is left out.
        """
        found: dict[str, np.ndarray] = {}
        encode = self._encoder("text", names, variables)
        for rows, size, width in self._by_length(lengths, tokens.shape[1]):
            words, counts = _padded(tokens[rows, :width], size), _padded(lengths[rows], size)
            for name, values in encode(self._put(words), self._put(counts)).items():
                block = np.asarray(values, np.float32)[: len(rows)]
                if name not in found:  # the longest captions come first: no later block is wider
                    found[name] = np.zeros((len(tokens), *block.shape[1:]), np.float32)
                place: tuple[Any, ...] = (rows, *map(slice, block.shape[1:]))
                found[name][place] = block
        return found

    def word_scores(
        self,
        variables: PyTree,
        tokens: Int[np.ndarray, "M L"],
        lengths: Int[np.ndarray, " M"],
    ) -> Float[np.ndarray, "M L K"] | None:
        """Scores each word for each part, SSAN eq. (8).

        Args:
          variables: ``params`` and ``batch_stats``.
          tokens: [M, L] word ids.
          lengths: [M] number of tokens.

        Returns:
          [M, L, K] float32, 0 at padding; None if the network has no word attention.
        """
        found = self.caption_outputs(variables, tokens, lengths, "scores")
        if "scores" not in found:
            return None
        scores = found["scores"]
        return np.pad(scores, ((0, 0), (0, tokens.shape[1] - scores.shape[1]), (0, 0)))

    def _encoder(
        self, modality: str, names: tuple[str, ...], variables: PyTree
    ) -> Callable[..., dict[str, jax.Array]]:
        """Returns a function of blocks of images, or of tokens and lengths."""
        layout = _layout(variables)

        def encode(*blocks: jax.Array) -> dict[str, jax.Array]:
            program = self._program(modality, names, variables, *blocks, layout=layout)
            if self._on_call is not None:
                self._on_call(program)
            found: dict[str, jax.Array] = program(variables, *blocks)
            return found

        return encode

    def _program(
        self,
        modality: str,
        names: tuple[str, ...],
        variables: PyTree,
        *blocks: Any,
        layout: Hashable = None,
    ) -> Callable[..., Any]:
        """Compiles the encoder of a modality for these outputs alone: the rest is not computed."""
        if (modality, *names) not in self._programs:
            features = self._encode[modality]

            def chosen(*args: Any) -> dict[str, jax.Array]:
                found = features(*args)
                return {name: found[name] for name in names if name in found}

            self._programs[modality, *names] = compilation.Programs(
                jax.jit(chosen, out_shardings=self._places_of_outputs()),
                f"{modality} encoder ({', '.join(names)})",
            )
        shape = blocks[0].shape
        return self._programs[modality, *names].get(
            (shape, layout or _layout(variables)),
            variables,
            *blocks,
            note="batches of " + " x ".join(map(str, shape)),
        )

    def _by_length(
        self, lengths: np.ndarray, limit: int
    ) -> Iterator[tuple[Int[np.ndarray, " R"], int, int]]:
        """Yields captions, longest first: which, the rows of their block and its tokens."""
        order = np.argsort(-lengths, kind="stable")
        widths = [_width(length, limit) for length in lengths[order]]
        few = self._batch_size
        many = few * max(1, min(_CAPTION_BATCHES, _MOST_CAPTIONS // few))
        start = 0
        while start < len(order):
            alike = widths[start : start + many].count(widths[start]) == many
            size = many if alike else few
            yield order[start : start + size], size, widths[start]
            start += size

    def _blocks(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """Yields blocks of the batch size, the last one padded with zeros, and their true sizes."""
        for start in range(0, len(rows), self._batch_size):
            block = np.asarray(rows[start : start + self._batch_size])
            yield _padded(block, self._batch_size), len(block)

    def _put(self, block: np.ndarray) -> jax.Array:
        return sharding.put(block, sharding.by_batch(self.mesh))

    def _places_of_outputs(self) -> jax.sharding.NamedSharding:
        """Where every host can read all of them."""
        several = self.mesh.is_multi_process
        return sharding.replicated(self.mesh) if several else sharding.by_batch(self.mesh)


def _padded(block: np.ndarray, size: int) -> np.ndarray:
    """A block with rows of zeros at its end."""
    return np.pad(block, [(0, size - len(block))] + [(0, 0)] * (block.ndim - 1))


def _width(longest: Any, limit: int) -> int:
    """Tokens that captions are padded to."""
    return min(-(-max(1, int(longest)) // _LENGTH_STEP) * _LENGTH_STEP, limit)


def _layout(variables: PyTree) -> Hashable:
    """Tells variables apart that take different programs."""
    return tuple(
        (leaf.shape, leaf.dtype, getattr(leaf, "sharding", None))
        for leaf in jax.tree.leaves(variables)
    )


def make_encoder(
    config: ConfigDict,
    model: nn.Module,
    mesh: Mesh,
    *,
    on_call: Callable[[Any], None] | None = None,
) -> Encoder:
    """Compiles the encoders of a run.

    Args:
      config: of the run.
      model: its network.
      mesh: the devices.
      on_call: see `Encoder`.
    """
    # Evaluation pads its last batch anyway, so it may round its size up to the devices at hand.
    batch_size = -(-config.eval.batch_size // mesh.size) * mesh.size
    return Encoder(
        model,
        mesh=mesh,
        batch_size=batch_size,
        mean=config.data.mean,
        std=config.data.std,
        dtype=jnp.dtype(config.dtype),
        on_call=on_call,
    )

"""Data of the right shapes and without meaning, for measuring."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from jaxreid import runs, text
from jaxreid.data import source

_IMAGES_PER_IDENTITY = 4
_CAPTIONS_PER_IMAGE = 2

# Tokens of a caption of CUHK-PEDES: median 21, 99th percentile 53, longest 96, and with the other
# quantiles as they stand here the mean is 23.6.
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
_LENGTHS = (11.0, 17.0, 21.0, 27.0, 35.0, 53.0, 96.0)


def caption_lengths(count: int, max_tokens: int, seed: int) -> Int[np.ndarray, " M"]:
    """Draws caption lengths as CUHK-PEDES has them.

    Args:
      count: number of captions M.
      max_tokens: longer ones are cut.
      seed: of their order; the lengths themselves are evenly spaced quantiles.
    """
    quantiles = np.random.default_rng(seed).permutation(np.linspace(0.0, 1.0, count))
    lengths = np.rint(np.interp(quantiles, _QUANTILES, _LENGTHS)).astype(np.int32)
    return np.minimum(lengths, max_tokens)


def run_data(config: ConfigDict, *, num_images: int, num_ids: int, vocab_size: int) -> runs.RunData:
    """Makes up what a run trains on.

    Args:
      config: ``seed``, ``data.image_size``, ``data.max_tokens``, ``data.unknown``.
      num_images: images of random pixels, with two captions of random words each.
      num_ids: classes of the identity classifiers; the images show the first of them.
      vocab_size: rows of the word table, padding and unknown word included.

    Raises:
      ValueError: a number is too small.
    """
    if num_ids < 1:
        raise ValueError(f"--num_ids is {num_ids}; it takes 1 or more.")
    first = len(text.Vocabulary(("word",), config.data.unknown)) - 1
    if vocab_size <= first:
        raise ValueError(
            f"--vocab_size is {vocab_size}; it counts {first} rows besides the words and takes "
            f"{first + 1} or more."
        )
    words = tuple(f"word{number}" for number in range(vocab_size - first))
    train = _captioned(config, num_images, min(num_ids, num_images), vocab_size)
    return runs.RunData(
        vocabulary=text.Vocabulary(words, config.data.unknown),
        classes=tuple(f"made-up:{number}" for number in range(num_ids)),
        train=train,
        val=train,
    )


def _captioned(
    config: ConfigDict, num_images: int, num_ids: int, vocab_size: int
) -> runs.Captioned:
    rng = np.random.default_rng(config.seed)
    num_captions = num_images * _CAPTIONS_PER_IMAGE
    split = source.Split(
        name="made-up:train",
        images=rng.integers(0, 256, (num_images, *config.data.image_size, 3), np.uint8),
        image_ids=tuple(f"{number}.jpg" for number in range(num_images)),
        pids=np.arange(num_images) // _IMAGES_PER_IDENTITY % num_ids,
        camids=np.full(num_images, -1),
        captions=("",) * num_captions,
        caption_image=np.arange(num_captions, dtype=np.int32) // _CAPTIONS_PER_IMAGE,
    )
    lengths = caption_lengths(num_captions, config.data.max_tokens, config.seed)
    shape = num_captions, config.data.max_tokens
    tokens = rng.integers(1, vocab_size, shape, np.int32)
    tokens = np.where(np.arange(shape[1]) < lengths[:, None], tokens, 0)
    report = text.EncodingReport(num_captions, int(lengths.sum()), 0, (), 0, 0, ())
    return runs.Captioned(split, tokens, lengths, report)


def unit_vectors(count: int, dim: int, rng: np.random.Generator) -> Float[np.ndarray, "N D"]:
    """Draws float32 directions, evenly in all of them."""
    vectors = rng.standard_normal((count, dim), np.float32)
    vectors /= np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    return vectors

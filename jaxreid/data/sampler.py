"""Which pairs a step sees: a pure function of (seed, step)."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Bool, Int

_LARGEST_SEED = 2**31 - 1  # it also goes to the devices, as 32 bits

# Names of the random streams: two draws of one seed never share a stream.
_ORDER, _WEAK, _CAPTION = 1, 2, 3

SAMPLINGS = ("pairs", "images")


@dataclasses.dataclass(frozen=True)
class Indices:
    """What a step of B pairs with T captions each reads.

    Attributes:
      image: [B] position of the image in the split.
      caption: [B, T] positions of its captions.
      valid: [B, T] False where no such caption exists; the slot then repeats caption 0.
    """

    image: Int[np.ndarray, " B"]
    caption: Int[np.ndarray, "B T"]
    valid: Bool[np.ndarray, "B T"]


class _Stream:
    """An endless stream of permutations of 0 .. count-1, cut into batches.

    Batch b is the places b*B .. b*B+B-1 of the stream, so a batch may span two epochs and nothing
    is ever dropped.
    """

    def __init__(self, count: int, *, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"config.batch_size is {batch_size}; it takes 1 or more.")
        if not 0 <= seed <= _LARGEST_SEED:
            raise ValueError(f"config.seed is {seed}; it takes 0 to {_LARGEST_SEED}.")
        if not count:
            raise ValueError("the training split has no caption; training needs at least one.")
        self.batch_size = batch_size
        self._count = count
        self.seed = seed

    @property
    def steps_per_epoch(self) -> int:
        """Steps until everything was seen: count / B, rounded up."""
        return math.ceil(self._count / self.batch_size)

    def _draw(self, step: int) -> Int[np.ndarray, " B"]:
        position = step * self.batch_size + np.arange(self.batch_size)
        epochs, offsets = np.divmod(position, self._count)
        drawn = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            drawn[here] = self._permutation(int(epoch))[offsets[here]]
        return drawn

    @functools.lru_cache(maxsize=2)  # noqa: B019 - samplers live as long as their run
    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self._count)


class ImageSampler(_Stream):
    """Every image once an epoch, each time with one of its captions drawn at random (AXM-Net).

    Args:
      caption_image: [M] the image each caption describes; images without a caption are left out.
      batch_size: B, of all devices and hosts together.
      seed: of every draw.

    Raises:
      ValueError: a field is out of range, or there is no caption at all.
    """

    def __init__(self, caption_image: Int[np.ndarray, " M"], *, batch_size: int, seed: int) -> None:
        self._by_image = np.argsort(caption_image, kind="stable")
        self._images, self._start, self._captions = np.unique(
            np.asarray(caption_image)[self._by_image], return_index=True, return_counts=True
        )
        super().__init__(len(self._images), batch_size=batch_size, seed=seed)

    def __call__(self, step: int) -> Indices:
        """Returns the batch of a step (0, 1, ...)."""
        place = self._draw(step)
        draw = np.random.default_rng([self.seed, _CAPTION, step]).random(self.batch_size)
        which = (draw * self._captions[place]).astype(np.int64)
        caption = self._by_image[self._start[place] + which].astype(np.int32)[:, None]
        image = self._images[place].astype(np.int32)
        return Indices(image, caption, np.ones_like(caption, bool))


class PairSampler(_Stream):
    """Every (image, caption) pair once an epoch (SSAN).

    With two captions a pair, the second is D'_p of the compound ranking loss: a caption of another
    image of the same identity, drawn anew at each visit.

    Args:
      caption_image: [M] the image each caption describes.
      labels: [N] identity of each image.
      batch_size: B, of all devices and hosts together.
      captions_per_pair: 1 (the pair's own caption) or 2 (and a weak one).
      seed: of every draw.

    Raises:
      ValueError: a field is out of range, or there is no caption at all.
    """

    def __init__(
        self,
        caption_image: Int[np.ndarray, " M"],
        labels: Int[np.ndarray, " N"],
        *,
        batch_size: int,
        captions_per_pair: int,
        seed: int,
    ) -> None:
        if captions_per_pair not in (1, 2):
            raise ValueError(
                f"config.data.captions_per_pair is {captions_per_pair}; it takes 1 or 2."
            )
        super().__init__(len(caption_image), batch_size=batch_size, seed=seed)
        self._weak = captions_per_pair == 2
        self._caption_image = np.asarray(caption_image, np.int32)
        caption_label = np.asarray(labels)[caption_image]
        # In order of (identity, image), an image's captions stand together inside its identity's:
        # "any caption of the identity but not of this image" is a range with a gap.
        self._order = np.lexsort((np.arange(self._count), caption_image, caption_label))
        by_label, by_image = caption_label[self._order], self._caption_image[self._order]
        self._label_start = np.searchsorted(by_label, caption_label, "left")
        self._label_count = np.searchsorted(by_label, caption_label, "right") - self._label_start
        image_key = by_label.astype(np.int64) * len(labels) + by_image
        own_key = caption_label.astype(np.int64) * len(labels) + self._caption_image
        self._image_start = np.searchsorted(image_key, own_key, "left")
        self._image_count = np.searchsorted(image_key, own_key, "right") - self._image_start

    def __call__(self, step: int) -> Indices:
        """Returns the batch of a step (0, 1, ...)."""
        pair = self._draw(step)
        image = self._caption_image[pair]
        caption = pair[:, None].astype(np.int32)
        valid = np.ones_like(caption, bool)
        if self._weak:
            weak, has_weak = self._draw_weak(step, pair)
            caption = np.stack([caption[:, 0], weak], axis=1)
            valid = np.stack([valid[:, 0], has_weak], axis=1)
        return Indices(image, caption, valid)

    def _draw_weak(self, step: int, pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        others = self._label_count[pair] - self._image_count[pair]
        draw = np.random.default_rng([self.seed, _WEAK, step]).random(len(pair))
        place = self._label_start[pair] + (draw * others).astype(np.int64)
        place += np.where(place >= self._image_start[pair], self._image_count[pair], 0)
        has_weak = others > 0
        weak = np.where(has_weak, self._order[np.where(has_weak, place, 0)], pair)
        return weak.astype(np.int32), has_weak


def make_sampler(
    sampling: str,
    caption_image: Int[np.ndarray, " M"],
    labels: Int[np.ndarray, " N"],
    *,
    batch_size: int,
    captions_per_pair: int,
    seed: int,
) -> PairSampler | ImageSampler:
    """Makes the sampler that a config names.

    Args:
      sampling: ``pairs`` or ``images``.
      caption_image: [M] the image each caption describes.
      labels: [N] identity of each image.
      batch_size: B.
      captions_per_pair: see `PairSampler`; 1 where images are sampled.
      seed: of every draw.

    Raises:
      ValueError: no such sampling, or a field is out of range.
    """
    if sampling == "pairs":
        return PairSampler(
            caption_image,
            labels,
            batch_size=batch_size,
            captions_per_pair=captions_per_pair,
            seed=seed,
        )
    if sampling != "images":
        raise ValueError(
            f"config.data.sampling is {sampling!r}; it takes one of {', '.join(SAMPLINGS)}."
        )
    if captions_per_pair != 1:
        raise ValueError(
            f"config.data.captions_per_pair is {captions_per_pair}; with data.sampling='images' it "
            "takes 1."
        )
    return ImageSampler(caption_image, batch_size=batch_size, seed=seed)

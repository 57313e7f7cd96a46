"""Which pairs a step sees: a pure function of (seed, step)."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Bool, Int

# Names of the random streams: two draws of one seed never share a stream.
_ORDER, _WEAK = 1, 2


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


class PairSampler:
    """An endless stream of permutations of all (image, caption) pairs.

    Batch b is the pairs b*B .. b*B+B-1 of the stream, so a batch may span two epochs and no pair is
    ever dropped. With two captions a pair, the second is D'_p of the compound ranking loss: a
    caption of another image of the same identity, drawn anew at each visit.

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
        if batch_size < 1:
            raise ValueError(f"config.batch_size is {batch_size}; it takes 1 or more.")
        if captions_per_pair not in (1, 2):
            raise ValueError(
                f"config.data.captions_per_pair is {captions_per_pair}; it takes 1 or 2."
            )
        if seed < 0:
            raise ValueError(f"config.seed is {seed}; it takes 0 or more.")
        if not len(caption_image):
            raise ValueError("the training split has no caption; training needs at least one.")
        self.batch_size = batch_size
        self.num_pairs = len(caption_image)
        self._seed = seed
        self._weak = captions_per_pair == 2
        self._caption_image = np.asarray(caption_image, np.int32)
        caption_label = np.asarray(labels)[caption_image]
        # In order of (identity, image), an image's captions stand together inside its identity's:
        # "any caption of the identity but not of this image" is a range with a gap.
        self._order = np.lexsort((np.arange(self.num_pairs), caption_image, caption_label))
        by_label, by_image = caption_label[self._order], self._caption_image[self._order]
        self._label_start = np.searchsorted(by_label, caption_label, "left")
        self._label_count = np.searchsorted(by_label, caption_label, "right") - self._label_start
        image_key = by_label.astype(np.int64) * len(labels) + by_image
        own_key = caption_label.astype(np.int64) * len(labels) + self._caption_image
        self._image_start = np.searchsorted(image_key, own_key, "left")
        self._image_count = np.searchsorted(image_key, own_key, "right") - self._image_start

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every pair was seen: pairs / B, rounded up."""
        return math.ceil(self.num_pairs / self.batch_size)

    def __call__(self, step: int) -> Indices:
        """Returns the batch of a step (0, 1, ...)."""
        position = step * self.batch_size + np.arange(self.batch_size)
        epochs, offsets = np.divmod(position, self.num_pairs)
        pair = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            pair[here] = self._permutation(int(epoch))[offsets[here]]
        image = self._caption_image[pair]
        caption = pair[:, None].astype(np.int32)
        valid = np.ones_like(caption, bool)
        if self._weak:
            weak, has_weak = self._draw_weak(step, pair)
            caption = np.stack([caption[:, 0], weak], axis=1)
            valid = np.stack([valid[:, 0], has_weak], axis=1)
        return Indices(image, caption, valid)

    @functools.lru_cache(maxsize=2)  # noqa: B019 - samplers live as long as their run
    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, _ORDER, epoch]).permutation(self.num_pairs)

    def _draw_weak(self, step: int, pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        others = self._label_count[pair] - self._image_count[pair]
        draw = np.random.default_rng([self._seed, _WEAK, step]).random(len(pair))
        place = self._label_start[pair] + (draw * others).astype(np.int64)
        place += np.where(place >= self._image_start[pair], self._image_count[pair], 0)
        has_weak = others > 0
        weak = np.where(has_weak, self._order[np.where(has_weak, place, 0)], pair)
        return weak.astype(np.int32), has_weak

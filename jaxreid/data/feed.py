"""How batches reach the devices: images resident on them, or streamed from the host.

All feeds hand the step the same batch for the same (seed, step). A batch holds positions; what the
step reads at these positions is resident: captions always, images unless the host streams them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import psutil
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jaxtyping import Int

from jaxreid import sharding
from jaxreid.data.sampler import ImageSampler, Indices, PairSampler
from jaxreid.data.shards import Shards, group_size, part_size
from jaxreid.data.source import Split
from jaxreid.memory import gib

FEEDS = ("auto", "device", "sharded", "host")

# Share of a device's free memory that resident images may take under ``auto``: the step needs the
# rest for activations.
RESIDENT_SHARE = 0.25
_TILE = 128


@dataclasses.dataclass(frozen=True, repr=False)  # grain asks for it, which would fetch the arrays
class Feed:
    """Batches of a training run, in order, from any step on.

    Attributes:
      kind: ``device``, ``sharded`` or ``host``.
      resident: arrays that live on the devices during the run, a copy on each but for images that
        are `Shards`, and the seed of the step's draws.
      sampler: which pairs a step sees.
      tokens_lengths: [M] tokens of each caption, kept on the host.
    """

    kind: str
    resident: dict[str, Any]
    sampler: PairSampler | ImageSampler
    tokens_lengths: Int[np.ndarray, " M"]
    _images: np.ndarray | None
    _sharding: NamedSharding

    def lengths(self, step: int) -> Int[np.ndarray, " N"]:
        """Returns the lengths of a step's captions, row b*T + t, without making the batch."""
        return self.tokens_lengths[self.sampler(step).caption].reshape(-1)

    def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what every batch looks like, for compiling ahead."""
        example = dataclasses.asdict(self.sampler(0))
        if self._images is not None:
            example["images"] = np.broadcast_to(
                self._images[:1], (len(example["image"]), *self._images.shape[1:])
            )
        return {
            key: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=self._sharding)
            for key, value in example.items()
        }

    def batches(self, start: int, stop: int) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
        """Yields (batch on the devices, lengths of its captions [B*T]) of steps start .. stop-1."""
        for host in self._host_batches(start, stop):
            lengths = self.tokens_lengths[host["caption"]].reshape(-1)
            images = host.pop("images", None)
            batch = {key: sharding.put(value, self._sharding) for key, value in host.items()}
            if images is not None:
                batch["images"] = self._put_images(images)
            yield batch, lengths

    def _host_batches(self, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        if self._images is None:
            for step in range(start, stop):
                yield dataclasses.asdict(self.sampler(step))
            return
        source = grain.MapDataset.range(start, stop).map(self._load)
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
        yield from source.to_iter_dataset(options)

    def _load(self, step: int) -> dict[str, np.ndarray]:
        indices = self.sampler(int(step))
        return {**dataclasses.asdict(indices), "images": self._read(indices)}

    def _read(self, indices: Indices) -> np.ndarray:
        """Reads the images of those rows of the batch that this host's devices take."""
        if self._images is None:
            raise ValueError("the device feed holds its images on the devices, not on the host.")
        return self._images[indices.image[self._rows]]

    @functools.cached_property
    def _rows(self) -> Int[np.ndarray, " R"]:
        return sharding.rows_here(self.sampler.batch_size, self._sharding)

    def _put_images(self, images: np.ndarray) -> jax.Array:
        """Makes the batch of all hosts from the rows that were read here."""
        shape = (self.sampler.batch_size, *images.shape[1:])

        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            start, stop, _ = (index[0] if index else slice(None)).indices(shape[0])
            first = int(np.searchsorted(self._rows, start))
            return images[first : first + stop - start]

        with jax.transfer_guard_host_to_device("allow"):
            return jax.make_array_from_callback(shape, self._sharding, part)


def make_feed(
    split: Split,
    tokens: Int[np.ndarray, "M L"],
    lengths: Int[np.ndarray, " M"],
    sampler: PairSampler | ImageSampler,
    *,
    kind: str,
    replicated: NamedSharding,
    by_batch: NamedSharding,
) -> Feed:
    """Chooses and sets up the feed.

    Args:
      split: N images, M captions.
      tokens: [M, L] word ids.
      lengths: [M] number of tokens.
      sampler: over the same split.
      kind: ``device`` (a copy of the images on each device), ``sharded`` (a part of them on each),
        ``host``, or ``auto``: the first of these that fits in a quarter of the free memory of each
        device, which it says.
      replicated: sharding of resident arrays.
      by_batch: sharding of the batch axis.

    Raises:
      ValueError: an unknown kind.
    """
    if kind not in FEEDS:
        raise ValueError(f"config.data.feed is {kind!r}; it takes one of {', '.join(FEEDS)}.")
    free = 0.0
    if kind in ("auto", "sharded"):
        kind, free = _choose(split.images, kind, by_batch)
    host_arrays = {"tokens": tokens, "lengths": lengths, "labels": split.labels}
    host_arrays["seed"] = np.asarray(sampler.seed, np.uint32)  # an array: any seed is one program
    resident: dict[str, Any] = {
        k: sharding.put(value, replicated) for k, value in host_arrays.items()
    }
    if kind == "device":
        resident["images"] = sharding.put(_in_tiles(split.images), replicated)
    elif kind == "sharded":
        place = place_of_shards(split.images.shape, by_batch.mesh, free)
        logging.info("feed: the images are split over %d devices", group_size(place))
        resident["images"] = Shards.put(_in_tiles(split.images), place)
    if kind != "host":
        resident["no_images"] = sharding.put(split.images[:0], replicated)
    streamed = split.images if kind == "host" else None
    return Feed(kind, resident, sampler, lengths, streamed, by_batch)


def _in_tiles(images: np.ndarray) -> np.ndarray:
    return images.reshape(resident_shape(images.shape))


def resident_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape in which images lie on the devices, so that reading a few of them touches no other.

    A TPU keeps arrays in tiles of 128 numbers in a row. From images whose width is no multiple of
    it, its compiler makes a copy of all of them in another layout, in every step.

    Args:
      shape: [N, H, W, 3].

    >>> resident_shape((1000, 192, 64, 3))
    (1000, 288, 128)
    """
    count, *image = shape
    size = math.prod(image)
    return shape if size % _TILE else (count, size // _TILE, _TILE)


def choose_feed(shape: tuple[int, ...], devices: int, free: float) -> tuple[str, str]:
    """Chooses where images live under ``auto``.

    Args:
      shape: [N, H, W, 3] of all images, uint8.
      devices: of the mesh.
      free: bytes that each device has free.

    Returns:
      ``device``, ``sharded`` or ``host``, and why, for the log.
    """
    image, allowed = math.prod(shape[1:]), RESIDENT_SHARE * free
    part = part_size(shape[0], devices) * image
    if shape[0] * image <= allowed:
        return "device", "a copy on each fits"
    if devices > 1 and part <= allowed:
        return "sharded", f"a copy on each does not fit, a part of {gib(part)} does"
    return "host", "they do not fit, and are streamed"


def place_of_shards(
    shape: tuple[int, ...], mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh, free: float
) -> NamedSharding:
    """Says over which devices images are split under ``sharded``.

    What a step moves grows with the devices that share the images. So they are split inside of
    groups, as small as a quarter of the free memory allows; over all devices if none does.

    Args:
      shape: [N, H, W, 3] of all images, uint8.
      mesh: the devices.
      free: bytes that each device has free.
    """
    sizes = [size for size in range(2, mesh.size + 1) if mesh.size % size == 0]
    for size in sizes:
        if part_size(shape[0], size) * math.prod(shape[1:]) <= RESIDENT_SHARE * free:
            return sharding.by_group(mesh, size)
    return sharding.by_group(mesh, mesh.size)


def _choose(images: np.ndarray, kind: str, place: NamedSharding) -> tuple[str, float]:
    here, what = _free_memory(place)
    # All hosts run one program, so the shortest of memory decides for all.
    free = float(np.min(multihost_utils.process_allgather(np.float32(here))))
    devices = place.mesh.size
    if kind != "auto":
        return kind, free
    kind, why = choose_feed(images.shape, devices, free)
    logging.info(
        "feed: %s (images take %s; each of %d x %s has %s free, of which a quarter, %s, is for "
        "them: %s)",
        kind,
        gib(images.nbytes),
        devices,
        what,
        gib(free),
        gib(RESIDENT_SHARE * free),
        why,
    )
    return kind, free


def _free_memory(place: NamedSharding) -> tuple[int, str]:
    devices = place.mesh.local_devices
    if devices[0].platform == "cpu":  # every virtual device takes its copy from the same memory
        return psutil.virtual_memory().available // len(devices), "CPU device"
    stats = [device.memory_stats() or {} for device in devices]
    free = min(s.get("bytes_limit", 0) - s.get("bytes_in_use", 0) for s in stats)
    return free, devices[0].device_kind


def gather(resident: Mapping[str, Any], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Reads what the positions of a batch point at; runs inside the step.

    Args:
      resident: ``tokens`` [M, L], ``lengths`` [M], ``labels`` [N], and unless the batch has images
        ``images``, an array or `Shards` of N of them as in `resident_shape`, and ``no_images``
        [0, H, W, 3], for its shape.
      batch: ``image`` [B], ``caption`` [B, T], ``valid`` [B, T], and ``images`` [B, H, W, 3] with
        the host feed.

    Returns:
      ``images`` [B, H, W, 3] uint8, ``tokens`` [B, T, L], ``lengths`` [B, T], ``valid`` [B, T],
      ``labels`` [B].
    """
    take: Callable[..., jax.Array] = jnp.take
    images = batch.get("images")
    if images is None:
        there = resident["images"]
        if isinstance(there, Shards):
            images = there.take(batch["image"])
        else:
            images = take(there, batch["image"], axis=0, mode="clip")
        images = images.reshape(-1, *resident["no_images"].shape[1:])
    return {
        "images": images,
        "tokens": take(resident["tokens"], batch["caption"], axis=0, mode="clip"),
        "lengths": take(resident["lengths"], batch["caption"], axis=0, mode="clip"),
        "valid": batch["valid"],
        "labels": take(resident["labels"], batch["image"], axis=0, mode="clip"),
    }

"""How fast images come from their files into the cache, and from the cache to the devices."""

from __future__ import annotations

import contextlib
import io
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import jax
import numpy as np
import tensorflow_datasets as tfds

from jaxreid import sharding
from jaxreid.bench import measure
from jaxreid.data import decode, feed, sampler, source

_SAME, _OTHER = "same_size", "other_sizes"
_SIZES = (0.5, 1.5)  # of files of other sizes, as factors
_ALONE = 500  # images of the measurement of decoding alone
_QUALITY = 90


def bench_input(
    *,
    images: int = 4000,
    image_size: tuple[int, int] = (384, 128),
    resize: str = "bicubic",
    batch_size: int = 64,
    repeats: int = 3,
    seed: int = 0,
) -> measure.Measured:
    """Measures the way of images to the devices, on made-up photographs.

    Two sets of JPEG files are made up, in ArrayRecord files: of the size asked for, and of other
    sizes, 0.5 to 1.5 times as high and as wide. Reading a set for the first time is what a run
    does before its first step, end to end: records, decoding, resizing, the cache on the disk.

    Args:
      images: number of files of each set.
      image_size: (height, width) in pixels to decode to.
      resize: how, see `decode.decode_image`.
      batch_size: images a batch of the host feed.
      repeats: times that each is measured, after one that does not count.
      seed: of the pictures.

    Returns:
      Images a second from files to the cache, from the cache to the devices by the host feed, and
      of decoding alone in one thread.

    Raises:
      ValueError: a number is below 1, or ``resize`` is unknown.
    """
    height, width = image_size
    numbers = {"images": images, "batch_size": batch_size, "repeats": repeats}
    measure.check_from_one({**numbers, "image_size": min(image_size)})
    decode.check_resize(resize)
    where = measure.environment()
    with tempfile.TemporaryDirectory(prefix="jaxreid-bench-") as name:
        folder = pathlib.Path(name)
        builder = _MadeUp(data_dir=folder, images=images, image_size=image_size, seed=seed)
        with contextlib.redirect_stdout(sys.stderr):  # where TFDS tells what it does
            source.prepare(builder)
        timed = _functions(builder, folder / "cache", image_size, resize, batch_size)
        counts = {key: count for key, (count, _) in timed.items()}
        functions = {key: function for key, (_, function) in timed.items()}
        seconds = measure.time_in_turns(functions, repeats=repeats)
        file_bytes = builder.info.splits[_SAME].num_bytes / images
    found = {
        **numbers,
        "image_size": [height, width],
        "resize": resize,
        "bytes_per_file": file_bytes,
        "seconds": seconds,
        "images_per_second": {key: counts[key] / seconds[key].median for key in seconds},
    }
    title = f"input of {images:,} images, {height} x {width} pixels"
    return measure.Measured.here(title, where, found, _rows(found))


class _MadeUp(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """JPEG files without captions worth reading, one split of one size and one of other sizes."""

    name = "made_up"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self, *, data_dir: pathlib.Path, images: int, image_size: tuple[int, int], seed: int
    ) -> None:
        self._images, self._image_size, self._seed = images, image_size, seed
        super().__init__(data_dir=str(data_dir))

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(),
            "image_id": tfds.features.Text(),
            "person_id": tfds.features.Scalar(np.int64),
            "camera_id": tfds.features.Scalar(np.int64),
            "captions": tfds.features.Sequence(tfds.features.Text()),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {name: self._generate_examples(name == _OTHER) for name in (_SAME, _OTHER)}

    def _generate_examples(self, other_sizes: bool) -> Iterator[tuple[int, dict[str, Any]]]:
        files = made_up_photographs(
            self._images, self._image_size, _SIZES if other_sizes else (1.0, 1.0), self._seed
        )
        for index, file in enumerate(files):
            yield (
                index,
                {
                    "image": io.BytesIO(file),
                    "image_id": f"{index}.jpg",
                    "person_id": index // 4,
                    "camera_id": -1,
                    "captions": ["a", "b"],
                },
            )


def made_up_photographs(
    count: int, size: tuple[int, int], factors: tuple[float, float], seed: int
) -> Iterator[bytes]:
    """Draws JPEG files with about the detail, and so the bytes, of photographs.

    Args:
      count: number of files.
      size: (height, width) in pixels, before the factors.
      factors: least and greatest factor on either side.
      seed: of the pictures.
    """
    rng = np.random.default_rng(seed)
    rows, columns = (4 * max(round(side * factors[1]), 1) for side in size)
    scene = np.full((rows, columns, 3), 128, np.float32)
    for blur, strength in ((64, 60), (16, 35), (4, 20), (1, 9)):  # photographs: more in large
        noise = rng.standard_normal(scene.shape, np.float32)
        scene += cv2.GaussianBlur(noise, (0, 0), blur) * 2 * np.sqrt(np.pi) * blur * strength
    scene = np.clip(scene, 0, 255).astype(np.uint8)
    for _ in range(count):
        height, width = (max(round(side * rng.uniform(*factors)), 1) for side in size)
        top, left = rng.integers(0, rows - height + 1), rng.integers(0, columns - width + 1)
        picture = scene[top : top + height, left : left + width]
        yield cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def _functions(
    builder: tfds.core.DatasetBuilder,
    cache_dir: pathlib.Path,
    image_size: tuple[int, int],
    resize: str,
    batch_size: int,
) -> dict[str, tuple[int, Callable[[], Any]]]:
    """Returns what is to be timed by name, with the number of images that each call handles."""

    def read(split: str, folder: pathlib.Path) -> source.Split:
        return source.read_split(
            builder, split, image_size=image_size, resize=resize, cache_dir=folder
        )

    def anew(split: str) -> None:
        read(split, cache_dir / "anew")
        shutil.rmtree(cache_dir / "anew")

    split = read(_SAME, cache_dir)
    images = len(split.images)
    steps = -(-images // batch_size)
    records = builder.as_data_source(_OTHER, decoders={"image": tfds.decode.SkipDecoding()})
    some = [bytes(records[index]["image"]) for index in range(min(_ALONE, images))]
    batches = _host_batches(split, batch_size)

    def alone() -> None:
        for file in some:
            decode.decode_image(file, image_size, name="", resize=resize)

    return {
        "files_of_this_size": (images, lambda: anew(_SAME)),
        "files_of_other_sizes": (images, lambda: anew(_OTHER)),
        "cache_to_devices": (steps * batch_size, lambda: batches(steps)),
        "decoding_other_sizes_alone": (len(some), alone),
    }


def _host_batches(split: source.Split, batch_size: int) -> Callable[[int], None]:
    """Returns a function that brings the batches of so many steps to the devices."""
    mesh = sharding.make_mesh(1)
    sharding.check_batch_size(batch_size, mesh, "--batch_size")
    count = len(split.captions)
    host = feed.make_feed(
        split,
        np.ones((count, 1), np.int32),
        np.ones(count, np.int32),
        sampler.PairSampler(
            split.caption_image, split.labels, batch_size=batch_size, captions_per_pair=1, seed=0
        ),
        kind="host",
        replicated=sharding.replicated(mesh),
        by_batch=sharding.by_batch(mesh),
    )

    def run(steps: int) -> None:
        for batch, _ in host.batches(0, steps):
            jax.block_until_ready(batch)

    return run


def _rows(found: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    rates, images = found["images_per_second"], found["images"]

    def rate(name: str) -> str:
        timing = found["seconds"][name]
        spread = rates[name] * timing.median / timing.max, rates[name] * timing.median / timing.min
        return f"{rates[name]:,.0f} images/s ({spread[0]:,.0f} to {spread[1]:,.0f})"

    size = f"{found['bytes_per_file'] / 1000:.1f} kB a file"
    low, high = _SIZES
    return [
        ("files of this size to cache", f"{rate('files_of_this_size')}, {size}"),
        ("files of other sizes to cache", rate("files_of_other_sizes")),
        ("", f"{low} to {high} times as high and wide, resized {found['resize']}"),
        ("cache to devices", f"{rate('cache_to_devices')}, batches of {found['batch_size']}"),
        ("decoding alone, one thread", f"{rate('decoding_other_sizes_alone')}, other sizes"),
        ("measured", f"{images:,} images a time, {found['repeats']} times"),
    ]

"""Speed and memory of building a dataset from files, on a made-up copy of it."""

from __future__ import annotations

import contextlib
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np
import tensorflow_datasets as tfds

from jaxreid.bench import measure
from jaxreid.data import source

_MB = 1e6


def bench_build(
    *, dataset: str = "cuhk_pedes", images: int = 40_206, register: str = "tfds_builders"
) -> measure.Measured:
    """Measures the build of a dataset from a made-up folder of small images.

    The default is the size of CUHK-PEDES.

    Args:
      dataset: TFDS name, of a builder that has `write_dummy_data(folder, num_images=...)`.
      images: number of image files.
      register: package whose import registers builders.

    Returns:
      Images a second, from the first look at the folder to the finished dataset; what anonymous
      memory grew by; how often progress was shown.

    Raises:
      ValueError: no such dataset, its builder cannot make files up, or a number is below 1.
    """
    measure.check_from_one({"images": images})
    where = measure.environment()
    with tempfile.TemporaryDirectory(prefix="jaxreid-bench-") as folder:
        data_dir, manual_dir = pathlib.Path(folder) / "data", pathlib.Path(folder) / "manual"
        builder = source.find_builder(dataset, data_dir=data_dir, register=register)
        _make_up(builder, manual_dir, images)
        shown = _Watched(sys.stderr)
        start = time.perf_counter()
        with (
            measure.HostMemory(interval=0.05, anonymous=True) as memory,
            contextlib.redirect_stderr(shown),
            contextlib.redirect_stdout(sys.stderr),  # where TFDS tells what it does
        ):
            source.prepare(builder, manual_dir=manual_dir)
        seconds = time.perf_counter() - start
        written = sum(file.stat().st_size for file in pathlib.Path(builder.data_path).iterdir())
    count = sum(split.num_examples for split in builder.info.splits.values())
    growth = np.asarray(memory.samples) - memory.before
    found = {
        "dataset": dataset,
        "images": count,
        "seconds": seconds,
        "images_per_second": count / seconds,
        "written_bytes": written,
        "peak_anonymous_growth_bytes": int(growth.max()),
        "peak_anonymous_growth_bytes_by_quarter": [
            int(part.max(initial=0)) for part in np.array_split(growth, 4)
        ],
        "progress_updates": shown.updates,
    }
    title = f"build of {dataset} from {images:,} made-up image files"
    return measure.Measured.here(title, where, found, _rows(found))


def _make_up(builder: tfds.core.DatasetBuilder, folder: pathlib.Path, images: int) -> None:
    """Writes the folder that the builder reads."""
    try:
        builder.write_dummy_data(folder, num_images=images)
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"--dataset is {builder.name!r}, whose builder cannot make up a folder of any number "
            f"of images ({error}). It takes one that can, such as cuhk_pedes."
        ) from error


class _Watched:
    """A stream that counts the lines of progress written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.updates = 0

    def write(self, text: str) -> int:
        self.updates += "examples" in text
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _rows(found: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    quarters = [f"{size / _MB:.0f}" for size in found["peak_anonymous_growth_bytes_by_quarter"]]
    written = f"{found['written_bytes'] / _MB:.0f} MB"
    return [
        ("images/s", f"{found['images_per_second']:,.0f}, {found['images']:,} images"),
        ("seconds", f"{found['seconds']:.1f}"),
        ("dataset", f"{written} written"),
        ("memory", f"grew by {found['peak_anonymous_growth_bytes'] / _MB:.0f} MB at most"),
        ("", f"in the quarters of the time: {', '.join(quarters)} MB"),
        ("progress", f"shown {found['progress_updates']} times"),
    ]

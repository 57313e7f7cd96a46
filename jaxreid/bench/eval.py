"""Speed and memory of the retrieval metrics, beside the one matrix product they cannot avoid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreid import metrics
from jaxreid.bench import made_up, measure

_IMAGES_PER_IDENTITY = 3


def bench_eval(
    *, queries: int = 6156, gallery: int = 3074, dim: int = 10240, repeats: int = 3, seed: int = 0
) -> measure.Measured:
    """Measures `jaxreid.metrics.retrieval_metrics` on random embeddings, both directions.

    The defaults are the test split of CUHK-PEDES and SSAN's embedding.

    Args:
      queries: number of captions, spread evenly over the images.
      gallery: number of images, three to an identity.
      dim: width of the embeddings.
      repeats: calls that are timed, after one that is not.
      seed: of the embeddings.

    Returns:
      Seconds of the product alone and of both directions of retrieval; memory that the metrics
      took besides the embeddings.

    Raises:
      ValueError: a number is below 1.
    """
    numbers = {"queries": queries, "gallery": gallery, "dim": dim, "repeats": repeats}
    measure.check_from_one(numbers)
    where = measure.environment()
    rng = np.random.default_rng(seed)
    captions = made_up.unit_vectors(queries, dim, rng)
    images = made_up.unit_vectors(gallery, dim, rng)
    image_ids = rng.permutation(gallery) // _IMAGES_PER_IDENTITY
    caption_ids = image_ids[np.arange(queries) % gallery]

    def t2i() -> metrics.RetrievalMetrics:
        return metrics.retrieval_metrics(captions, images, caption_ids, image_ids)

    def i2t() -> metrics.RetrievalMetrics:
        return metrics.retrieval_metrics(images, captions, image_ids, caption_ids)

    # Before the product alone: its result is whole, which the metrics never hold.
    with measure.HostMemory() as memory:
        t2i()
        i2t()
    functions = {"product": _product(captions, images), "t2i": t2i, "i2t": i2t}
    seconds = measure.time_in_turns(functions, repeats=repeats)
    product = seconds["product"].median
    found = {
        **numbers,
        "dtype": "float32",
        "seconds": seconds,
        "times_product": {name: seconds[name].median / product for name in ("t2i", "i2t")},
        "embeddings_bytes": captions.nbytes + images.nbytes,
        "peak_host_bytes_besides_embeddings": memory.peak - memory.before,
        "peak_device_bytes": measure.device_peak_memory(),
    }
    title = f"retrieval metrics, {queries:,} captions, {gallery:,} images, {dim:,} wide, float32"
    return measure.Measured.here(title, where, found, _rows(found))


def _product(captions: np.ndarray, images: np.ndarray) -> Callable[[], jax.Array]:
    left, right = jax.device_put((captions, images))

    @jax.jit
    def product(left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST)

    return lambda: product(left, right)


def _rows(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    def beside(name: str) -> str:
        return f"{numbers['seconds'][name]}, {numbers['times_product'][name]:.2f} x the product"

    taken, given = numbers["peak_host_bytes_besides_embeddings"], numbers["embeddings_bytes"]
    rows = [
        ("product alone, seconds", str(numbers["seconds"]["product"])),
        ("text to image, seconds", beside("t2i")),
        ("image to text, seconds", beside("i2t")),
        ("host memory", f"{measure.gib(taken)} besides {measure.gib(given)} of embeddings"),
    ]
    if numbers["peak_device_bytes"]:
        on_device = f"{measure.gib(numbers['peak_device_bytes'])} at most, with the product alone"
        rows.append(("device memory", on_device))
    return rows

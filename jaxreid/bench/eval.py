"""Speed and memory of the retrieval metrics, beside the one matrix product they cannot avoid."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxreid import counting, flops, metrics, sharding
from jaxreid.bench import made_up, measure

_IMAGES_PER_IDENTITY = 3

# Each side is divided by these for the smaller problems: 1/16 and 1/4 of the pairs.
_SCALING_DIVISORS = (4, 2)


def bench_eval(
    *,
    queries: int = 6156,
    gallery: int = 3074,
    dim: int = 10240,
    repeats: int = 3,
    scaling: bool = False,
    seed: int = 0,
) -> measure.Measured:
    """Measures `jaxreid.metrics.both_directions` on random embeddings, on all devices here.

    The defaults are the test split of CUHK-PEDES and SSAN's embedding.

    Args:
      queries: number of captions, spread evenly over the images.
      gallery: number of images, three to an identity.
      dim: width of the embeddings.
      repeats: calls that are timed, after one that is not.
      scaling: also time 1/16 and 1/4 of the pairs.
      seed: of the embeddings.

    Returns:
      Seconds of the product alone and of both directions of retrieval, in turn; operations and
      bytes; memory that the metrics took besides the embeddings.

    Raises:
      ValueError: a number is below 1, or too small to be divided for `scaling`.
    """
    numbers = {"queries": queries, "gallery": gallery, "dim": dim, "repeats": repeats}
    measure.check_from_one(numbers)
    if scaling and min(queries, gallery) < max(_SCALING_DIVISORS):
        raise ValueError(
            f"--queries is {queries} and --gallery {gallery}; --scaling takes a quarter of each: "
            f"give {max(_SCALING_DIVISORS)} or more."
        )
    where = measure.environment()
    mesh = sharding.make_mesh()
    problem = _Problem.draw(queries, gallery, dim, seed)
    # Before the product alone: its result is whole, on the host too where that is the device.
    with measure.HostMemory() as memory:
        problem.both(mesh)
    functions = {"product": problem.product(mesh), "both": lambda: problem.both(mesh)}
    seconds = measure.time_in_turns(functions, repeats=repeats)
    del functions  # holds the embeddings on the devices
    found = {
        **numbers,
        "dtype": "float32",
        "seconds": seconds,
        "times_product": seconds["both"].median / seconds["product"].median,
        **_roofline(problem, seconds["both"].median),
        "scaling": _scaling(problem, seconds["both"], repeats, mesh) if scaling else [],
        "embeddings_bytes": problem.captions.nbytes + problem.images.nbytes,
        "peak_host_bytes_besides_embeddings": memory.peak - memory.before,
        "peak_device_bytes": measure.device_peak_memory(),
    }
    title = f"retrieval metrics, {queries:,} captions, {gallery:,} images, {dim:,} wide, float32"
    return measure.Measured.here(title, where, found, _rows(found))


@dataclasses.dataclass(frozen=True)
class _Problem:
    captions: np.ndarray
    images: np.ndarray
    caption_ids: np.ndarray
    image_ids: np.ndarray

    @classmethod
    def draw(cls, queries: int, gallery: int, dim: int, seed: int) -> _Problem:
        rng = np.random.default_rng(seed)
        captions = made_up.unit_vectors(queries, dim, rng)
        images = made_up.unit_vectors(gallery, dim, rng)
        image_ids = rng.permutation(gallery) // _IMAGES_PER_IDENTITY
        return cls(captions, images, image_ids[np.arange(queries) % gallery], image_ids)

    def part(self, divisor: int) -> _Problem:
        """The first captions and images, a share of each."""
        queries, gallery = len(self.captions) // divisor, len(self.images) // divisor
        return _Problem(
            self.captions[:queries],
            self.images[:gallery],
            self.caption_ids[:queries],
            self.image_ids[:gallery],
        )

    @property
    def pairs(self) -> int:
        return len(self.captions) * len(self.images)

    def both(self, mesh: Mesh) -> tuple[metrics.RetrievalMetrics, metrics.RetrievalMetrics]:
        return metrics.both_directions(
            self.captions, self.images, self.caption_ids, self.image_ids, mesh=mesh
        )

    def product(self, mesh: Mesh) -> Callable[[], jax.Array]:
        """The product of embeddings that lie on the devices, each of which takes its share."""
        left = counting.share(self.captions, mesh)
        right = jax.device_put(self.images, sharding.replicated(mesh))
        return lambda: _product(left, right)


@jax.jit
def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST)


def _roofline(problem: _Problem, seconds: float) -> dict[str, Any]:
    """Operations of the product, bytes that cannot be spared, and what that is a second.

    Embeddings are read once; similarities are written once and read once for each direction.
    """
    work = flops.count_flops(_product, problem.captions, problem.images).total
    moved = problem.captions.nbytes + problem.images.nbytes + 3 * 4 * problem.pairs
    kind, count = jax.devices()[0].device_kind, jax.device_count()
    return {
        "flops": work,
        "flops_per_second": work / seconds,
        "least_bytes": moved,
        "least_bytes_per_second": moved / seconds,
        "share_of_bfloat16_peak": flops.utilisation(work, seconds, kind, count),
    }


def _scaling(
    problem: _Problem, whole: measure.Timing, repeats: int, mesh: Mesh
) -> list[dict[str, Any]]:
    """Seconds of parts of the problem, and of the whole, beside its number of pairs."""

    def both(part: _Problem) -> Callable[[], Any]:
        return lambda: part.both(mesh)

    parts = {str(divisor): problem.part(divisor) for divisor in _SCALING_DIVISORS}
    timed = measure.time_in_turns(
        {name: both(part) for name, part in parts.items()}, repeats=repeats
    )
    found = [(parts[name], timed[name]) for name in parts] + [(problem, whole)]
    return [
        {
            "queries": len(part.captions),
            "gallery": len(part.images),
            "seconds": seconds,
            "nanoseconds_per_pair": 1e9 * seconds.median / part.pairs,
        }
        for part, seconds in found
    ]


def _rows(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    taken, given = numbers["peak_host_bytes_besides_embeddings"], numbers["embeddings_bytes"]
    seconds, times = numbers["seconds"], numbers["times_product"]
    rows = [
        ("product alone, seconds", str(seconds["product"])),
        ("both directions, seconds", f"{seconds['both']}, {times:.2f} x the product"),
        ("work of both", _work(numbers)),
        ("host memory", f"{measure.gib(taken)} besides {measure.gib(given)} of embeddings"),
    ]
    for part in numbers["scaling"]:
        name = f"{part['queries']:,} x {part['gallery']:,}, seconds"
        rows.append((name, f"{part['seconds']}, {part['nanoseconds_per_pair']:.4g} ns a pair"))
    if numbers["peak_device_bytes"]:
        on_device = f"{measure.gib(numbers['peak_device_bytes'])} at most, with the product alone"
        rows.append(("device memory", on_device))
    return rows


def _work(numbers: Mapping[str, Any]) -> str:
    """What was done, and how much of it a second."""
    operations = measure.operations
    work = f"{operations(numbers['flops'])}, {operations(numbers['flops_per_second'])}/s"
    moved = f"{measure.gib(numbers['least_bytes'])} to move at least"
    share = numbers["share_of_bfloat16_peak"]
    of_peak = "peak of the device not known" if share is None else f"{share:.1%} of bfloat16 peak"
    return f"{work}; {moved}, {measure.gib(numbers['least_bytes_per_second'])}/s; {of_peak}"

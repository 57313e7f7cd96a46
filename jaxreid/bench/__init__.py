"""How fast this library is here: training, embedding, retrieval metrics, images, and builds.

And how fast it would be on a TPU or GPU at most, by their own compilers.
"""

from jaxreid.bench.build import bench_build
from jaxreid.bench.embed import bench_embed
from jaxreid.bench.estimate import bench_gpu, bench_tpu
from jaxreid.bench.eval import bench_eval
from jaxreid.bench.input import bench_input
from jaxreid.bench.measure import Measured
from jaxreid.bench.profile import bench_profile
from jaxreid.bench.scaling import bench_scaling
from jaxreid.bench.survive import bench_survive
from jaxreid.bench.train import bench_train

__all__ = [
    "Measured",
    "bench_build",
    "bench_embed",
    "bench_eval",
    "bench_gpu",
    "bench_input",
    "bench_profile",
    "bench_scaling",
    "bench_survive",
    "bench_tpu",
    "bench_train",
]

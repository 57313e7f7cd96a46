"""How fast this library is here: training steps, and retrieval metrics."""

from jaxreid.bench.eval import bench_eval
from jaxreid.bench.measure import Measured
from jaxreid.bench.train import bench_train

__all__ = ["Measured", "bench_eval", "bench_train"]

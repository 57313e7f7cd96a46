"""A ResNet-50 training step as anyone writes it with Flax, compiled by the TPU's compiler.

  python -m tests.reference.plain_resnet [--topology v5e:2x4] [--images 64]

Says what such a step moves, by the counter of `jaxreid bench tpu` and by XLA's own: what the image
side of our networks is to be compared with. Nothing is run.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxreid.bench import compiling, hlo, roofline, traffic

STAGES = (3, 4, 6, 3)
IMAGE_SIZE = (384, 128)
CLASSES = 11_008


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut."""

    width: int
    strides: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Convolve."""

        def convolve(x: Any, features: int, size: int, strides: int = 1) -> Any:
            steps = (strides, strides)
            x = nn.Conv(features, (size, size), steps, use_bias=False, dtype=self.dtype)(x)
            return nn.BatchNorm(use_running_average=False, dtype=self.dtype)(x)

        y = nn.relu(convolve(x, self.width, 1))
        y = nn.relu(convolve(y, self.width, 3, self.strides))
        y = convolve(y, 4 * self.width, 1)
        if x.shape != y.shape:
            x = convolve(x, 4 * self.width, 1, self.strides)
        return nn.relu(x + y)


class PlainResNet(nn.Module):
    """ResNet with a classifier; default fields make a ResNet-50."""

    stages: Sequence[int] = STAGES
    width: int = 64
    classes: int = CLASSES
    dtype: Any = jnp.bfloat16

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Logits."""
        x = nn.Conv(self.width, (7, 7), (2, 2), use_bias=False, dtype=self.dtype)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=False, dtype=self.dtype)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                strides = 2 if stage and not block else 1
                x = Bottleneck(self.width * 2**stage, strides, self.dtype)(x)
        return nn.Dense(self.classes, dtype=self.dtype)(jnp.mean(x, (1, 2)))


def compile_step(
    net: PlainResNet, topology: str, images: int, size: tuple[int, int] = IMAGE_SIZE
) -> Any:
    """Compiles a step with Adam, so many images on each chip."""
    devices = np.asarray(compiling.topology_devices(topology))
    mesh = Mesh(devices.reshape(-1), ("data",))
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    optimizer = optax.adam(1e-3)

    def step(variables: Any, moments: Any, images: Any, labels: Any) -> Any:
        def loss(params: Any) -> Any:
            given = variables | {"params": params}
            logits, changed = net.apply(given, images, mutable=["batch_stats"])
            logits = logits.astype(jnp.float32)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), changed

        grads, changed = jax.grad(loss, has_aux=True)(variables["params"])
        updates, moments = optimizer.update(grads, moments)
        return {"params": optax.apply_updates(variables["params"], updates)} | changed, moments

    def shapes(tree: Any, place: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)

    batch = images * devices.size
    pictures = jax.ShapeDtypeStruct((batch, *size, 3), net.dtype, sharding=split)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=split)
    variables = shapes(jax.eval_shape(net.init, jax.random.key(0), pictures), whole)
    moments = shapes(jax.eval_shape(optimizer.init, variables["params"]), whole)
    jitted = jax.jit(step, donate_argnums=(0, 1))
    with compiling.uncached():
        return jitted.lower(variables, moments, pictures, labels).compile()


def lines(compiled: Any, devices: int) -> list[str]:
    """What a compiled step does on one of the devices that run it."""
    counted = traffic.measure(hlo.Program.read(compiled.as_text()), devices)
    by_xla = compiled.cost_analysis()
    return [
        f"memory: {compiling.memory_numbers(compiled)['total'] / 2**30:.2f} GiB a chip",
        f"FLOPs: {counted.flops / 1e12:.3g} T; by XLA {by_xla['flops'] / 1e12:.3g} T",
        f"moved: {counted.bytes / 1e9:.4g} GB, {counted.padding / 1e9:.3g} of them padding; "
        f"by XLA {by_xla['bytes accessed'] / 1e9:.4g} GB",
        f"sent: {counted.sent / 1e9:.3g} GB",
        *(f"{place} {text}" for place, text in roofline.mover_rows(counted)),
    ]


def main(args: Sequence[str] | None = None) -> None:
    """Compiles and prints."""
    parser = argparse.ArgumentParser(description="A plain ResNet-50 step, counted for a TPU.")
    parser.add_argument("--topology", default="v5e:2x4")
    parser.add_argument("--images", type=int, default=64, help="on each chip")
    parsed = parser.parse_args(args)
    compiled = compile_step(PlainResNet(), parsed.topology, parsed.images)
    print("\n".join(lines(compiled, len(compiling.topology_devices(parsed.topology)))))


if __name__ == "__main__":
    main()

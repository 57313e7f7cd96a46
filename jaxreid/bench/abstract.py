"""The training step of a preset on shapes alone, for devices that need not be here."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from ml_collections import ConfigDict

from jaxreid import freezing, optimizers, registry, sharding, step, train
from jaxreid.bench import made_up
from jaxreid.data import feed, shards
from jaxreid.models.templates import RowTemplate, choose_template, make_templates
from jaxreid.typing import PyTree

# Images, captions, identities and words of CUHK-PEDES' training split.
IMAGES, CAPTIONS, NUM_IDS, VOCAB_SIZE = 34054, 68126, 11003, 5000


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the data is that a step belongs to.

    Attributes:
      images: of the training split.
      captions: of the training split.
      num_ids: its identities.
      vocab_size: rows of the word table.
    """

    images: int = IMAGES
    captions: int = CAPTIONS
    num_ids: int = NUM_IDS
    vocab_size: int = VOCAB_SIZE


@dataclasses.dataclass(frozen=True)
class AbstractStep:
    """A training step and the shapes that it takes.

    Attributes:
      function: jitted, (state, resident, batch, template=...) -> (state, scalars).
      arguments: state, resident arrays and batch, as shapes with shardings.
      template: of captions of usual length.
      feed: where the images live, ``device``, ``sharded`` or ``host``.
    """

    function: Any
    arguments: tuple[Any, Any, Any]
    template: RowTemplate
    feed: str

    @property
    def state(self) -> step.TrainState:
        """Shapes of parameters, statistics and the optimiser's state."""
        return self.arguments[0]

    def lower(self) -> Any:
        """Lowers the step for the devices of its mesh."""
        return self.function.trace(*self.arguments, template=self.template).lower()


def training_step(
    config: ConfigDict,
    mesh: Mesh,
    sizes: Sizes,
    *,
    device_memory: float | None = None,
    platform: str = "",
) -> AbstractStep:
    """Sets up the step of a config's last stage, in which all is trained that is trained at all.

    Args:
      config: of a run; ``batch_size`` counts all devices of the mesh together.
      mesh: the devices, see `sharding.make_mesh`.
      sizes: of the data.
      device_memory: bytes of each device, by which ``data.feed = "auto"`` chooses; None where they
        are not known: then images stay on the host.
      platform: that the step is written for, "cpu", "gpu" or "tpu"; empty for that of the mesh.

    Raises:
      ValueError: a field of the config does not go with the devices.
    """
    sharding.check_batch_size(config.batch_size, mesh, "config.batch_size")
    model = registry.build_model(config, vocab_size=sizes.vocab_size, num_classes=sizes.num_ids)
    model = for_platform(model, platform or mesh.devices.flat[0].platform)
    shapes = jax.eval_shape(functools.partial(step.init_variables, config, model))
    steps = -(-sizes.captions // config.batch_size)
    stage = train.make_stages(config, steps)[-1]
    optimizer = optimizers.make_optimizer(stage.config, shapes["params"], steps_per_epoch=steps)
    function = step.make_train_step(
        config,
        model,
        registry.build_objective(config, stage.config),
        optimizer,
        first_step=stage.first,
        steps_per_epoch=steps,
        mesh=mesh,
        frozen=freezing.frozen_names(stage.config, shapes["params"]),
    )
    kind = feed_kind(config, sizes, mesh.size, device_memory)
    state = step.abstract_state(config, model, optimizer, mesh)
    arguments = state, *data_shapes(config, sizes, mesh, kind, device_memory)
    return AbstractStep(
        function, arguments, usual_template(config, mesh.size, mesh.devices.flat[0].platform), kind
    )


def for_platform(model: nn.Module, platform: str) -> nn.Module:
    """Returns a network as it is computed there, whatever the host of the compiler is.

    Args:
      model: a network; what its field ``platform`` leaves open goes by the host otherwise.
      platform: "cpu", "gpu" or "tpu".
    """
    if getattr(model, "platform", None) != "auto":
        return model
    return model.clone(platform=platform)


def usual_template(config: ConfigDict, groups: int, platform: str) -> RowTemplate:
    """Returns the row template of a batch of captions as CUHK-PEDES has them.

    Args:
      config: ``batch_size``, ``data``, ``seed``.
      groups: devices that share the batch.
      platform: of the devices.
    """
    count = config.batch_size * config.data.captions_per_pair
    lengths = made_up.caption_lengths(CAPTIONS, config.data.max_tokens, config.seed)
    templates = make_templates(
        lengths,
        rows_per_group=count // groups,
        groups=groups,
        max_tokens=config.data.max_tokens,
        count=config.data.length_templates,
        seed=config.seed,
        platform=platform,
    )
    batches = [lengths[start : start + count] for start in range(0, len(lengths) - count, count)]
    chosen = sorted(choose_template(templates, batch) for batch in batches)
    return templates[chosen[len(chosen) // 2]]


def feed_kind(config: ConfigDict, sizes: Sizes, devices: int, device_memory: float | None) -> str:
    """Returns where the images of a run live.

    Args:
      config: ``data.feed``, ``data.image_size``.
      sizes: of the data.
      devices: of the run.
      device_memory: bytes of each that are free; None where they are not known.

    Returns:
      ``device``, ``sharded`` or ``host``.
    """
    if config.data.feed != "auto":
        return config.data.feed
    shape = (sizes.images, *config.data.image_size, 3)
    return feed.choose_feed(shape, devices, float(device_memory or 0))[0]


def data_shapes(
    config: ConfigDict,
    sizes: Sizes,
    mesh: Mesh | AbstractMesh,
    kind: str,
    device_memory: float | None,
) -> tuple[PyTree, PyTree]:
    """Shapes of what every device holds during a run, and of what it is given for a step.

    Args:
      config: of the run.
      sizes: of its data.
      mesh: the devices, or their number alone.
      kind: of the feed, see `feed_kind`.
      device_memory: bytes of each that are free; None where they are not known.

    Returns:
      Resident arrays, see `feed.make_feed`, and a batch.
    """
    resident = _resident(config, sizes, mesh, kind, float(device_memory or 0))
    return resident, _batch(config, mesh, kind)


def _resident(
    config: ConfigDict, sizes: Sizes, mesh: Mesh | AbstractMesh, kind: str, free: float
) -> PyTree:
    arrays: dict[str, tuple[tuple[int, ...], Any]] = {
        "tokens": ((sizes.captions, config.data.max_tokens), jnp.int32),
        "lengths": ((sizes.captions,), jnp.int32),
        "labels": ((sizes.images,), jnp.int32),
        "seed": ((), jnp.uint32),
    }
    if kind == "host":
        return _shapes(arrays, sharding.replicated(mesh))
    image, count = (*config.data.image_size, 3), sizes.images
    split = feed.place_of_shards((count, *image), mesh, free)
    if kind == "sharded":
        count = shards.padded_count(count, split)
    resident = _shapes(arrays | {"no_images": ((0, *image), jnp.uint8)}, sharding.replicated(mesh))
    place = split if kind == "sharded" else sharding.replicated(mesh)
    (images,) = _shapes({"": (feed.resident_shape((count, *image)), jnp.uint8)}, place).values()
    return resident | {"images": shards.Shards(images, split) if kind == "sharded" else images}


def _batch(config: ConfigDict, mesh: Mesh | AbstractMesh, kind: str) -> PyTree:
    count, slots = config.batch_size, config.data.captions_per_pair
    arrays: dict[str, tuple[tuple[int, ...], Any]] = {
        "image": ((count,), jnp.int32),
        "caption": ((count, slots), jnp.int32),
        "valid": ((count, slots), bool),
    }
    if kind == "host":
        arrays["images"] = (count, *config.data.image_size, 3), jnp.uint8
    return _shapes(arrays, sharding.by_batch(mesh))


def _shapes(arrays: Mapping[str, tuple[tuple[int, ...], Any]], place: Any) -> PyTree:
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=place)
        for name, (shape, dtype) in arrays.items()
    }

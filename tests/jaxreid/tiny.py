"""A tiny network on made-up data, shared by the tests of training."""

import functools
import importlib.util
import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxreid import optimizers, registry, runs, sharding, step, text
from jaxreid.data import feed, sampler, source
from jaxreid.models.templates import RowTemplate, choose_template, make_templates

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


SMALLEST = {
    "batch_size": 16,
    "eval.batch_size": 16,
    "data.max_tokens": 48,
    "data.length_templates": 0,
    "model.width": 4,
    "model.word_dim": 8,
    "model.global_dim": 16,
    "model.relation_dim": 8,
    "model.view_dim": 8,
}
"""Fields that make the smallest network that has every part of SSAN."""


def get_config(argument: str) -> ConfigDict:
    """Reads configs/ssan.py."""
    spec = importlib.util.spec_from_file_location("ssan_config", CONFIGS / "ssan.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


def config(argument: str = "quickstart,runlocal") -> ConfigDict:
    """The smallest network that has every part of SSAN."""
    result = get_config(argument)
    result.update_from_flattened_dict(SMALLEST)
    result.data.max_tokens = 16
    result.data.length_templates = 2
    result.log_every_steps = 2
    return result


WORDS = tuple("abcdefghijklmnop")


def split(num_images: int = 40, seed: int = 0) -> runs.Captioned:
    """Random images of about num_images / 4 identities with 1 to 3 captions each."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 4, num_images)
    captions = tuple(
        " ".join(random.choice(WORDS, random.integers(1, 16))) for _ in range(counts.sum())
    )
    made = source.Split(
        name="made-up:train",
        images=random.integers(0, 256, (num_images, 96, 32, 3), np.uint8),
        image_ids=tuple(f"{i}.jpg" for i in range(num_images)),
        pids=np.sort(random.integers(100, 100 + num_images // 4, num_images)),
        camids=np.full(num_images, -1),
        captions=captions,
        caption_image=np.repeat(np.arange(num_images, dtype=np.int32), counts),
    )
    tokens, lengths, report = vocabulary().encode(captions, 16)
    return runs.Captioned(made, tokens, lengths, report)


@functools.cache
def vocabulary() -> text.Vocabulary:
    """The made-up words."""
    return text.Vocabulary(WORDS)


def mesh(count: int, model: int = 1) -> jax.sharding.Mesh:
    """A mesh over the first devices."""
    return jax.make_mesh(
        (count // model, model),
        sharding.BATCH_AXES,
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
        devices=jax.devices()[:count],
    )


class Stepper:
    """The training step on a mesh, always from the same initial state.

    Args:
      config: of the network.
      mesh: the devices.
      num_classes: of the classifiers; as many as the made-up split has by default.

    Attributes:
      before: the initial state, on the host.
      train_step: the compiled step.
    """

    def __init__(
        self, config: ConfigDict, mesh: jax.sharding.Mesh, num_classes: int | None = None
    ) -> None:
        data = split()
        model = registry.build_model(
            config,
            vocab_size=len(vocabulary()),
            num_classes=num_classes or len(data.split.identities),
        )
        shapes = jax.eval_shape(functools.partial(step.init_variables, config, model))
        optimizer = optimizers.make_optimizer(
            config.stages[0], shapes["params"], steps_per_epoch=10
        )
        state = step.init_state(config, model, optimizer, mesh)
        self._places = jax.tree.map(lambda leaf: leaf.sharding, state)
        self.before = jax.device_get(state)
        self.feed = make_feed(config, data, mesh)
        self.templates = row_templates(config, data, mesh)
        self.train_step = step.make_train_step(
            config,
            model,
            registry.build_objective(config),
            optimizer,
            first_step=0,
            steps_per_epoch=10,
            mesh=mesh,
        )

    def state(self) -> step.TrainState:
        """The initial state on the mesh."""
        return jax.device_put(self.before, self._places)

    def __call__(self, start: int, stop: int) -> tuple[step.TrainState, dict[str, np.ndarray]]:
        """Runs batches start .. stop-1; returns the new state and the last scalars."""
        state = self.state()
        for batch, lengths in self.feed.batches(start, stop):
            template = self.templates[choose_template(self.templates, lengths)]
            state, scalars = self.train_step(state, self.feed.resident, batch, template=template)
        return jax.device_get(state), jax.device_get(scalars)


def make_feed(
    config: ConfigDict, data: runs.Captioned, mesh: jax.sharding.Mesh, kind: str = "device"
) -> feed.Feed:
    """The feed of the made-up split."""
    pairs = sampler.PairSampler(
        data.split.caption_image,
        data.split.labels,
        batch_size=config.batch_size,
        captions_per_pair=config.data.captions_per_pair,
        seed=config.seed,
    )
    return feed.make_feed(
        data.split,
        data.tokens,
        data.lengths,
        pairs,
        kind=kind,
        replicated=sharding.replicated(mesh),
        by_batch=sharding.by_batch(mesh),
    )


def row_templates(
    config: ConfigDict, data: runs.Captioned, mesh: jax.sharding.Mesh
) -> list[RowTemplate]:
    """Templates for the made-up captions."""
    return make_templates(
        data.lengths,
        rows_per_group=config.batch_size * config.data.captions_per_pair // mesh.size,
        groups=mesh.size,
        max_tokens=config.data.max_tokens,
        count=config.data.length_templates,
        seed=0,
    )

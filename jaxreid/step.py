"""The state of training and its one jitted step over a mesh.

Nothing here knows which network it trains: a module and an objective go in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, use_abstract_mesh
from ml_collections import ConfigDict

from jaxreid import freezing, registry, sharding
from jaxreid.arrays import norm
from jaxreid.data import augment, feed
from jaxreid.models.templates import RowTemplate
from jaxreid.typing import PyTree

Scalars = dict[str, jax.Array]


class TrainState(flax.struct.PyTreeNode):
    """What a step changes.

    Attributes:
      step: number of finished steps.
      params: of the network.
      batch_stats: its running statistics.
      opt_state: of the current stage's optimiser.
    """

    step: jax.Array
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree


def split_state(state: TrainState) -> dict[str, PyTree]:
    """Returns the state as the two items of a checkpoint."""
    return {
        "variables": {"params": state.params, "batch_stats": state.batch_stats},
        "optimizer": {"step": state.step, "opt_state": state.opt_state},
    }


def init_state(
    config: ConfigDict, model: nn.Module, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Draws initial parameters, each already where it lies on the mesh.

    Args:
      config: ``seed``, ``data.image_size``, ``data.captions_per_pair``.
      model: the network.
      optimizer: of the first stage.
      mesh: the devices.
    """
    init = functools.partial(_init, config, model, optimizer)
    places = sharding.state_shardings(jax.eval_shape(init), mesh)
    # It runs once, and on a CPU takes far less time than to compile: a lower level gives the same
    # bits in half of it.
    on_cpu = jax.default_backend() == "cpu"
    options = {"xla_backend_optimization_level": 1} if on_cpu else None
    return jax.jit(init, out_shardings=places, compiler_options=options)(config.seed)


def abstract_state(
    config: ConfigDict, model: nn.Module, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Like `init_state`, but shapes and shardings only."""
    shapes = jax.eval_shape(functools.partial(_init, config, model, optimizer))
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        sharding.state_shardings(shapes, mesh),
    )


def init_variables(
    config: ConfigDict, model: nn.Module, seed: int | jax.Array | None = None
) -> PyTree:
    """Draws ``params`` and ``batch_stats`` of a network.

    Args:
      config: ``seed``, ``data.image_size``, ``data.captions_per_pair``, ``dtype``.
      model: the network.
      seed: None for the config's; a traced one makes one program of all seeds.
    """
    height, width = config.data.image_size
    slots = config.data.captions_per_pair
    return model.init(
        jax.random.key(config.seed if seed is None else seed),
        jnp.zeros((1, height, width, 3), jnp.dtype(config.dtype)),
        jnp.zeros((1, slots, 2), jnp.int32),
        jnp.ones((1, slots), jnp.int32),
        jnp.ones((1, slots), bool),
        train=False,
    )


def _init(
    config: ConfigDict,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    seed: int | jax.Array | None = None,
) -> TrainState:
    variables = init_variables(config, model, seed)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
    )


def fresh_opt_state(optimizer: optax.GradientTransformation, params: PyTree, mesh: Mesh) -> PyTree:
    """Begins an optimiser's state anew, each leaf where the step expects it."""
    places = sharding.state_shardings(jax.eval_shape(optimizer.init, params), mesh)
    return jax.jit(optimizer.init, out_shardings=places)(params)


def augmented(
    config: ConfigDict, data: dict[str, jax.Array], key: jax.Array
) -> dict[str, jax.Array]:
    """Augments images and captions of a batch as the config says, and normalises the images.

    Args:
      config: ``augment``, ``data.mean``, ``data.std``, ``dtype``.
      data: a batch, as `feed.gather` gives it.
      key: of this batch.

    Returns:
      The batch as the network sees it.
    """
    of_images = dict(config.augment)
    if of_images.pop("turn_words", False):
        words_key = jax.random.fold_in(key, 1)
        data = {**data, "tokens": augment.turn(data["tokens"], data["lengths"], words_key)}
    images = augment.normalise(
        augment.augment(data["images"], key, **of_images),
        mean=config.data.mean,
        std=config.data.std,
        dtype=jnp.dtype(config.dtype),
    )
    return {**data, "images": images}


def make_train_step(
    config: ConfigDict,
    model: nn.Module,
    objective: registry.Objective,
    optimizer: optax.GradientTransformation,
    *,
    first_step: int,
    steps_per_epoch: int,
    mesh: Mesh,
    frozen: Collection[str] = (),
) -> Callable[..., tuple[TrainState, Scalars]]:
    """Compiles the step of a stage.

    Args:
      config: ``augment``, ``data.mean``, ``data.std``, ``dtype``.
      model: the network.
      objective: (outputs, labels, valid, rng, epoch) -> (loss, parts).
      optimizer: of the stage.
      first_step: of the stage, where its epoch 0 begins.
      steps_per_epoch: of the training split.
      mesh: the devices.
      frozen: paths of the parameters that keep their value, and their statistics with them.

    Returns:
      ``step(state, resident, batch, template=...) -> (state, scalars)``; the state is donated. One
      compilation for each template.
    """

    def train_step(
        state: TrainState,
        resident: Mapping[str, Any],
        batch: Mapping[str, jax.Array],
        *,
        template: RowTemplate | None,
    ) -> tuple[TrainState, Scalars]:
        key = jax.random.fold_in(jax.random.key(resident["seed"]), state.step)
        augment_key, dropout_key, objective_key = jax.random.split(key, 3)
        data = augmented(config, feed.gather(resident, batch), augment_key)

        def loss_of(params: PyTree) -> tuple[jax.Array, tuple[dict[str, jax.Array], PyTree]]:
            params = freezing.stop_gradients(params, frozen)
            with freezing.kept_statistics(frozen):
                outputs, changed = model.apply(
                    {"params": params, "batch_stats": state.batch_stats},
                    data["images"],
                    data["tokens"],
                    data["lengths"],
                    data["valid"],
                    train=True,
                    template=template,
                    rngs={"dropout": dropout_key},
                    mutable=["batch_stats"],
                )
            epoch = (state.step - first_step) // steps_per_epoch
            whose = data["labels"], data["valid"]
            loss, parts = objective(outputs, *whose, rng=objective_key, epoch=epoch)
            return loss, (parts, changed.get("batch_stats", {}))

        with use_abstract_mesh(mesh.abstract_mesh):  # the backward pass asks for it, too
            found = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        (loss, (parts, batch_stats)), grads = found
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        scalars = {"loss": loss, "grad_norm": norm(jax.tree.leaves(grads)), **parts}
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return new_state, scalars

    shapes = abstract_state(config, model, optimizer, mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, shapes)
    return jax.jit(
        train_step,
        static_argnames="template",
        donate_argnums=0,
        out_shardings=(places, sharding.replicated(mesh)),
    )

"""Encoders as a SavedModel of TensorFlow, with their weights as its variables."""

from __future__ import annotations

import contextlib
import functools
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxreid.models import layers
from jaxreid.typing import PyTree

if TYPE_CHECKING:
    from jaxreid import export

SIGNATURES = {"image": "encode_image", "text": "encode_text"}
"""By modality."""


def import_tensorflow() -> tuple[Any, Any]:
    """Imports TensorFlow and JAX's way into it, and keeps TensorFlow off the accelerators.

    Returns:
      The modules ``tensorflow`` and ``jax2tf``.

    Raises:
      ValueError: one of them is not there.
    """
    try:
        import tensorflow as tf
        from jax.experimental import jax2tf
    except ImportError as error:
        raise ValueError(
            f"--to saved writes a SavedModel with TensorFlow, which cannot be imported ({error}): "
            "pip install 'jaxreid[tf]', or take --to stablehlo, which needs nothing more."
        ) from error
    with contextlib.suppress(RuntimeError):  # this process has used TensorFlow before
        tf.config.set_visible_devices([], "GPU")
    return tf, jax2tf


def write(
    encoders: Mapping[str, export.Encoder],
    variables: PyTree,
    folder: pathlib.Path,
    platforms: tuple[str, ...],
) -> export.Served:
    """Writes a SavedModel with a signature for each modality, `SIGNATURES`.

    Args:
      encoders: by modality.
      variables: of the network; those of its identity classifiers are left out.
      folder: where to write.
      platforms: names that `jax.export` knows.

    Returns:
      The signatures, read again, by modality.
    """
    tf, jax2tf = import_tensorflow()
    module = tf.Module()
    module.weights, tree = _variables(tf, variables)
    signatures = {}
    for modality, encoder in encoders.items():
        convert = jax2tf.convert(
            encoder.run,
            polymorphic_shapes=[None, *("(b, ...)" for _ in encoder.inputs)],
            native_serialization_platforms=platforms,
            with_gradient=False,
        )

        def encode(*inputs: Any, convert: Any = convert) -> dict[str, Any]:
            return {"embedding": convert(tree, *inputs)}

        inputs = [
            tf.TensorSpec((None, *shape), dtype, name=name)
            for name, (shape, dtype) in encoder.inputs.items()
        ]
        function = tf.function(encode, autograph=False, input_signature=inputs)
        signatures[SIGNATURES[modality]] = function.get_concrete_function()
    tf.saved_model.save(module, str(folder), signatures=signatures)
    loaded = tf.saved_model.load(str(folder))
    return {
        modality: functools.partial(_call, tf, loaded, SIGNATURES[modality], tuple(encoder.inputs))
        for modality, encoder in encoders.items()
    }


def _variables(tf: Any, variables: PyTree) -> tuple[dict[str, Any], PyTree]:
    """Variables of TensorFlow by name, and the same as the tree that the network takes."""
    named: dict[str, Any] = {}

    def variable(path: Any, value: np.ndarray) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if layers.is_classifier(name):
            return None
        named[name] = tf.Variable(value, trainable=False, name=name)
        return named[name]

    return named, jax.tree_util.tree_map_with_path(variable, variables)


def _call(
    tf: Any, loaded: Any, signature: str, names: tuple[str, ...], *inputs: np.ndarray
) -> np.ndarray:
    named = dict(zip(names, map(tf.constant, inputs), strict=True))
    # Asked for each time: the signature alone would not keep the variables alive.
    return loaded.signatures[signature](**named)["embedding"].numpy()

"""A trained run as a search engine: embed photographs and sentences, compare them."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float
from ml_collections import ConfigDict

from jaxreid import checkpoint, classes, encoders, paths, registry, runs, sharding, text
from jaxreid import config as config_lib
from jaxreid.paths import AnyPath
from jaxreid.typing import PyTree


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run, loaded.

    Attributes:
      workdir: its folder.
      config: its configuration.
      vocabulary: words it knows.
      classes: names of its training identities, by dense label.
      model: the network.
      variables: ``params`` and ``batch_stats`` of the chosen checkpoint.
      step: that checkpoint's step.
      which: ``best`` or ``last``.
      mesh: devices it lies on.
    """

    workdir: AnyPath
    config: ConfigDict
    vocabulary: text.Vocabulary
    classes: tuple[str, ...]
    model: nn.Module
    variables: Mapping[str, PyTree]
    step: int
    which: str
    mesh: Mesh

    @functools.cached_property
    def encoder(self) -> encoders.Encoder:
        """Its compiled encoders."""
        return encoders.make_encoder(self.config, self.model, self.mesh)

    def embed_images(self, images: np.ndarray) -> Float[np.ndarray, "N D"]:
        """Embeds images.

        Args:
          images: [N, H, W, 3] uint8 RGB of the run's image size, as `jaxreid.data.decode` makes
            them with ``config.data.resize``.

        Returns:
          [N, D] float32, one unit vector per branch, side by side.

        Raises:
          ValueError: another shape or type.
        """
        wanted = (*self.config.data.image_size, 3)
        if images.dtype != np.uint8 or images.shape[1:] != wanted:
            raise ValueError(
                f"images are {images.dtype} of shape {images.shape}; this run takes uint8 RGB of "
                f"shape [N, {', '.join(map(str, wanted))}]. jaxreid.data.decode.decode_image reads "
                "a file to that."
            )
        return self.encoder.images(self.variables, images)

    def embed_sentences(self, sentences: Sequence[str]) -> Float[np.ndarray, "M D"]:
        """Embeds sentences in words."""
        tokens, lengths, _ = self.vocabulary.encode(sentences, self.config.data.max_tokens)
        return self.encoder.captions(self.variables, tokens, lengths)


def load_run(
    workdir: str | os.PathLike[str],
    *,
    which: str = "best",
    overrides: Mapping[str, Any] | None = None,
) -> Run:
    """Loads a run from its folder alone.

    Args:
      workdir: folder that `jaxreid train` has written.
      which: ``best`` (by validation) or ``last`` checkpoint.
      overrides: values of the config for a run that was moved, any of `config.FREE_FIELDS` by
        name: ``{"data.data_dir": "/data"}``.

    Raises:
      ValueError: the folder is no run or has no such checkpoint, or a field may not be overridden.
    """
    config = config_lib.load(workdir)
    config_lib.override_free(config, overrides or {})
    vocabulary = text.Vocabulary.from_json(paths.as_path(workdir) / runs.VOCABULARY_FILE)
    names = classes.load(workdir)
    model = registry.build_model(config, vocab_size=len(vocabulary), num_classes=len(names))
    mesh = sharding.make_mesh(1)
    with checkpoint.Checkpoints(workdir) as checkpoints:
        step = checkpoints.find(which)
        variables = checkpoints.restore_variables(step, sharding.replicated(mesh))
    return Run(
        paths.as_path(workdir), config, vocabulary, names, model, variables, step, which, mesh
    )

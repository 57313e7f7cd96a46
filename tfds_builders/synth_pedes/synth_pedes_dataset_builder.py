"""synth_pedes: drawn pedestrians with captions and the truth about both."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders.base import ArrayRecordBuilder, person_features
from tfds_builders.protocols import SIDES
from tfds_builders.synth_pedes.attributes import ATTRIBUTES, REGIONS, WORD_REGIONS
from tfds_builders.synth_pedes.cameras import side_shots, view_key
from tfds_builders.synth_pedes.grammar import CAPTION_WORDS
from tfds_builders.synth_pedes.identities import Shot, draw_identities, draw_shots


@dataclasses.dataclass(eq=False)
class SynthPedesConfig(tfds.core.BuilderConfig):
    """Size and seed of one variant; its name stands for both.

    Attributes:
      seed: seed of everything that is drawn.
      train: number of identities for training.
      val: number of identities for validation.
      test: number of identities for the test.
      by_camera: whether the pictures of the test are divided into the splits query and gallery.
    """

    seed: int = 0
    train: int = 0
    val: int = 0
    test: int = 0
    by_camera: bool = False


_CONFIGS = (
    SynthPedesConfig(
        name="quickstart",
        description="500 / 100 / 200 identities, 4 pictures each: trains in minutes.",
        seed=1,
        train=500,
        val=100,
        test=200,
    ),
    SynthPedesConfig(
        name="full",
        description="3,000 / 200 / 1,000 identities, 4 pictures each.",
        seed=2,
        train=3000,
        val=200,
        test=1000,
    ),
    SynthPedesConfig(
        name="tiny",
        description="16 / 8 / 8 identities, 4 pictures each: for tests of code.",
        seed=3,
        train=16,
        val=8,
        test=8,
    ),
)


def _divided(config: SynthPedesConfig) -> SynthPedesConfig:
    return SynthPedesConfig(
        name=f"{config.name}_cameras",
        description=f"The pictures of {config.name}, those of its test divided by camera.",
        seed=config.seed,
        train=config.train,
        val=config.val,
        test=config.test,
        by_camera=True,
    )


class Builder(ArrayRecordBuilder):
    """Drawn pedestrians: no download, no licence, fully determined by config and version."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [*_CONFIGS, *map(_divided, _CONFIGS)]

    def _info(self) -> tfds.core.DatasetInfo:
        """Describes the features; the names behind the indices are in the metadata."""
        features = _truth_features()
        if self.builder_config.by_camera:
            features["view"] = tfds.features.Text(
                doc='Camera of a query or gallery image, "c0" for 0; "" elsewhere.'
            )
        metadata = {
            "attributes": {name: list(values) for name, values in ATTRIBUTES.items()},
            "regions": list(REGIONS),
            "word_regions": list(WORD_REGIONS),
        }
        return self.dataset_info_from_configs(
            features=person_features(**features),
            metadata=tfds.core.MetadataDict(metadata),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        """Deals identities to the splits, training first; nothing is downloaded."""
        config = self.builder_config
        sizes = {name: getattr(config, name) for name in ("train", "val", "test")}
        identities = draw_identities(config.seed, sum(sizes.values()), alone=sizes["train"])
        generators: dict[str, Any] = {}
        first = 0
        for split, size in sizes.items():
            members = dict(enumerate(identities[first : first + size], start=first))
            if split == "test" and config.by_camera:
                for side in SIDES:
                    plan = functools.partial(side_shots, side=side)
                    generators[side] = self._generate_examples(split, members, plan)
            else:
                generators[split] = self._generate_examples(split, members)
            first += size
        return generators

    def _generate_examples(
        self,
        split: str,
        identities: dict[int, dict[str, str]],
        plan: Callable[[int, int], Iterable[Shot]] = draw_shots,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the pictures of one split, or of one side of it, identity after identity."""
        # Here and not above: whoever registers or reads the dataset need not be able to draw it.
        from tfds_builders.synth_pedes.examples import make_examples

        config = self.builder_config
        for example in make_examples(config.seed, split, identities, plan):
            if config.by_camera:
                example["view"] = view_key(example["camera_id"]) if split == "test" else ""
            yield example["image_id"], example


def _truth_features() -> dict[str, Any]:
    return {
        "attributes": tfds.features.Tensor(
            shape=(len(ATTRIBUTES),),
            dtype=np.int32,
            doc="Value index of each attribute of the identity.",
        ),
        "shown": tfds.features.Tensor(
            shape=(len(ATTRIBUTES),),
            dtype=np.uint8,
            doc="1 for each attribute that this picture shows.",
        ),
        "region_boxes": tfds.features.Tensor(
            shape=(len(REGIONS), 4),
            dtype=np.float32,
            doc="y0, x0, y1, x1 of each region as fractions; -1 where not shown.",
        ),
        "caption_mentions": tfds.features.Tensor(
            shape=(None, len(ATTRIBUTES)),
            dtype=np.uint8,
            doc="Per caption, 1 for each attribute that it asserts.",
        ),
        "caption_regions": tfds.features.Tensor(
            shape=(None, CAPTION_WORDS),
            dtype=np.int8,
            doc="Per caption and word of the default tokeniser, its true region; -1 none.",
        ),
    }

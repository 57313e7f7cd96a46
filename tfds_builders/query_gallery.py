"""What the sets with the splits train, val, query and gallery share; all come from CUHK-PEDES."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from tfds_builders import images, protocols
from tfds_builders.base import SplitCounts, person_features
from tfds_builders.cuhk_pedes.annotations import EXPECTED_TREE, read_official
from tfds_builders.domains import shows_no_identity, view_key
from tfds_builders.manual import Contents, Counts, ManualBuilder, Record, count_parts, differing

OWN_SPLIT = "own_split"
SEEDS = range(10)
HOMEPAGE = "https://arxiv.org/abs/2101.08238"
HOW_TO_GET = (
    "It is built from CUHK-PEDES, which is licensed: ask its authors for it, and put the folder "
    "under manual_dir."
)


def tree(further: Mapping[str, str]) -> str:
    """Draws the folder that is expected, in messages: CUHK-PEDES, and files beside it.

    Args:
      further: remarks by the names of these files.
    """
    width = max(map(len, further))
    return "\n".join(
        [EXPECTED_TREE, *(f"  {name:<{width}}  {what}" for name, what in further.items())]
    )


@dataclasses.dataclass(eq=False)
class QueryGalleryConfig(tfds.core.BuilderConfig):
    """How the test images are divided.

    Attributes:
      seed: seed of the division, and of the ids that validate where these are drawn.
      own_split: a file of the user divides instead.
    """

    seed: int = 0
    own_split: bool = False


def configs(split_file: str) -> list[QueryGalleryConfig]:
    """Returns the configs of such a set: `seed0` .. `seed9`, then `own_split`.

    Args:
      split_file: name of the user's file in manual_dir.
    """
    return [
        *(
            QueryGalleryConfig(
                name=f"seed{seed}",
                description=f"The views of each test identity divided by seed {seed}.",
                seed=seed,
            )
            for seed in SEEDS
        ),
        QueryGalleryConfig(
            name=OWN_SPLIT,
            description=f"Query and gallery as your own {split_file} says.",
            own_split=True,
        ),
    ]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which images of CUHK-PEDES train, validate and may be tested.

    Attributes:
      train: images to train with.
      val: images of the identities that validate.
      test: images that may be query or gallery.
      accepted: which images these are, in words.
      left_out: images in none of the three that one might expect there.
      counts: sizes beside published ones, but for query and gallery.
      differences: further differences from what was published.
      notes: what is unusual but usable.
      faults: why nothing can be built.
      ids: the test identities where something else than the annotations says them.
    """

    train: tuple[Record, ...] = ()
    val: tuple[Record, ...] = ()
    test: tuple[Record, ...] = ()
    accepted: str = ""
    left_out: tuple[protocols.LeftOut, ...] = ()
    counts: tuple[Counts, ...] = ()
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class QueryGalleryContents(Contents):
    """Contents of a divided set.

    Attributes:
      left_out: images in no split, by reason.
      ids: the test identities where something else than the files read says them.
    """

    left_out: tuple[protocols.LeftOut, ...] = ()
    ids: tuple[int, ...] = ()

    def fingerprint(self) -> str:
        """Returns a digest of the files read, and of ids that stood elsewhere."""
        digest = super().fingerprint()
        if not self.ids:
            return digest
        return hashlib.sha256(json.dumps([digest, self.ids]).encode()).hexdigest()


class QueryGalleryBuilder(ManualBuilder, skip_registration=True):
    """A builder that divides test images of CUHK-PEDES; derived classes choose them.

    Class attributes of a derived class, besides those of `ManualBuilder`: `SPLIT_FILE` (name of the
    user's own division) and `PUBLISHED_SIDES` (sizes of query and gallery).
    """

    SPLIT_FILE: ClassVar[str]
    PUBLISHED_SIDES: ClassVar[Mapping[str, SplitCounts]]
    USUAL_CAPTIONS = 2
    HOMEPAGE = HOMEPAGE

    builder_config: QueryGalleryConfig

    def plan(
        self, source: Contents, places: Sequence[pathlib.Path], own: protocols.SplitFile | None
    ) -> Plan:
        """Chooses the images that train, validate and may be tested.

        Args:
          source: CUHK-PEDES with its official splits.
          places: folders in which further files of the user may lie.
          own: the user's division, None where a seed divides.
        """
        raise NotImplementedError

    def read(self, manual_dir: pathlib.Path) -> QueryGalleryContents:
        """Reads CUHK-PEDES and divides it; see `ManualBuilder.read`."""
        source = read_official(manual_dir)
        places = tuple(dict.fromkeys((manual_dir, source.folder)))
        own, faults = self._own_split(places)
        plan = self.plan(source, places, own)
        faults += source.faults + plan.faults
        division = protocols.Division() if faults else self._divide(source, plan, own)
        faults += division.faults
        sides = {"query": division.query, "gallery": division.gallery}
        splits = {"train": plan.train, "val": plan.val, **sides}
        # Sizes would say nothing where nothing was divided.
        counts = plan.counts if faults else plan.counts + count_parts(sides, self.PUBLISHED_SIDES)
        left_out = tuple(item for item in plan.left_out + division.left_out if item.names)
        return QueryGalleryContents(
            folder=source.folder,
            image_root=source.image_root,
            files=source.files + ((own.path,) if own else ()),
            splits={name: part for name, part in splits.items() if part},
            counts=counts,
            differences=(*differing(counts), *plan.differences, *_of_source(source.differences)),
            notes=(
                *plan.notes,
                *division.notes,
                *(line for item in left_out for line in item.lines()),
                *_of_source(source.notes),
            ),
            faults=faults or tuple(_empty(splits)),
            left_out=left_out,
            ids=plan.ids,
        )

    def _own_split(
        self, places: Sequence[pathlib.Path]
    ) -> tuple[protocols.SplitFile | None, tuple[str, ...]]:
        """Returns the user's division where the config asks for it, or why there is none."""
        if not self.builder_config.own_split:
            return None, ()
        path = find(places, self.SPLIT_FILE)
        if path is None:
            return None, (
                f"config {self.name}/{OWN_SPLIT} needs your own division, {self.SPLIT_FILE}, in "
                f"manual_dir = {places[0]}\naccepted: {protocols.SPLIT_FILE_FORMAT}, paths "
                f"relative to imgs/\nWhat to do: put it there, or build {self.name}/seed0, which "
                "divides by a rule.",
            )
        try:
            return protocols.read_split_file(path), ()
        except ValueError as error:
            return None, (str(error),)

    def _divide(
        self, source: Contents, plan: Plan, own: protocols.SplitFile | None
    ) -> protocols.Division:
        test = [dataclasses.replace(r, view=view_key(r.file_path)) for r in plan.test]
        if own is None:
            return protocols.divide(test, seed=self.builder_config.seed)
        return protocols.divide_by_file(own, test, frozenset(source.names()), plan.accepted)

    def _features(self) -> tfds.features.FeaturesDict:
        return person_features(
            view=tfds.features.Text(doc='View of a query or gallery image; "" elsewhere.')
        )

    def _example(self, record: Record, path: pathlib.Path) -> dict[str, Any]:
        return {**super()._example(record, path), "view": record.view}

    def _report(self, contents: Contents, located: images.Located) -> None:
        super()._report(contents, located)
        self.info.metadata["seed"] = self.builder_config.seed
        if isinstance(contents, QueryGalleryContents):
            left_out = {item.reason: item.as_metadata() for item in contents.left_out}
            self.info.metadata["left_out"] = left_out


def no_identity(records: Sequence[Record]) -> protocols.LeftOut:
    """Returns the images that Market-1501 numbers -1 (junk) or 0000 (distractor)."""
    names = [r.file_path for r in records if shows_no_identity(r.file_path)]
    reason = "images in Market/ of no identity (-1 junk, 0000 distractor)"
    return protocols.LeftOut(reason, tuple(names), len(names))


def find(places: Sequence[pathlib.Path], name: str) -> pathlib.Path | None:
    """Returns the first of the folders' files or folders of that name, None where there is none."""
    return next((place / name for place in places if (place / name).exists()), None)


def everything(source: Contents) -> list[Record]:
    """Returns the images of all official splits, in their order, each once."""
    return list({r.file_path: r for part in source.splits.values() for r in part}.values())


def partition(
    records: Sequence[Record], wanted: int, *, seed: int
) -> tuple[tuple[Record, ...], tuple[Record, ...], list[str]]:
    """Takes identities that validate out of those that are not in the test.

    Args:
      records: images of these identities.
      wanted: number of ids to validate with, in a set of the published size.
      seed: seed of the draw.

    Returns:
      train, val, and a note where there are fewer ids than wanted.
    """
    ids = {record.person_id for record in records}
    chosen = protocols.choose_validation(ids, wanted, seed=seed)
    notes = []
    if len(chosen) < wanted:
        notes.append(
            f"val has {len(chosen):,} ids instead of {wanted:,}: at most a tenth of the "
            f"{len(ids):,} ids that are not in the test, of two or more at least one"
        )
    return (
        tuple(record for record in records if record.person_id not in chosen),
        tuple(record for record in records if record.person_id in chosen),
        notes,
    )


def _of_source(lines: Sequence[str]) -> list[str]:
    return [f"CUHK-PEDES, {line}" for line in lines]


def _empty(splits: Mapping[str, tuple[Record, ...]]) -> list[str]:
    """Says which splits that must be there are empty; without val a set can be used."""
    empty = [name for name, part in splits.items() if name != "val" and not part]
    if not empty:
        return []
    return [
        f"{' and '.join(empty)} would be empty; accepted: identities to train with, and test "
        "identities whose images show two views or more.\nWhat to do: see that the annotation file "
        "has all splits and sources of CUHK-PEDES, and the notes on what was left out."
    ]

"""One's own images with a table of captions."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Collection

import tensorflow_datasets as tfds

from tfds_builders import images
from tfds_builders.base import named_line
from tfds_builders.doctor_folder import IMAGE_SUFFIXES
from tfds_builders.folder_pedes import people, table
from tfds_builders.manual import Contents, ManualBuilder, count_parts

IMAGE_FOLDERS = ("images", "imgs")
SEEDS = range(5)


@dataclasses.dataclass(eq=False)
class FolderConfig(tfds.core.BuilderConfig):
    """Which splits are made of a table that gives none.

    Attributes:
      seed: what they are drawn with.
    """

    seed: int = 0


@dataclasses.dataclass(frozen=True)
class FolderContents(Contents):
    """What is in a folder of one's own.

    Attributes:
      found: images, identities and splits.
    """

    found: people.People | None = None


class Builder(ManualBuilder):
    """Images of your own: a folder with a CSV or JSON-lines table."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Tables in CSV and JSON lines; splits given or made by identity."}
    BUILDER_CONFIGS = [
        FolderConfig(
            name=f"seed{seed}",
            description=f"Splits of a table that gives none: by identity, seed {seed}.",
            seed=seed,
        )
        for seed in SEEDS
    ]
    HOMEPAGE = ""  # nobody's but the user's
    HOW_TO_GET = "The images are your own: put a table of your captions beside them."
    EXPECTED_TREE = table.EXPECTED_TREE

    builder_config: FolderConfig

    def read(self, manual_dir: pathlib.Path) -> Contents:
        """Reads and checks everything but the images, see `ManualBuilder.read`."""
        folder = pathlib.Path(manual_dir).expanduser()
        rows = table.read_table(table.find_table(folder))
        found = people.gather(rows, self.builder_config.seed)
        names = dict.fromkeys(row.file for row in rows.rows)
        root = image_root(folder, names)
        return FolderContents(
            folder=folder,
            image_root=root,
            files=(rows.path,),
            splits=found.splits,
            counts=count_parts(found.splits, {}),
            notes=(*found.notes, *_unnamed_images(root, names)),
            faults=found.faults,
            found=found,
        )

    def _report(self, contents: Contents, located: images.Located) -> None:
        """Keeps the names behind the numbers, too."""
        super()._report(contents, located)
        found = contents.found if isinstance(contents, FolderContents) else None
        if found is None:
            return
        self.info.metadata["seed"] = found.seed
        self.info.metadata["person_names"] = list(found.person_names)
        self.info.metadata["camera_names"] = list(found.camera_names)


def image_root(folder: pathlib.Path, names: Collection[str]) -> pathlib.Path:
    """Returns what the paths of a table are relative to.

    Args:
      folder: the folder of the table.
      names: the paths.

    Returns:
      Of the folder, its `images/` and its `imgs/` the one in which most of the files are found; of
      equals the first.
    """
    roots = [folder, *(folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir())]
    return min(roots, key=lambda root: len(images.locate(root, names).missing))


def _unnamed_images(root: pathlib.Path, names: Collection[str]) -> list[str]:
    """Counts images that no row names."""
    unnamed = []
    known = set(map(images.composed, names))
    for folder, _, files in sorted(os.walk(root)):
        for file in sorted(files):
            path = (pathlib.Path(folder) / file).relative_to(root).as_posix()
            if path.lower().endswith(IMAGE_SUFFIXES) and images.composed(path) not in known:
                unnamed.append(os.fsencode(path).decode("utf-8", "replace"))  # to be printed
    return named_line("images that no row names, left out", unnamed)

"""The training identities of a run by name, so that another run can find them again."""

from __future__ import annotations

import json
import os

from jaxreid import files, paths
from jaxreid.data.source import Split

FILE_NAME = "classes.json"


def class_names(dataset: str, split: Split) -> tuple[str, ...]:
    """Names the identities of a split, by dense label.

    Args:
      dataset: TFDS name the published ids belong to.
      split: of it.

    Returns:
      ``dataset:pid`` of each identity; equal numbers of two datasets are two people.
    """
    return tuple(f"{dataset}:{pid}" for pid in split.identities)


def save(names: tuple[str, ...], workdir: str | os.PathLike[str]) -> None:
    """Writes the names into a run's folder."""
    files.write_atomically(
        paths.as_path(workdir) / FILE_NAME, json.dumps(list(names), indent=0) + "\n"
    )


def load(workdir: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads the names of a run.

    Raises:
      ValueError: the file is missing or broken.
    """
    path = paths.as_path(workdir) / FILE_NAME
    try:
        return tuple(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}). Every run's folder holds this file from its first "
            "step on: restore it from a copy, or train anew in another folder."
        ) from error

"""The folder of a run: what makes it self-contained, and the data a run trains on."""

from __future__ import annotations

import dataclasses
import os
import time

import jax
import numpy as np
from absl import logging
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from jaxreid import batch_rule, checkpoint, classes, hosts, logbook, paths, text, word_vectors
from jaxreid import config as config_lib
from jaxreid.data import source
from jaxreid.paths import AnyPath

VOCABULARY_FILE = "vocabulary.json"

_SECONDS_TO_APPEAR = 30


@dataclasses.dataclass(frozen=True)
class Captioned:
    """A split with its captions as word ids.

    Attributes:
      split: N images, M captions.
      tokens: [M, L] word ids.
      lengths: [M] number of tokens.
      report: what the vocabulary did not know.
    """

    split: source.Split
    tokens: Int[np.ndarray, "M L"]
    lengths: Int[np.ndarray, " M"]
    report: text.EncodingReport


def load_captioned(
    config: ConfigDict, split: str, vocabulary: text.Vocabulary, *, dataset: str = ""
) -> Captioned:
    """Loads a split as the config's ``data`` says, in a run's words.

    Args:
      config: of the run.
      split: name of the split.
      vocabulary: of the run.
      dataset: TFDS name; empty for the run's own.
    """
    return encode(config, load(config, split, dataset=dataset), vocabulary)


def load(config: ConfigDict, split: str, *, dataset: str = "") -> source.Split:
    """Loads a split as the config's ``data`` says."""
    data = config.data
    return source.load_split(
        dataset or data.name,
        split,
        data_dir=data.data_dir,
        image_size=tuple(data.image_size),
        resize=data.resize,
        cache_dir=data.cache_dir,
        manual_dir=data.manual_dir,
        register=data.register,
    )


def encode(config: ConfigDict, split: source.Split, vocabulary: text.Vocabulary) -> Captioned:
    """Turns the captions of a split into word ids, and logs what the vocabulary did not know."""
    tokens, lengths, report = vocabulary.encode(split.captions, config.data.max_tokens)
    logging.info("%s: %d images, %s", split.name, len(split.images), report.summary())
    return Captioned(split, tokens, lengths, report)


@dataclasses.dataclass(frozen=True)
class RunData:
    """What a run trains and is validated on.

    Attributes:
      vocabulary: words of the training captions.
      classes: names of the training identities, by dense label.
      train: the training split.
      val: the validation split.
      word_vectors: [V, D] table that the words start with, None where they are learnt.
    """

    vocabulary: text.Vocabulary
    classes: tuple[str, ...]
    train: Captioned
    val: Captioned
    word_vectors: Float[np.ndarray, "V D"] | None = None


def with_batch(config: ConfigDict, workdir: str | os.PathLike[str]) -> ConfigDict:
    """Settles the batch of all devices, see `batch_rule.resolve`.

    A run that goes on keeps the batch that it began with, on however many devices.

    Args:
      config: of the run to start or to go on with.
      workdir: its folder.

    Raises:
      ValueError: a field is not as it must be.
    """
    devices, folder = None, paths.as_path(workdir)
    if config.get("batch_per_device") and (folder / config_lib.FILE_NAME).exists():
        before = config_lib.load(folder)
        if _has_begun(folder):
            devices = batch_rule.devices_of(before, config)
    return batch_rule.resolve(config, devices or jax.device_count())


def prepare_folder(config: ConfigDict, workdir: str | os.PathLike[str]) -> None:
    """Makes the folder of a run, or checks that it is this run's.

    What a command left behind that failed before its first step is replaced.

    Args:
      config: of the run to start or to go on with.
      workdir: its folder.

    Raises:
      ValueError: the folder cannot be written, or belongs to a run with another config.
    """
    folder = paths.as_path(workdir, "--workdir")
    try:
        with paths.explained(workdir, "--workdir"):
            paths.make_folder(folder)
            probe = folder / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
    except OSError as error:
        raise ValueError(
            f"--workdir {str(workdir)!r} cannot be written ({error.strerror}). Name a folder on a "
            "disk with room that you may write to."
        ) from error
    if _has_begun(folder) and (folder / config_lib.FILE_NAME).exists():
        changed = config_lib.differences(config_lib.load(folder), config)
        if changed:
            listed = "\n  ".join(changed)
            raise ValueError(
                f"--workdir {str(workdir)!r} holds a run with another config:\n  {listed}\nGo on "
                "with the config it was started with, or name another folder for a new run. Only "
                f"these fields may change when a run goes on: {', '.join(config_lib.FREE_FIELDS)}."
            )
    config_lib.save(config, folder)


def check_shared(config: ConfigDict, workdir: str | os.PathLike[str]) -> None:
    """Makes sure that this host sees the folder that the first one has prepared.

    Args:
      config: of the run.
      workdir: its folder.

    Raises:
      ValueError: it does not.
    """
    wrong: list[str] = []
    for _ in range(_SECONDS_TO_APPEAR):  # a network's disk may be late
        try:
            there = config_lib.load(workdir)
            wrong = config_lib.differences(there, config, free=config_lib.HOST_FIELDS)
        except ValueError as error:
            wrong = [str(error)]
        if not wrong:
            return
        time.sleep(1)
    raise ValueError(
        f"--workdir {str(workdir)!r} does not hold what the first host has written there, or the "
        "hosts were started with other fields:\n  " + "\n  ".join(wrong) + "\nAll hosts of a run "
        "take the same command, but for where things lie on their own disks "
        f"({', '.join(config_lib.HOST_FIELDS)}), and a folder on a disk that they share, or "
        "gs://BUCKET/FOLDER."
    )


def finish_data(config: ConfigDict) -> None:
    """Builds the dataset where it is missing, and makes sure that it has the splits.

    Raises:
      ValueError: see `source.finished`.
    """
    source.finished(
        config.data.name,
        # Both, before minutes are spent on decoding the first.
        (config.data.train_split, config.data.val_split),
        data_dir=config.data.data_dir,
        manual_dir=config.data.manual_dir,
        register=config.data.register,
    )


def _has_begun(folder: AnyPath) -> bool:
    """Whether a run has trained in this folder: it wrote a line or a checkpoint."""
    return bool(logbook.read(folder)) or any((folder / checkpoint.FOLDER).glob("[0-9]*"))


def load_run_data(config: ConfigDict, workdir: str | os.PathLike[str]) -> RunData:
    """Loads training and validation data and writes vocabulary and classes into the run's folder.

    Args:
      config: of the run.
      workdir: its folder, prepared.

    Raises:
      ValueError: the run was started on other data than what is there now.
    """
    finish_data(config)
    train = load(config, config.data.train_split)
    vocabulary = text.Vocabulary.from_captions(
        train.captions, config.data.min_count, config.data.unknown
    )
    table = None
    if config.data.word_vectors:
        found = word_vectors.read(config.data.word_vectors, vocabulary.words)
        vocabulary, table = word_vectors.extend(vocabulary, found)
    names = classes.class_names(config.data.name, train)
    folder = paths.as_path(workdir)
    path = folder / VOCABULARY_FILE
    if _has_begun(folder) and (text.Vocabulary.from_json(path), classes.load(folder)) != (
        vocabulary,
        names,
    ):
        raise ValueError(
            f"the training split of {config.data.name!r} is not the one that {str(workdir)!r} was "
            f"started on: words or identities differ. Point config.data.data_dir (now "
            f"{config.data.data_dir!r}) to the data of the start, or begin a new run."
        )
    if hosts.is_first():
        classes.save(names, folder)
        vocabulary.to_json(path)
    logging.info("vocabulary of %d words, %d identities", len(vocabulary.words), len(names))
    val = load_captioned(config, config.data.val_split, vocabulary)
    if not len(val.tokens):
        raise ValueError(
            f"{val.split.name} has no caption: nothing can be validated on it. Name a split with "
            "captions in config.data.val_split."
        )
    return RunData(vocabulary, names, encode(config, train, vocabulary), val, table)

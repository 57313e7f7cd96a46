"""Whole networks of torch origin as run folders, and runs as files of torch weights."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import pickle
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from jaxreid import (
    checkpoint,
    classes,
    logbook,
    paths,
    pretrained,
    registry,
    retrieval,
    runs,
    step,
    text,
    torch_names,
    weight_files,
)
from jaxreid import config as config_lib
from jaxreid.data import remote
from jaxreid.paths import AnyPath
from jaxreid.typing import PyTree

_FIELD = "WEIGHTS"
_VOCABULARY = "--vocabulary"
# A word that no caption has, for a row of the table that no word of the vocabulary has.
_UNUSED = "unusedrow"


@dataclasses.dataclass(frozen=True)
class Converted:
    """A checkpoint of torch as a run.

    Attributes:
      workdir: the run's folder.
      weights: what was read.
      report: what became of each tensor.
      num_words: words that have a row of the table.
      num_classes: identities of the classifiers.
    """

    workdir: AnyPath
    weights: weight_files.WeightFile
    report: pretrained.Report
    num_words: int
    num_classes: int


def convert_run(
    source: str, config: ConfigDict, workdir: str | os.PathLike[str], *, vocabulary: str
) -> Converted:
    """Makes a run folder of a checkpoint of the whole network, for evaluation and search.

    Args:
      source: file of weights, see `weight_files.read`: SSAN's released checkpoint, or what
        `export_torch` wrote.
      config: of the network that it holds.
      workdir: folder to make.
      vocabulary: file with the words of its table, see `read_vocabulary`.

    Raises:
      ValueError: a file cannot be read, the weights do not fit the network, or the folder holds a
        run.
    """
    _refuse_a_run(workdir)
    for name in ("pretrained", "init_from"):
        if config[name]:
            raise ValueError(
                f"config.{name} is {config[name]!r}, and a converted run starts from {_FIELD} "
                "alone: leave it out."
            )
    if config.get("batch_per_device") is not None:
        raise ValueError(
            f"config.batch_per_device is {config.batch_per_device!r}, and a converted run was "
            "trained elsewhere, on devices that are not known: leave it out."
        )
    weights = weight_files.read(source, field=_FIELD)
    rows, num_classes = _sizes(config, weights)
    words = _fill_up(read_vocabulary(vocabulary, unknown=config.data.unknown), rows, vocabulary)
    model = registry.build_model(config, vocab_size=rows, num_classes=num_classes)
    variables = jax.jit(functools.partial(step.init_variables, config, model))()
    try:
        variables, report = pretrained.fit(
            torch_names.network(model, variables), weights.tensors, variables
        )
    except ValueError as error:
        raise ValueError(f"{_FIELD} is {source!r}: {error}") from error
    runs.prepare_folder(config, workdir)
    pretrained.save_record(weights, report, workdir)
    _write_run(config, workdir, words, num_classes, variables)
    num_words = sum(not word.startswith(_UNUSED) for word in words.words)
    folder = paths.as_path(workdir)
    return Converted(folder, weights, report, num_words, num_classes)


def _refuse_a_run(workdir: str | os.PathLike[str]) -> None:
    folder = paths.as_path(workdir, "--workdir")
    with paths.explained(workdir, "--workdir"):
        is_run = (folder / config_lib.FILE_NAME).exists() or logbook.read(folder)
    if is_run:
        raise ValueError(
            f"--workdir {str(workdir)!r} holds a run already; name a new folder for the converted "
            "one."
        )


def _sizes(config: ConfigDict, weights: weight_files.WeightFile) -> tuple[int, int]:
    """Rows of the word table and number of identities in a file."""
    # Neither number has a say in which table of names belongs to the network.
    table: Any = torch_names.table_of(registry.build_model(config, vocab_size=2, num_classes=0))
    rows = table.vocab_size(weights.tensors)
    if not rows:
        first = ", ".join(list(weights.tensors)[:5])
        raise ValueError(
            f"{_FIELD} is {weights.source!r}, which holds no word table of {config.model.name}: "
            f"its tensors begin with {first}. A run folder takes the checkpoint of a whole "
            "network; weights of the image backbone alone go into --config.pretrained of jaxreid "
            "train."
        )
    return rows, table.num_classes(weights.tensors)


def _write_run(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    vocabulary: text.Vocabulary,
    num_classes: int,
    variables: PyTree,
) -> None:
    vocabulary.to_json(paths.as_path(workdir) / runs.VOCABULARY_FILE)
    # Whose number an identity had in the other program, its checkpoint does not tell.
    classes.save(tuple(f"converted:{label}" for label in range(num_classes)), workdir)
    meta = {"stage": len(config.stages) - 1, "epoch": 0.0, "finished": True}
    optimizer = {"step": np.zeros((), np.int32)}
    with checkpoint.Checkpoints(workdir, create=True) as checkpoints:
        checkpoints.save(0, variables=dict(variables), optimizer=optimizer, meta=meta)


def read_vocabulary(path: str | os.PathLike[str], *, unknown: str) -> text.Vocabulary:
    """Reads the words of a table in the order of its rows.

    Args:
      path: ``vocabulary.json`` of a run; the annotations that SSAN's released program counts words
        in (``reid_raw.json``, ``ICFG-PEDES.json``): those of the training captions that occur at
        least twice, by first appearance; its ``ind2word.pkl``; or text with one word a line.
      unknown: what becomes of other words, where the file does not say, see `text.Vocabulary`.

    Raises:
      ValueError: the file is missing or none of these.
    """
    file = remote.as_local(path, _VOCABULARY)
    if not file.is_file():
        raise ValueError(
            f"{_VOCABULARY} is {str(path)!r}, and there is no such file. It takes vocabulary.json "
            "of a run, reid_raw.json, ind2word.pkl, or a text file with one word a line."
        )
    try:
        found = _read_words(file, unknown)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, *_BAD_CONTENT) as error:
        raise ValueError(
            f"{_VOCABULARY} is {str(path)!r}, which cannot be read as words ({error})."
        ) from error
    if not found.words:
        raise ValueError(f"{_VOCABULARY} is {str(path)!r}, which holds no words.")
    return found


_BAD_CONTENT = (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, ValueError)


def _read_words(file: pathlib.Path, unknown: str) -> text.Vocabulary:
    if file.suffix == ".pkl":
        with file.open("rb") as stream:
            return _of_foreign_words(_PlainUnpickler(stream).load())
    content = file.read_text(encoding="utf-8-sig")  # without a byte order mark, if there is one
    if file.suffix != ".json":
        return text.Vocabulary(tuple(content.splitlines()), unknown)
    records = json.loads(content)
    if isinstance(records, list):
        return _of_foreign_words(_words_of_annotations(records))
    return text.Vocabulary.from_json(file)


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists of strings; code in a pickle is refused, never run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only words are read")


def _words_of_annotations(records: list[Any]) -> list[str]:
    counts: dict[str, int] = {}
    for record in records:
        if record["split"].lower() == "train":
            for caption in record["processed_tokens"]:
                for word in caption:
                    counts[word.lower()] = counts.get(word.lower(), 0) + 1
    return [word for word, count in counts.items() if count >= 2]


def _of_foreign_words(words: Any) -> text.Vocabulary:
    """A vocabulary of another program's words, of which ours may never make some."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("it holds no list of words")
    ours = [
        word if text.tokenize(word) == [word] else f"{_UNUSED}{row}"
        for row, word in enumerate(words, start=1)
    ]
    foreign = [word for word, mine in zip(words, ours, strict=True) if word != mine]
    if foreign:
        logging.warning(
            "%d words of the vocabulary cannot come out of our tokeniser, so their rows are never "
            "used: %s",
            len(foreign),
            ", ".join(foreign[:10]),
        )
    return text.Vocabulary(tuple(ours), "drop")


def _fill_up(vocabulary: text.Vocabulary, rows: int, path: str) -> text.Vocabulary:
    """Adds words that no caption has, until each row of the table has one."""
    if len(vocabulary) > rows:
        raise ValueError(
            f"{_VOCABULARY} is {path!r} with {len(vocabulary.words):,} words, which take "
            f"{len(vocabulary):,} rows, and the word table of {_FIELD} has {rows:,}. Give the "
            "vocabulary that the network was trained with."
        )
    unused = (f"{_UNUSED}{row}" for row in range(len(vocabulary), rows))
    return dataclasses.replace(vocabulary, words=(*vocabulary.words, *unused))


def export_torch(
    workdir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    which: str = "best",
    backbone: bool = False,
) -> tuple[AnyPath, int]:
    """Writes a run's weights under the names that torch programs know.

    Beside a whole network its words are written, as ``OUT_vocabulary.json``.

    Args:
      workdir: of the run.
      out: file to write; its ending says in which format. A ``.pth`` of SSAN has the layout of the
        released program's checkpoint.
      which: ``best`` or ``last`` checkpoint.
      backbone: the image backbone alone, as torchvision or OSNet's authors name it.

    Returns:
      The file, and the number of tensors in it.

    Raises:
      ValueError: no run, no torch names for its network, or the file exists or cannot be written.
    """
    out = weight_files.check_name(out, "--out")
    words = out.with_name(re.sub(r"\.(pth\.tar|\w+)$", "", out.name) + "_vocabulary.json")
    if not backbone and words.exists():
        raise ValueError(f"--out {str(out)!r} comes with {words.name}, which exists: move it.")
    run = retrieval.load_run(workdir, which=which)
    names = (torch_names.backbone if backbone else torch_names.network)(run.model, run.variables)
    record = pretrained.load_record(workdir) or {}
    # Each step of training counts as one batch; a converted run knows what its file said.
    counters = record["counters"] if run.step == 0 and record else run.step
    tensors: Mapping[str, Any] = pretrained.to_torch(names, run.variables, counters)
    if run.step == 0 and record:
        never_there = {one for e in names.entries if e.ours in record["kept"] for one in e.theirs}
        tensors = {name: x for name, x in tensors.items() if name not in never_there}
    count = len(tensors)
    table = torch_names.table_of(run.model)
    if table.NETWORK and not backbone and re.search(r"\.(pt|pth|pth\.tar)$", out.name):
        with checkpoint.Checkpoints(workdir) as checkpoints:
            epoch = int(checkpoints.meta(run.step)["epoch"])
        tensors = _nested(tensors, table, epoch)
    weight_files.write(out, tensors, field="--out")
    if not backbone:
        run.vocabulary.to_json(words)
    return out, count


def _nested(tensors: Mapping[str, np.ndarray], table: Any, epoch: int) -> dict[str, Any]:
    """The dictionary of dictionaries that the released program saves."""
    nested: dict[str, Any] = {table.NETWORK: {}}
    for name, tensor in tensors.items():
        head, _, rest = name.partition(".")
        if head in table.HEADS:
            nested.setdefault(head, {})[rest] = tensor
        else:
            nested[table.NETWORK][name] = tensor
    return nested | {"epoch": epoch}


def convert_file(
    source: str, out: str | os.PathLike[str]
) -> tuple[AnyPath, weight_files.WeightFile]:
    """Writes the tensors of a file in another format, as `weight_files.read` gives them.

    Args:
      source: see `weight_files.read`.
      out: file to write, for example ``.safetensors``, which needs no torch to be read.

    Returns:
      The file, and what was read.

    Raises:
      ValueError: the source cannot be read, or the file exists.
    """
    out = weight_files.check_name(out, "--to")
    weights = weight_files.read(source, field=_FIELD)
    weight_files.write(out, weights.tensors, field="--to")
    return out, weights

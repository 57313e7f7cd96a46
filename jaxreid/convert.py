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
from ml_collections import ConfigDict

from jaxreid import (
    checkpoint,
    classes,
    logbook,
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
      source: of the weights.
      sha256: of their file.
      report: what became of each tensor.
      num_words: words that have a row of the table.
      num_classes: identities of the classifiers.
    """

    workdir: pathlib.Path
    source: str
    sha256: str
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
    _write_run(config, workdir, words, num_classes, variables)
    pretrained.save_record(weights, report, workdir)
    num_words = sum(not word.startswith(_UNUSED) for word in words.words)
    folder = pathlib.Path(workdir)
    return Converted(folder, weights.source, weights.sha256, report, num_words, num_classes)


def _refuse_a_run(workdir: str | os.PathLike[str]) -> None:
    folder = pathlib.Path(workdir)
    if (folder / config_lib.FILE_NAME).exists() or logbook.read(folder):
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
    runs.prepare_folder(config, workdir)
    vocabulary.to_json(pathlib.Path(workdir) / runs.VOCABULARY_FILE)
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
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise ValueError(
            f"{_VOCABULARY} is {str(path)!r}, and there is no such file. It takes vocabulary.json "
            "of a run, reid_raw.json, ind2word.pkl, or a text file with one word a line."
        )
    try:
        if file.suffix == ".pkl":
            with file.open("rb") as stream:
                return text.Vocabulary(tuple(_PlainUnpickler(stream).load()), "drop")
        if file.suffix != ".json":
            return text.Vocabulary(tuple(file.read_text(encoding="utf-8").split()), unknown)
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, list):
            return text.Vocabulary.from_json(file)
        return text.Vocabulary(_words_of_annotations(content), "drop")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, *_BAD_CONTENT) as error:
        raise ValueError(
            f"{_VOCABULARY} is {str(path)!r}, which cannot be read as words ({error})."
        ) from error


_BAD_CONTENT = (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, ValueError)


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists of strings; code in a pickle is refused, never run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only words are read")


def _words_of_annotations(records: list[Any]) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for record in records:
        if record["split"].lower() == "train":
            for caption in record["processed_tokens"]:
                for word in caption:
                    counts[word.lower()] = counts.get(word.lower(), 0) + 1
    return tuple(word for word, count in counts.items() if count >= 2)


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
) -> tuple[pathlib.Path, int]:
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
    out = pathlib.Path(out).expanduser()
    if out.exists():
        raise ValueError(f"--out {str(out)!r} exists; name a new file.")
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
    out.parent.mkdir(parents=True, exist_ok=True)
    weight_files.write(out, tensors, field="--out")
    if not backbone:
        stem = re.sub(r"\.(pth\.tar|\w+)$", "", out.name)
        run.vocabulary.to_json(out.with_name(f"{stem}_vocabulary.json"))
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


def convert_file(source: str, out: str | os.PathLike[str]) -> tuple[pathlib.Path, str, int]:
    """Writes the tensors of a file in another format, names and values unchanged.

    Args:
      source: see `weight_files.read`.
      out: file to write, for example ``.safetensors``, which needs no torch to be read.

    Returns:
      The file, the SHA-256 of the source, and the number of tensors.

    Raises:
      ValueError: the source cannot be read, or the file exists.
    """
    out = pathlib.Path(out).expanduser()
    if out.exists():
        raise ValueError(f"--to {str(out)!r} exists; name a new file.")
    weights = weight_files.read(source, field=_FIELD)
    out.parent.mkdir(parents=True, exist_ok=True)
    weight_files.write(out, weights.tensors, field="--to")
    return out, weights.sha256, len(weights.tensors)

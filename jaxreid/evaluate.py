"""Evaluation of a run: both directions on a split, or three kinds of query against a gallery.

A synthetic set's truth allows more, see `truth`.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxreid import (
    encoders,
    files,
    hosts,
    metrics,
    paths,
    protocols,
    retrieval,
    runs,
    sharding,
    tables,
    text,
    truth,
)
from jaxreid.data import source
from jaxreid.typing import PyTree

DIRECTIONS = tables.DIRECTIONS
RETRIEVAL_SCORES = tuple(tables.TITLES)


@dataclasses.dataclass(frozen=True)
class TestSet:
    """What a run is scored on.

    Attributes:
      dataset: TFDS name.
      split: of the queries.
      gallery: split that queries are searched in; "" for the same one, by sentences and back.
    """

    dataset: str
    split: str
    gallery: str = ""

    def file_name(self, config: ConfigDict) -> str:
        """Name of the result's file below ``eval/``: only that of another set names the set."""
        other = "" if self.dataset == config.data.name else self.dataset.replace("/", "_") + "_"
        return f"{other}{self.split}.json"


def find_test_set(config: ConfigDict, *, dataset: str = "", split: str = "") -> TestSet:
    """Decides what to score a run on, building a dataset that is missing.

    Args:
      config: of the run.
      dataset: TFDS name; empty for the one of the config: ``data.test_name``, or ``data.name``.
      split: empty for the config's test split, or, on a set that has ``query`` and ``gallery``
        instead, for these.

    Raises:
      ValueError: the dataset does not exist or cannot be built.
    """
    data = config.data
    name = dataset or data.test_name or data.name
    builder = source.finished(
        name,
        (),
        data_dir=data.data_dir,
        manual_dir=data.manual_dir,
        register=data.register,
    )
    there = builder.info.splits
    if not split:
        divided = data.test_split not in there and {"query", "gallery"} <= there.keys()
        split = "query" if divided else data.test_split
    return TestSet(name, split, "gallery" if split == "query" and "gallery" in there else "")


def evaluate_split(
    encoder: encoders.Encoder, variables: PyTree, data: runs.Captioned
) -> dict[str, metrics.RetrievalMetrics]:
    """Ranks all images for each caption and all captions for each image.

    Args:
      encoder: of the network.
      variables: ``params`` and ``batch_stats``.
      data: N images, M captions.

    Returns:
      ``t2i`` (M queries, N in the gallery) and ``i2t`` (N queries, M in the gallery).

    Raises:
      ValueError: the split has no caption.
    """
    if not len(data.tokens):
        raise ValueError(f"{data.split.name} has no caption: there is nothing to search with.")
    images = encoder.images(variables, data.split.images)
    captions = encoder.captions(variables, data.tokens, data.lengths)
    pids, caption_pids = data.split.pids, data.split.caption_pids
    # Every host ranks by itself: it holds all embeddings, and the similarities never travel.
    mesh = sharding.of_this_host(encoder.mesh)
    t2i, i2t = metrics.both_directions(captions, images, caption_pids, pids, mesh=mesh)
    return {"t2i": t2i, "i2t": i2t}


def evaluate_sides(
    encoder: encoders.Encoder,
    variables: PyTree,
    query: runs.Captioned,
    gallery: source.Split,
    *,
    draws: int,
    seed: int,
) -> tuple[dict[str, metrics.RetrievalMetrics], dict[str, Any]]:
    """Searches a gallery with images, sentences, and both; see `protocols`.

    Args:
      encoder: of the network.
      variables: ``params`` and ``batch_stats``.
      query: images and sentences to search with.
      gallery: images to search in; its sentences are not used.
      draws: number of single-shot draws.
      seed: of these.

    Returns:
      See `protocols.evaluate_sides`.

    Raises:
      ValueError: nothing can be found there.
    """
    split = query.split
    return protocols.evaluate_sides(
        protocols.Side(
            encoder.images(variables, split.images),
            split.pids,
            encoder.captions(variables, query.tokens, query.lengths),
            split.caption_image,
            split.views,
        ),
        protocols.Side(
            encoder.images(variables, gallery.images), gallery.pids, views=gallery.views
        ),
        draws=draws,
        seed=seed,
    )


def evaluate_run(
    workdir: str | os.PathLike[str],
    *,
    dataset: str = "",
    split: str = "",
    checkpoint: str = "best",
    per_query: str | os.PathLike[str] = "",
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluates a run and writes ``eval/<split>.json`` into its folder; of several hosts, one does.

    Args:
      workdir: folder of the run.
      dataset: TFDS name; empty for the set that the config names for the test. What is not the
        set of the training has its results in ``eval/<dataset>_<split>.json``.
      split: empty for the config's test split, or for ``query``, which is searched for in
        ``gallery``, on sets that have these two instead.
      checkpoint: ``best`` or ``last``.
      per_query: file for one CSV row a query; empty for none.
      overrides: see `retrieval.load_run`.

    Returns:
      What was written: see the README, "Evaluation".

    Raises:
      ValueError: the run, dataset, split or checkpoint does not exist, or a field may not be
        overridden.
    """
    run = retrieval.load_run(workdir, which=checkpoint, overrides=overrides)
    find = functools.partial(find_test_set, run.config, dataset=dataset, split=split)
    if hosts.are_several():  # on a disk that they share, one of them builds what is missing
        hosts.by_first(find)
    test = hosts.together(find)
    data = hosts.together(
        lambda: runs.load_captioned(run.config, test.split, run.vocabulary, dataset=test.dataset)
    )
    if test.gallery:
        gallery = runs.load(run.config, test.gallery, dataset=test.dataset)
        found, scores = evaluate_sides(
            run.encoder,
            run.variables,
            data,
            gallery,
            draws=run.config.eval.draws,
            seed=run.config.eval.seed,
        )
    else:
        found = evaluate_split(run.encoder, run.variables, data)
        scores = _result(found) | _truth_scores(run, data)
    result = scores | {
        "dataset": test.dataset,
        "split": test.split,
        "checkpoint": checkpoint,
        "step": run.step,
    }
    if not hosts.is_first():
        return result
    folder = run.workdir / "eval"
    paths.make_folder(folder)
    path = folder / test.file_name(run.config)
    files.write_atomically(path, json.dumps(result, indent=2) + "\n")
    if per_query:
        write_per_query(per_query, found, data)
    return result


def _result(found: Mapping[str, metrics.RetrievalMetrics]) -> dict[str, Any]:
    summaries = {direction: found[direction].summary() for direction in DIRECTIONS}
    scores: dict[str, Any] = {
        direction: {name: summary[name] for name in RETRIEVAL_SCORES}
        for direction, summary in summaries.items()
    }
    for direction, summary in summaries.items():
        scores[direction]["num_unmatched"] = summary["num_unmatched"]
    scores["num_queries"] = summaries["t2i"]["num_queries"]
    scores["num_gallery"] = summaries["t2i"]["num_gallery"]
    return scores


def _truth_scores(run: retrieval.Run, data: runs.Captioned) -> dict[str, float]:
    known = data.split.truth
    if known is None:
        return {}
    image = data.split.caption_image
    scores = {
        "oracle_rank1": truth.oracle_rank1(
            known.mentions,
            known.attributes[image],
            data.split.caption_pids,
            known.shown,
            known.attributes,
            data.split.pids,
        )
    }
    words = run.encoder.word_scores(run.variables, data.tokens, data.lengths)
    if words is None:
        return scores
    parts = truth.word_part_accuracy(
        words,
        token_regions(run.vocabulary, data),
        known.region_boxes[image],
        [known.regions.index(name) for name in known.word_regions],
        words.shape[2],
    )
    return scores | {key: parts[key] for key in ("word_part_accuracy", "word_part_constant")}


def token_regions(vocabulary: text.Vocabulary, data: runs.Captioned) -> np.ndarray:
    """Aligns the true region of each word with the tokens that the network saw.

    Args:
      vocabulary: of the run; it may drop the words it does not know.
      data: a split with truth, M captions of at most L tokens.

    Returns:
      [M, L] region of each token, -1 for none.

    Raises:
      ValueError: the split has no truth.
    """
    if data.split.truth is None:
        raise ValueError(f"{data.split.name} does not know the regions of its words.")
    num_captions, max_tokens = data.tokens.shape
    regions = np.full((num_captions, max_tokens), -1, np.int8)
    for row, caption in enumerate(data.split.captions):
        of_words = np.asarray(data.split.truth.caption_regions[row])
        words = text.tokenize(caption)[: len(of_words)]
        known = np.array([vocabulary.word_id(word) is not None for word in words], bool)
        kept = np.compress(known, of_words[: len(words)])[:max_tokens]
        regions[row, : len(kept)] = kept
    return regions


def write_per_query(
    path: str | os.PathLike[str],
    found: Mapping[str, metrics.RetrievalMetrics],
    data: runs.Captioned,
) -> None:
    """Writes one CSV row for each query.

    Args:
      path: file to write.
      found: from `evaluate_split` or `evaluate_sides`, by direction or mode.
      data: the split of the queries.

    Raises:
      ValueError: the file cannot be written.
    """
    split = data.split
    page = io.StringIO(newline="")
    writer = csv.writer(page)
    header = ["direction", "person_id", "image_id", "caption"]
    for direction, scores in found.items():
        mode = "i2i" if direction == "i2t" else direction
        rows = protocols.query_rows(mode, split.caption_image, len(split.pids))
        values = scores.per_query()
        if header:
            writer.writerow([*header, *values])
            header = []
        for index, (image, caption) in enumerate(zip(*rows, strict=True)):
            sentence = split.captions[caption] if caption >= 0 else ""
            numbers = [column[index] for column in values.values()]
            row = [direction, split.pids[image], split.image_ids[image], sentence]
            writer.writerow([*row, *numbers])
    try:
        with paths.explained(path, "--per_query"):
            paths.as_path(path, "--per_query").write_bytes(page.getvalue().encode())
    except OSError as error:
        raise ValueError(
            f"--per_query {str(path)!r} cannot be written ({error.strerror}); name a file in an "
            "existing folder that you may write to."
        ) from error

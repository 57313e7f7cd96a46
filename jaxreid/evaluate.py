"""Evaluation of a run on a split: both directions, and what a synthetic set's truth allows."""

from __future__ import annotations

import csv
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxreid import files, metrics, retrieval, runs, text, truth
from jaxreid.typing import PyTree

DIRECTIONS = {"t2i": "text to image", "i2t": "image to text"}
RETRIEVAL_SCORES = ("rank1", "rank5", "rank10", "map", "minp", "map_trapezoid")


def evaluate_split(
    encoder: retrieval.Encoder, variables: PyTree, data: runs.Captioned
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
    return {
        "t2i": metrics.retrieval_metrics(captions, images, caption_pids, pids),
        "i2t": metrics.retrieval_metrics(images, captions, pids, caption_pids),
    }


def evaluate_run(
    workdir: str | os.PathLike[str],
    *,
    dataset: str = "",
    split: str = "",
    checkpoint: str = "best",
    per_query: str | os.PathLike[str] = "",
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluates a run and writes ``eval/<split>.json`` into its folder.

    Args:
      workdir: folder of the run.
      dataset: TFDS name; empty for the one it was trained on. Another set's results go to
        ``eval/<dataset>_<split>.json``.
      split: empty for the config's test split.
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
    split = split or run.config.data.test_split
    data = runs.load_captioned(run.config, split, run.vocabulary, dataset=dataset)
    found = evaluate_split(run.encoder, run.variables, data)
    result = _result(found) | {
        "dataset": dataset or run.config.data.name,
        "split": split,
        "checkpoint": checkpoint,
        "step": run.step,
        **_truth_scores(run, data),
    }
    folder = run.workdir / "eval"
    folder.mkdir(exist_ok=True)
    other = f"{dataset.replace('/', '_')}_" if dataset not in ("", run.config.data.name) else ""
    path = folder / f"{other}{split}.json"
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
    """Writes one CSV row for each query of both directions.

    Args:
      path: file to write.
      found: from `evaluate_split`.
      data: the split.

    Raises:
      ValueError: the file cannot be written.
    """
    split = data.split
    queries = {
        "t2i": [
            (split.image_ids[i], s)
            for i, s in zip(split.caption_image, split.captions, strict=True)
        ],
        "i2t": [(image_id, "") for image_id in split.image_ids],
    }
    pids = {"t2i": split.caption_pids, "i2t": split.pids}
    try:
        with pathlib.Path(path).open("w", newline="") as file:
            writer = csv.writer(file)
            columns = list(found["t2i"].per_query())
            writer.writerow(["direction", "person_id", "image_id", "caption", *columns])
            for direction, rows in queries.items():
                values = found[direction].per_query()
                for index, (image_id, sentence) in enumerate(rows):
                    numbers = [values[column][index] for column in columns]
                    writer.writerow(
                        [direction, pids[direction][index], image_id, sentence, *numbers]
                    )
    except OSError as error:
        raise ValueError(
            f"--per_query {str(path)!r} cannot be written ({error.strerror}); name a file in an "
            "existing folder that you may write to."
        ) from error


def table(result: Mapping[str, Any]) -> str:
    """Writes a result of `evaluate_run` as a table for the screen."""
    header = ["percent", "Rank-1", "Rank-5", "Rank-10", "mAP", "mINP", "mAP (trapezoid)"]
    rows = [header] + [
        [label, *(f"{result[direction][name]:.2f}" for name in RETRIEVAL_SCORES)]
        for direction, label in DIRECTIONS.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(
        0,
        f"{result['dataset']}:{result['split']}, {result['checkpoint']} checkpoint (step "
        f"{result['step']}): {result['num_queries']} captions, {result['num_gallery']} images",
    )
    unmatched = {name: result[name]["num_unmatched"] for name in DIRECTIONS}
    if any(unmatched.values()):
        lines.append(
            "queries without a match, scored 0: "
            + ", ".join(f"{count} {DIRECTIONS[name]}" for name, count in unmatched.items())
        )
    if "oracle_rank1" in result:
        lines.append(f"ceiling (attribute oracle), Rank-1: {result['oracle_rank1']:.2f}")
    if "word_part_accuracy" in result:
        lines.append(
            f"words on their body part: {result['word_part_accuracy']:.2f} (best constant strip: "
            f"{result['word_part_constant']:.2f})"
        )
    return "\n".join(lines)

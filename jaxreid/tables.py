"""Tables for the screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxreid import protocols

DIRECTIONS = {"t2i": "text to image", "i2t": "image to text"}
TITLES = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "map": "mAP",
    "minp": "mINP",
    "map_trapezoid": "mAP (trapezoid)",
}


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lays out cells in columns, the first one to the left, the others to the right.

    Args:
      rows: cells, as many in each row.

    Returns:
      One line a row.

    >>> align([["", "train"], ["images", "7"]])
    ['        train', 'images      7']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def of_result(result: Mapping[str, Any]) -> str:
    """Writes a result of `evaluate.evaluate_run` for the screen, with what did not take part."""
    if "modes" in result:
        return _sides_table(result)
    rows = [[label, *_cells(result[direction], TITLES)] for direction, label in DIRECTIONS.items()]
    lines = [
        f"{_what(result)}: {result['num_queries']} captions, {result['num_gallery']} images",
        *align([["percent", *TITLES.values()], *rows]),
    ]
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


def _what(result: Mapping[str, Any]) -> str:
    return (
        f"{result['dataset']}:{result['split']}, {result['checkpoint']} checkpoint (step "
        f"{result['step']})"
    )


def _cells(scores: Mapping[str, float], names: Iterable[str]) -> list[str]:
    return [f"{scores[name]:.2f}" for name in names]


def _sides_table(result: Mapping[str, Any]) -> str:
    titles = [TITLES[name] for name in protocols.SCORES]
    drawn = [
        [protocols.MODES[mode], *(_cell(scores[name]) for name in protocols.SCORES)]
        for mode, scores in result["modes"].items()
    ]
    whole = [
        [protocols.MODES[mode], *_cells(scores, protocols.SCORES), f"{scores['num_queries']}"]
        for mode, scores in result["all"].items()
    ]
    return "\n".join(
        [
            f"{_what(result)} against gallery: {result['num_ids']} people on both sides,",
            f"{result['num_queries']} query images with {result['num_captions']} captions, "
            f"{result['num_gallery']} gallery images",
            "",
            "One query image of each person against one gallery image of each (image and text: "
            "against all),",
            f"mean ± standard deviation of {result['draws']} draws, seed {result['seed']}:",
            *align([["percent", *titles], *drawn]),
            "",
            "All queries against the whole gallery (image and text: the first caption):",
            *align([["percent", *titles, "queries"], *whole]),
            *sides_notes(result),
        ]
    )


def _cell(score: Mapping[str, float]) -> str:
    return f"{score['mean']:.2f} ± {score['std']:.2f}"


def sides_notes(result: Mapping[str, Any]) -> list[str]:
    """Says what did not take part in a result with a query and a gallery side.

    Args:
      result: of `evaluate.evaluate_run`.

    Returns:
      One sentence each; none where everything took part.
    """
    only, without = result["num_unmatched"], result["num_without_caption"]
    notes = {
        f"{only['query']:,} people have query images only: their queries score 0.": only["query"],
        f"{only['gallery']:,} people have gallery images only: they distract.": only["gallery"],
        f"{without:,} query images have no caption: they ask by image alone.": without,
        "People left out of each draw, as all their gallery images show the view of their query: "
        f"{', '.join(map(str, result['num_left_out']))}.": any(result["num_left_out"]),
    }
    return [note for note, wanted in notes.items() if wanted]

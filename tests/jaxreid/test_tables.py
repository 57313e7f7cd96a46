"""Tables for the screen: columns, and what they say of a result with two sides."""

import doctest

from jaxreid import protocols, tables

SIDES = {
    "modes": {
        "i2i": {name: {"mean": 90.125, "std": 1.5} for name in protocols.SCORES},
        "t2i": {name: {"mean": 4.0, "std": 0.25} for name in protocols.SCORES},
    },
    "all": {"i2i": dict.fromkeys(protocols.SCORES, 50.0) | {"num_queries": 12}},
    "draws": 10,
    "seed": 3,
    "num_ids": 8,
    "num_queries": 12,
    "num_captions": 26,
    "num_gallery": 15,
    "num_unmatched": {"query": 0, "gallery": 0},
    "num_without_caption": 0,
    "num_left_out": [0, 0],
    "dataset": "a/b",
    "split": "query",
    "checkpoint": "last",
    "step": 7,
}


def test_columns():
    assert doctest.testmod(tables).failed == 0
    assert tables.align([["a", "b", ""], ["ccc", "dd", "e"]]) == ["a     b", "ccc  dd  e"]


def test_queries_against_a_gallery():
    lines = tables.of_result(SIDES).splitlines()
    assert lines[0].startswith("a/b:query, last checkpoint (step 7) against gallery: 8 people")
    assert lines[1] == "12 query images with 26 captions, 15 gallery images"
    assert "10 draws, seed 3" in lines[4]
    assert lines[5].split() == ["percent", "Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"]
    assert lines[6].split("  ")[0] == "image to image"
    assert lines[7].split() == ["text", "to", "image", *["4.00", "±", "0.25"] * 5]
    assert lines[-1].split() == ["image", "to", "image", *["50.00"] * 5, "12"]
    assert len({len(line) for line in lines[5:8]}) == 1
    assert tables.sides_notes(SIDES) == []


def test_what_did_not_take_part_is_said():
    notes = tables.sides_notes(
        SIDES
        | {
            "num_unmatched": {"query": 1234, "gallery": 0},
            "num_without_caption": 5,
            "num_left_out": [0, 2],
        }
    )
    assert notes == [
        "1,234 people have query images only: their queries score 0.",
        "5 query images have no caption: they ask by image alone.",
        "People left out of each draw, as all their gallery images show the view of their query: "
        "0, 2.",
    ]

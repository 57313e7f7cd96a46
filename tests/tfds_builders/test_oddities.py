"""Notes on unusual records."""

import pytest

from tfds_builders.manual import Record
from tfds_builders.oddities import unusual


def record(name, person=1, captions=("A man in red.", "A man with a bag."), camera=1):
    return Record(name, person, tuple(captions), camera)


def notes(*records, usual=2, **fields):
    return unusual({"val": records}, usual, **fields)


def test_nothing_to_note():
    assert notes(record("a"), record("b")) == []


def test_number_of_captions():
    records = [record("a", captions=["1"] * 10), record("b", captions=[]), record("c")]
    assert notes(*records) == ["2 val images whose number of captions is not 2: a (10), b (0)"]
    assert notes(*records, usual=None) == ["1 val images whose number of captions is 0: b (0)"]


def test_ids_with_one_image():
    records = [record("a", 1), record("b", 1), record("c", 2, captions=["C.", "D."])]
    assert notes(*records) == ["1 val ids with one image: 2"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("A man.\nIn red.", "over several lines"),
        (" A man.", "with leading, trailing or double blanks"),
        ("A man. ", "with leading, trailing or double blanks"),
        ("A  man.", "with leading, trailing or double blanks"),
        ("A man in a caf\u00e9.", "with letters that are not ASCII"),
    ],
)
def test_captions(text, what):
    found = notes(record("a", captions=["A.", text]), record("b"))
    assert found == [f"1 val captions {what}, kept as given: a"]


def test_sentences_on_several_ids():
    long = "A man " * 20
    records = [
        record("a", 1, captions=["Same.", long, "", "Own."]),
        record("b", 1, captions=["Same.", "Own."]),
        record("c", 2, captions=["Same.", long, ""]),
        record("d", 2),
    ]
    line = notes(*records)[-1]
    assert line.startswith("2 sentences that stand on several ids, kept as given: 'Same.', 'A man")
    assert len(line) < 150


def test_cameras_that_names_do_not_tell():
    records = [record("a", camera=-1), record("b", camera=-1), record("c", camera=3)]
    assert notes(*records) == []
    assert notes(*records, tells_camera=lambda path: path != "b") == [
        "1 file names that do not tell the camera, stored as -1: a"
    ]

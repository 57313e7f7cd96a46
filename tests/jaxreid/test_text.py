"""The tokeniser and the vocabulary."""

import dataclasses
import doctest
import inspect
import json
import string

import numpy as np
import pytest

from jaxreid import text
from jaxreid.text import EncodingReport, Vocabulary, tokenize

CAPTIONS = [
    "A man in a Red shirt, red shoes.",
    "The man's bag is red;\n the bag  is big!",
    "",
]


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("The T-shirt,dark BLUE.", ["the", "tshirtdark", "blue"]),
        ("  two\n lines\tand   blanks ", ["two", "lines", "and", "blanks"]),
        ("the man's 2 bags", ["the", "mans", "2", "bags"]),
        (string.punctuation, []),
        ("", []),
        ("a café – here", ["a", "café", "–", "here"]),  # a dash that is not ASCII stays
    ],
)
def test_tokenize(sentence, words):
    assert tokenize(sentence) == words


def test_tokenize_refuses_bytes():
    with pytest.raises(ValueError, match=r"sentence = b'a man'.*bytes.*decode"):
        inspect.unwrap(tokenize)(b"a man")  # below the type check of the tests


def test_words_come_by_first_appearance_and_must_occur_twice():
    vocabulary = Vocabulary.from_captions(CAPTIONS)
    assert vocabulary.words == ("a", "red", "the", "bag", "is")
    assert Vocabulary.from_captions(CAPTIONS, min_count=1).words[:4] == ("a", "man", "in", "red")
    assert Vocabulary.from_captions(CAPTIONS, min_count=3).words == ("red",)


def test_rows_of_the_table():
    known = Vocabulary(("a", "red"))
    assert len(known) == 4
    assert [known.word(i) for i in range(4)] == ["<pad>", "<unk>", "a", "red"]
    assert [known.word_id(w) for w in ("a", "red", "blue")] == [2, 3, 1]
    dropping = Vocabulary(("a", "red"), "drop")
    assert len(dropping) == 3
    assert [dropping.word(i) for i in range(3)] == ["<pad>", "a", "red"]
    assert [dropping.word_id(w) for w in ("a", "red", "blue")] == [1, 2, None]
    assert "red" in known
    assert "blue" not in known
    with pytest.raises(ValueError, match=r"word_id = 4; accepted: 0 .. 3"):
        known.word(4)


def test_encode_with_an_unknown_word():
    vocabulary = Vocabulary(("a", "red", "bag"))
    tokens, lengths, report = vocabulary.encode(
        ["A blue, red bag", "...", "a bag a bag a bag", "blue"], max_tokens=4
    )
    np.testing.assert_array_equal(tokens, [[2, 1, 3, 4], [0, 0, 0, 0], [2, 4, 2, 4], [1, 0, 0, 0]])
    np.testing.assert_array_equal(lengths, [4, 0, 4, 1])
    assert tokens.dtype == lengths.dtype == np.int32
    assert report == EncodingReport(
        num_captions=4,
        num_words=11,
        unknown_words=2,
        unknown=(("blue", 2),),
        truncated=1,
        empty=1,
        first_empty=(1,),
    )
    assert report.summary() == (
        "4 captions, 11 words; 2 unknown (18.18%, 1 distinct); 1 captions cut; 1 left empty; "
        "most frequent unknown: blue; first empty at 1"
    )


def test_encode_dropping_unknown_words():
    vocabulary = Vocabulary(("a", "red", "bag"), "drop")
    tokens, lengths, report = vocabulary.encode(["A blue, red bag", "blue", "a bag a"], 3)
    np.testing.assert_array_equal(tokens, [[1, 2, 3], [0, 0, 0], [1, 3, 1]])
    np.testing.assert_array_equal(lengths, [3, 0, 3])
    assert (report.unknown_words, report.truncated, report.empty) == (2, 0, 1)


def test_encode_no_captions():
    tokens, lengths, report = Vocabulary(("a",)).encode([])
    assert tokens.shape == (0, 100)
    assert lengths.shape == (0,)
    assert "0 unknown (0.00%" in report.summary()


def test_vocabulary_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Vocabulary(("a",)).unknown = "drop"


@pytest.mark.parametrize("unknown", ["unk", "drop"])
def test_json_round_trip(tmp_path, unknown):
    vocabulary = Vocabulary(("a", "café", "red"), unknown)
    vocabulary.to_json(tmp_path / "vocabulary.json")
    assert Vocabulary.from_json(tmp_path / "vocabulary.json") == vocabulary
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is not a vocabulary; accepted"),
        ({"version": 2}, "version = 2; accepted: 1"),
        ({"words": "a red"}, "words is missing or no list"),
        ({"words": ["a", "Red"]}, r"words\[1\] = 'Red' is not a word of the tokeniser"),
        ({"words": ["a", 7]}, r"words\[1\] = 7 is not a word"),
        ({"words": ["a", "red", "a"]}, r"words\[2\] = 'a' stands at 0 already"),
        ({"unknown": "keep"}, "unknown = 'keep'; accepted: 'unk', 'drop'"),
        ({"unknown": None}, "unknown = None; accepted: 'unk', 'drop'"),
    ],
)
def test_from_json_refuses(tmp_path, change, message):
    path = tmp_path / "vocabulary.json"
    Vocabulary(("a", "red")).to_json(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message) as error:
        Vocabulary.from_json(path)
    assert str(path) in str(error.value)


def test_from_json_refuses_a_missing_mode_file_or_syntax(tmp_path):
    path = tmp_path / "vocabulary.json"
    with pytest.raises(ValueError, match="no vocabulary at .*train first"):
        Vocabulary.from_json(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        Vocabulary.from_json(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="is not a vocabulary"):
        Vocabulary.from_json(path)
    path.write_text('{"format": "jaxreid-vocabulary", "version": 1, "words": []}')
    with pytest.raises(ValueError, match="unknown is missing"):
        Vocabulary.from_json(path)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"captions = 'a man' is one string"):
        Vocabulary.from_captions("a man")
    with pytest.raises(ValueError, match="min_count = 0"):
        Vocabulary.from_captions(CAPTIONS, min_count=0)
    with pytest.raises(ValueError, match=r"no word occurs at least min_count = 2 .*\(3 distinct"):
        Vocabulary.from_captions(["one two", "three"])
    with pytest.raises(ValueError, match="is one string"):
        Vocabulary(("a",)).encode("a man")
    with pytest.raises(ValueError, match="max_tokens = 0"):
        Vocabulary(("a",)).encode(["a"], max_tokens=0)
    with pytest.raises(ValueError, match="unknown = 'other'"):
        Vocabulary(("a",), "other")


def test_the_example_of_the_module_runs():
    assert doctest.testmod(text).failed == 0

"""Word vectors in the formats that are in circulation, written here byte by byte."""

import gzip

import numpy as np
import pytest

from jaxreid import text, word_vectors

WORDS = ["the", ",", "New_York", "red", "caf\u00e9", "shirt", "Red", "of", "bag", "red"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)


def binary(newline=b""):
    entries = (
        word.encode() + b" " + vector.tobytes() + newline
        for word, vector in zip(WORDS, VECTORS, strict=True)
    )
    return f"{len(WORDS)} 5\n".encode() + b"".join(entries)


def lines():
    return "".join(
        f"{word} {' '.join(repr(float(x)) for x in vector)}\n"
        for word, vector in zip(WORDS, VECTORS, strict=True)
    ).encode()


FORMATS = {
    "google.bin": binary(),
    "newlines.bin": binary(b"\n"),
    "word2vec.txt": f"{len(WORDS)} 5\n".encode() + lines(),
    "glove.txt": lines(),
    "glove.txt.gz": gzip.compress(lines()),
    "google.bin.gz": gzip.compress(binary()),
}


def write(folder, name, content=None):
    path = folder / name
    path.write_bytes(FORMATS[name] if content is None else content)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_wanted_words_and_the_commonest_others(tmp_path, name):
    found = word_vectors.read(write(tmp_path, name), {"red", "bag", "unheard"}, commonest=2)
    # In the file's order: "," and "New_York" are no words of the tokeniser, "Red" is no wanted one.
    assert found.words == ("the", "red", "caf\u00e9", "bag")
    np.testing.assert_array_equal(found.vectors, VECTORS[[0, 3, 4, 8]])


def test_a_word_with_blanks_in_it(tmp_path):
    path = write(tmp_path, "odd.txt", b"the 1 2 3 4 5\n. . . 5 4 3 2 1\nred 0 0 0 0 1\n")
    found = word_vectors.read(path, {"red"}, commonest=9)
    assert found.words == ("the", "red")


def test_a_vocabulary_grows_by_the_words_of_the_file(tmp_path, caplog):
    vocabulary = text.Vocabulary(("red", "tshirtdark", "bag"))
    found = word_vectors.read(write(tmp_path, "glove.txt"), vocabulary.words, commonest=2)
    with caplog.at_level("INFO"):
        longer, table = word_vectors.extend(vocabulary, found)
    assert longer.words == ("red", "tshirtdark", "bag", "the", "caf\u00e9")
    assert table.shape == (7, 5)
    np.testing.assert_array_equal(table[[2, 4, 5, 6]], VECTORS[[3, 8, 0, 4]])
    assert not table[[0, 1, 3]].any()  # padding, unknown, a word that the file does not have
    assert "2 of the 3 words of the training captions (66.7%) have one, 2 others" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.bin", binary()[:-7], r"ends within word 10 of 10"),
        ("cut.bin", binary()[:70], r"word \d+ of 10"),
        ("cut.txt", lines()[:-30], "line 10 is not a word and 5 numbers"),
        ("bad.txt", b"the 1 2 3\nred 1 x 3\n", "line 2 is not a word and 3 numbers"),
        ("bad.txt", b"the 1 2 3\nred 1 nan 3\n", "line 2 is not"),
        ("empty.txt", b"", "first line"),
        ("picture.jpg", b"\xff\xd8\xff\xe0", "first line"),
        ("other.txt", b"le 1 2\nrouge 3 4\n", "none of the 2 words"),
    ],
)
def test_what_it_refuses(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        word_vectors.read(write(tmp_path, name, content), {"red", "unheard"}, commonest=0)


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"config.data.word_vectors is .*GoogleNews.bin.*no file"):
        word_vectors.read(tmp_path / "GoogleNews.bin", {"red"})


def test_vectors_of_a_bucket(bucket):
    bucket.put("google.bin.gz", FORMATS["google.bin.gz"])
    found = word_vectors.read("gs://bucket/google.bin.gz", {"red"}, commonest=0)
    assert found.words == ("red",)

"""Word vectors from files: word2vec (binary or text) and GloVe (text).

A file of three million words is read once, line by line, and of it only the words of a run and the
commonest others are kept, so that a run knows words never seen in training and a search needs no
file of 3 GB.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import pathlib
from collections.abc import Collection, Iterator
from io import BufferedIOBase

import numpy as np
from absl import logging
from jaxtyping import Float

from jaxreid import text
from jaxreid.data import remote

COMMONEST = 20_000

# A word2vec file names its size in its first line; a longer first line is one of GloVe.
_LONGEST_HEADER = 64
_LONGEST_WORD = 10_000


@dataclasses.dataclass(frozen=True)
class WordVectors:
    """Words and their vectors.

    Attributes:
      words: in the order of the file, which is that of how common they are.
      vectors: [N, D] float32, one row a word.
    """

    words: tuple[str, ...]
    vectors: Float[np.ndarray, "N D"]


def read(
    path: str | os.PathLike[str], wanted: Collection[str], commonest: int = COMMONEST
) -> WordVectors:
    """Reads the vectors of some words and of the commonest others.

    Args:
      path: file in word2vec's binary or text format, or GloVe's text format; ``.gz`` is unpacked.
      wanted: words to look for.
      commonest: how many others to keep: the first of the file that our tokeniser could give, so
        neither "New_York" nor ",".

    Returns:
      What was found of both; of a word that stands twice the first.

    Raises:
      ValueError: there is no such file, or it is none of these formats.
    """
    field = "config.data.word_vectors"
    file = remote.as_local(path, field)
    if not file.is_file():
        raise ValueError(
            f"{field} is {str(path)!r}, which is no file. It names a word2vec "
            "(.bin, .txt) or GloVe (.txt) file, perhaps with .gz behind; leave it empty for word "
            "vectors that are learnt."
        )
    missing, others = set(wanted), 0
    words: list[str] = []
    vectors: list[np.ndarray] = []
    kept: set[str] = set()
    with _open(file) as stream:
        for word, vector in _entries(stream, file):
            if word in kept:
                continue
            if word in missing:
                missing.discard(word)
            elif others < commonest and text.tokenize(word) == [word]:
                others += 1
            else:
                continue
            kept.add(word)
            words.append(word)
            vectors.append(vector)
            if not missing and others == commonest:
                break
    if not vectors:
        raise ValueError(f"{file} holds none of the {len(wanted):,} words of the captions.")
    return WordVectors(tuple(words), np.stack(vectors))


def extend(
    vocabulary: text.Vocabulary, found: WordVectors
) -> tuple[text.Vocabulary, Float[np.ndarray, "V D"]]:
    """Adds the words of a file to a vocabulary, behind its own.

    Args:
      vocabulary: of the training captions.
      found: vectors of its words and of others.

    Returns:
      The longer vocabulary and its table: zeros for padding, for unknown words and for words of the
      captions that the file does not have.
    """
    own = set(vocabulary.words)
    longer = text.Vocabulary(
        (*vocabulary.words, *(word for word in found.words if word not in own)),
        vocabulary.unknown,
    )
    table = np.zeros((len(longer), found.vectors.shape[1]), np.float32)
    for word, vector in zip(found.words, found.vectors, strict=True):
        table[longer.word_id(word)] = vector
    covered = len(own & set(found.words))
    logging.info(
        "word vectors: %d of the %d words of the training captions (%.1f%%) have one, %d others "
        "are kept",
        covered,
        len(own),
        100 * covered / max(len(own), 1),
        len(found.words) - covered,
    )
    return longer, table


def _open(path: pathlib.Path) -> BufferedIOBase:
    return gzip.GzipFile(path) if path.suffix == ".gz" else path.open("rb")


def _entries(stream: BufferedIOBase, path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields word and vector, in the file's order."""
    first = stream.readline(_LONGEST_WORD)
    header = first.split()
    if len(first) <= _LONGEST_HEADER and len(header) == 2 and all(map(bytes.isdigit, header)):
        count, dim = map(int, header)
        start = stream.read(_LONGEST_WORD)
        stream.seek(len(first))
        if _is_binary(start, dim):
            yield from _binary(stream, path, count, dim)
            return
    else:
        dim = len(header) - 1
        stream.seek(0)
    if dim < 1:
        raise ValueError(
            _no_format(path, "its first line is neither a size nor a word with numbers")
        )
    yield from _lines(stream, path, dim)


def _is_binary(start: bytes, dim: int) -> bool:
    """Whether what follows the header is a word and raw numbers rather than a line of text."""
    line = start.split(b"\n", 2)
    words = (line[0] or line[1] if len(line) > 1 else line[0]).split()
    try:
        return not (len(words) == dim + 1 and all(map(np.isfinite, map(float, words[1:]))))
    except ValueError:
        return True


def _binary(
    stream: BufferedIOBase, path: pathlib.Path, count: int, dim: int
) -> Iterator[tuple[str, np.ndarray]]:
    for number in range(count):
        letters = bytearray()
        while (letter := stream.read(1)) != b" ":
            if not letter or len(letters) > _LONGEST_WORD:
                raise ValueError(_no_format(path, f"word {number + 1:,} of {count:,} has no end"))
            if letter != b"\n":  # some writers end an entry with it, some do not
                letters += letter
        data = stream.read(4 * dim)
        if len(data) != 4 * dim:
            raise ValueError(_no_format(path, f"it ends within word {number + 1:,} of {count:,}"))
        yield letters.decode("utf-8", "replace"), np.frombuffer(data, "<f4").astype(np.float32)


def _lines(
    stream: BufferedIOBase, path: pathlib.Path, dim: int
) -> Iterator[tuple[str, np.ndarray]]:
    for number, line in enumerate(stream, start=1):
        # From the right: some words of GloVe hold blanks.
        parts = line.rstrip().rsplit(b" ", dim)
        try:
            vector = np.array([float(part) for part in parts[1:]], np.float32)
        except ValueError:
            vector = np.zeros(0, np.float32)
        if len(vector) != dim or not np.isfinite(vector).all():
            raise ValueError(_no_format(path, f"line {number:,} is not a word and {dim} numbers"))
        yield parts[0].decode("utf-8", "replace"), vector


def _no_format(path: pathlib.Path, what: str) -> str:
    return (
        f"{path} is no file of word vectors: {what}. Accepted: word2vec's binary or text format, "
        "GloVe's text format. If it was cut off, fetch it again."
    )

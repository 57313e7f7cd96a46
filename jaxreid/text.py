"""Words: the tokeniser and the vocabulary, from captions to arrays of word ids.

The tokeniser is the one behind the `processed_tokens` of CUHK-PEDES: lower-case, delete
`string.punctuation`, split on white space. The vocabulary holds the words of the *training*
captions that occur at least twice, by order of first appearance (SSAN, Implementation details).

Row 0 of an embedding table is padding. With `unknown="unk"` row 1 stands for every word outside
the vocabulary and the words start at row 2; with `unknown="drop"` such words are left out and the
words start at row 1.

Example:
  >>> vocabulary = Vocabulary.from_captions(["A red shirt.", "a red, red bag"], min_count=2)
  >>> vocabulary.words
  ('a', 'red')
  >>> tokens, lengths, report = vocabulary.encode(["a blue bag"], max_tokens=5)
  >>> tokens.tolist(), lengths.tolist(), report.unknown_words
  ([[2, 1, 1, 0, 0]], [3], 2)
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import os
import string
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxreid import files, paths

PADDING_ID = 0
UNKNOWN_ID = 1
PADDING_WORD = "<pad>"
UNKNOWN_WORD = "<unk>"
UNKNOWN_MODES = ("unk", "drop")
MAX_TOKENS = 100

_FORMAT = "jaxreid-vocabulary"
_FORMAT_VERSION = 1
_DELETE_PUNCTUATION = str.maketrans("", "", string.punctuation)


def tokenize(sentence: str) -> list[str]:
    """Splits a sentence into words: lower-case, no `string.punctuation`, split on white space.

    Args:
      sentence: raw caption; line breaks and repeated blanks are fine.

    Returns:
      The words in order. Punctuation is deleted, not replaced: "t-shirt,dark" is one word,
      "tshirtdark". An empty list for a sentence of blanks and punctuation.

    Raises:
      ValueError: `sentence` is not a string (for example bytes read from a dataset).
    """
    if not isinstance(sentence, str):
        raise ValueError(
            f"sentence = {sentence!r} is of type {type(sentence).__name__}; accepted: str. "
            'Decode bytes first: sentence.decode("utf-8").'
        )
    return sentence.lower().translate(_DELETE_PUNCTUATION).split()


@dataclasses.dataclass(frozen=True)
class EncodingReport:
    """What happened to the words of some captions when they were encoded.

    Attributes:
      num_captions: captions encoded.
      num_words: words in them, before anything was dropped or cut.
      unknown_words: how many of these words are outside the vocabulary.
      unknown: each such word with its number of occurrences, the most frequent first.
      truncated: captions cut at the maximal number of tokens.
      empty: captions left without a single token.
      first_empty: positions of the first five of these.
    """

    num_captions: int
    num_words: int
    unknown_words: int
    unknown: tuple[tuple[str, int], ...]
    truncated: int
    empty: int
    first_empty: tuple[int, ...]

    def summary(self) -> str:
        """Returns the report as one line for a log."""
        share = 100.0 * self.unknown_words / max(self.num_words, 1)
        line = (
            f"{self.num_captions:,} captions, {self.num_words:,} words; "
            f"{self.unknown_words:,} unknown ({share:.2f}%, {len(self.unknown):,} distinct); "
            f"{self.truncated:,} captions cut; {self.empty:,} left empty"
        )
        if self.unknown:
            line += "; most frequent unknown: " + ", ".join(word for word, _ in self.unknown[:5])
        if self.first_empty:
            line += "; first empty at " + ", ".join(str(i) for i in self.first_empty)
        return line


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words a network knows, each with its row of the embedding table.

    Attributes:
      words: known words by row, the first one at row 2 (`unknown="unk"`) or 1 (`"drop"`).
      unknown: "unk" maps other words to row 1, "drop" leaves them out.
    """

    words: tuple[str, ...]
    unknown: str = "unk"

    def __post_init__(self) -> None:
        """Checks the fields; raises ValueError where one is not as documented."""
        object.__setattr__(self, "words", tuple(self.words))
        _check_fields(self.words, self.unknown)

    @classmethod
    def from_captions(
        cls, captions: Iterable[str], min_count: int = 2, unknown: str = "unk"
    ) -> Vocabulary:
        """Collects the words that occur at least `min_count` times, by first appearance.

        Args:
          captions: raw captions of the *training* split, in a fixed order.
          min_count: occurrences a word needs, over all captions.
          unknown: what becomes of other words, see the class.

        Returns:
          The vocabulary.

        Raises:
          ValueError: `captions` is one string, `min_count` < 1, or no word qualifies.
        """
        if isinstance(captions, str | bytes):
            raise ValueError(f"captions = {captions!r} is one string; accepted: a list of them")
        if min_count < 1:
            raise ValueError(f"min_count = {min_count}; accepted: integers from 1")
        counts = collections.Counter(word for text in captions for word in tokenize(text))
        words = tuple(word for word, count in counts.items() if count >= min_count)
        if not words:
            raise ValueError(
                f"no word occurs at least min_count = {min_count} times in the captions "
                f"({len(counts)} distinct words). Give all training captions, or lower min_count."
            )
        return cls(words, unknown)

    @property
    def first_word_id(self) -> int:
        """Row of the first word: rows below it are padding and, if any, the unknown word."""
        return UNKNOWN_ID + 1 if self.unknown == "unk" else PADDING_ID + 1

    def __len__(self) -> int:
        """Number of rows of the embedding table, padding and unknown word included."""
        return self.first_word_id + len(self.words)

    def __contains__(self, word: object) -> bool:
        """Whether the word has a row of its own."""
        return word in self._ids

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: self.first_word_id + i for i, word in enumerate(self.words)}

    def word_id(self, word: str) -> int | None:
        """Returns the row of a word; of an unknown one 1, or None where unknown words are dropped.

        Args:
          word: one token as `tokenize` gives it.
        """
        return self._ids.get(word, UNKNOWN_ID if self.unknown == "unk" else None)

    def word(self, word_id: int) -> str:
        """Returns the word of a row; "<pad>" and "<unk>" for the rows that stand for no word.

        Args:
          word_id: row in 0 .. len(self) - 1.

        Raises:
          ValueError: there is no such row.
        """
        if not 0 <= word_id < len(self):
            raise ValueError(f"word_id = {word_id}; accepted: 0 .. {len(self) - 1}")
        if word_id >= self.first_word_id:
            return self.words[word_id - self.first_word_id]
        return PADDING_WORD if word_id == PADDING_ID else UNKNOWN_WORD

    def encode(
        self, captions: Sequence[str], max_tokens: int = MAX_TOKENS
    ) -> tuple[Int[np.ndarray, "N L"], Int[np.ndarray, " N"], EncodingReport]:
        """Turns captions into rows of word ids, padded with 0 at the end.

        Args:
          captions: N raw captions.
          max_tokens: L; what is longer is cut after the L-th token.

        Returns:
          tokens [N, L] int32, lengths [N] int32 (0 for a caption left empty), and what was lost.

        Raises:
          ValueError: `captions` is one string, or `max_tokens` < 1.
        """
        if isinstance(captions, str | bytes):
            raise ValueError(f"captions = {captions!r} is one string; accepted: a list of them")
        if max_tokens < 1:
            raise ValueError(f"max_tokens = {max_tokens}; accepted: integers from 1")
        tokens = np.full((len(captions), max_tokens), PADDING_ID, np.int32)
        full_lengths = np.zeros(len(captions), np.int32)
        unknown: collections.Counter[str] = collections.Counter()
        num_words = 0
        for row, caption in enumerate(captions):
            words = tokenize(caption)
            num_words += len(words)
            unknown.update(word for word in words if word not in self._ids)
            ids = [i for i in map(self.word_id, words) if i is not None]
            full_lengths[row] = len(ids)
            tokens[row, : len(ids)] = ids[:max_tokens]
        report = _report(full_lengths, max_tokens, num_words, unknown)
        return tokens, np.minimum(full_lengths, max_tokens), report

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes the vocabulary to a file, whole or not at all.

        Args:
          path: file to write; its folder must exist.
        """
        content = {
            "format": _FORMAT,
            "version": _FORMAT_VERSION,
            "unknown": self.unknown,
            "words": list(self.words),
        }
        files.write_atomically(path, json.dumps(content, ensure_ascii=False, indent=0) + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Reads what `to_json` wrote.

        Args:
          path: the file.

        Raises:
          ValueError: the file is missing, is not such a file, or a field in it is wrong.
        """
        try:
            content = json.loads(paths.as_path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(
                f"no vocabulary at {path}. A run folder holds one from its first step on: check "
                "the path, or train first."
            ) from error
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"vocabulary {path} cannot be read as JSON: {error}") from error
        _check_content(content, path)
        try:
            _check_fields(tuple(content["words"]), content["unknown"])
        except ValueError as error:
            raise ValueError(f"vocabulary {path}: {error}") from error
        return cls(tuple(content["words"]), content["unknown"])


def _report(
    full_lengths: np.ndarray, max_tokens: int, num_words: int, unknown: collections.Counter[str]
) -> EncodingReport:
    """Sums up lengths before cutting and the unknown words in an `EncodingReport`."""
    empty = np.flatnonzero(full_lengths == 0)
    return EncodingReport(
        num_captions=len(full_lengths),
        num_words=num_words,
        unknown_words=unknown.total(),
        unknown=tuple(unknown.most_common()),
        truncated=int((full_lengths > max_tokens).sum()),
        empty=len(empty),
        first_empty=tuple(int(i) for i in empty[:5]),
    )


def _check_fields(words: tuple[Any, ...], unknown: Any) -> None:
    """Raises ValueError unless the words are distinct tokens and the mode is one of ours."""
    if unknown not in UNKNOWN_MODES:
        raise ValueError(
            f"unknown = {unknown!r}; accepted: " + ", ".join(repr(mode) for mode in UNKNOWN_MODES)
        )
    seen: dict[str, int] = {}
    for index, word in enumerate(words):
        if not isinstance(word, str) or tokenize(word) != [word]:
            raise ValueError(
                f"words[{index}] = {word!r} is not a word of the tokeniser; accepted: lower-case "
                "strings without punctuation and blanks"
            )
        if word in seen:
            raise ValueError(f"words[{index}] = {word!r} stands at {seen[word]} already")
        seen[word] = index


def _check_content(content: Any, path: str | os.PathLike[str]) -> None:
    """Raises ValueError unless the JSON has the fields of a vocabulary file."""
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(
            f"{path} is not a vocabulary; accepted: a JSON object with "
            f'"format": "{_FORMAT}", as Vocabulary.to_json writes it'
        )
    if content.get("version") != _FORMAT_VERSION:
        raise ValueError(
            f"vocabulary {path}: version = {content.get('version')!r}; accepted: {_FORMAT_VERSION}"
        )
    if not isinstance(content.get("words"), list):
        raise ValueError(f"vocabulary {path}: words is missing or no list")
    if "unknown" not in content:
        raise ValueError(f"vocabulary {path}: unknown is missing; accepted: {UNKNOWN_MODES}")

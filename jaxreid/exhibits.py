"""What a run does, on examples drawn by lot: ranked lists, and where it sends each word."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Int, UInt8
from ml_collections import ConfigDict

from jaxreid import evaluate, figures, metrics, retrieval, runs, text
from jaxreid.data import decode, source

LIST_LENGTH = 10
_NUM_QUERIES = 8
_NUM_FAILURES = 2
_NUM_WORD_MAPS = 4
_PICTURE_HEIGHT = 320  # pixels: sharp at the size shown, also on a dense screen
_SEED = 0  # of the choice of queries, so that a page is not drawn until it looks good

Photographs = Callable[[int], UInt8[np.ndarray, "H W 3"]]
"""Position of an image in the split -> its pixels, RGB."""

Pictures = Callable[[int], str]
"""Position of an image in the split -> data URI of it."""


@dataclasses.dataclass(frozen=True)
class Hit:
    """An image in a ranked list.

    Attributes:
      picture: data URI.
      similarity: to the sentence.
      right: it shows the person described.
    """

    picture: str
    similarity: float
    right: bool


@dataclasses.dataclass(frozen=True)
class Query:
    """A sentence and what the network found with it.

    Attributes:
      sentence: as given.
      picture: data URI of the image that it was written for.
      first_rank: rank of the first right image, from 1; 0 if the gallery has none.
      num_right: right images in the gallery.
      hits: the head of the ranking.
      is_failure: chosen because its first image is wrong, not drawn by lot.
    """

    sentence: str
    picture: str
    first_rank: int
    num_right: int
    hits: tuple[Hit, ...]
    is_failure: bool = False


@dataclasses.dataclass(frozen=True)
class Word:
    """A word and the parts it was sent to.

    Attributes:
      text: the word.
      known: it is in the vocabulary.
      scores: of each part, from the top, in [0, 1].
      box: where the body region it speaks of begins and ends, as fractions of the image's height;
        None if unknown, not shown, or it speaks of none.
      region: name of that region; "" likewise.
    """

    text: str
    known: bool
    scores: tuple[float, ...]
    box: tuple[float, float] | None = None
    region: str = ""

    @property
    def best(self) -> int:
        """The part with the highest score."""
        return max(range(len(self.scores)), key=self.scores.__getitem__)


@dataclasses.dataclass(frozen=True)
class WordMap:
    """The word attention of a sentence, SSAN eq. (8).

    Attributes:
      picture: data URI of the image that the sentence was written for.
      words: in order.
      num_parts: K.
    """

    picture: str
    words: tuple[Word, ...]
    num_parts: int


def load_photographs(config: ConfigDict, split: str, *, dataset: str = "") -> Photographs:
    """Opens the images of a split, sharper than the network sees them.

    Args:
      config: of a run.
      split: built already.
      dataset: TFDS name; empty for the run's own.

    Returns:
      A function of an image's position, that gives its pixels in the proportions that the network
      sees.
    """
    data, dataset = config.data, dataset or config.data.name
    builder = source.find_builder(dataset, data_dir=data.data_dir, register=data.register)
    decoders = {"image": tfds.decode.SkipDecoding()}
    records = builder.as_data_source(split=split, decoders=decoders)
    height, width = data.image_size
    size = (_PICTURE_HEIGHT, round(_PICTURE_HEIGHT * width / height))

    def photograph(index: int) -> np.ndarray:
        name = f"{dataset}:{split}[{index}]"
        file = bytes(records[index]["image"])
        return decode.decode_image(file, size, name=name, resize=data.resize)

    return photograph


def as_pictures(photographs: Photographs) -> Pictures:
    """Turns a function that gives pixels into one that gives the data URI of a JPEG."""
    return lambda index: figures.jpeg_uri(photographs(index))


def ranked_lists(
    run: retrieval.Run,
    data: runs.Captioned,
    pictures: Pictures,
    *,
    gallery: source.Split | None = None,
    gallery_pictures: Pictures | None = None,
) -> tuple[list[Query], Int[np.ndarray, " _"]]:
    """Searches with captions drawn by lot.

    Args:
      run: loaded.
      data: the split, at least one caption.
      pictures: of the split.
      gallery: split to search in; None for the same one.
      gallery_pictures: of the gallery, given with it.

    Returns:
      The searches, and the captions drawn. If each of them finds its person at once, failures
      follow, should there be any.
    """
    split = data.split
    gallery, hit_pictures = gallery or split, gallery_pictures or pictures
    images = run.encoder.images(run.variables, gallery.images)
    captions = run.encoder.captions(run.variables, data.tokens, data.lengths)
    found = metrics.retrieval_metrics(captions, images, split.caption_pids, gallery.pids)
    drawn, failures = choose_queries(found.first_rank, np.random.default_rng(_SEED))
    chosen = np.concatenate([drawn, failures])
    order, similarity = metrics.top_matches(captions[chosen], images, LIST_LENGTH)
    queries = []
    for place, caption in enumerate(chosen.tolist()):
        described, pid = int(split.caption_image[caption]), split.caption_pids[caption]
        hits = tuple(
            Hit(hit_pictures(index), score, bool(gallery.pids[index] == pid))
            for index, score in zip(order[place].tolist(), similarity[place].tolist(), strict=True)
        )
        queries.append(
            Query(
                sentence=split.captions[caption],
                picture=pictures(described),
                first_rank=int(found.first_rank[caption]),
                num_right=int(found.num_matches[caption]),
                hits=hits,
                is_failure=place >= len(drawn),
            )
        )
    return queries, drawn


def choose_queries(
    first_rank: Int[np.ndarray, " Q"], random: np.random.Generator
) -> tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]:
    """Draws captions by lot, and failures if the lot fell on none.

    Args:
      first_rank: [Q] rank of each caption's first match, 0 for none.
      random: the lot.

    Returns:
      Captions drawn from all, and those drawn from the ones whose first image is wrong.
    """
    drawn = random.choice(len(first_rank), min(_NUM_QUERIES, len(first_rank)), replace=False)
    wrong = np.flatnonzero(first_rank != 1)
    if np.isin(drawn, wrong).any():
        wrong = wrong[:0]
    return drawn, random.choice(wrong, min(_NUM_FAILURES, len(wrong)), replace=False)


def word_maps(
    run: retrieval.Run,
    data: runs.Captioned,
    captions: Int[np.ndarray, " _"],
    pictures: Pictures,
) -> list[WordMap]:
    """Shows to which part of the body the network sends each word, as Figs. 8 and 9 of SSAN.

    Args:
      run: loaded.
      data: the split.
      captions: of it; the first four are shown.
      pictures: of the split.

    Returns:
      One map a caption with words; none for a network without word attention.
    """
    rows = captions[:_NUM_WORD_MAPS]
    scores = run.encoder.word_scores(run.variables, data.tokens[rows], data.lengths[rows])
    if scores is None:
        return []
    truth = data.split.truth
    regions = None if truth is None else evaluate.token_regions(run.vocabulary, data)
    maps = []
    for row, caption in enumerate(rows.tolist()):
        image = int(data.split.caption_image[caption])
        words = name_words(run.vocabulary, data.split.captions[caption], scores[row])
        if truth is not None and regions is not None:
            words = add_truth(words, regions[caption], truth.region_boxes[image], truth.regions)
        if words:
            maps.append(WordMap(pictures(image), tuple(words), scores.shape[2]))
    return maps


def name_words(
    vocabulary: text.Vocabulary, caption: str, scores: Float[np.ndarray, "L K"]
) -> list[Word]:
    """Puts the words that the network saw beside their scores.

    Args:
      vocabulary: of the run; it may drop the words it does not know.
      caption: as given.
      scores: [L, K] of its tokens.
    """
    return [
        Word(word, word in vocabulary, tuple(map(float, row)))
        for word, row in zip(seen_words(vocabulary, caption), scores, strict=False)
    ]


def seen_words(vocabulary: text.Vocabulary, caption: str) -> list[str]:
    """Words of a caption that have a token: all, or those that the vocabulary does not drop."""
    return [word for word in text.tokenize(caption) if vocabulary.word_id(word) is not None]


def add_truth(
    words: Sequence[Word],
    regions: Int[np.ndarray, " L"],
    boxes: Float[np.ndarray, "R 4"],
    names: Sequence[str],
) -> list[Word]:
    """Marks where the region lies that each word speaks of.

    Args:
      words: of a caption.
      regions: [L] region of each, -1 for none.
      boxes: [R, 4] y0, x0, y1, x1 of each region in the image, as fractions; -1 where not shown.
      names: of the R regions.
    """
    marked = []
    for word, region in zip(words, regions, strict=False):
        top, _, bottom, _ = map(float, boxes[region])
        shown = region >= 0 and bottom > top >= 0
        marked.append(
            dataclasses.replace(word, box=(top, bottom), region=names[region]) if shown else word
        )
    return marked

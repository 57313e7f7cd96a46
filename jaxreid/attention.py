"""Where AXM-Net looks: the places its visual features come from, and the words that NLA ties."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxreid import config as config_lib
from jaxreid import exhibits, figures, paths, retrieval, runs, text
from jaxreid.models.axm_net import AXMNet

_NUM_PHRASE_MAPS = 4
_NUM_TIES = 3
_TOKENS_EACH = 4  # of a final position of the text backbone, which halves a sentence twice
# What both runs must have alike, or they do not see the same pictures in the same way.
_SAME_FIELDS = ("data.name", "data.test_split", "data.image_size", "data.resize")


@dataclasses.dataclass(frozen=True)
class Looks:
    """What one network makes of some pictures.

    Attributes:
      title: of the run.
      branches: "global" (V_g) and "part" (V_p), as far as the network has them.
      poolings: how each is pooled, "average" or "max".
      grid: rows and columns of the map.
      pictures: for each picture the data URI of a map over it, one a branch.
    """

    title: str
    branches: tuple[str, ...]
    poolings: tuple[str, ...]
    grid: tuple[int, int]
    pictures: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Pictures, and where one or two networks look in them.

    Attributes:
      photographs: data URIs.
      looks: of each network, all at the same pictures.
      differences: fields of network and losses in which the second is another, each as
        ``field: first -> second``.
    """

    photographs: tuple[str, ...]
    looks: tuple[Looks, ...]
    differences: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Words that one final position of the text backbone stands for.

    Attributes:
      words: in order, each with whether it is in the vocabulary; none: this is all the padding.
      num_positions: 1, or of padding as many as there are.
    """

    words: tuple[tuple[str, bool], ...]
    num_positions: int = 1

    @property
    def text(self) -> str:
        """Its words in quotes, or "padding"."""
        return f"“{' '.join(word for word, _ in self.words)}”" if self.words else "padding"


@dataclasses.dataclass(frozen=True)
class PhraseMap:
    """What NLA gathers for each stretch of a sentence, and from which.

    Attributes:
      sentence: as given.
      stretches: of words, then padding unless it is masked or there is none.
      weights: of column j for row i, in [0, 1], rows sum to 1; the column of padding is the sum
        over its positions, its row their mean.
      num_positions: that take part in the attention.
      spread: on how many of these the weight of a position lies, exp of the mean entropy.
      totals: share of each stretch in the weight of all positions.
      num_cut: words behind the last position, which the network does not see.
    """

    sentence: str
    stretches: tuple[Stretch, ...]
    weights: tuple[tuple[float, ...], ...]
    num_positions: int
    spread: float
    totals: tuple[float, ...]
    num_cut: int

    @property
    def most(self) -> int:
        """The stretch of words with the largest share."""
        words = [i for i, stretch in enumerate(self.stretches) if stretch.words]
        return max(words, key=self.totals.__getitem__)

    @property
    def ties(self) -> list[tuple[Stretch, Stretch, float]]:
        """The strongest ties of two stretches of words: what takes, what it takes from, weight.

        None is below twice the even weight.
        """
        found = [
            (row, column, self.weights[i][j])
            for i, row in enumerate(self.stretches)
            for j, column in enumerate(self.stretches)
            if i != j and row.words and column.words
        ]
        strong = [tie for tie in found if tie[2] >= 2 / self.num_positions]
        return sorted(strong, key=lambda tie: -tie[2])[:_NUM_TIES]


@dataclasses.dataclass(frozen=True)
class Phrases:
    """The attention over the words of some sentences.

    Attributes:
      maps: of each sentence.
      scale: mean size of the scales of NLA's output, which start at 0.
      masked: padding is left out.
    """

    maps: tuple[PhraseMap, ...]
    scale: float
    masked: bool


def check_beside(run: retrieval.Run, other: retrieval.Run) -> None:
    """Refuses a run whose maps cannot stand beside those of another.

    Args:
      run: the one that the report is about.
      other: to stand beside it.

    Raises:
      ValueError: it was trained or is tested on other data, its pictures have another size, or one
        of the two has no activation maps.
    """
    differing = _differences(run, other, _SAME_FIELDS)
    if differing:
        raise ValueError(
            f"--beside {str(other.workdir)!r} was trained on other pictures than "
            f"{str(run.workdir)!r} ({'; '.join(differing)}), so their maps cannot be compared. "
            f"Name a run with the same {', '.join(_SAME_FIELDS)}."
        )
    for one in (run, other):
        if not isinstance(one.model, AXMNet):
            raise ValueError(
                f"--beside shows the activation maps of two networks, and {str(one.workdir)!r} "
                f"has none: its config.model.name is {one.config.model.name!r}. Name two runs of "
                "'axm_net', or leave --beside out."
            )


def _differences(
    first: retrieval.Run, second: retrieval.Run, fields: tuple[str, ...]
) -> tuple[str, ...]:
    """Fields that differ, out of those whose names begin so."""
    lines = config_lib.differences(first.config, second.config)
    return tuple(line for line in lines if line.startswith(fields))


def titles(first: retrieval.Run, second: retrieval.Run) -> tuple[str, str]:
    """Names two runs by their folders, or by the paths to these where the names are alike."""
    folders = paths.absolute(first.workdir), paths.absolute(second.workdir)
    names = folders[0].name, folders[1].name
    return names if names[0] != names[1] else (str(folders[0]), str(folders[1]))


def look(
    run: retrieval.Run,
    data: runs.Captioned,
    captions: Int[np.ndarray, " _"],
    photographs: exhibits.Photographs,
    beside: retrieval.Run | None = None,
) -> Gallery | None:
    """Shows where the visual features come from, as Fig. 6 of AXM-Net.

    Args:
      run: loaded.
      data: the split.
      captions: of it; the images that they were written for are shown.
      photographs: of the split.
      beside: another run, checked by `check_beside`; its maps follow.

    Returns:
      The pictures; None for another network.
    """
    if not isinstance(run.model, AXMNet):
        return None
    chosen = list(dict.fromkeys(data.split.caption_image[captions].tolist()))
    pictures = [photographs(index) for index in chosen]
    names = titles(run, beside) if beside else (paths.absolute(run.workdir).name,)
    both = zip(names, (run, beside) if beside else (run,), strict=True)
    return Gallery(
        tuple(map(figures.jpeg_uri, pictures)),
        tuple(_looks(title, one, data.split.images[chosen], pictures) for title, one in both),
        _differences(run, beside, ("model.", "objective.")) if beside else (),
    )


def _looks(
    title: str,
    run: retrieval.Run,
    images: UInt8[np.ndarray, "N H W 3"],
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> Looks:
    maps = feature_maps(run, images)
    poolings = tuple(pooling for _, pooling in maps.values())
    shares = [place_shares(*found) for found in maps.values()]
    overlays = tuple(
        tuple(figures.jpeg_uri(figures.overlay(picture, share[row])) for share in shares)
        for row, picture in enumerate(pictures)
    )
    rows, columns = shares[0].shape[1:]
    return Looks(title, tuple(maps), poolings, (rows, columns), overlays)


def feature_maps(
    run: retrieval.Run, images: UInt8[np.ndarray, "N H W 3"]
) -> dict[str, tuple[Float[np.ndarray, "N h w C"], str]]:
    """Fetches the maps that the visual features of an AXM-Net are pooled from.

    Args:
      run: loaded, of an `AXMNet`.
      images: [N, H, W, 3] uint8 RGB of its image size.

    Returns:
      By branch, "global" and "part" as far as they are there: the map, from 0, and its pooling.
    """
    model = run.model
    kinds = {"global": ("map", "average"), "part": ("part_map", model.pooling)}
    wanted = {branch: kinds[branch] for branch in model.branches}
    names = [name for name, _ in wanted.values()]
    found = run.encoder.image_outputs(run.variables, images, *names)
    return {branch: (found[name], pooling) for branch, (name, pooling) in wanted.items()}


def place_shares(maps: Float[np.ndarray, "N h w C"], pooling: str) -> Float[np.ndarray, "N h w"]:
    """Shares out a pooled vector among the places that it comes from.

    Args:
      maps: [N, h, w, C] activations from 0.
      pooling: "average": every place gives what it has; "max": each channel's maximum comes from
        the place that has it, from equal parts of several.

    Returns:
      [N, h, w] share in the sum over the pooled channels; 1 in total, or 0 where all is 0.
    """
    flat = maps.reshape(len(maps), -1, maps.shape[-1])
    if pooling == "max":
        wins = flat == flat.max(axis=1, keepdims=True)
        flat = flat * wins / wins.sum(axis=1, keepdims=True)
    given = flat.sum(axis=-1)
    total = given.sum(axis=1, keepdims=True)
    return (given / np.where(total > 0, total, 1)).reshape(maps.shape[:-1])


def phrases(
    run: retrieval.Run, data: runs.Captioned, captions: Int[np.ndarray, " _"]
) -> Phrases | None:
    """Shows which stretches of words NLA ties together.

    Args:
      run: loaded.
      data: the split.
      captions: of it; the first four are shown, those without a word are left out.

    Returns:
      Their weights; None for a network without NLA.
    """
    if not isinstance(run.model, AXMNet):
        return None
    rows = captions[:_NUM_PHRASE_MAPS]
    lengths = data.lengths[rows]
    found = run.encoder.caption_outputs(run.variables, data.tokens[rows], lengths, "phrases")
    if "phrases" not in found:
        return None
    masked = run.model.mask_padding
    maps = tuple(
        phrase_map(run.vocabulary, data.split.captions[caption], int(length), weights, masked)
        for caption, length, weights in zip(rows, lengths, found["phrases"], strict=True)
        if length
    )
    scale = run.variables["params"]["non_local"]["bn"]["scale"]
    return Phrases(maps, float(np.mean(np.abs(scale))), masked)


def phrase_map(
    vocabulary: text.Vocabulary,
    caption: str,
    length: int,
    weights: Float[np.ndarray, "l l"],
    masked: bool,
) -> PhraseMap:
    """Puts the weights of a sentence beside its words.

    Args:
      vocabulary: of the run; it may drop the words it does not know.
      caption: as given, with a word or more.
      length: tokens that the network took, at most.
      weights: [l, l] of position j for position i, rows sum to 1.
      masked: padding has no weight, and what its positions gather is not used.
    """
    words = exhibits.seen_words(vocabulary, caption)
    taken = min(length, _TOKENS_EACH * len(weights))
    known = [(word, word in vocabulary) for word in words[:taken]]
    stretches = [
        Stretch(tuple(known[start : start + _TOKENS_EACH]))
        for start in range(0, taken, _TOKENS_EACH)
    ]
    count = len(stretches)
    padding = len(weights) - count
    used = weights[:count, :count] if masked else weights
    table = used
    if padding and not masked:
        stretches.append(Stretch((), padding))
        columns = np.concatenate([used[:, :count], used[:, count:].sum(1, keepdims=True)], axis=1)
        table = np.concatenate([columns[:count], columns[count:].mean(0, keepdims=True)])
    # Rows weigh as many positions as they stand for.
    sizes = [stretch.num_positions for stretch in stretches]
    return PhraseMap(
        caption,
        tuple(stretches),
        tuple(tuple(map(float, row)) for row in table),
        num_positions=len(used),
        spread=spread(used),
        totals=tuple(map(float, np.average(table, axis=0, weights=sizes))),
        num_cut=len(words) - taken,
    )


def spread(weights: Float[np.ndarray, "l l"]) -> float:
    """On how many positions a row's weight lies: exp of the mean entropy, 1 to l (even)."""
    entropy = -np.sum(weights * np.log(np.where(weights > 0, weights, 1)), axis=1)
    return float(np.exp(entropy.mean()))

"""Which images of a test set are queries and which are the gallery, and which ids validate.

The sets of AXM-Net (Farooq et al.) search for a person seen in one view among pictures from other
views. Their split files are not public, so the views of each identity are divided by a rule, or by
a file that the user has. Orders come from SHA-256, which is the same on every machine and in every
version of Python and NumPy.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from tfds_builders.base import first_names, named_line
from tfds_builders.manual import Record

SIDES = ("query", "gallery")
SPLIT_FILE_FORMAT = '{"query": ["Market/0002_c1s1_000451_00.jpg", ..], "gallery": [..]}'

_Item = TypeVar("_Item", int, str)


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Images of the source folder that no split of the set holds, for one reason.

    Attributes:
      reason: what the names are, for example "ids seen in one view only".
      names: ids, or file paths.
      images: number of images concerned.
    """

    reason: str
    names: tuple[int, ...] | tuple[str, ...]
    images: int

    def lines(self) -> list[str]:
        """Returns one line for a report, none where nothing was left out."""
        of_ids = bool(self.names) and isinstance(self.names[0], int)
        size = f" ({self.images:,} images)" if of_ids else ""
        return named_line(f"{self.reason}{size}, left out", self.names)

    def as_metadata(self) -> dict[str, Any]:
        """Returns count, number of images and first names, as JSON takes them."""
        return {"count": len(self.names), "images": self.images, "first": list(self.names[:5])}


@dataclasses.dataclass(frozen=True)
class Division:
    """The images of a test set, divided.

    Attributes:
      query: images to search with, in the order of the annotations.
      gallery: images to search among, likewise.
      left_out: images on neither side.
      notes: what is unusual but usable, one line each.
      faults: why the division cannot be used; each says what is accepted and what to do.
    """

    query: tuple[Record, ...] = ()
    gallery: tuple[Record, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def seeded_order(items: Iterable[_Item], seed: int, what: str) -> list[_Item]:
    """Orders items at random, in a way that depends on nothing but the arguments.

    Args:
      items: ids or names, each once; their own order does not matter.
      seed: another seed, another order.
      what: the purpose; two purposes have independent orders.

    Returns:
      The items by the SHA-256 of "seed/what/item".
    """
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed}/{what}/{item}".encode()).digest())


def validation_size(ids: int, wanted: int) -> int:
    """Returns how many ids validate: those wanted, but at most a tenth, of two or more at least 1.

    Args:
      ids: number of identities that are not in the test.
      wanted: number in a set of the published size.
    """
    return min(wanted, max(ids // 10, min(1, ids // 2)))


def choose_validation(ids: Collection[int], wanted: int, *, seed: int) -> frozenset[int]:
    """Draws the identities that validate.

    Args:
      ids: identities that are not in the test, each once.
      wanted: how many; see `validation_size` for small sets.
      seed: seed of the draw.
    """
    return frozenset(seeded_order(ids, seed, "validation")[: validation_size(len(ids), wanted)])


def query_views(person_id: int, views: Collection[str], *, seed: int) -> frozenset[str]:
    """Draws the views of an identity that become queries; the others are its gallery.

    Two fifths of n views, rounded to the nearest number, and one at least: 1 of 2, 1 of 3, 2 of 4,
    2 of 5, 2 of 6, 3 of 7.

    Args:
      person_id: the identity.
      views: its view keys, each once, two at least.
      seed: seed of the draw.

    Raises:
      ValueError: fewer than two views.
    """
    if len(views) < 2:
        raise ValueError(f"views of id {person_id} = {sorted(views)}; accepted: two views or more")
    number = max(1, (4 * len(views) + 5) // 10)
    return frozenset(seeded_order(views, seed, f"view of {person_id}")[:number])


def divide(records: Sequence[Record], *, seed: int) -> Division:
    """Divides the images of a test set by the views of each identity.

    An image whose view is not known goes to neither side, nor does an identity that is left with
    fewer than two views.

    Args:
      records: the test images with their `view`; "" where it is not known.
      seed: seed of the division.

    Returns:
      The two sides: every identity is on both, no view of an identity is.
    """
    unknown = [record for record in records if not record.view]
    views: dict[int, set[str]] = collections.defaultdict(set)
    for record in records:
        views[record.person_id] |= {record.view} - {""}
    chosen = {
        person: query_views(person, keys, seed=seed)
        for person, keys in views.items()
        if len(keys) > 1
    }
    single = [r for r in records if r.view and r.person_id not in chosen]
    divided = [r for r in records if r.view and r.person_id in chosen]
    return Division(
        query=tuple(r for r in divided if r.view in chosen[r.person_id]),
        gallery=tuple(r for r in divided if r.view not in chosen[r.person_id]),
        left_out=(
            LeftOut(
                "test ids seen in one view only",
                tuple(person for person, keys in views.items() if len(keys) == 1),
                len(single),
            ),
            LeftOut(
                "test images whose name does not tell the view",
                tuple(record.file_path for record in unknown),
                len(unknown),
            ),
        ),
    )


@dataclasses.dataclass(frozen=True)
class SplitFile:
    """A user's own division.

    Attributes:
      path: the file.
      query: image paths under `imgs/`, in the order of the file.
      gallery: likewise.
    """

    path: pathlib.Path
    query: tuple[str, ...]
    gallery: tuple[str, ...]

    def names(self) -> frozenset[str]:
        """Returns the images of both sides."""
        return frozenset(self.query) | frozenset(self.gallery)


def read_split_file(path: pathlib.Path) -> SplitFile:
    """Reads a user's own division.

    Args:
      path: JSON, an object with the lists "query" and "gallery" of paths relative to `imgs/`.

    Raises:
      ValueError: the file is no such JSON.
    """
    advice = f"Accepted: {SPLIT_FILE_FORMAT}, paths relative to imgs/. Correct the file."
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). {advice}") from error
    except (ValueError, RecursionError) as error:  # also of text that is not UTF-8
        raise ValueError(f"{path} is not valid JSON: {error}. {advice}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}. {advice}")
    for side in SIDES:
        if side not in content:
            found = ", ".join(map(repr, sorted(content))) or "nothing"
            raise ValueError(f'{path} has no "{side}"; it has {found}. {advice}')
        if not isinstance(content[side], list) or not content[side]:
            raise ValueError(f'{path}: "{side}" is no list, or an empty one. {advice}')
        odd = [repr(name) for name in content[side] if not isinstance(name, str)]
        if odd:
            raise ValueError(
                f'{path}: "{side}" has {len(odd):,} entries that are no text: '
                f"{first_names(odd)}. {advice}"
            )
    return SplitFile(path, tuple(content["query"]), tuple(content["gallery"]))


def divide_by_file(
    split: SplitFile, records: Sequence[Record], known: Collection[str], accepted: str
) -> Division:
    """Divides the images of a test set as a user's file says.

    Args:
      split: the file.
      records: the images that may be tested.
      known: all images of the annotations, to tell a wrong name from a wrong set.
      accepted: which images may be tested, in words.

    Returns:
      The two sides, in the order of the annotations; its `faults` list what forbids their use:
      unknown images, those of another split, on both sides, or of a query id without a gallery.
    """
    query, gallery = set(split.query), set(split.gallery)
    sides = {
        "query": tuple(record for record in records if record.file_path in query),
        "gallery": tuple(record for record in records if record.file_path in gallery),
    }
    rest = [record for record in records if record.file_path not in query | gallery]
    names = tuple(record.file_path for record in rest)
    testable = {record.file_path for record in records}
    return Division(
        **sides,
        left_out=(LeftOut(f"test images that {split.path.name} does not name", names, len(rest)),),
        notes=tuple(_file_notes(split, sides)),
        faults=(
            *_name_faults(split, testable, known, accepted),
            *_fault(
                split,
                "query ids without a gallery image, which no search could find; accepted: ids with "
                "both",
                sorted(_ids(sides["query"]) - _ids(sides["gallery"])),
            ),
        ),
    )


def _name_faults(
    split: SplitFile, testable: Collection[str], known: Collection[str], accepted: str
) -> list[str]:
    """Says what is wrong with the names of a user's division, one text for each kind of fault."""
    named = list(dict.fromkeys(split.query + split.gallery))
    both = set(split.query) & set(split.gallery)
    unknown = [name for name in named if name not in known]
    foreign = [name for name in named if name in known and name not in testable]
    return [
        *_fault(
            split,
            "images that the annotations do not have; accepted: paths relative to imgs/, letter "
            "by letter",
            unknown,
        ),
        *_fault(split, f"images that are not of the test set; accepted: {accepted}", foreign),
        *_fault(
            split,
            "images in both query and gallery; accepted: one side for each image",
            [name for name in named if name in both],
        ),
    ]


def _fault(split: SplitFile, what: str, names: Collection[Any]) -> list[str]:
    text = f"{split.path} names {len(names):,} {what}: {first_names(names)}."
    return [f"{text} What to do: correct these entries."] if names else []


def _ids(records: Iterable[Record]) -> set[int]:
    return {record.person_id for record in records}


def _file_notes(split: SplitFile, sides: Mapping[str, Sequence[Record]]) -> list[str]:
    """Counts what a user's division may have, but ours has not."""
    views = {
        side: {(r.person_id, r.view) for r in chosen if r.view} for side, chosen in sides.items()
    }
    both = sorted({person for person, _ in views["query"] & views["gallery"]})
    alone = sorted(_ids(sides["gallery"]) - _ids(sides["query"]))
    notes = []
    for side, names in (("query", split.query), ("gallery", split.gallery)):
        often = [name for name, number in collections.Counter(names).items() if number > 1]
        notes += named_line(f"{side} images that {split.path.name} names again, kept once", often)
    notes += named_line("ids with a view in both query and gallery, as the file says", both)
    return notes + named_line("gallery ids without a query image, kept as distractors", alone)

"""Market-1501 with the captions of CUHK-PEDES: its official test ids, divided by cameras."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Collection, Sequence

import tensorflow_datasets as tfds

from tfds_builders import query_gallery
from tfds_builders.base import SplitCounts, first_names, named_line
from tfds_builders.domains import market_pid, shows_no_identity, source_domain
from tfds_builders.manual import Contents, Record, count_parts
from tfds_builders.market1501_pedes import official_ids
from tfds_builders.protocols import LeftOut, SplitFile

SPLIT_FILE = "market1501_pedes_split.json"
VALIDATION_IDS = 1_000
PUBLISHED = {"train": SplitCounts(images=34_191, captions=68_396, ids=11_253)}

# What becomes of an image.
_TEST = "test"
_OTHERS = "others"
_NOBODY = "nobody"
_NAMELESS = "images in Market/ whose name does not tell the id"
_ELSEWHERE = "images of test ids that are not from Market-1501"


class Builder(query_gallery.QueryGalleryBuilder):
    """CUHK-PEDES with the official test ids of Market-1501 as test, all others for training."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Cameras of the official test ids divided by a seed."}
    BUILDER_CONFIGS = query_gallery.configs(SPLIT_FILE)
    SPLIT_FILE = SPLIT_FILE
    PUBLISHED_SIDES = {
        "query": SplitCounts(images=1_173, captions=2_346, ids=official_ids.NUMBER),
        "gallery": SplitCounts(images=1_816, captions=3_632, ids=official_ids.NUMBER),
    }
    HOW_TO_GET = query_gallery.HOW_TO_GET
    EXPECTED_TREE = query_gallery.tree(
        {
            official_ids.LIST: f"the {official_ids.NUMBER} official test ids, one in each line; or",
            "/".join((official_ids.FOLDERS[0], official_ids.TEST_FOLDERS[0])): (
                "a copy of Market-1501, of which only file names are read"
            ),
            SPLIT_FILE: "only for the config own_split",
        }
    )

    def plan(
        self, source: Contents, places: Sequence[pathlib.Path], own: SplitFile | None
    ) -> query_gallery.Plan:
        """Takes the identities of Market-1501's test; see `QueryGalleryBuilder.plan`.

        A user's own division says itself which identities are tested; those of a list or a copy of
        Market-1501, where there is one, train nothing either.
        """
        official = official_ids.read_official_ids(places)
        faults = official.faults
        if not (official.pids or faults or self.builder_config.own_split):
            faults = (official_ids.nothing_there(places[0]),)
        if faults:
            return query_gallery.Plan(notes=official.notes, faults=faults)
        records = query_gallery.everything(source)
        tested = _tested(records, set(official.pids), own.names() if own else frozenset())
        groups: dict[str, list[Record]] = collections.defaultdict(list)
        for record in records:
            groups[_group(record, tested)].append(record)
        train, val, notes = query_gallery.partition(
            groups[_OTHERS], VALIDATION_IDS, seed=self.builder_config.seed
        )
        return query_gallery.Plan(
            train=train,
            val=val,
            test=tuple(groups[_TEST]),
            accepted="images in Market/ whose name begins with an id, not -1 or 0000",
            left_out=(
                query_gallery.no_identity(records),
                *(
                    LeftOut(reason, tuple(r.file_path for r in groups[reason]), len(groups[reason]))
                    for reason in (_NAMELESS, _ELSEWHERE)
                ),
            ),
            counts=count_parts({"train": train, "val": val}, PUBLISHED),
            differences=tuple(_differences(official.pids, groups[_TEST])),
            notes=(*official.notes, *notes, *_repeated(groups[_TEST])),
            faults=() if groups[_TEST] or own else (_none_found(official.pids),),
            ids=official.pids,
        )


def _pid(record: Record) -> int | None:
    """Returns the id of Market-1501, None for an image from another source or an odd name."""
    return market_pid(record.file_path) if source_domain(record.file_path) == "market" else None


def _tested(
    records: Sequence[Record], pids: Collection[int], named: Collection[str]
) -> frozenset[int]:
    """Returns the ids of CUHK-PEDES that a list of Market-1501's ids, or of images, speaks of."""
    return frozenset(
        record.person_id
        for record in records
        if (pid := _pid(record)) is not None
        and pid > 0
        and (pid in pids or record.file_path in named)
    )


def _group(record: Record, tested: Collection[int]) -> str:
    """Says what becomes of an image."""
    if source_domain(record.file_path) != "market":
        return _ELSEWHERE if record.person_id in tested else _OTHERS
    if shows_no_identity(record.file_path):
        return _NOBODY
    if _pid(record) is None:
        return _NAMELESS
    return _TEST if record.person_id in tested else _OTHERS


def _differences(pids: Collection[int], test: Sequence[Record]) -> list[str]:
    """Compares the official test ids with the published number, and with the annotations."""
    if not pids:
        return []
    number = official_ids.NUMBER
    lines = []
    if len(pids) != number:
        lines.append(f"{len(pids):,} official test ids read, published {number:,}")
    missing = sorted(set(pids) - {_pid(record) for record in test})
    return lines + named_line(
        "official test ids of Market-1501 without an annotated image", missing
    )


def _repeated(test: Sequence[Record]) -> list[str]:
    """Names persons that a gallery would hold under several ids."""
    people: dict[int | None, set[int]] = collections.defaultdict(set)
    for record in test:
        people[_pid(record)].add(record.person_id)
    names = [
        f"{pid} ({' and '.join(map(str, sorted(p)))})" for pid, p in people.items() if len(p) > 1
    ]
    return named_line("test ids of Market-1501 that stand under several ids", names)


def _none_found(pids: Sequence[int]) -> str:
    return (
        f"none of the {len(pids):,} test ids ({first_names(pids)}) stands in the name of an "
        "annotated image in Market/; accepted: ids of Market-1501, as in its file names.\nWhat to "
        f"do: if {official_ids.LIST} has ids of CUHK-PEDES, write those of Market-1501 instead."
    )

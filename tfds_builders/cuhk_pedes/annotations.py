"""CUHK-PEDES before a look at its images: annotations in every form, beside the published sizes."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from tfds_builders.base import SPLITS, SplitCounts, named_line
from tfds_builders.domains import Domain, camera_id, market_pid, source_domain, source_folder
from tfds_builders.manual import Contents, Counts, Record, count_parts, differing
from tfds_builders.oddities import unusual
from tfds_builders.records import IMAGES, SPLIT_FILES, Layout, read_annotations

NAME = "CUHK-PEDES"

EXPECTED_TREE = f"""\
expected:
  {NAME}/
    reid_raw.json    list of {{"split", "captions", "file_path", "id"}}
                     or one file for each split: {", ".join(SPLIT_FILES)}
    {IMAGES}/            cam_a/ cam_b/ CUHK01/ CUHK03/ Market/ test_query/ train_query/"""

LAYOUT = Layout(
    name=NAME,
    files=("reid_raw.json",),
    tree=EXPECTED_TREE,
    file_without_splits="caption_all.json",
    camera_id=camera_id,
)
USUAL_CAPTIONS = 2

PUBLISHED = {
    "train": SplitCounts(images=34_054, captions=68_126, ids=11_003),
    "val": SplitCounts(images=3_078, captions=6_158, ids=1_000),
    "test": SplitCounts(images=3_074, captions=6_156, ids=1_000),
}
PUBLISHED_IDS = {
    "train": range(1, 11_004),
    "val": range(11_004, 12_004),
    "test": range(12_004, 13_004),
}
# Source -> ids in all splits, (images, ids) in val and in test. Images of each source in train and
# captions of each were not published.
_SOURCES = {
    "train_query": (5_532, (1_134, 421), (1_110, 411)),
    "test_query": (2_900, (632, 220), (653, 230)),
    "CUHK01": (971, (332, 83), (320, 80)),
    "CUHK03": (1_467, (375, 97), (480, 126)),
    "Market": (1_501, (495, 124), (413, 104)),
    "VIPeR": (632, (110, 55), (98, 49)),
}
_VIPER = ("cam_a", "cam_b")
_DOMAIN_SOURCES: dict[Domain, tuple[str, ...]] = {
    "sysu": ("train_query", "test_query"),
    "cuhk01": ("CUHK01",),
    "cuhk03": ("CUHK03",),
    "market": ("Market",),
    "viper": ("VIPeR",),
}


def read_official(manual_dir: pathlib.Path) -> Contents:
    """Reads CUHK-PEDES with its official splits.

    Args:
      manual_dir: the folder that holds CUHK-PEDES/, or that itself.

    Returns:
      What was found; see `tfds_builders.manual.ManualBuilder.read`.

    Raises:
      ValueError: nothing can be read: no such folder, no annotation file with splits.
    """
    found = read_annotations(manual_dir, LAYOUT)
    counts = count_parts(found.splits, PUBLISHED)
    of_sources = _count_sources(found.splits, tuple(_SOURCES))
    return Contents(
        folder=found.folder,
        image_root=found.folder / IMAGES,
        files=found.files,
        splits=found.splits,
        counts=(*counts, *of_sources),
        differences=(
            *differing(counts),
            *_other_ids(found.splits),
            # Of a split that is not there at all, its own line says enough.
            *differing(c for c in of_sources if c.name.split(",")[0] in found.splits),
        ),
        notes=(*found.notes, *_notes(found.splits)),
        faults=found.faults,
    )


def read_domain(manual_dir: pathlib.Path, domain: Domain) -> Contents:
    """Reads the part of CUHK-PEDES that comes from one source dataset; splits stay the official.

    Args:
      manual_dir: the folder that holds CUHK-PEDES/, or that itself.
      domain: which source.

    Returns:
      What was found; a fault where nothing is from that source.

    Raises:
      ValueError: nothing can be read: no such folder, no annotation file with splits.
    """
    found = read_annotations(manual_dir, LAYOUT)
    splits = {
        split: part
        for split, records in found.splits.items()
        if (part := tuple(r for r in records if source_domain(r.file_path) == domain))
    }
    sources = _DOMAIN_SOURCES[domain]
    counts = count_parts(splits, {split: _published(split, *sources) for split in SPLITS})
    of_sources = _count_sources(splits, sources) if len(sources) > 1 else ()
    return Contents(
        folder=found.folder,
        image_root=found.folder / IMAGES,
        files=found.files,
        splits=splits,
        counts=(*counts, *of_sources),
        differences=tuple(differing(counts)),
        notes=(*found.notes, *_notes(splits)),
        faults=found.faults + (() if splits else (_nothing_of(domain, found.files),)),
    )


def _nothing_of(domain: Domain, files: Sequence[pathlib.Path]) -> str:
    folders = ", ".join(f"{name}/" for source in _DOMAIN_SOURCES[domain] for name in _parts(source))
    return (
        f"{', '.join(map(str, files))} has no image of the source {domain}; accepted: records "
        f"whose file_path starts with {folders}. What to do: build cuhk_pedes/official, which "
        "takes every source, or ask the authors for the whole annotation file."
    )


def _parts(source: str) -> tuple[str, ...]:
    return _VIPER if source == "VIPeR" else (source,)


def _published(split: str, *sources: str) -> SplitCounts:
    """Returns the published size of sources in a split; what remains of all ids is in train."""
    images, ids = 0, 0
    for source in sources:
        everywhere, val, test = _SOURCES[source]
        if split == "train":
            ids += everywhere - val[1] - test[1]
        else:
            part = val if split == "val" else test
            images, ids = images + part[0], ids + part[1]
    return SplitCounts(images or None, None, ids)


def _count_sources(
    splits: Mapping[str, Sequence[Record]], sources: Sequence[str]
) -> tuple[Counts, ...]:
    """Counts each source folder in each split: says which folder a copy falls short in."""
    parts: dict[str, Sequence[Record]] = {}
    published = {}
    for split in SPLITS:
        for source in sources:
            name, folders = f"{split}, folder {source}", _parts(source)
            records = splits.get(split, ())
            parts[name] = [r for r in records if source_folder(r.file_path) in folders]
            published[name] = _published(split, source)
    return count_parts(parts, published)


def _other_ids(splits: Mapping[str, Sequence[Record]]) -> list[str]:
    """Compares the ids of each split with the published ones."""
    lines = []
    for name, published in PUBLISHED_IDS.items():
        ids = {record.person_id for record in splits.get(name, ())}
        lines += named_line(f"published {name} ids without an image", sorted(set(published) - ids))
        lines += named_line(f"{name} ids that are not published ones", sorted(ids - set(published)))
    return lines


def _notes(splits: Mapping[str, Sequence[Record]]) -> list[str]:
    """Notes what is unusual, boxes that Market-1501 itself gives no identity included."""
    notes = unusual(splits, USUAL_CAPTIONS, lambda path: source_domain(path) != "sysu")
    names = [r.file_path for part in splits.values() for r in part]
    market = [name for name in names if source_domain(name) == "market"]
    for pid, what in ((-1, "-1 (junk)"), (0, "0000 (distractors)")):
        found = [name for name in market if market_pid(name) == pid]
        notes += named_line(f"Market images that Market-1501 numbers {what}, kept", found)
    return notes

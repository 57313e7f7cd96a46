"""Examines a user's folder before anything is built: is it ready, and if not, what to do?

`examine` never raises for a bad folder. What it finds is an `Examination`: facts, of which `text()`
makes a page for a person and `to_json()` an object for a program.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import pathlib
import shlex
import time
from collections.abc import Callable, Mapping, Sequence

from absl import logging

from tfds_builders import doctor_folder, images
from tfds_builders.base import SplitCounts, first_names, named_line
from tfds_builders.doctor_images import ImageFacts, look_at_all
from tfds_builders.manual import Contents, ManualBuilder, Record, count

READY = "ready"
READY_WITH_DIFFERENCES = "ready, with differences"
NOT_READY = "not ready"

FEW_WORDS, MANY_WORDS = 3, 100
_FIRST = 5
_LOG_SECONDS = 5.0

_ODD_CAPTIONS: dict[str, Callable[[str], bool]] = {
    "empty": lambda text: not text,
    "only blanks": lambda text: bool(text) and not text.strip(),
    f"shorter than {FEW_WORDS} words": lambda text: 0 < len(text.split()) < FEW_WORDS,
    f"longer than {MANY_WORDS} words": lambda text: len(text.split()) > MANY_WORDS,
    "with letters that are not ASCII": lambda text: not text.isascii(),
    "with a line break": lambda text: len(text.splitlines()) > 1,
}
# Presets of configs/ssan.py by dataset; others are trained on with that of CUHK-PEDES.
_PRESETS = {
    "cuhk_pedes": "cuhk_pedes",
    "icfg_pedes": "icfg_pedes",
    "rstp_reid": "rstp_reid",
    "folder_pedes": "folder",
}
_NOTHING_IN_IT = ("empty", "only blanks")
_TRAINING = ("train", "val")  # splits without which there is none


@dataclasses.dataclass(frozen=True)
class Named:
    """Something counted.

    Attributes:
      count: how many.
      first: the first five of them.
    """

    count: int
    first: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Part:
    """Size of a split, or of a part of it.

    Attributes:
      split: name of the split.
      part: "" for all of it, else for example "folder Market".
      found: what the annotations have.
      published: what should be there; None where nothing was published.
    """

    split: str
    part: str
    found: SplitCounts
    published: SplitCounts | None


@dataclasses.dataclass(frozen=True)
class CaptionFacts:
    """What the captions of all splits are like, each image taken once.

    Attributes:
      count: number of captions.
      usual: captions of an ordinary image, None where any number is.
      per_image: number of images by number of captions.
      unusual: images with another number than the usual one.
      odd: captions by what is odd about them, named by their image.
    """

    count: int
    usual: int | None
    per_image: Mapping[int, int]
    unusual: Named
    odd: Mapping[str, Named]


@dataclasses.dataclass(frozen=True)
class Examination:
    """What was found in a folder.

    Attributes:
      dataset: NAME/CONFIG, or NAME where there is one config only.
      manual_dir: what the user gave.
      verdict: `READY`, `READY_WITH_DIFFERENCES` or `NOT_READY`.
      expected: the tree that should be there.
      folder: the folder that was listed.
      tree: its sub-folders and files, with numbers.
      files: annotation files that were read.
      parts: sizes of the splits and their sub-folders.
      images: the image files; None where no annotations could be read.
      captions: the captions; None likewise.
      shared_ids: number of ids in both of two splits, by "train & val".
      faults: why nothing can be built.
      differences: how the folder differs from the published set, or from what one would wish.
      notes: what else is worth knowing.
      next_steps: what to do now, commands included.
    """

    dataset: str
    manual_dir: str
    verdict: str
    expected: str
    folder: str
    tree: tuple[str, ...]
    files: tuple[str, ...]
    parts: tuple[Part, ...]
    images: ImageFacts | None
    captions: CaptionFacts | None
    shared_ids: Mapping[str, int]
    faults: tuple[str, ...]
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    next_steps: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 for a folder that can be built, 1 for one that cannot."""
        return int(self.verdict == NOT_READY)

    def text(self) -> str:
        """Returns a page for a person."""
        from tfds_builders import doctor_text  # which imports this module

        return doctor_text.page(self)

    def to_json(self) -> str:
        """Returns the same facts as one JSON object."""
        facts = {**dataclasses.asdict(self), "exit_code": self.exit_code}
        return json.dumps(facts, indent=2, ensure_ascii=False)


def examine(
    builder: ManualBuilder,
    manual_dir: str | pathlib.Path,
    progress: Callable[[int, int], None] | None = None,
) -> Examination:
    """Examines a folder: annotations, counts, captions, and every image decoded.

    Args:
      builder: of the dataset that the folder should hold.
      manual_dir: what the user would give to build it.
      progress: called with (images decoded, images in all) now and then; None logs it.

    Returns:
      What was found. A folder that cannot be read, or is no folder, is `NOT_READY`.
    """
    manual_dir = pathlib.Path(manual_dir).expanduser()
    try:
        contents = builder.read(manual_dir)
        located = images.locate(contents.image_root, contents.names())
    except (ValueError, OSError) as error:
        return _unreadable(builder, manual_dir, error)
    facts = look_at_all(located, progress or _logged())
    records = {r.file_path: r for part in contents.splits.values() for r in part}
    captions = _caption_facts(list(records.values()), builder.USUAL_CAPTIONS)
    faults = (*contents.faults, *_image_faults(facts))
    if not records and not faults:
        faults = ("no split holds an image",)
    differences = (*contents.differences, *_differences(facts, captions))
    verdict = NOT_READY if faults else READY_WITH_DIFFERENCES if differences else READY
    return Examination(
        dataset=_name(builder),
        manual_dir=str(manual_dir),
        verdict=verdict,
        expected=builder.EXPECTED_TREE,
        folder=str(contents.folder),
        tree=doctor_folder.tree(contents.folder),
        files=tuple(map(str, contents.files)),
        parts=_parts(contents),
        images=facts,
        captions=captions,
        shared_ids=_shared_ids(contents.splits),
        faults=faults,
        differences=differences,
        notes=(*contents.notes, *located.notes()),
        next_steps=(
            _repair(builder, manual_dir)
            if faults
            else _commands(builder, manual_dir, [n for n in _TRAINING if n not in contents.splits])
        ),
    )


def _unreadable(
    builder: ManualBuilder, manual_dir: pathlib.Path, error: ValueError | OSError
) -> Examination:
    """Says why there is nothing to examine, and where it might lie."""
    fault = str(error).replace(f"{builder.EXPECTED_TREE}\n", "")  # it is shown anyway
    if isinstance(error, OSError):
        fault = f"{error.filename or manual_dir} cannot be read ({error.strerror or error})."
    state = doctor_folder.state(manual_dir)
    if state:
        fault = (
            f"manual_dir = {manual_dir} {state}; accepted: the folder drawn under EXPECTED, or the "
            "one that holds it."
        )
    elsewhere = doctor_folder.find_near(builder, manual_dir)
    steps = _repair(builder, manual_dir)
    if elsewhere is not None:
        where = "one level down" if manual_dir in elsewhere.parents else "one level up"
        files = ", ".join(path.name for path in builder.read(elsewhere).files)
        fault = f"the annotations lie {where}: {files} can be read from {elsewhere}\n{fault}"
        steps = (f"pass {elsewhere} instead:", _doctor_command(builder, elsewhere))
    return Examination(
        dataset=_name(builder),
        manual_dir=str(manual_dir),
        verdict=NOT_READY,
        expected=builder.EXPECTED_TREE,
        folder=str(manual_dir),
        tree=doctor_folder.tree(manual_dir),
        files=(),
        parts=(),
        images=None,
        captions=None,
        shared_ids={},
        faults=(fault,),
        differences=(),
        notes=(),
        next_steps=steps,
    )


def _logged() -> Callable[[int, int], None]:
    """Returns a progress that logs every few seconds."""
    since = time.monotonic()

    def log(done: int, total: int) -> None:
        nonlocal since
        if time.monotonic() - since >= _LOG_SECONDS:
            since = time.monotonic()
            logging.info("decoded %s of %s images", f"{done:,}", f"{total:,}")

    return log


def _name(builder: ManualBuilder) -> str:
    config = builder.builder_config
    return f"{builder.name}/{config.name}" if config else builder.name


def _parts(contents: Contents) -> tuple[Part, ...]:
    """Lists the counts of the reader; a split whose parts it did not count, by sub-folder."""
    parts = []
    names = [c.name.partition(", ")[0] for c in contents.counts]
    for split in dict.fromkeys([*names, *contents.splits]):
        records = contents.splits.get(split, ())
        counted = [
            Part(split, c.name.partition(", ")[2], c.found, c.published)
            for c in contents.counts
            if c.name.partition(", ")[0] == split
        ]
        if not any(part.part == "" for part in counted):
            counted.insert(0, Part(split, "", count(records), None))
        if len(counted) == 1:
            counted += _by_folder(split, records)
        parts += counted
    return tuple(parts)


def _by_folder(split: str, records: Sequence[Record]) -> list[Part]:
    folders: dict[str, list[Record]] = collections.defaultdict(list)
    for record in records:
        folders[_top(record.file_path)].append(record)
    if len(folders) < 2:
        return []
    return [Part(split, f"folder {name}", count(folders[name]), None) for name in sorted(folders)]


def _top(file_path: str) -> str:
    folder, slash, _ = file_path.partition("/")
    return folder if slash else "."


def _caption_facts(records: Sequence[Record], usual: int | None) -> CaptionFacts:
    numbers = collections.Counter(len(record.captions) for record in records)
    unusual = [
        f"{record.file_path} ({len(record.captions)})"
        for record in records
        if usual is not None and len(record.captions) != usual
    ]
    odd = {
        what: _named([r.file_path for r in records for text in r.captions if is_odd(text)])
        for what, is_odd in _ODD_CAPTIONS.items()
    }
    return CaptionFacts(
        count=sum(number * images for number, images in numbers.items()),
        usual=usual,
        per_image=dict(sorted(numbers.items())),
        unusual=_named(unusual),
        odd={what: named for what, named in odd.items() if named.count},
    )


def _named(names: Sequence[str]) -> Named:
    return Named(len(names), tuple(names[:_FIRST]))


def _shared_ids(splits: Mapping[str, Sequence[Record]]) -> dict[str, int]:
    ids = {name: {record.person_id for record in part} for name, part in splits.items()}
    pairs = itertools.combinations(ids, 2)
    shared = {f"{one} & {other}": len(ids[one] & ids[other]) for one, other in pairs}
    return {pair: number for pair, number in shared.items() if number}


def _image_faults(facts: ImageFacts) -> list[str]:
    faults = []
    if facts.missing:
        faults.append(
            f"{len(facts.missing):,} of {facts.named:,} annotated images are missing under "
            f"{facts.root}: {first_names(facts.missing)}. What to do: put them there (sub-folders "
            "with counts are under IMAGES: unpack their archives again); names are compared letter "
            "by letter."
        )
    if facts.unreadable:
        named = [f"{name} ({what})" for name, what in facts.unreadable.items()]
        faults.append(
            f"{len(named):,} of {facts.named:,} annotated images cannot be read: "
            f"{first_names(named)}. What to do: fetch these files again; accepted: "
            f"{images.ACCEPTED}."
        )
    return faults


def _differences(facts: ImageFacts, captions: CaptionFacts) -> list[str]:
    """Counts what is no reason to refuse the folder, but not as one would wish."""
    warned = [f"{name} ({what})" for name, what in facts.warnings.items()]
    lines = named_line("images decode with warnings, part of them may be damaged", warned)
    for what in _NOTHING_IN_IT:
        named = captions.odd.get(what)
        if named:
            lines.append(f"{named.count:,} captions are {what}, first of {', '.join(named.first)}")
    return lines


def _doctor_command(builder: ManualBuilder, manual_dir: pathlib.Path) -> str:
    return f"jaxreid doctor {_name(builder)} --manual_dir {shlex.quote(str(manual_dir))}"


def _repair(builder: ManualBuilder, manual_dir: pathlib.Path) -> tuple[str, ...]:
    return (
        "put right what is listed under WRONG, then look again:",
        _doctor_command(builder, manual_dir),
    )


def _commands(
    builder: ManualBuilder, manual_dir: pathlib.Path, lacking: Sequence[str]
) -> tuple[str, ...]:
    """Returns the commands that build the dataset and, unless splits lack, train on it."""
    name, folder = _name(builder), shlex.quote(str(manual_dir))
    build = f"python -m tfds_builders.build {name} --manual_dir {folder}"
    if lacking:
        return f"build it, to search in it; no training without {' and '.join(lacking)}:", build
    preset = _PRESETS.get(builder.name, "cuhk_pedes")
    config = builder.builder_config
    is_default = not config or config.name == builder.default_builder_config.name
    named = is_default and builder.name in _PRESETS  # by the preset
    other = "" if named else f" --config.data.name={name}"
    return (
        "build it, then train (which builds it, too, where that has not been done):",
        build,
        f"jaxreid train --config configs/ssan.py:{preset} --workdir runs/{builder.name}{other} "
        f"--config.data.manual_dir={folder}",
    )

"""Which identities of Market-1501 are its official test: from a list, or from a copy of it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from tfds_builders.base import first_names, named_line
from tfds_builders.domains import market_pid
from tfds_builders.query_gallery import find
from tfds_builders.records import listing

LIST = "market1501_test_ids.txt"
FOLDERS = ("Market-1501", "Market-1501-v15.09.15", "Market1501", "market1501")
TEST_FOLDERS = ("bounding_box_test", "query")
NUMBER = 750
LAST = 1501

_ADVICE = f"accepted: an id of Market-1501, 1 to {LAST}, as in the first part of its file names"


@dataclasses.dataclass(frozen=True)
class OfficialIds:
    """The identities of the official test.

    Attributes:
      pids: ids of Market-1501, sorted; none where nothing says them, or where there are faults.
      notes: where they were read, and what was passed over.
      faults: why they cannot be used.
    """

    pids: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def read_official_ids(places: Sequence[pathlib.Path]) -> OfficialIds:
    """Reads the test identities.

    Args:
      places: folders to look in; a list counts before a copy of Market-1501.

    Returns:
      The identities; empty without a fault where there is neither list nor copy.
    """
    path = find(places, LIST)
    if path is not None:
        return _from_list(path)
    for name in FOLDERS:
        folder = find(places, name)
        if folder is not None:
            return _from_folder(folder)
    return OfficialIds()


def nothing_there(manual_dir: pathlib.Path) -> str:
    """Says what to put where, for a folder with neither list nor copy."""
    return (
        f"which {NUMBER} ids of Market-1501 are its official test is not known: no {LIST} and no "
        f"copy of Market-1501 in manual_dir = {manual_dir}\n"
        f"found there: {listing(manual_dir)}\n"
        f"accepted: {LIST}, one id in each line ({NUMBER} of them, ids of Market-1501 and not of "
        f"CUHK-PEDES), or a folder {', '.join(FOLDERS)} with {' or '.join(TEST_FOLDERS)} in it, of "
        "which only the file names are read\n"
        "What to do: put one of them there; the file names of Market-1501's bounding_box_test "
        "begin with these ids."
    )


def _from_list(path: pathlib.Path) -> OfficialIds:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        return OfficialIds(faults=(f"{path} is not UTF-8 text: {error}. Write it again.",))
    except OSError as error:
        what = f"{path} cannot be read ({error.strerror}); accepted: one id in each line"
        return OfficialIds(faults=(f"{what}. Write it again.",))
    pids, faults, passed = set(), [], []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        if text == "-1" or (text.isascii() and text.isdigit() and int(text) <= LAST):
            value = int(text)
            if value > 0:
                pids.add(value)
            else:
                passed.append(text)
        else:
            faults.append(f"line {number}: {text[:40]!r}")
    if faults:
        return OfficialIds(
            faults=(
                f"{path} has {len(faults):,} lines that are no id: {first_names(faults)}\n{_ADVICE}"
                "\nWhat to do: correct these lines.",
            )
        )
    return _result(path, pids, named_line(f"lines of {path.name} with -1 or 0, no ids", passed))


def _from_folder(folder: pathlib.Path) -> OfficialIds:
    present = [folder / name for name in TEST_FOLDERS if (folder / name).is_dir()]
    names = sorted(path.name for part in present for path in part.iterdir())
    numbers = {name: market_pid(name) for name in names}
    found = [number for number in numbers.values() if number is not None]
    odd = [name for name, number in numbers.items() if number is None]
    passed = [name for name, number in numbers.items() if number in (-1, 0)]
    where = " and ".join(path.name for path in present)
    notes = named_line(f"files of {folder.name} that are no images of an identity", passed)
    notes += named_line(f"files of {folder.name} named otherwise, passed over", odd)
    place = f"{folder} ({where or 'without ' + ' and '.join(TEST_FOLDERS)})"
    return _result(place, {number for number in found if number > 0}, notes)


def _result(place: pathlib.Path | str, pids: set[int], notes: list[str]) -> OfficialIds:
    if pids:
        return OfficialIds(
            tuple(sorted(pids)), (f"{len(pids):,} test ids read from {place}", *notes)
        )
    return OfficialIds(
        notes=tuple(notes),
        faults=(
            f"{place} has no id\n{_ADVICE}\nWhat to do: put the list or the folder there again, or "
            f"take it away; a list {LIST} counts before a folder.",
        ),
    )

"""The contact sheet: what it shows, and that odd images and captions do not spoil it."""

import doctest
import types

import matplotlib
import numpy as np
import PIL.Image
import pytest

from jaxreid import contact_sheet
from tests.jaxreid.test_explore import builder, picture, record


def sizes(**images):
    """A finished dataset, its splits with their sizes."""
    made = builder(**images)
    made.info.splits = {
        split: types.SimpleNamespace(num_examples=len(records)) for split, records in images.items()
    }
    return made


def test_images_are_drawn_evenly_from_the_splits():
    chosen = contact_sheet.choose({"train": 100, "val": 1, "test": 50}, count=8, seed=0)
    assert {split: len(rows) for split, rows in chosen.items()} == {"train": 4, "val": 1, "test": 3}
    for rows in chosen.values():
        assert np.all(np.diff(rows) > 0)
    again = contact_sheet.choose({"train": 100, "val": 1, "test": 50}, count=8, seed=0)
    assert all(again[split].tolist() == rows.tolist() for split, rows in chosen.items())
    other = contact_sheet.choose({"train": 100, "val": 1, "test": 50}, count=8, seed=1)
    assert other["train"].tolist() != chosen["train"].tolist()
    assert contact_sheet.choose({"a": 2, "b": 0}, count=8, seed=0)["a"].tolist() == [0, 1]
    assert list(contact_sheet.choose({"a": 2, "b": 0}, count=8, seed=0)) == ["a"]


def longest_run(mask):
    """The most neighbours that are all true."""
    ends = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return np.max(ends[1::2] - ends[::2], initial=0)


def test_a_page_of_odd_images(tmp_path):
    """Pictures of any shape, no caption, ten of them, a long one, letters that no font has."""
    long = "a man who walks " * 60
    train = [
        record(1, 2, ["short"], picture(600, 200)),
        record(2, -1, [], picture(3, 2)),
        record(3, 0, [long, long], picture(100, 300)),
        record(4, 0, [f"caption {place} of ten" for place in range(10)], picture(64, 128, "bmp")),
        record(5, 0, ["\u65e5\u672c\u8a9e $x_1", " \n ", "x" * 300], picture(70, 20, "jpeg", 6)),
    ]
    before = dict(matplotlib.rcParams)
    contact_sheet.write_contact_sheet(sizes(train=train, val=[]), tmp_path / "sheet.png")
    assert dict(matplotlib.rcParams) == before
    with PIL.Image.open(tmp_path / "sheet.png") as sheet:
        page = np.asarray(sheet.convert("RGB"))
    height, width = page.shape[:2]
    # Two rows of cards; the margins are empty.
    assert height == 40 + 84 + 2 * 310
    for margin in (page[:20], page[-4:], page[:, :20], page[:, -20:]):
        assert np.all(margin == 255)
    # The photographs are evenly grey; the tallest fill the height there is.
    grey = np.all(page == 200, axis=2)
    assert max(map(longest_run, grey.T)) == 286
    assert max(map(longest_run, grey)) == 150
    contact_sheet.write_contact_sheet(sizes(train=train, val=[]), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()


def test_a_file_that_cannot_be_written(tmp_path):
    made = sizes(train=[record(1, 2, ["a"], picture(20, 60))])
    with pytest.raises(ValueError, match=r"no/sheet.png' cannot be written \(No such file"):
        contact_sheet.write_contact_sheet(made, tmp_path / "no" / "sheet.png")


def test_a_broken_image_is_named(tmp_path):
    made = sizes(train=[record(1, 2, ["a"], b"nothing")])
    with pytest.raises(ValueError, match=r"image '1_2.png' cannot be read"):
        contact_sheet.write_contact_sheet(made, tmp_path / "sheet.png")


def fits(line):
    return len(line) <= 6


@pytest.mark.parametrize(
    ("sentence", "lines"),
    [
        ("", []),
        (" \n ", []),
        ("one", ["one"]),
        ("one two\nthree", ["one", "two", "three"]),
        ("a b c d e", ["a b c", "d e"]),
        ("abcdefghijklm no", ["abcdef", "ghijkl", "m no"]),
        ("ab cdefghi", ["ab", "cdefgh", "i"]),
    ],
)
def test_lines_are_broken(sentence, lines):
    assert contact_sheet.wrap(sentence, fits) == lines


def test_a_room_narrower_than_a_letter():
    assert contact_sheet.wrap("ab c", lambda line: False) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("paragraphs", "limit", "shown"),
    [
        ([["a"], ["b"]], 5, [["a"], ["b"]]),
        ([["a"], ["b"]], 2, [["a"], ["b"]]),
        ([["a", "b", "c"]], 2, [["a", "b …"]]),
        ([["a"], ["b"], ["c"]], 2, [["a"], ["and 2 more"]]),
        ([["a", "b"], ["c", "d"], ["e"]], 5, [["a", "b"], ["c", "d"], ["e"]]),
        ([["a", "b"], ["c", "d"], ["e"]], 4, [["a", "b"], ["and 2 more"]]),
        ([["a", "b", "c"], ["d"]], 1, [["a …"], ["and 1 more"]]),
    ],
)
def test_captions_are_cut_to_the_room(paragraphs, limit, shown):
    assert contact_sheet.fit(paragraphs, limit) == shown


def test_examples():
    assert doctest.testmod(contact_sheet).failed == 0

"""The doctor's facts: images decoded strictly, captions, trees, and folders nobody can read."""

import csv
import json
import logging
import os
import pathlib
import shutil

import cv2
import numpy as np
import pytest

from tfds_builders import doctor, doctor_folder, doctor_images, doctor_text, dummy
from tfds_builders.base import SplitCounts
from tfds_builders.folder_pedes import dummy_data
from tfds_builders.folder_pedes.folder_pedes_dataset_builder import Builder
from tfds_builders.manual import Contents, Counts, Record


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The made-up folder of one's own; only to be read."""
    return dummy_data.make(tmp_path_factory.mktemp("made") / "mine")


@pytest.fixture
def folder(made, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(made, tmp_path / "mine")


@pytest.fixture
def builder(tmp_path):
    return Builder(data_dir=str(tmp_path / "data"))


def picture(path, kind=".jpg", shape=(64, 32, 3), flags=()):
    """Writes a picture with something in it."""
    rows = np.random.default_rng(0).integers(0, 256, (8, 4, *shape[2:]), np.uint8)
    data = cv2.imencode(kind, cv2.resize(rows, shape[1::-1]), flags)[1].tobytes()
    path.write_bytes(data)
    return data


def spoil_middle(path):
    """Puts a stray marker into the scan of a JPEG, whose end stays as it is."""
    data = bytearray(picture(path))
    middle = data.index(b"\xff\xda") + 40
    data[middle : middle + 4] = b"\xff\xd5\xff\xd9"
    path.write_bytes(bytes(data))


def table(folder, captions):
    """Writes a table of three people with these captions for the first image."""
    rows = [("a.png", 1, text) for text in captions] + [
        ("b.png", 2, "x y z"),
        ("c.png", 3, "x y z"),
    ]
    for name in ("a.png", "b.png", "c.png"):
        dummy.write_image(folder / name, 0)
    with open(folder / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file", "person_id", "caption"), *rows])


def test_a_good_folder_is_ready(builder, made):
    found = builder.examine(made)
    assert found.verdict == doctor.READY
    assert found.exit_code == 0
    assert found.images.named == 30
    assert found.images.modes == {"RGB": 30}
    assert found.captions.count == 44
    assert found.captions.per_image == {0: 1, 1: 14, 2: 15}
    assert found.shared_ids == {}
    assert not found.faults + found.differences


def test_nothing_is_built(builder, made, tmp_path):
    before = sorted(made.rglob("*"))
    builder.examine(made)
    assert sorted(made.rglob("*")) == before
    assert not (tmp_path / "data").exists()


def test_every_missing_and_unreadable_image_is_counted(builder, folder):
    root = folder / "images"
    shutil.rmtree(root / "dana")
    (root / "jun/2.png").unlink()
    (root / "anna/0.jpg").write_bytes(b"")
    (root / "anna/1.png").write_text("<html>not found</html>")
    data = (root / "emil/2.bmp").read_bytes()
    (root / "emil/2.bmp").write_bytes(data[: len(data) // 2])
    found = builder.examine(folder)
    assert found.verdict == doctor.NOT_READY
    assert len(found.images.missing) == 4
    assert found.images.missing_by_folder == {"dana": 3, "jun": 1}
    problems = found.images.unreadable
    assert problems["anna/0.jpg"] == "empty file"
    assert problems["anna/1.png"] == "not JPEG, PNG or BMP"
    assert problems["emil/2.bmp"] == "truncated"
    assert len(found.faults) == 2
    assert all("What to do" in fault for fault in found.faults)
    text = found.text()
    assert "dana: 3 of 3" in text
    assert "jun: 1 of 3" in text
    assert "NOT READY (2 under WRONG)" in text


def test_a_whole_file_that_cannot_be_decoded_is_unreadable(tmp_path):
    data = picture(tmp_path / "a.png", ".png")
    start = data.index(b"IDAT") + 4
    (tmp_path / "a.png").write_bytes(data[:start] + b"\0" * 20 + data[start + 20 :])
    assert doctor_images.look(tmp_path / "a.png").problem


def test_damage_in_the_middle_of_a_jpeg_is_a_warning(builder, folder):
    pytest.importorskip("simplejpeg")
    spoil_middle(folder / "images/anna/0.jpg")
    found = builder.examine(folder)
    assert list(found.images.warnings) == ["anna/0.jpg"]
    assert found.verdict == doctor.READY_WITH_DIFFERENCES
    assert found.exit_code == 0
    assert "1 images decode with warnings" in found.differences[0]


def test_without_the_strict_decoder_the_page_says_so(builder, folder, monkeypatch):
    monkeypatch.setattr(doctor_images, "simplejpeg", None)
    spoil_middle(folder / "images/anna/0.jpg")
    found = builder.examine(folder)
    assert found.verdict == doctor.READY
    assert "damage within JPEG files not looked for: pip install simplejpeg" in found.text()


@pytest.mark.parametrize(
    ("kind", "shape", "mode"),
    [
        (".jpg", (64, 32, 3), "RGB"),
        (".jpg", (64, 32), "grey"),
        (".png", (64, 32, 3), "RGB"),
        (".png", (64, 32), "grey"),
        (".png", (64, 32, 4), "RGB with alpha"),
        (".bmp", (64, 32, 3), "RGB"),
        (".bmp", (64, 32), "palette"),
        (".bmp", (64, 32, 4), "32 bits"),
    ],
)
def test_mode_and_size(tmp_path, kind, shape, mode):
    picture(tmp_path / "a", kind, shape)
    found = doctor_images.look(tmp_path / "a")
    assert found == doctor_images.Look(height=64, width=32, mode=mode)


def test_the_size_is_that_of_the_upright_picture(tmp_path):
    data = picture(tmp_path / "a", shape=(32, 64, 3))
    quarter_turn = bytes.fromhex("4d4d002a00000008 0001 0112000300000001 00060000 00000000")
    exif = b"\xff\xe1\x00\x22Exif\0\0" + quarter_turn
    (tmp_path / "a").write_bytes(data[:2] + exif + data[2:])
    assert doctor_images.look(tmp_path / "a") == doctor_images.Look(height=64, width=32, mode="RGB")


def test_modes_of_a_header_alone(tmp_path):
    sixteen = np.zeros((64, 32, 3), np.uint16)
    (tmp_path / "a").write_bytes(cv2.imencode(".png", sixteen)[1].tobytes())
    assert doctor_images.look(tmp_path / "a").mode == "RGB, 16 bits"
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    picture(tmp_path / "a", flags=progressive)
    assert doctor_images.look(tmp_path / "a").mode == "RGB"
    frame = b"\xff\xc0\x00\x14\x08\x00\x40\x00\x20"
    for components, mode in ((4, "CMYK"), (2, "2 components")):
        header = b"\xff\xd8\xff\xff\xe0\x00\x04ab" + frame + bytes([components])
        assert doctor_images._mode(header) == mode
    assert doctor_images._mode(b"\xff\xd8\xff\xda" + b"\0" * 20) == "unknown"


def test_sizes(builder, folder):
    root = folder / "images"
    picture(root / "anna/0.jpg", shape=(20, 64, 3))
    picture(root / "anna/1.png", ".png", shape=(2_100, 100))
    found = builder.examine(folder).images
    assert found.sizes == ((48, 16), (48, 16), (2_100, 100))
    assert found.odd_sizes == {
        "wider than high": 1,
        "smaller than 32 x 16": 1,
        "larger than 2,000 pixels": 1,
    }
    assert found.odd_first["larger than 2,000 pixels"] == ("anna/1.png",)
    assert found.modes == {"RGB": 29, "grey": 1}


def test_the_median_size_counts_images():
    sizes = {(10, 1): 1, (20, 1): 5, (30, 1): 1, (40, 1): 1}
    assert doctor_images._three_sizes(sizes) == ((10, 1), (20, 1), (40, 1))
    assert doctor_images._three_sizes({}) == ()


def test_odd_captions(builder, tmp_path):
    table(tmp_path, ["one two", "wörter in öl here", "a b\nc d", "word " * 101])
    found = builder.examine(tmp_path).captions
    assert {what: named.count for what, named in found.odd.items()} == {
        "shorter than 3 words": 1,
        "longer than 100 words": 1,
        "with letters that are not ASCII": 1,
        "with a line break": 1,
    }
    assert found.odd["with a line break"].first == ("a.png",)


def test_captions_with_nothing_in_them_are_a_difference():
    records = [Record("a.png", 1, ("", "  ", "x y z"), -1), Record("b.png", 1, ("x y z",) * 2, -1)]
    facts = doctor._caption_facts(records, usual=2)
    assert facts.odd == {
        "empty": doctor.Named(1, ("a.png",)),
        "only blanks": doctor.Named(1, ("a.png",)),
    }
    assert facts.unusual == doctor.Named(1, ("a.png (3)",))
    images = doctor_images.ImageFacts("", 0, {}, (), {}, {}, {}, True, {}, (), {}, {}, 0)
    assert doctor._differences(images, facts) == [
        "1 captions are empty, first of a.png",
        "1 captions are only blanks, first of a.png",
    ]


def test_parts_by_sub_folder_unless_the_reader_counts_them():
    records = (Record("x/a", 1, ("t",), -1), Record("y/b", 1, (), -1), Record("c", 2, (), -1))
    sizes = SplitCounts(1, None, 1)
    contents = Contents(
        pathlib.Path(),
        pathlib.Path(),
        (),
        {"train": records, "val": records[:1], "test": records},
        (Counts("test", SplitCounts(3, 1, 2), sizes), Counts("test, folder x", sizes, sizes)),
    )
    parts = {(p.split, p.part): (p.found, p.published) for p in doctor._parts(contents)}
    assert parts == {
        ("test", ""): (SplitCounts(3, 1, 2), sizes),
        ("test", "folder x"): (sizes, sizes),
        ("train", ""): (SplitCounts(3, 1, 2), None),
        ("train", "folder ."): (SplitCounts(1, 0, 1), None),
        ("train", "folder x"): (SplitCounts(1, 1, 1), None),
        ("train", "folder y"): (SplitCounts(1, 0, 1), None),
        ("val", ""): (SplitCounts(1, 1, 1), None),
    }


def test_the_table_shows_found_published_and_difference():
    parts = [
        doctor.Part("test", "", SplitCounts(40_206, 6, 1_000), SplitCounts(40_208, None, 1_000)),
        *(doctor.Part("test", f"folder {i}", SplitCounts(1, 1, 1), None) for i in range(15)),
    ]
    head, under, first, *rest = doctor_text._counts(parts)
    assert head.split() == ["COUNTS", "images", "captions", "ids"]
    assert under.split() == ["found", "published", "differ"] * 3
    assert first.split() == ["test", "40,206", "40,208", "-2", "6", "1,000", "1,000", "="]
    assert len(head) == len(under) == len(first.ljust(len(head)))
    assert len(rest) == 13
    assert rest[-1].strip() == "and 3 more sub-folders"


def test_ids_in_two_splits(builder, tmp_path):
    ids = {"train": (1, 2), "val": (2, 3), "test": (4,)}
    splits = {k: [Record(f"{i}", i, (), -1) for i in v] for k, v in ids.items()}
    assert doctor._shared_ids(splits) == {"train & val": 1}
    dummy_data.make(tmp_path / "two")
    rows = dummy_data.rows(splits=True)
    rows[0]["split"] = "test"  # of anna's, who is in val
    dummy_data.write_csv(tmp_path / "two/captions.csv", rows)
    found = builder.examine(tmp_path / "two")
    assert found.shared_ids == {"val & test": 1}
    assert found.verdict == doctor.NOT_READY
    assert "stand in more than one split" in found.faults[0]
    assert "1  ids in both val & test" in found.text()


def test_progress_is_told_for_every_image(builder, made):
    calls = []
    builder.examine(made, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(number, 30) for number in range(1, 31)]


def test_progress_is_logged_now_and_then(builder, made, monkeypatch, caplog):
    monkeypatch.setattr(doctor, "_LOG_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, logger="absl"):
        builder.examine(made)
    assert "decoded 30 of 30 images" in caplog.text


def test_the_json_has_the_facts_of_the_page(builder, folder):
    (folder / "images/anna/1.png").unlink()
    found = builder.examine(folder)
    facts = json.loads(found.to_json())
    assert facts["verdict"] == "not ready"
    assert facts["exit_code"] == found.exit_code == 1
    assert facts["images"]["missing"] == ["anna/1.png"]
    assert facts["captions"]["per_image"] == {"0": 1, "1": 14, "2": 15}
    assert [part["found"]["images"] for part in facts["parts"] if not part["part"]] == [24, 3, 3]
    assert facts["faults"] == list(found.faults)
    assert facts["notes"] == list(found.notes)


@pytest.mark.parametrize("where", ["images", "..", "nowhere", "captions.csv"])
def test_a_folder_that_is_the_wrong_one(builder, folder, where):
    given = folder / where if where != ".." else folder.parent
    found = builder.examine(given)
    assert found.verdict == doctor.NOT_READY
    step = "down" if where == ".." else "up"
    assert f"lie one level {step}: captions.csv can be read from {folder}" in found.faults[0]
    assert found.next_steps[0] == f"pass {folder} instead:"
    assert found.next_steps[1].endswith(f"--manual_dir {folder}")
    assert "found in" not in found.faults[0] or "expected:" not in found.faults[0]


@pytest.mark.parametrize(
    ("name", "state"),
    [("empty", "is empty"), ("not/there", "does not exist"), ("file", "is a file, not a folder")],
)
def test_a_folder_with_nothing_in_it(builder, tmp_path, name, state):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    found = builder.examine(tmp_path / name)
    assert found.exit_code == 1
    assert found.faults == (
        f"manual_dir = {tmp_path / name} {state}; accepted: the folder drawn under EXPECTED, or "
        "the one that holds it.",
    )
    assert found.images is None
    assert "captions.csv" in found.text()
    assert json.loads(found.to_json())["parts"] == []


def test_the_tree_of_a_folder_that_is_not_there_is_that_of_the_nearest(tmp_path):
    (tmp_path / "other").mkdir()
    assert doctor_folder.tree(tmp_path / "a/b") == (
        f"no such folder; {tmp_path} holds:",
        "  other/  0 files",
    )


def test_a_folder_that_may_not_be_read(builder, tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    (tmp_path / "a.txt").touch()
    monkeypatch.setattr(Builder, "read", lambda self, folder: refuse(folder))
    found = builder.examine(tmp_path)
    assert found.faults == (f"{tmp_path} cannot be read (Permission denied).",)
    monkeypatch.setattr(pathlib.Path, "iterdir", refuse)
    assert "cannot be read (Permission denied)" in builder.examine(tmp_path).faults[0]


def test_the_tree_is_short(tmp_path):
    for number in range(15):
        (tmp_path / f"d{number:02}/x").mkdir(parents=True)
        (tmp_path / f"d{number:02}/x/a.jpg").touch()
        (tmp_path / f"t{number:02}.txt").touch()
    lines = doctor_folder.tree(tmp_path)
    assert lines[11:16] == (
        "t11.txt",
        "and 3 more files",
        "d00/  1 files",
        "  x/  1 files",
        "d01/  1 files",
    )
    assert lines[-1] == "and 3 more sub-folders"


def test_many_findings_are_cut_on_the_page():
    lines = doctor_text._listed("WRONG", [f"finding {number}" for number in range(25)])
    assert len(lines) == 22
    assert lines[-1] == "  - and 5 more: --json lists them all"


def test_counting_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_folder, "_COUNTED", 2)
    (tmp_path / "d").mkdir()
    for number in range(3):
        (tmp_path / f"d/{number}.jpg").touch()
    assert doctor_folder.tree(tmp_path) == ("d/  more than 2 files",)


def test_file_names_that_are_no_text(builder, folder):
    for name in (b"\xe9.jpg", b"\xe9.txt", b"\xe9/a.jpg"):
        path = pathlib.Path(os.fsdecode(os.fsencode(folder / "images") + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = builder.examine(folder)
    assert found.verdict == doctor.READY
    assert "\ufffd.txt" in found.text().encode().decode()
    assert "3 images that no row names, left out: unnamed.jpg, \ufffd.jpg" in found.text()

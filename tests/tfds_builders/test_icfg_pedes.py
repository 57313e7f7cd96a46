"""The ICFG-PEDES builder on a small made-up folder in the real layout."""

import json

import pytest
import tensorflow_datasets as tfds

from tfds_builders import dummy
from tfds_builders.build import build, main
from tfds_builders.icfg_pedes import dummy_data
from tfds_builders.icfg_pedes.icfg_pedes_dataset_builder import (
    PUBLISHED,
    VAL_IDS,
    Builder,
    camera_id,
)

RAW = {"image": tfds.decode.SkipDecoding()}


@pytest.fixture
def folder(tmp_path):
    return dummy_data.make(tmp_path / "manual")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("icfg")
    folder = dummy_data.make(path)
    return folder, build("icfg_pedes", str(path / "data"), str(path))


def contents(folder):
    return Builder(data_dir=folder.parent / "data").read(folder)


def many(folder, ids):
    """Rewrites the annotations: two images of each of so many training ids, ten of the test."""
    numbers = range(ids + 10)
    records = [
        {
            "split": "train" if number < ids else "test",
            "captions": ["A man."],
            "file_path": f"train/{number:04d}/{number:04d}_{image:03d}_01_0303morning_0008_0.jpg",
            "id": number,
        }
        for number in numbers
        for image in range(2)
    ]
    dummy.write_json(folder / dummy_data.FILE, records)


def refused(folder, capsys):
    assert main(["icfg_pedes", f"--data_dir={folder}/data", f"--manual_dir={folder}"]) == 1
    assert not list(folder.rglob("*array_record*"))
    return capsys.readouterr().err


# --- what is read back ---


def test_round_trip(built):
    folder, builder = built
    examples = {}
    for split in ("train", "test"):
        for example in builder.as_data_source(split, decoders=RAW):
            examples[split, example["image_id"].decode()] = example
    assert len(examples) == len(dummy_data.IMAGES)
    for record in dummy_data.records():
        example = examples[record["split"], record["file_path"]]
        path = folder / "imgs" / dummy_data.on_disk(record["file_path"])
        assert example["image"] == path.read_bytes()
        assert example["person_id"] == record["id"]
        assert example["camera_id"] == camera_id(record["file_path"])
        assert [text.decode() for text in example["captions"]] == record["captions"]


def test_the_split_is_that_of_the_file_not_of_the_folders(built):
    _, builder = built
    folders = {
        split: {e["image_id"].split(b"/")[0] for e in builder.as_data_source(split, decoders=RAW)}
        for split in ("train", "test")
    }
    assert folders == {"train": {b"train", b"test"}, "test": {b"train", b"test"}}


def test_metadata(built):
    _, builder = built
    metadata = tfds.builder("icfg_pedes", data_dir=builder.data_dir_root).info.metadata
    assert "train: 7 images, published 34,674 (-34,667)" in metadata["differences"]
    for line in (
        "3 records whose processed_tokens are nested one level deeper (they are not used): test/",
        "1 file names that do not tell the camera, stored as -1: train/0020/0020.jpg",
        "1 train ids with one image: 2",
        "2 images found under another suffix than annotated, and used: test/0011/",
        "2 train captions over several lines, kept as given: ",
    ):
        assert any(note.startswith(line) for note in metadata["notes"])
    assert not any("number of captions" in note for note in metadata["notes"])
    assert "ICFG-PEDES" in builder.info.description
    assert "Semantically Self-Aligned" in builder.info.citation


@pytest.mark.parametrize(
    ("path", "camera"),
    [
        ("train/0000/0000_000_01_0303morning_0008_0.jpg", 1),
        ("test/1200/1200_031_15_0114noon_0001_12.jpg", 15),
        ("0000_000_10_0302afternoon_0008_0_ex.jpg.jpg", 10),
        ("0000_c5_0022.jpg", -1),
        ("train/0020/0020.jpg", -1),
        ("0000_000_01_0303evening_0008_0.jpg", -1),
    ],
)
def test_camera_id(path, camera):
    assert camera_id(path) == camera


def test_published_numbers_add_up():
    assert sum(split.images for split in PUBLISHED.values()) == 54_522
    assert sum(split.ids for split in PUBLISHED.values()) == 4_102
    assert all(split.images == split.captions for split in PUBLISHED.values())


# --- the validation split ---


def ids(part):
    return {record.person_id for record in part}


def test_train_is_train_minus_val_and_val(built):
    folder, builder = built
    splits = contents(folder).splits
    assert set(splits["train"]) == {*splits["train_minus_val"], *splits["val"]}
    assert len(splits["train"]) == len(splits["train_minus_val"]) + len(splits["val"])
    assert not ids(splits["train_minus_val"]) & ids(splits["val"])
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == {
        name: len(part) for name, part in splits.items()
    }


def test_the_validation_ids_are_200_and_always_the_same(folder):
    many(folder, 3_102)
    splits = contents(folder).splits
    chosen = sorted(ids(splits["val"]))
    assert len(chosen) == VAL_IDS == 200
    # Worked out from SHA-256 of "0/validation/id": another list is another dataset.
    assert chosen[:5] == [13, 22, 42, 59, 64]
    assert ids(splits["train"]) == set(range(3_102))
    assert len(splits["val"]) == 400


def test_the_order_of_the_file_does_not_matter(folder):
    many(folder, 400)
    chosen = ids(contents(folder).splits["val"])
    path = folder / dummy_data.FILE
    dummy.write_json(path, json.loads(path.read_text())[::-1])
    assert ids(contents(folder).splits["val"]) == chosen
    assert len(chosen) == 40  # of few ids, a tenth


# --- forms ---


@pytest.mark.parametrize("name", ["ICFG_PEDES.json"])
@pytest.mark.parametrize("spelling", ["ICFG_PEDES", "icfg-pedes"])
def test_other_names(folder, name, spelling):
    expected = contents(folder).splits
    (folder / dummy_data.FILE).rename(folder / name)
    renamed = folder.rename(folder.with_name(spelling))
    assert contents(renamed.parent).splits == expected


def test_two_annotation_files(folder):
    dummy.write_json(folder / "ICFG_PEDES.json", dummy_data.records())
    with pytest.raises(ValueError, match=r"several files for all splits: .* Keep one of them"):
        contents(folder)


def test_more_or_other_captions_are_counted(folder):
    dummy_data.change(folder, 0, captions=["A man."] * 10)
    dummy_data.change(folder, 1, captions="A man in red.")
    dummy_data.change(folder, 2, captions=[["A man in blue."]])
    dummy_data.change(folder, 3, captions=["", "A man."])
    notes = "\n".join(contents(folder).notes)
    assert "2 train images whose number of captions is not 1: train/0000/" in notes
    assert "_0008_0.jpg (10), test/0007/" in notes
    assert "1 records whose captions are one text, read as a list of it: train/0000" in notes
    assert "1 records whose captions are nested one level deeper, flattened: test/0007" in notes
    assert "1 train captions empty, kept as given: test/0007" in notes
    splits = contents(folder).splits["train"]
    assert [len(record.captions) for record in splits][:4] == [10, 1, 1, 2]


def test_a_validation_split_in_the_file_is_refused(folder, capsys):
    dummy_data.change(folder, 0, split="val")
    assert "record 0: split = 'val'; accepted: train, test" in refused(folder, capsys)


# --- refused ---


def test_no_annotation_file(folder, capsys):
    (folder / dummy_data.FILE).unlink()
    text = refused(folder, capsys)
    assert "no annotation file in" in text
    assert "What to do: put ICFG-PEDES.json there" in text


def test_missing_and_truncated_images(folder, capsys):
    path = folder / "imgs/train/0000/0000_000_01_0303morning_0008_0.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    (folder / "imgs/test/0007/0007_003_05_0113afternoon_1591_0.jpg").unlink()
    text = refused(folder, capsys)
    assert "1 of 10 annotated images are missing" in text
    assert "by sub-folder: test/0007: 1 of 2" in text
    assert "0000_000_01_0303morning_0008_0.jpg (truncated)" in text


def test_nothing_at_all(tmp_path, capsys):
    assert main(["icfg_pedes", f"--data_dir={tmp_path}", f"--manual_dir={tmp_path}/none"]) == 1
    error = capsys.readouterr().err
    assert "ask its authors for it" in error
    assert "ICFG-PEDES.json" in error

"""The RSTPReid builder on a small made-up folder in the real layout."""

import collections

import pytest
import tensorflow_datasets as tfds

from tfds_builders import dummy
from tfds_builders.build import build, main
from tfds_builders.rstp_reid import dummy_data
from tfds_builders.rstp_reid.rstp_reid_dataset_builder import PUBLISHED, Builder, camera_id

RAW = {"image": tfds.decode.SkipDecoding()}
SPLITS = ("train", "val", "test")


@pytest.fixture
def folder(tmp_path):
    return dummy_data.make(tmp_path / "manual")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("rstp")
    folder = dummy_data.make(path)
    return folder, build("rstp_reid", str(path / "data"), str(path))


def contents(folder):
    return Builder(data_dir=folder.parent / "data").read(folder)


def refused(folder, capsys):
    assert main(["rstp_reid", f"--data_dir={folder}/data", f"--manual_dir={folder}"]) == 1
    assert not list(folder.rglob("*array_record*"))
    return capsys.readouterr().err


def test_round_trip(built):
    folder, builder = built
    examples = {
        (split, e["image_id"].decode()): e
        for split in SPLITS
        for e in builder.as_data_source(split, decoders=RAW)
    }
    assert len(examples) == len(dummy_data.records()) == 30
    for record in dummy_data.records():
        example = examples[record["split"], record["img_path"]]
        assert example["image"] == (folder / "imgs" / record["img_path"]).read_bytes()
        assert example["person_id"] == record["id"]
        assert example["camera_id"] == camera_id(record["img_path"]) > 0
        assert [text.decode() for text in example["captions"]] == record["captions"]


def test_letters_that_are_not_ascii_stay(built):
    _, builder = built
    texts = [
        t.decode() for e in builder.as_data_source("train", decoders=RAW) for t in e["captions"]
    ]
    assert dummy_data.NOT_ASCII in texts
    assert texts.count(dummy_data.SHARED) == 2


def test_metadata(built):
    _, builder = built
    metadata = tfds.builder("rstp_reid", data_dir=builder.data_dir_root).info.metadata
    assert "test: 10 images, published 1,000 (-990)" in metadata["differences"]
    assert (
        "1 train captions with letters that are not ASCII, kept as given: 0000_c5_0001.jpg"
        in metadata["notes"]
    )
    assert (
        f"1 sentences that stand on several ids, kept as given: {dummy_data.SHARED!r}"
        in metadata["notes"]
    )
    assert "RSTPReid" in builder.info.description
    assert "Surroundings-person Separation" in builder.info.citation


@pytest.mark.parametrize(
    ("path", "camera"),
    [
        ("0000_c5_0022.jpg", 5),
        ("4100_c15_9999.JPG", 15),
        ("imgs/0000_c5_0022.jpg", 5),
        ("0000_000_01_0303morning_0008_0.jpg", -1),
        ("photo.jpg", -1),
    ],
)
def test_camera_id(path, camera):
    assert camera_id(path) == camera


def test_published_numbers_add_up():
    for size in PUBLISHED.values():
        assert size.images == 5 * size.ids
        assert size.captions == 2 * size.images
    assert sum(size.ids for size in PUBLISHED.values()) == 4_101


def test_the_made_up_folder_has_five_images_of_each_id():
    images = collections.Counter(record["id"] for record in dummy_data.records())
    assert set(images.values()) == {5}
    assert {record["split"] for record in dummy_data.records()} == set(SPLITS)
    assert not any("processed_tokens" in record for record in dummy_data.records())


def test_odd_forms_are_counted(folder):
    dummy_data.change(folder, 0, img_path="imgs\\0000_c1_0000.jpg")
    dummy_data.change(folder, 2, captions="A man in red.")
    dummy_data.change(folder, 3, captions=[["A man.", " "]])
    dummy_data.change(folder, 4, img_path="0000_c15_0004.JPG")
    found = contents(folder)
    notes = "\n".join(found.notes)
    assert '1 paths written with "\\", a leading "imgs/" or "./", read as if without: ' in notes
    assert "1 records whose captions are one text, read as a list of it: 0000_c7_0002" in notes
    assert "1 records whose captions are nested one level deeper, flattened: 0000_c12" in notes
    assert "1 train captions empty, kept as given: 0000_c12_0003.jpg" in notes
    assert "1 train images whose number of captions is not 2: 0000_c7_0002.jpg (1)" in notes
    assert found.names()[0] == "0000_c1_0000.jpg"
    builder = build("rstp_reid", str(folder.parent / "data"), str(folder))
    assert (
        "1 images found under another suffix than annotated, and used: 0000_c15_0004.JPG "
        "(0000_c15_0004.jpg)"
    ) in builder.info.metadata["notes"]


@pytest.mark.parametrize("spelling", ["RSTPReID", "RSTP-Reid", "rstpreid", "RSTP_ReID"])
def test_other_spellings(folder, spelling):
    expected = contents(folder).splits
    renamed = folder.rename(folder.with_name(spelling))
    assert contents(renamed.parent).splits == expected


def test_the_field_of_another_dataset_is_refused(folder, capsys):
    records = [
        {("file_path" if key == "img_path" else key): value for key, value in record.items()}
        for record in dummy_data.records()
    ]
    dummy.write_json(folder / dummy_data.FILE, records)
    text = refused(folder, capsys)
    assert "30 of 30 records are not as they should be" in text
    assert "img_path is missing; the record has captions, file_path, id, split" in text


def test_an_id_in_two_splits_and_a_missing_image(folder, capsys):
    (folder / "imgs/0000_c1_0000.jpg").unlink()
    assert "1 of 30 annotated images are missing" in (text := refused(folder, capsys))
    assert "first: 0000_c1_0000.jpg" in text
    dummy_data.change(folder, 29, id=0)
    assert "1 ids stand in more than one split: 0 (train and test)" in refused(folder, capsys)


def test_nothing_at_all(tmp_path, capsys):
    assert main(["rstp_reid", f"--data_dir={tmp_path}", f"--manual_dir={tmp_path}/none"]) == 1
    error = capsys.readouterr().err
    assert "NjtechCVLab/RSTPReid-Dataset" in error
    assert "data_captions.json" in error

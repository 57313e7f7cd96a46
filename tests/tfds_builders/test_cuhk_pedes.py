"""The CUHK-PEDES builder on a small made-up folder in the official layout."""

import pytest
import tensorflow_datasets as tfds

from tfds_builders.build import build
from tfds_builders.cuhk_pedes import dummy_data as dummy
from tfds_builders.cuhk_pedes.annotations import find_folder, read_annotations
from tfds_builders.cuhk_pedes.cuhk_pedes_dataset_builder import (
    PUBLISHED,
    PUBLISHED_IDS,
    camera_id,
    differences_from_published,
)

RAW = {"image": tfds.decode.SkipDecoding()}


@pytest.fixture(scope="module")
def data_dir(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    build("cuhk_pedes", str(path), str(source.parent))
    return path


def notes(folder):
    return "\n".join(read_annotations(folder).notes)


# --- what is read back ---


def read(data_dir, split):
    source = tfds.data_source("cuhk_pedes", split=split, data_dir=data_dir, decoders=RAW)
    return {example["image_id"].decode(): example for example in source}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_round_trip(source, data_dir, split):
    expected = [record for record in dummy.records() if record["split"] == split]
    found = read(data_dir, split)
    assert sorted(found) == sorted(record["file_path"] for record in expected)
    for record in expected:
        example = found[record["file_path"]]
        assert example["image"] == (source / "imgs" / record["file_path"]).read_bytes()
        assert example["person_id"] == record["id"]
        assert example["camera_id"] == camera_id(record["file_path"])
        assert [text.decode() for text in example["captions"]] == record["captions"]


def test_files_of_every_kind_and_number_of_captions_are_in_the_made_up_folder():
    assert {path.rpartition(".")[2] for _, _, path, _ in dummy.IMAGES} == {
        "bmp",
        "png",
        "jpg",
        "JPG",
    }
    assert {number for *_, number in dummy.IMAGES} == {1, 2, 4, 10}
    texts = [text for record in dummy.records() for text in record["captions"]]
    assert any("\n" in text for text in texts)
    assert any("  " in text or text != text.strip() for text in texts)


def test_images_decode(data_dir):
    for example in tfds.data_source("cuhk_pedes", split="test", data_dir=data_dir):
        assert example["image"].shape == (48, 16, 3)


def test_the_report_is_kept_with_the_data(data_dir):
    metadata = tfds.builder("cuhk_pedes", data_dir=data_dir).info.metadata
    assert "val: 3 images, published 3,078 (-3,075)" in metadata["differences"]
    assert "1 test ids with one image: 12303" in metadata["notes"]


def test_metadata_files_are_found():
    info = tfds.builder("cuhk_pedes").info
    assert "CUHK-PEDES" in info.description
    assert "Person Search with Natural Language" in info.citation


@pytest.mark.parametrize(
    ("path", "camera"),
    [
        ("Market/0002_c1s1_000451_00.jpg", 1),
        ("Market/0509_c4s2_066223_00.jpg", 4),
        ("Market/unusual.jpg", -1),
        ("CUHK01/0001003.png", 3),
        ("CUHK03/1_4.jpg", 4),
        ("CUHK03/1427_2.png", 2),
        ("cam_a/001_45.bmp", 0),
        ("cam_b/001_90.bmp", 1),
        ("train_query/p11600_s14885.jpg", -1),
        ("test_query/p2703_s3526.jpg", -1),
        ("elsewhere/0002_c1s1_000451_00.jpg", -1),
        ("0002.jpg", -1),
    ],
)
def test_camera_id(path, camera):
    assert camera_id(path) == camera


# --- oddities that are accepted, and counted ---


def test_manual_dir_may_be_the_folder_itself(source, tmp_path):
    assert find_folder(source) == find_folder(source.parent) == source
    builder = build("cuhk_pedes", str(tmp_path), str(source))
    assert builder.info.splits["train"].num_examples == 8


def test_captions_as_one_string_and_no_processed_tokens(folder):
    records = dummy.records()
    for record in records:
        del record["processed_tokens"]
    records[0]["captions"] = "A man in red."
    dummy.write_json(folder, records)
    assert read_annotations(folder).records[0].captions == ("A man in red.",)


@pytest.mark.parametrize("name", ["{}.json", "reid_raw_{}.json", "{}_reid_raw.json"])
@pytest.mark.parametrize("keep_field", [True, False])
def test_one_file_for_each_split(folder, name, keep_field):
    whole = read_annotations(folder)
    (folder / "reid_raw.json").unlink()
    for split in ("train", "val", "test"):
        records = [record for record in dummy.records() if record["split"] == split]
        if not keep_field:
            records = [{k: v for k, v in record.items() if k != "split"} for record in records]
        dummy.write_json(folder, records, name.format(split))
    assert read_annotations(folder).records == whole.records


def test_a_split_that_is_not_there_is_reported(folder, tmp_path):
    dummy.write_json(folder, [r for r in dummy.records() if r["split"] != "val"])
    builder = build("cuhk_pedes", str(tmp_path / "data"), str(folder))
    assert sorted(builder.info.splits) == ["test", "train"]
    assert "val: 0 images, published 3,078 (-3,078)" in builder.info.metadata["differences"]


def test_the_whole_file_wins_over_one_without_splits(folder):
    dummy.write_json(folder, dummy.records()[:2], "caption_all.json")
    assert len(read_annotations(folder).records) == len(dummy.IMAGES)


def test_byte_order_mark(folder):
    path = folder / "reid_raw.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert len(read_annotations(folder).records) == len(dummy.IMAGES)


def test_counts_of_captions_and_single_images_are_noted(folder):
    text = notes(folder)
    assert (
        "2 train images whose number of captions is not 2: CUHK01/0002004.png (1), "
        "Market/0003_c6s3_066223_00.jpg (4)" in text
    )
    assert "test_query/p2703_s3526.jpg (10)" in text
    assert "1 train ids with one image: 1369" in text


def test_empty_captions_are_kept_and_noted(folder, tmp_path):
    dummy.change(folder, 0, captions=["", " \n", "A man."])
    change_text = "2 train captions that are empty, kept as given: cam_a/001_45.bmp"
    assert change_text in notes(folder)
    build("cuhk_pedes", str(tmp_path / "data"), str(folder))
    captions = read(tmp_path / "data", "train")["cam_a/001_45.bmp"]["captions"]
    assert list(captions) == [b"", b" \n", b"A man."]


def test_an_image_without_captions_is_kept_and_noted(folder, tmp_path):
    dummy.change(folder, 0, captions=[])
    assert "cam_a/001_45.bmp (0)" in notes(folder)
    build("cuhk_pedes", str(tmp_path / "data"), str(folder))
    assert len(read(tmp_path / "data", "train")["cam_a/001_45.bmp"]["captions"]) == 0


def test_the_same_sentence_on_several_images_is_fine(folder):
    dummy.change(folder, 0, captions=["Same.", "Same."])
    assert read_annotations(folder).records[0].captions == ("Same.", "Same.")


def test_one_record_for_each_caption(folder):
    whole = read_annotations(folder).records
    split_up = [
        record | {"captions": text} for record in dummy.records() for text in record["captions"]
    ]
    dummy.write_json(folder, split_up)
    assert read_annotations(folder).records == whole
    assert "14 images with several records, their captions joined: cam_a" in notes(folder)


def test_a_record_that_stands_twice_counts_once(folder):
    dummy.write_json(folder, dummy.records() + dummy.records()[:1])
    assert len(read_annotations(folder).records) == len(dummy.IMAGES)
    assert "1 images with an identical record more than once, kept once: cam_a/001" in notes(folder)


def test_a_camera_that_a_name_does_not_tell_is_noted(folder, tmp_path):
    (folder / "imgs/Market/odd.jpg").write_bytes(
        (folder / "imgs/Market/0003_c1s1_000451_00.jpg").read_bytes()
    )
    dummy.change(folder, 4, file_path="Market/odd.jpg")
    builder = build("cuhk_pedes", str(tmp_path / "data"), str(folder))
    assert (
        "1 file names that do not tell the camera, stored as -1: Market/odd.jpg"
        in builder.info.metadata["notes"]
    )


# --- counts against the published ones ---


def test_differences_name_what_how_many_and_the_first_five(folder):
    lines = differences_from_published(read_annotations(folder).records)
    assert "train: 8 images, published 34,054 (-34,046)" in lines
    assert "test: 19 captions, published 6,156 (-6,137)" in lines
    assert "val: 2 ids, published 1,000 (-998)" in lines
    assert (
        "998 published val ids without an image: 11006, 11007, 11008, 11009, 11010 and 993 more"
        in lines
    )
    assert "val, folder CUHK03: 2 images, published 375 (-373)" in lines


def test_ids_outside_the_published_range(folder):
    dummy.change(folder, 0, id=20_000)
    lines = differences_from_published(read_annotations(folder).records)
    assert "1 train ids that are not published ones: 20000" in lines


def test_published_numbers_add_up():
    assert sum(split.images for split in PUBLISHED.values()) == 40_206
    assert sum(split.captions for split in PUBLISHED.values()) == 80_440
    assert sum(split.ids for split in PUBLISHED.values()) == 13_003
    assert {name: len(ids) for name, ids in PUBLISHED_IDS.items()} == {
        name: split.ids for name, split in PUBLISHED.items()
    }

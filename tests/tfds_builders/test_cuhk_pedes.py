"""The CUHK-PEDES builder on a small made-up folder in the official layout."""

import json
import shutil

import make_cuhk_pedes as dummy
import pytest
import tensorflow_datasets as tfds

from tfds_builders.build import build
from tfds_builders.cuhk_pedes.annotations import find_folder, read_annotations
from tfds_builders.cuhk_pedes.cuhk_pedes_dataset_builder import (
    PUBLISHED,
    PUBLISHED_IDS,
    camera_id,
    differences_from_published,
)

RAW = {"image": tfds.decode.SkipDecoding()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return dummy.make(tmp_path_factory.mktemp("source"))


@pytest.fixture
def folder(source, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(source, tmp_path / "CUHK-PEDES")


@pytest.fixture(scope="module")
def data_dir(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    build("cuhk_pedes", str(path), str(source.parent))
    return path


def change(folder, index, **fields):
    """Rewrites one record; a field that is None is removed."""
    records = dummy.records()
    records[index] |= fields
    records[index] = {k: v for k, v in records[index].items() if v is not None}
    dummy.write_json(folder, records)


def notes(folder):
    return "\n".join(read_annotations(folder).notes)


def refused(folder, data_dir):
    """The message with which the build of a folder fails."""
    with pytest.raises(ValueError, match=".") as error:
        build("cuhk_pedes", str(data_dir), str(folder.parent))
    return str(error.value)


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
    change(folder, 0, captions=["", " \n", "A man."])
    change_text = "2 train captions that are empty, kept as given: cam_a/001_45.bmp"
    assert change_text in notes(folder)
    build("cuhk_pedes", str(tmp_path / "data"), str(folder))
    captions = read(tmp_path / "data", "train")["cam_a/001_45.bmp"]["captions"]
    assert list(captions) == [b"", b" \n", b"A man."]


def test_an_image_without_captions_is_kept_and_noted(folder, tmp_path):
    change(folder, 0, captions=[])
    assert "cam_a/001_45.bmp (0)" in notes(folder)
    build("cuhk_pedes", str(tmp_path / "data"), str(folder))
    assert len(read(tmp_path / "data", "train")["cam_a/001_45.bmp"]["captions"]) == 0


def test_the_same_sentence_on_several_images_is_fine(folder):
    change(folder, 0, captions=["Same.", "Same."])
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
    change(folder, 4, file_path="Market/odd.jpg")
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
    change(folder, 0, id=20_000)
    lines = differences_from_published(read_annotations(folder).records)
    assert "1 train ids that are not published ones: 20000" in lines


def test_published_numbers_add_up():
    assert sum(split.images for split in PUBLISHED.values()) == 40_206
    assert sum(split.captions for split in PUBLISHED.values()) == 80_440
    assert sum(split.ids for split in PUBLISHED.values()) == 13_003
    assert {name: len(ids) for name, ids in PUBLISHED_IDS.items()} == {
        name: split.ids for name, split in PUBLISHED.items()
    }


# --- refused, with a message that helps ---


def test_only_the_file_without_splits(folder, tmp_path):
    (folder / "reid_raw.json").unlink()
    records = [{k: r[k] for k in ("id", "file_path", "captions")} for r in dummy.records()]
    dummy.write_json(folder, records, "caption_all.json")
    text = refused(folder, tmp_path / "data")
    assert "caption_all.json has no official splits" in text
    assert "ask the authors of CUHK-PEDES for reid_raw.json" in text
    (folder / "caption_all.json").rename(folder / "reid_raw.json")
    assert "reid_raw.json has no official splits" in refused(folder, tmp_path / "data")


def test_no_annotation_file(folder, tmp_path):
    (folder / "reid_raw.json").rename(folder / "other.json")
    text = refused(folder, tmp_path / "data")
    assert "no annotation file in" in text
    assert "reid_raw_{split}.json" in text
    assert "imgs/, other.json" in text


def test_manual_dir_without_the_dataset(tmp_path):
    (tmp_path / "manual/photos").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no CUHK-PEDES in manual_dir[\s\S]*found .*: photos/"):
        build("cuhk_pedes", str(tmp_path / "data"), str(tmp_path / "manual"))
    with pytest.raises(ValueError, match=r"does not exist or is empty[\s\S]*reid_raw.json"):
        build("cuhk_pedes", str(tmp_path / "data"), str(tmp_path / "nowhere"))


def test_two_files_for_one_split(folder):
    (folder / "reid_raw.json").unlink()
    for name in ("train.json", "reid_raw_train.json"):
        dummy.write_json(folder, dummy.records(), name)
    with pytest.raises(ValueError, match=r"several files for split train: .* Keep one"):
        read_annotations(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"id": 1}', "reid_raw.json is not valid JSON: .*line 1"),
        ('{"id": 1}', "holds {'id': 1} of type dict; accepted: a list"),
        ("[]", r"holds \[\] of type list; accepted: a list .* at least one"),
        ("3", "holds 3 of type int"),
    ],
)
def test_wrong_json(folder, content, message):
    (folder / "reid_raw.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_annotations(folder)


def test_not_utf8(folder):
    (folder / "reid_raw.json").write_bytes(b'[{"captions": ["caf\xe9"]}]')
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_annotations(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"file_path": None}, "record 3: file_path is missing; the record has captions, id"),
        ({"id": None}, "record 3: id is missing"),
        ({"captions": None}, "record 3: captions is missing"),
        ({"split": None}, "record 3: split is missing"),
        ({"id": "2"}, "record 3: id = '2'; accepted: an integer"),
        ({"id": True}, "record 3: id = True; accepted: an integer"),
        ({"id": 2**63}, "record 3: id = 9223372036854775808; accepted: an integer"),
        ({"captions": 5}, "record 3: captions = 5; accepted: a list of texts, or one text"),
        ({"captions": ["a", 5]}, r"record 3: captions = \['a', 5\]; accepted"),
        ({"captions": ["\ud800"]}, "record 3: captions = .*; accepted"),
        ({"split": "valid"}, "record 3: split = 'valid'; accepted: train, val, test"),
        ({"split": ["train"]}, r"record 3: split = \['train'\]; accepted: train, val, test"),
        ({"file_path": ""}, "record 3: file_path = ''; accepted: a path under imgs/"),
        ({"file_path": "../a.jpg"}, "record 3: file_path = '../a.jpg'; accepted"),
        ({"file_path": "/etc/a.jpg"}, "record 3: file_path = '/etc/a.jpg'; accepted"),
    ],
)
def test_wrong_records(folder, fields, message):
    change(folder, 3, **fields)
    with pytest.raises(ValueError, match=message) as error:
        read_annotations(folder)
    assert "1 of 16 records are not as they should be" in str(error.value)
    assert "What to do" in str(error.value)


def test_many_wrong_records_are_counted(folder):
    dummy.write_json(folder, [*dummy.records(), *[7] * 8])
    with pytest.raises(ValueError, match="8 of 24 records") as error:
        read_annotations(folder)
    assert "record 16: 7 is no object" in str(error.value)
    assert "and 3 more" in str(error.value)


def test_split_field_against_file_name(folder):
    (folder / "reid_raw.json").unlink()
    dummy.write_json(folder, dummy.records(), "train.json")
    with pytest.raises(ValueError, match="split = 'val'; accepted: train, as the file's name says"):
        read_annotations(folder)


def test_an_id_in_two_splits(folder):
    change(folder, 8, id=2)
    with pytest.raises(ValueError, match=r"1 ids stand in more than one split: 2 \(train and val"):
        read_annotations(folder)


def test_an_image_under_two_ids(folder):
    change(folder, 0, file_path="cam_b/001_90.bmp", id=2)
    with pytest.raises(ValueError, match="cam_b/001_90.bmp stands under two ids, 2 and 1"):
        read_annotations(folder)


def test_missing_images(folder, tmp_path):
    shutil.rmtree(folder / "imgs/cam_a")
    (folder / "imgs/Market/0003_c1s1_000451_00.jpg").unlink()
    text = refused(folder, tmp_path / "data")
    assert "2 of 16 annotated images are missing" in text
    assert "cam_a: 1 of 1, Market: 1 of 4" in text
    assert "first: cam_a/001_45.bmp, Market/0003_c1s1_000451_00.jpg" in text
    assert "sub-folders that do not exist at all: cam_a" in text
    assert "What to do" in text
    assert not list((tmp_path / "data").rglob("*array_record*"))


def test_all_images_missing_names_five(folder, tmp_path):
    shutil.rmtree(folder / "imgs")
    text = refused(folder, tmp_path / "data")
    assert "16 of 16 annotated images are missing" in text
    assert "and 11 more" in text


def test_damaged_images_are_named_with_what_is_wrong(folder, tmp_path):
    images = folder / "imgs"
    jpeg = (images / "Market/0003_c1s1_000451_00.jpg").read_bytes()
    png = (images / "CUHK01/0002001.png").read_bytes()
    bmp = (images / "cam_a/001_45.bmp").read_bytes()
    (images / "Market/0003_c1s1_000451_00.jpg").write_bytes(jpeg[:-40])
    (images / "CUHK01/0002001.png").write_bytes(png[:-12])
    (images / "cam_a/001_45.bmp").write_bytes(bmp[:-1])
    (images / "cam_b/001_90.bmp").write_bytes(b"")
    (images / "CUHK03/11_1.jpg").write_bytes(b"<html>not found</html>")
    text = refused(folder, tmp_path / "data")
    assert "5 of 16 annotated images" in text
    for fault in (
        "cam_a/001_45.bmp (truncated)",
        "cam_b/001_90.bmp (empty file)",
        "CUHK01/0002001.png (truncated)",
        "Market/0003_c1s1_000451_00.jpg (truncated)",
        "CUHK03/11_1.jpg (not JPEG, PNG or BMP)",
    ):
        assert fault in text
    assert "fetch these files again" in text


def test_the_error_of_the_made_up_folder_is_gone_once_it_is_repaired(folder, tmp_path):
    path = folder / "imgs/cam_b/001_90.bmp"
    content = path.read_bytes()
    path.write_bytes(b"")
    assert "empty file" in refused(folder, tmp_path / "data")
    path.write_bytes(content)
    builder = build("cuhk_pedes", str(tmp_path / "data"), str(folder.parent))
    assert json.loads((folder / "reid_raw.json").read_text()) == dummy.records()
    assert builder.info.splits["train"].num_examples == 8

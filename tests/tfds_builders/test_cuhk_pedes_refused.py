"""What the CUHK-PEDES builder refuses, with a message that helps."""

import json
import shutil

import pytest

from tfds_builders.build import build
from tfds_builders.cuhk_pedes import dummy_data as dummy
from tfds_builders.cuhk_pedes.annotations import read_annotations


def refused(folder, data_dir):
    """The message with which the build of a folder fails."""
    with pytest.raises(ValueError, match=".") as error:
        build("cuhk_pedes", str(data_dir), str(folder.parent))
    return str(error.value)


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
    dummy.change(folder, 3, **fields)
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
    dummy.change(folder, 8, id=2)
    with pytest.raises(ValueError, match=r"1 ids stand in more than one split: 2 \(train and val"):
        read_annotations(folder)


def test_an_image_under_two_ids(folder):
    dummy.change(folder, 0, file_path="cam_b/001_90.bmp", id=2)
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

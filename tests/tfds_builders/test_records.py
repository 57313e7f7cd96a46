"""Annotations of the JSON family: forms that are read, oddities that are counted, faults."""

import pytest

from tfds_builders.cuhk_pedes import dummy_data as dummy
from tfds_builders.cuhk_pedes.annotations import LAYOUT
from tfds_builders.records import find_folder, read_annotations


def read(folder):
    return read_annotations(folder, LAYOUT)


def paths(annotations):
    return {split: [r.file_path for r in part] for split, part in annotations.splits.items()}


def first(annotations):
    return annotations.splits["train"][0]


def faults(folder):
    return "\n".join(read(folder).faults)


# --- the folder ---


@pytest.mark.parametrize(
    "name", ["CUHK-PEDES", "CUHK_PEDES", "cuhk-pedes", "cuhk_pedes", "CUHKPEDES", "Cuhk Pedes"]
)
def test_usual_spellings_of_the_folder(folder, name):
    renamed = folder.rename(folder.with_name(name))
    (folder.parent / "CUHK-PEDES.zip").touch()
    assert find_folder(folder.parent, LAYOUT) == find_folder(renamed, LAYOUT) == renamed


def test_the_usual_spelling_comes_first(folder):
    other = folder.with_name("CUHK PEDES")
    other.mkdir()
    (other / "reid_raw.json").touch()
    assert find_folder(folder.parent, LAYOUT) == folder


def test_another_folder_is_refused(folder):
    folder.rename(folder.with_name("CUHK"))
    with pytest.raises(ValueError, match=r"no CUHK-PEDES in manual_dir[\s\S]*found .*: CUHK/\n"):
        find_folder(folder.parent, LAYOUT)


# --- forms that are read ---


def test_the_made_up_folder(folder):
    found = read(folder)
    assert paths(found) == {
        split: [path for s, _, path, _ in dummy.IMAGES if s == split]
        for split in ("train", "val", "test")
    }
    assert found.faults == ()
    assert found.files == (folder / "reid_raw.json",)
    assert found.notes == (
        "1 records whose processed_tokens are nested one level deeper (they are not used): "
        "train_query/p11600_s14885.jpg",
    )


def test_captions_as_one_text_and_no_processed_tokens(folder):
    records = dummy.records()
    for record in records:
        del record["processed_tokens"]
    records[0]["captions"] = "A man in red."
    dummy.write_json(folder, records)
    found = read(folder)
    assert first(found).captions == ("A man in red.",)
    assert found.notes == (
        "1 records whose captions are one text, read as a list of it: cam_a/001_45.bmp",
    )


@pytest.mark.parametrize(
    ("captions", "expected"),
    [([["A.", "B."]], ("A.", "B.")), ([["A."], "B.", ["C."]], ("A.", "B.", "C.")), ([[]], ())],
)
def test_captions_nested_one_level_deeper(folder, captions, expected):
    dummy.change(folder, 0, captions=captions)
    found = read(folder)
    assert first(found).captions == expected
    assert (
        "1 records whose captions are nested one level deeper, flattened: cam_a/001_45.bmp"
    ) in found.notes


@pytest.mark.parametrize(
    "given",
    [
        "cam_a\\001_45.bmp",
        "imgs/cam_a/001_45.bmp",
        "./cam_a/001_45.bmp",
        "./imgs/cam_a/001_45.bmp",
        "imgs\\cam_a\\001_45.bmp",
        "cam_a//001_45.bmp",
    ],
)
def test_paths_are_normalised_and_counted(folder, given):
    dummy.change(folder, 0, file_path=given)
    found = read(folder)
    assert first(found).file_path == "cam_a/001_45.bmp"
    assert first(found).camera_id == 0
    line = f'1 paths written with "\\", a leading "imgs/" or "./", read as if without: {given}'
    assert line in found.notes


def test_a_path_written_in_two_ways_is_one_image(folder):
    records = dummy.records()
    dummy.write_json(folder, [*records, records[0] | {"file_path": "imgs/cam_a/001_45.bmp"}])
    found = read(folder)
    assert paths(found)["train"].count("cam_a/001_45.bmp") == 1
    assert "1 images with an identical record more than once, kept once: cam_a" in "".join(
        found.notes
    )


@pytest.mark.parametrize("name", ["{}.json", "reid_raw_{}.json", "{}_reid_raw.json"])
@pytest.mark.parametrize("keep_field", [True, False])
def test_one_file_for_each_split(folder, name, keep_field):
    whole = read(folder).splits
    (folder / "reid_raw.json").unlink()
    for split in ("train", "val", "test"):
        records = [record for record in dummy.records() if record["split"] == split]
        if not keep_field:
            records = [{k: v for k, v in record.items() if k != "split"} for record in records]
        dummy.write_json(folder, records, name.format(split))
    assert read(folder).splits == whole


def test_the_whole_file_wins_over_one_without_splits(folder):
    whole = read(folder)
    dummy.write_json(folder, dummy.records()[:2], "caption_all.json")
    assert read(folder) == whole


def test_byte_order_mark(folder):
    whole = read(folder).splits
    path = folder / "reid_raw.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read(folder).splits == whole


def test_one_record_for_each_caption(folder):
    whole = read(folder).splits
    split_up = [
        record | {"captions": text} for record in dummy.records() for text in record["captions"]
    ]
    dummy.write_json(folder, split_up)
    found = read(folder)
    assert found.splits == whole
    assert "18 images with several records, their captions joined: cam_a" in "\n".join(found.notes)


def test_a_record_that_stands_twice_counts_once(folder):
    whole = read(folder).splits
    dummy.write_json(folder, dummy.records() + dummy.records()[:1])
    found = read(folder)
    assert found.splits == whole
    assert (
        "1 images with an identical record more than once, kept once: cam_a/001_45.bmp"
    ) in found.notes


# --- refused at once: nothing can be read ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"id": 1}', "reid_raw.json is not valid JSON: .*line 1"),
        ('{"id": 1}', "holds {'id': 1} of type dict; accepted: a list"),
        ("[]", r"holds \[\] of type list; accepted: a list .* at least one"),
        ("3", "holds 3 of type int"),
        ('[{"id": 1}]', "reid_raw.json has no official splits"),
        ("[" * 100_000, "reid_raw.json is not valid JSON: maximum recursion depth"),
        (f'[{{"id": {"9" * 5000}}}]', "reid_raw.json is not valid JSON: Exceeds the limit"),
    ],
)
def test_wrong_json(folder, content, message):
    (folder / "reid_raw.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read(folder)


def test_a_list_of_nothing_but_null(folder):
    (folder / "reid_raw.json").write_text("[null]")
    assert "reid_raw.json, record 0: None is no object" in faults(folder)


def test_not_utf8(folder):
    (folder / "reid_raw.json").write_bytes(b'[{"captions": ["caf\xe9"]}]')
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read(folder)


def test_two_files_for_one_split(folder):
    (folder / "reid_raw.json").unlink()
    for name in ("train.json", "reid_raw_train.json"):
        dummy.write_json(folder, dummy.records(), name)
    with pytest.raises(ValueError, match=r"several files for split train: .* Keep one"):
        read(folder)


# --- faults: reading goes on, so that all are known at once ---


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
        ({"captions": ["a", 5]}, "record 3: captions = ['a', 5]; accepted"),
        ({"captions": [[["a"]]]}, "record 3: captions = [[['a']]]; accepted"),
        ({"captions": ["\ud800"]}, "record 3: captions = ['\\ud800']; accepted"),
        ({"split": "valid"}, "record 3: split = 'valid'; accepted: train, val, test"),
        ({"split": ["train"]}, "record 3: split = ['train']; accepted: train, val, test"),
        ({"file_path": ""}, "record 3: file_path = ''; accepted: a path under imgs/"),
        ({"file_path": "imgs/"}, "record 3: file_path = 'imgs/'; accepted: a path under imgs/"),
        ({"file_path": "../a.jpg"}, "record 3: file_path = '../a.jpg'; accepted"),
        ({"file_path": "a\\..\\b.jpg"}, "record 3: file_path = 'a\\\\..\\\\b.jpg'; accepted"),
        ({"file_path": "/etc/a.jpg"}, "record 3: file_path = '/etc/a.jpg'; accepted"),
        ({"file_path": "\\etc\\a.jpg"}, "record 3: file_path = '\\\\etc\\\\a.jpg'; accepted"),
        ({"file_path": "a\0.jpg"}, "record 3: file_path = 'a\\x00.jpg'; accepted"),
    ],
)
def test_wrong_records(folder, fields, message):
    dummy.change(folder, 3, **fields)
    text = faults(folder)
    assert message in text
    assert "1 of 20 records are not as they should be" in text
    assert "What to do" in text
    assert len([path for part in paths(read(folder)).values() for path in part]) == 19


def test_many_wrong_records_are_counted(folder):
    dummy.write_json(folder, [*dummy.records(), *[7] * 8])
    text = faults(folder)
    assert "8 of 28 records" in text
    assert "record 20: 7 is no object" in text
    assert "record 24" in text
    assert "record 25" not in text
    assert "and 3 more" in text


def test_split_field_against_file_name(folder):
    (folder / "reid_raw.json").unlink()
    dummy.write_json(folder, dummy.records(), "train.json")
    assert "split = 'val'; accepted: train, as the file's name says" in faults(folder)


def test_ids_in_two_splits(folder):
    dummy.change(folder, 8, id=2)
    dummy.change(folder, 15, id=2)
    dummy.change(folder, 10, id=12004)
    text = faults(folder)
    assert "2 ids stand in more than one split: 2 (train and val and test), 12004 (val and" in text
    assert "use one reid_raw.json instead" in text


def test_images_under_two_ids(folder):
    dummy.change(folder, 0, file_path="cam_b/001_90.bmp", id=2)
    dummy.change(folder, 12, file_path="Market/0509_c4s2_066223_00.jpg")
    text = faults(folder)
    assert "2 images stand under two ids: cam_b/001_90.bmp (2 and 1), Market/0509" in text
    assert "accepted: one id for each image" in text.lower()


def test_an_image_in_two_splits(folder):
    dummy.change(folder, 8, file_path="cam_b/001_90.bmp", id=1)
    assert "1 ids stand in more than one split: 1 (train and val)" in faults(folder)


def test_all_faults_come_together(folder):
    dummy.change(folder, 3, id="2")
    dummy.change(folder, 8, id=3)
    dummy.change(folder, 0, file_path="cam_b/001_90.bmp", id=2)
    assert len(read(folder).faults) == 3

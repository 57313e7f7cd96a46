"""What the CUHK-PEDES builder refuses, with a message that helps."""

import shutil

import pytest

from tfds_builders.build import build, main
from tfds_builders.cuhk_pedes import dummy_data as dummy


def refused(folder, tmp_path, capsys, name="cuhk_pedes"):
    """What the build command says of a folder that it does not build."""
    data_dir = tmp_path / "data"
    assert main([name, f"--data_dir={data_dir}", f"--manual_dir={folder.parent}"]) == 1
    assert not list(data_dir.rglob("*array_record*"))
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message[message.index("error: ") :]


def test_only_the_file_without_splits(folder, tmp_path, capsys):
    (folder / "reid_raw.json").unlink()
    records = [{k: r[k] for k in ("id", "file_path", "captions")} for r in dummy.records()]
    dummy.write_json(folder, records, "caption_all.json")
    text = refused(folder, tmp_path, capsys)
    assert "caption_all.json has no official splits" in text
    assert "its ids are numbered differently" in text
    assert "ask the authors of CUHK-PEDES for reid_raw.json" in text
    (folder / "caption_all.json").rename(folder / "reid_raw.json")
    assert "reid_raw.json has no official splits" in refused(folder, tmp_path, capsys)


def test_no_annotation_file(folder, tmp_path, capsys):
    (folder / "reid_raw.json").rename(folder / "other.json")
    text = refused(folder, tmp_path, capsys)
    assert "no annotation file in" in text
    assert "reid_raw_{split}.json" in text
    assert "imgs/, other.json" in text


def test_manual_dir_without_the_dataset(tmp_path):
    (tmp_path / "manual/photos").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no CUHK-PEDES in manual_dir[\s\S]*found .*: photos/"):
        build("cuhk_pedes", str(tmp_path / "data"), str(tmp_path / "manual"))
    with pytest.raises(ValueError, match=r"does not exist or is empty[\s\S]*reid_raw.json"):
        build("cuhk_pedes", str(tmp_path / "data"), str(tmp_path / "nowhere"))


def test_wrong_records_and_ids_in_two_splits(folder, tmp_path, capsys):
    dummy.change(folder, 3, id="2")
    dummy.change(folder, 8, id=3)
    text = refused(folder, tmp_path, capsys, "cuhk_pedes/market")
    assert "reid_raw.json, record 3: id = '2'; accepted: an integer" in text
    assert "1 ids stand in more than one split: 3 (train and val)" in text


def test_missing_images(folder, tmp_path, capsys):
    shutil.rmtree(folder / "imgs/cam_a")
    (folder / "imgs/Market/0003_c1s1_000451_00.jpg").unlink()
    text = refused(folder, tmp_path, capsys)
    assert "2 of 20 annotated images are missing" in text
    assert "cam_a: 1 of 1, Market: 1 of 7" in text
    assert "first: cam_a/001_45.bmp, Market/0003_c1s1_000451_00.jpg" in text
    assert "sub-folders that do not exist at all: cam_a" in text
    assert "What to do" in text


def test_all_images_missing_names_five(folder, tmp_path, capsys):
    shutil.rmtree(folder / "imgs")
    text = refused(folder, tmp_path, capsys)
    assert "20 of 20 annotated images are missing" in text
    assert "and 15 more" in text


def test_damaged_images_are_named_with_what_is_wrong(folder, tmp_path, capsys):
    images = folder / "imgs"
    for name, cut in {
        "Market/0003_c1s1_000451_00.jpg": 40,
        "CUHK01/0002001.png": 12,
        "cam_a/001_45.bmp": 1,
        "CUHK03/1369_2.PNG": 12,
    }.items():
        (images / name).write_bytes((images / name).read_bytes()[:-cut])
    (images / "cam_b/001_90.bmp").write_bytes(b"")
    (images / "CUHK03/11_1.jpg").write_bytes(b"<html>not found</html>")
    text = refused(folder, tmp_path, capsys)
    assert "6 of 20 annotated images" in text
    (images / "CUHK01/0002001.png").unlink()
    assert "1 of 20 annotated images are missing" in (both := refused(folder, tmp_path, capsys))
    assert "5 of 20 annotated images" in both
    for fault in (
        "cam_a/001_45.bmp (truncated)",
        "cam_b/001_90.bmp (empty file)",
        "Market/0003_c1s1_000451_00.jpg (truncated)",
        "CUHK03/11_1.jpg (not JPEG, PNG or BMP)",
        "CUHK03/1369_2.png (truncated)",
    ):
        assert fault in both
    assert "fetch these files again" in both


def test_the_error_of_the_made_up_folder_is_gone_once_it_is_repaired(folder, tmp_path, capsys):
    path = folder / "imgs/cam_b/001_90.bmp"
    content = path.read_bytes()
    path.write_bytes(b"")
    assert "empty file" in refused(folder, tmp_path, capsys)
    path.write_bytes(content)
    builder = build("cuhk_pedes", str(tmp_path / "data"), str(folder.parent))
    assert builder.info.splits["train"].num_examples == 12

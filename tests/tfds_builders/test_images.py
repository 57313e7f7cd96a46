"""The look at image files before a build."""

import struct
import unicodedata

import cv2
import numpy as np
import pytest

from tfds_builders import dummy
from tfds_builders.images import check_images, image_problem, locate


def encoded(suffix, *options):
    picture = np.random.default_rng(0).integers(0, 256, (20, 9, 3), np.uint8)
    return cv2.imencode(suffix, picture, options)[1].tobytes()


def problem(tmp_path, content):
    (tmp_path / "image").write_bytes(content)
    return image_problem(tmp_path / "image")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_whole_files(tmp_path, suffix):
    assert problem(tmp_path, encoded(suffix)) is None
    assert problem(tmp_path, encoded(suffix) + b"\0" * 500) is None


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_truncated_files(tmp_path, suffix, share):
    content = encoded(suffix)
    assert problem(tmp_path, content[: int(len(content) * share)]) == "truncated"


def test_progressive_jpeg(tmp_path):
    content = encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert problem(tmp_path, content + b"tail") is None
    assert problem(tmp_path, content[:-2]) == "truncated"


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image(tmp_path):
    content = encoded(".jpg")
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + 4) + b"\xff\xd8\xff\xd9"
    content = content[:2] + thumbnail + content[2:]
    assert problem(tmp_path, content + b"\0") is None
    assert problem(tmp_path, content[:-2]) == "truncated"


def test_bmp_with_a_size_field_of_zero(tmp_path):
    content = bytearray(encoded(".bmp"))
    content[2:6] = bytes(4)
    assert problem(tmp_path, bytes(content)) is None
    assert problem(tmp_path, bytes(content[:-1])) == "truncated"


@pytest.mark.parametrize("content", [b"GIF89a", b"RIFF0000WEBP", b"text"])
def test_other_files(tmp_path, content):
    assert problem(tmp_path, content) == "not JPEG, PNG or BMP"


def test_empty_file(tmp_path):
    assert problem(tmp_path, b"") == "empty file"


# --- where the files lie ---


@pytest.fixture
def root(tmp_path):
    for seed, name in enumerate(
        ["a/1.jpg", "a/2.JPG", "a/3.jpg.jpg", "b/4.png", "b/5.bmp", "6.jpg", "a/7.jpg", "a/7.JPG"]
    ):
        dummy.write_image(tmp_path / name, seed)
    return tmp_path


def test_files_are_found_as_they_are_named(root):
    names = ["a/1.jpg", "a/2.JPG", "a/3.jpg.jpg", "b/4.png", "6.jpg", "a/7.jpg", "a/7.JPG"]
    located = locate(root, names)
    assert located.paths == {name: root / name for name in names}
    assert located.missing == located.other_suffix == ()
    assert located.notes() == []
    check_images(located)


def test_another_suffix_is_used_and_counted(root):
    pairs = {
        "a/1.JPG": "a/1.jpg",
        "a/1.jpg.jpg": "a/1.jpg",
        "a/2.jpg": "a/2.JPG",
        "a/3.jpg": "a/3.jpg.jpg",
        "a/3.JPG": "a/3.jpg.jpg",
        "b/5.BMP": "b/5.bmp",
    }
    located = locate(root, [*pairs, "6.jpg"])
    assert {name: located.paths[name] for name in pairs} == {k: root / v for k, v in pairs.items()}
    assert located.other_suffix == tuple(pairs)
    assert located.notes() == [
        "6 images found under another suffix than annotated, and used: a/1.JPG (1.jpg), "
        "a/1.jpg.jpg (1.jpg), a/2.jpg (2.JPG), a/3.jpg (3.jpg.jpg), a/3.JPG (3.jpg.jpg) "
        "and 1 more"
    ]


@pytest.mark.parametrize(
    "name",
    ["a/1.png", "a/1", "A/1.jpg", "a/01.jpg", "b/4.jpg", "4.png", "a/1.jpg/1.jpg", "c/1"],
)
def test_another_name_is_missing(root, name):
    located = locate(root, [name])
    assert located.missing == (name,)
    assert not located.paths


def test_of_two_files_for_one_name_the_choice_is_stable(root):
    (root / "a/7.jpg").unlink()
    dummy.write_image(root / "a/7.jpg.jpg", 9)
    assert locate(root, ["a/7.jpg"]).paths["a/7.jpg"].name == "7.JPG"


def test_a_folder_in_place_of_a_file_is_missing(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(ValueError, match=r"1 of 1 annotated images are missing[\s\S]*\.: 1 of 1"):
        check_images(locate(tmp_path, ["a.jpg"]))


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("annotated", ["NFC", "NFD"])
def test_letters_may_be_coded_otherwise(tmp_path, stored, annotated):
    dummy.write_image(tmp_path / unicodedata.normalize(stored, "Zoë/à/é.jpg"), 1)
    dummy.write_image(tmp_path / unicodedata.normalize(stored, "Zoë/à/ï.JPG"), 2)
    names = [unicodedata.normalize(annotated, f"Zoë/à/{name}.jpg") for name in "éïo"]
    located = locate(tmp_path, names)
    assert list(located.paths) == names[:2]
    assert all(path.is_file() for path in located.paths.values())
    assert located.missing == (names[2],)
    assert located.other_suffix == (names[1],)


@pytest.mark.parametrize("target", ["nowhere.jpg", "a.jpg"])
def test_a_link_that_leads_nowhere_is_missing(tmp_path, target):
    (tmp_path / "a.jpg").symlink_to(tmp_path / target)
    dummy.write_image(tmp_path / "b.jpg", 1)
    located = locate(tmp_path, ["a.jpg", "b.jpg"])
    assert located.missing == ("a.jpg",)
    assert list(located.paths) == ["b.jpg"]


def test_missing_and_damaged_come_in_one_message(tmp_path):
    dummy.write_image(tmp_path / "a/1.jpg", 0)
    (tmp_path / "a/2.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="missing") as error:
        check_images(locate(tmp_path, ["a/1.jpg", "a/2.jpg", "b/3.jpg"]))
    assert "by sub-folder: b: 1 of 1" in str(error.value)
    assert "by sub-folder: a: 1 of 2" in str(error.value)
    assert "a/2.jpg (empty file)" in str(error.value)
    check_images(locate(tmp_path, ["a/1.jpg"]))

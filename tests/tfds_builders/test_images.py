"""The look at image files before a build."""

import struct

import cv2
import numpy as np
import pytest

from tfds_builders.cuhk_pedes import dummy_data as dummy
from tfds_builders.images import check_images, image_problem


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


def test_a_folder_in_place_of_a_file_is_missing(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(ValueError, match=r"1 of 1 annotated images are missing[\s\S]*\.: 1 of 1"):
        check_images(tmp_path, ["a.jpg"])


def test_missing_and_damaged_come_in_one_message(tmp_path):
    dummy.write_image(tmp_path / "a/1.jpg", 0)
    (tmp_path / "a/2.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="missing") as error:
        check_images(tmp_path, ["a/1.jpg", "a/2.jpg", "b/3.jpg"])
    assert "by sub-folder: b: 1 of 1" in str(error.value)
    assert "by sub-folder: a: 1 of 2" in str(error.value)
    assert "a/2.jpg (empty file)" in str(error.value)
    check_images(tmp_path, ["a/1.jpg"])

"""What the builders share."""

import io

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from tfds_builders.base import SplitCounts, count_lines, first_names, named_line, person_features


def test_person_features():
    features = person_features(shown=tfds.features.Tensor(shape=(3,), dtype=np.uint8))
    assert list(features) == [
        "image",
        "image_id",
        "person_id",
        "camera_id",
        "captions",
        "shown",
    ]
    assert features["person_id"].np_dtype == features["camera_id"].np_dtype == np.int64


def test_pixels_are_those_of_the_file():
    """As the README says: transparency stays, and what Exif data call turned stays turned."""
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    for mode, kind, exif, shape in (
        ("RGBA", "PNG", None, (8, 4, 4)),
        ("L", "PNG", None, (8, 4, 3)),
        ("RGB", "JPEG", turned, (8, 4, 3)),
    ):
        file = io.BytesIO()
        PIL.Image.new(mode, (4, 8)).save(file, kind, exif=exif)
        image = person_features()["image"].decode_example_np(file.getvalue())
        assert (image.shape, image.dtype) == (shape, np.uint8)


def test_extra_features_cannot_replace_common_ones():
    with pytest.raises(ValueError, match=r"extra features \['image'\]"):
        person_features(image=tfds.features.Text())


def test_count_lines():
    published = {"train": SplitCounts(1000, 2000, 10), "val": SplitCounts(3, 6, 1)}
    assert count_lines(published, published) == []
    found = {"train": SplitCounts(1000, 2001, 9), "extra": SplitCounts(1, 0, 0)}
    assert count_lines(published, found) == [
        "train: 2,001 captions, published 2,000 (+1)",
        "train: 9 ids, published 10 (-1)",
        "val: 0 images, published 3 (-3)",
        "val: 0 captions, published 6 (-6)",
        "val: 0 ids, published 1 (-1)",
        "extra: 1 images, published 0 (+1)",
    ]


def test_first_names():
    assert first_names([]) == ""
    assert first_names("abcde") == "a, b, c, d, e"
    assert first_names(range(2000)) == "0, 1, 2, 3, 4 and 1,995 more"


def test_named_line():
    assert named_line("empty", []) == []
    assert named_line("empty", {"a": 1, "b": 2}) == ["2 empty: a, b"]

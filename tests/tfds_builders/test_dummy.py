"""What the made-up folders share."""

import json

import cv2
import pytest

from jaxreid.text import tokenize
from tfds_builders import dummy
from tfds_builders.cuhk_pedes import dummy_data as cuhk_pedes
from tfds_builders.icfg_pedes import dummy_data as icfg_pedes


def test_our_tokeniser_gives_the_processed_tokens():
    """The lists are written out, as the annotation files have them."""
    for records in (cuhk_pedes.records(), icfg_pedes.records()):
        for record in records:
            tokens = record["processed_tokens"]
            tokens = tokens[0] if isinstance(tokens[0][0], list) else tokens  # one level deeper
            assert [tokenize(caption) for caption in record["captions"]] == tokens
    words = tokenize(" ".join(dummy.captions(0, 4)))
    assert "tshirtdark" in words  # of "t-shirt,dark"


@pytest.mark.parametrize("name", ["a.jpg", "a.JPG", "a.png", "a.bmp", "a.jpg.jpg"])
def test_pictures(name, tmp_path):
    dummy.write_image(tmp_path / "folder" / name, 3)
    dummy.write_image(tmp_path / "other" / name, 4, size=(10, 20))
    assert cv2.imread(str(tmp_path / "folder" / name)).shape == (*dummy.SIZE, 3)
    assert cv2.imread(str(tmp_path / "other" / name)).shape == (10, 20, 3)


def test_pictures_of_other_seeds_differ(tmp_path):
    for seed in range(64):
        dummy.write_image(tmp_path / f"{seed}.png", seed)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 64


def test_change(tmp_path):
    path = tmp_path / "a.json"
    dummy.write_json(path, [{"a": 1}, {"a": 1, "b": 2}])
    dummy.change(path, 1, a=None, c="\u00e9")
    assert json.loads(path.read_text()) == [{"a": 1}, {"b": 2, "c": "\u00e9"}]

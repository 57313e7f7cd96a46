"""Statistics of a dataset, against numbers counted by hand."""

import doctest
import io
import json
import types

import cv2
import numpy as np
import PIL.Image
import pytest

from jaxreid import explore, text


def picture(width, height, form="png", orientation=0):
    """The bytes of an image file."""
    image = PIL.Image.fromarray(np.full((height, width, 3), 200, np.uint8))
    exif = PIL.Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, form, **({"exif": exif} if orientation else {}))
    return file.getvalue()


def record(pid, camera, captions, image):
    return {
        "image": image,
        "image_id": f"{pid}_{camera}.png".encode(),
        "person_id": np.int64(pid),
        "camera_id": np.int64(camera),
        "captions": [caption.encode() for caption in captions],
    }


TRAIN = [
    record(7, 1, ["A red hat.", "a red-hat, really"], picture(20, 60)),
    record(7, 2, ["a man"], picture(20, 60, "jpeg")),
    record(9, -1, [], picture(30, 40, "bmp")),
    record(11, 2, ["Red man?"], picture(70, 20, "jpeg", orientation=6)),
]
TEST = [record(1, 5, ["a blue man", "a"], picture(20, 60))]


def builder(**splits):
    """A finished dataset of these records."""
    return types.SimpleNamespace(
        info=types.SimpleNamespace(full_name="made_up/1.0.0", splits=splits),
        data_path="/data/made_up",
        as_data_source=lambda split, decoders: splits[split],
    )


def test_numbers_by_hand():
    found = explore.explore(builder(train=TRAIN, test=TEST))
    assert (found.name, found.folder) == ("made_up/1.0.0", "/data/made_up")
    # a 3 times, red and man twice; hat, redhat and really once.
    assert found.vocabulary == 3
    train, test = found.splits["train"], found.splits["test"]
    assert (train.identities, train.images, train.captions) == (3, 4, 4)
    assert (train.cameras, train.images_without_camera, train.images_without_caption) == (2, 1, 1)
    assert train.images_per_identity == explore.Spread(1, 4 / 3, 1, 2)
    assert train.captions_per_image == explore.Spread(0, 1, 1, 2)
    assert train.words_per_caption == explore.Spread(2, 10 / 4, 2.5, 3)
    assert (train.words, train.distinct_words) == (10, 6)
    assert train.cover == pytest.approx(70)
    # The last one is stored on its side.
    assert train.height == explore.Spread(40, (60 + 60 + 40 + 70) / 4, 60, 70)
    assert train.width == explore.Spread(20, 22.5, 20, 30)
    assert train.sizes == ((60, 20, 2), (40, 30, 1), (70, 20, 1))
    assert test.cover == pytest.approx(75)  # "blue" is not known
    assert test.sizes == ((60, 20, 1),)


def test_the_vocabulary_is_that_of_a_run():
    captions = [c.decode() for r in TRAIN for c in r["captions"]]
    wanted = text.Vocabulary.from_captions(captions)  # its own least count
    assert explore.explore(builder(train=TRAIN)).vocabulary == len(wanted.words)


def test_the_table():
    shown = explore.explore(builder(train=TRAIN, test=TEST)).text().splitlines()
    assert shown[0] == "made_up/1.0.0, in /data/made_up"
    cells = {line[:38].strip(): line[38:].split("  ") for line in shown if line}
    cells = {label: [cell.strip() for cell in row if cell] for label, row in cells.items()}
    assert cells["images an identity (min / mean / max)"] == ["1 / 1.3 / 2", "1 / 1.0 / 1"]
    assert cells["words a caption (mean / median / max)"] == ["2.5 / 2.5 / 3", "2.0 / 2 / 3"]
    assert cells["image heights, pixels"] == ["40 to 70", "60"]
    assert cells["commonest sizes (height x width)"] == ["60 x 20: 2", "60 x 20: 1"]
    assert shown[-1] == "vocabulary: 3 words, those that occur 2 times or more in train"


def test_training_comes_first():
    names = ["zoo", "test", "val", "annex", "train_minus_val", "train"]
    wanted = ["train", "train_minus_val", "val", "test", "zoo", "annex"]
    assert explore.split_names(builder(**dict.fromkeys(names, []))) == wanted


def test_the_numbers_as_json():
    content = json.loads(explore.explore(builder(train=TRAIN, test=TEST)).to_json(sheet="x.png"))
    assert content["splits"]["train"]["sizes"][0] == [60, 20, 2]
    assert content["splits"]["test"]["words_per_caption"]["median"] == 2
    assert (content["vocabulary"], content["min_count"], content["sheet"]) == (3, 2, "x.png")


def test_sets_with_little_in_them():
    found = explore.explore(builder(query=[record(1, -1, [], picture(2, 3))], gallery=[]))
    assert found.vocabulary is None
    assert found.splits["query"].cover is None
    assert found.splits["gallery"].images_per_identity is None
    assert "vocabulary:" not in found.text()
    assert found.text().count(" -") >= 8


@pytest.mark.parametrize("orientation", [0, 1, 3, 6, 8])
def test_sizes_are_those_of_the_decoded_picture(orientation):
    data = picture(70, 20, "jpeg", orientation)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert explore.image_size(data, name="a") == decoded.shape[:2]


def test_sizes_are_read_from_the_head():
    """Only its end is missing: what would have to be decoded is not looked at."""
    for form in ("png", "bmp", "jpeg"):
        data = picture(150, 310, form)
        assert explore.image_size(data[: len(data) // 2], name="a") == (310, 150)


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_named(data):
    with pytest.raises(ValueError, match=r"image 'x/y.png' cannot be read .* build the dataset"):
        explore.image_size(data, name="x/y.png")


def test_numbers_are_summed_up_by_hand():
    assert doctest.testmod(explore).failed == 0
    assert explore.Spread.of({}) is None
    assert explore.Spread.of({5: 0}) is None
    assert explore.Spread.of({1: 1, 4: 1}) == explore.Spread(1, 2.5, 2.5, 4)
    assert explore.Spread.of({3: 2, 1: 1, 9: 2}) == explore.Spread(1, 5, 3, 9)


def test_a_real_set(tiny_data_dir):
    from jaxreid.data import source

    real = source.find_builder("synth_pedes/tiny", data_dir=tiny_data_dir)
    found = explore.explore(real)
    assert list(found.splits) == ["train", "val", "test"]
    train = found.splits["train"]
    assert (train.identities, train.images, train.captions) == (16, 64, 128)
    assert train.sizes == ((384, 128, 64),)


def test_a_drawn_set_divided_by_camera(tiny_data_dir):
    from jaxreid.data import source

    name = "synth_pedes/tiny_cameras"
    divided = source.finished(name, (), data_dir=tiny_data_dir, register="tfds_builders")
    found = explore.explore(divided)
    assert list(found.splits) == ["train", "val", "query", "gallery"]
    for side in ("query", "gallery"):
        numbers = found.splits[side]
        assert (numbers.identities, numbers.images, numbers.captions) == (8, 16, 32)
        assert numbers.images_per_identity == explore.Spread(2, 2, 2, 2)

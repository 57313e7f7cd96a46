"""The drawn pedestrians: what is claimed about a picture must be in the picture."""

import cv2
import numpy as np
import pytest

from tfds_builders.synth_pedes.attributes import (
    ATTRIBUTE_REGIONS,
    ATTRIBUTES,
    COLORS,
    REGIONS,
    VIEWS,
    WORD_REGIONS,
)
from tfds_builders.synth_pedes.draw import draw_person

STRIPS = 6
PLAIN = {
    "person": "woman",
    "build": "average",
    "hair_length": "short",
    "hair_color": "brown",
    "hat": "none",
    "hat_color": "none",
    "glasses": "none",
    "top": "t-shirt",
    "top_color": "red",
    "top_pattern": "plain",
    "bottom": "trousers",
    "bottom_color": "blue",
    "shoes": "sneakers",
    "shoes_color": "black",
    "bag": "none",
    "bag_color": "none",
    "bag_side": "none",
    "bag_place": "none",
}


def person(**changes):
    return {**PLAIN, **changes}


def random_person(rng):
    values = {name: str(rng.choice(accepted)) for name, accepted in ATTRIBUTES.items()}
    for item in ("hat", "bag"):
        color = "none" if values[item] == "none" else str(rng.choice(list(COLORS)))
        values[f"{item}_color"] = color
    sided = values["bag"] in ("handbag", "shoulder bag")
    values["bag_side"] = str(rng.choice(["left", "right"])) if sided else "none"
    places = {"none": "none", "backpack": "back", "handbag": "hand", "shoulder bag": "shoulder"}
    values["bag_place"] = places[values["bag"]]
    return values


def draw(values, view="front", seed=0, camera=0, **changes):
    return draw_person(values, view=view, camera=camera, rng=np.random.default_rng(seed), **changes)


@pytest.fixture(scope="module")
def drawings():
    """200 people of all kinds, over all views and cameras: (values, view, drawing)."""
    rng = np.random.default_rng(5)
    drawn = []
    for index in range(200):
        values, view = random_person(rng), VIEWS[index % len(VIEWS)]
        drawn.append((values, view, draw(values, view, seed=index, camera=index % 6)))
    return drawn


def test_same_generator_gives_the_same_drawing():
    values = person(bag="backpack", bag_color="red", bag_place="back", top_pattern="dotted")
    for view in VIEWS:
        first, again = (draw(values, view, seed=3, camera=2) for _ in range(2))
        other = draw(values, view, seed=4, camera=2)
        np.testing.assert_array_equal(first.image, again.image)
        assert first.shown == again.shown
        assert first.boxes == again.boxes
        assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("size", [(384, 128), (96, 32), (256, 128)])
def test_image_has_the_size_asked_for(size):
    image = draw(person(), size=size).image
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8


def test_boxes_lie_in_the_picture_and_have_known_names(drawings):
    for _, _, drawing in drawings:
        assert set(drawing.boxes) <= set(REGIONS)
        for y0, x0, y1, x1 in drawing.boxes.values():
            assert 0 <= y0 < y1 <= 1
            assert 0 <= x0 < x1 <= 1


def test_body_regions_meet_a_strip_by_half(drawings):
    met = []
    for _, _, drawing in drawings:
        for region in WORD_REGIONS:
            if region in drawing.boxes:
                y0, _, y1, _ = np.multiply(drawing.boxes[region], STRIPS)
                strips = np.arange(STRIPS)
                overlap = np.minimum(y1, strips + 1) - np.maximum(y0, strips)
                met.append(overlap.max() >= 0.5)
    assert np.mean(met) >= 0.97


def test_regions_follow_each_other_from_top_to_bottom(drawings):
    for _, _, drawing in drawings:
        middles = [
            0.5 * (drawing.boxes[region][0] + drawing.boxes[region][2])
            for region in WORD_REGIONS
            if region in drawing.boxes
        ]
        assert middles == sorted(middles)


def test_what_is_absent_is_not_shown(drawings):
    for values, _, drawing in drawings:
        assert drawing.shown <= set(ATTRIBUTE_REGIONS)
        for name in drawing.shown - {"hat", "glasses", "bag"}:
            assert values[name] != "none"
        if values["bag"] == "none":
            assert "bag" not in drawing.boxes


def test_most_attributes_are_shown_most_of_the_time(drawings):
    for name in ("person", "build", "top_color", "bottom_color", "hair_color", "shoes_color"):
        assert np.mean([name in drawing.shown for _, _, drawing in drawings]) > 0.8


def test_a_logo_is_shown_from_the_front_only():
    values = person(top_pattern="logo")
    for view in VIEWS:
        shown = [draw(values, view, seed=seed).shown for seed in range(5)]
        assert any("top_pattern" in names for names in shown) == (view == "front")


def test_plain_cloth_from_the_back_could_hide_a_logo():
    assert "top_pattern" not in draw(person(), "back").shown
    assert "top_pattern" in draw(person(), "front").shown
    assert "top_pattern" in draw(person(top_pattern="striped"), "back").shown


def test_glasses_are_not_shown_from_the_back():
    for kind in ATTRIBUTES["glasses"]:
        for view in VIEWS:
            shown = draw(person(glasses=kind), view, seed=2).shown
            assert ("glasses" in shown) == (view != "back")


def test_a_beanie_on_short_hair_hides_its_length_from_the_front():
    shown = draw(person(hat="beanie", hat_color="red"), "front", seed=2).shown
    assert "hair_length" not in shown
    assert {"hat", "hat_color"} <= shown


def test_a_backpack_shows_its_straps_from_the_front_and_its_body_elsewhere():
    values = person(bag="backpack", bag_color="yellow", bag_place="back")
    for view in VIEWS:
        drawing = draw(values, view, seed=2)
        assert {"bag", "bag_color", "bag_place"} <= drawing.shown
        assert "bag_side" not in drawing.shown
        assert ("bag" in drawing.boxes) == (view != "front")


@pytest.mark.parametrize(("bag", "place"), [("handbag", "hand"), ("shoulder bag", "shoulder")])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_bag_hangs_on_the_side_of_the_viewer(bag, place, side):
    values = person(bag=bag, bag_color="green", bag_side=side, bag_place=place)
    seen = 0
    for index in range(24):
        drawing = draw(values, VIEWS[index % 4], seed=index)
        if "bag" in drawing.boxes and "torso" in drawing.boxes:
            bag_box, torso = drawing.boxes["bag"], drawing.boxes["torso"]
            assert (bag_box[1] + bag_box[3] > torso[1] + torso[3]) == (side == "right")
            assert (bag_box[1] + bag_box[3] > 1) == (side == "right")
            seen += "bag_side" in drawing.shown
    assert seen > 12


@pytest.mark.parametrize("attribute", ["top_color", "bottom_color"])
def test_cloth_has_the_colour_it_is_named_after(attribute):
    region = {"top_color": "torso", "bottom_color": "legs"}[attribute]
    right, total = 0, 0
    for color_index, color in enumerate(COLORS):
        for index in range(8):
            values = person(**{attribute: color}, top="sweater")
            drawing = draw(values, VIEWS[index % 4], seed=100 * color_index + index, camera=index)
            right += color == nearest_color(middle_of(drawing, region))
            total += 1
    assert right / total > 0.85


def middle_of(drawing, region):
    """Median colour of the middle of a box."""
    height, width = drawing.image.shape[:2]
    y0, x0, y1, x1 = drawing.boxes[region]
    y, x = (y0 + y1) / 2 * height, (x0 + x1) / 2 * width
    dy, dx = 0.2 * (y1 - y0) * height, 0.2 * (x1 - x0) * width
    part = drawing.image[int(y - dy) : int(y + dy), int(x - dx) : int(x + dx)]
    return np.median(part.reshape(-1, 3), axis=0)


def nearest_color(rgb):
    palette = np.array([list(COLORS.values()), [rgb] * len(COLORS)], np.float32) / 255
    lab, (measured, *_) = cv2.cvtColor(palette, cv2.COLOR_RGB2LAB)
    return list(COLORS)[int(np.argmin(np.linalg.norm(lab - measured, axis=1)))]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"view": "above"}, "view='above'"),
        ({"values": person(top="cape")}, r"values\['top'\]='cape'"),
        ({"values": {"person": "man"}}, r"values\['build'\]=None"),
    ],
)
def test_wrong_input_is_named(change, match):
    arguments = {"values": person(), "view": "front", **change}
    with pytest.raises(ValueError, match=match):
        draw(**arguments)

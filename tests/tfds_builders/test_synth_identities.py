import numpy as np
import pytest

from tfds_builders.synth_pedes import identities as lib
from tfds_builders.synth_pedes.attributes import ATTRIBUTES
from tfds_builders.synth_pedes.synth_pedes_dataset_builder import Builder

CONFIGS = {config.name: config for config in Builder.BUILDER_CONFIGS}
SWAPPED = {"top_color", "bottom_color"}
# What changes together when one thing about a person changes.
LOCAL = (
    {"hat", "hat_color"},
    {"bag", "bag_color", "bag_side", "bag_place"},
    *({name} for name in ("shoes_color", "hair_color", "hair_length", "top_pattern", "bottom")),
)


def identities_of(config):
    count = config.train + config.val + config.test
    return lib.draw_identities(config.seed, count, alone=config.train)


def differing(first, second):
    return {name for name in ATTRIBUTES if first[name] != second[name]}


def are_near_twins(first, second):
    different = differing(first, second)
    if different == SWAPPED:
        return first["top_color"] == second["bottom_color"]
    return bool(different) and any(different <= names for names in LOCAL)


@pytest.mark.parametrize("name", CONFIGS)
def test_each_has_two_near_twins_in_its_family_except_in_training(name):
    everyone = identities_of(CONFIGS[name])
    for first in range(CONFIGS[name].train, len(everyone), lib.FAMILY_SIZE):
        family = everyone[first : first + lib.FAMILY_SIZE]
        twins = [[are_near_twins(one, other) for other in family] for one in family]
        assert np.sum(twins, axis=1).tolist() == [2] * lib.FAMILY_SIZE


@pytest.mark.parametrize("name", CONFIGS)
def test_splits_hold_whole_families_and_share_no_bundle(name):
    config = CONFIGS[name]
    assert all(getattr(config, split) % lib.FAMILY_SIZE == 0 for split in ("val", "test"))
    keys = [tuple(values[n] for n in ATTRIBUTES) for values in identities_of(config)]
    assert len(set(keys)) == len(keys)


def test_all_are_plausible():
    everyone = identities_of(CONFIGS["quickstart"])
    assert all(lib.plausible(values) for values in everyone)
    assert all(values["top_color"] != values["bottom_color"] for values in everyone)
    assert not [v for v in everyone if v["bottom"] == "skirt" and v["person"] == "man"]
    for part in ("hat", "bag"):
        assert all((v[part] == "none") == (v[f"{part}_color"] == "none") for v in everyone)


def test_every_value_occurs():
    everyone = identities_of(CONFIGS["full"])
    for name, values in ATTRIBUTES.items():
        assert {identity[name] for identity in everyone} == set(values)


def test_depends_on_the_seed_and_not_on_the_number():
    assert lib.draw_identities(5, 8) == lib.draw_identities(5, 16)[:8]
    assert lib.draw_identities(5, 8) != lib.draw_identities(6, 8)


def test_the_first_may_be_alone():
    everyone = lib.draw_identities(5, 13, alone=9)
    assert len({tuple(values.values()) for values in everyone}) == 13
    assert everyone[:9] == lib.draw_identities(5, 9, alone=9)


@pytest.mark.parametrize(("count", "alone"), [(0, 0), (-4, 0), (6, 0), (8, 3), (8, 12), (8, -4)])
def test_refuses_a_number_that_splits_a_family(count, alone):
    with pytest.raises(ValueError, match=f"count={count}, alone={alone}.*families of 4"):
        lib.draw_identities(1, count, alone=alone)


def test_shots_are_of_four_cameras_with_a_front_and_a_back():
    everyone = [list(lib.draw_shots(3, person_id)) for person_id in range(50)]
    for shots in everyone:
        assert len({shot.camera for shot in shots}) == lib.IMAGES_PER_IDENTITY
        assert {"front", "back"} <= {shot.view for shot in shots}
    indices = [shot.index for shots in everyone for shot in shots]
    assert indices == list(range(len(indices)))
    assert {s.camera for shots in everyone for s in shots} == set(range(lib.NUM_CAMERAS))
    assert {shot.view for shots in everyone for shot in shots} == {"front", "back", "left", "right"}


def test_streams_of_randomness_differ():
    draws = [
        rng.integers(2**62)
        for rng in (lib.drawing_rng(1, 2), lib.caption_rng(1, 2), lib.drawing_rng(1, 3))
    ]
    assert len(set(draws)) == 3
    assert lib.drawing_rng(1, 2).integers(2**62) == draws[0]


def test_value_indices_name_the_values():
    values = lib.draw_identities(1, 4)[0]
    indices = lib.value_indices(values)
    named = {n: ATTRIBUTES[n][i] for n, i in zip(ATTRIBUTES, indices, strict=True)}
    assert named == values

"""Which pairs a step sees."""

import collections

import numpy as np
import pytest

from jaxreid.data.sampler import PairSampler, make_sampler

# Captions of each image, images of each identity: 1, 2, 4 and 10 captions, and no caption at all;
# identity 2 has a single image, identity 3 a single image with captions.
CAPTIONS = np.array([1, 2, 4, 10, 2, 3, 2, 0, 1, 1])
LABELS = np.array([0, 0, 1, 1, 1, 2, 3, 3, 0, 1], np.int32)
CAPTION_IMAGE = np.repeat(np.arange(len(CAPTIONS), dtype=np.int32), CAPTIONS)
PAIRS = len(CAPTION_IMAGE)


def sampler(*, batch_size=4, captions_per_pair=2, seed=0, order=None):
    caption_image = CAPTION_IMAGE if order is None else CAPTION_IMAGE[order]
    return PairSampler(
        caption_image,
        LABELS,
        batch_size=batch_size,
        captions_per_pair=captions_per_pair,
        seed=seed,
    )


def stream(made, steps):
    """Fields of many steps, one after another."""
    batches = [made(step) for step in range(steps)]
    return {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("image", "caption", "valid")
    }


def same(one, other):
    return all(np.array_equal(getattr(one, f), getattr(other, f)) for f in ("image", "caption"))


def test_26_pairs_do_not_fill_their_last_batch():
    assert PAIRS == 26
    assert sampler(batch_size=4).steps_per_epoch == 7
    assert sampler(batch_size=13).steps_per_epoch == 2


@pytest.mark.parametrize("batch_size", [1, 4, 7, 13, 26, 100])
@pytest.mark.parametrize("captions_per_pair", [1, 2])
def test_every_pair_once_an_epoch_and_none_dropped(batch_size, captions_per_pair):
    epochs = 5
    made = sampler(batch_size=batch_size, captions_per_pair=captions_per_pair)
    seen = stream(made, -(-epochs * PAIRS // batch_size))
    strong = seen["caption"][:, 0]
    for epoch in range(epochs):
        np.testing.assert_array_equal(
            np.sort(strong[epoch * PAIRS : (epoch + 1) * PAIRS]), np.arange(PAIRS)
        )
    np.testing.assert_array_equal(seen["image"], CAPTION_IMAGE[strong])


def test_shapes_and_types():
    batch = sampler(batch_size=5)(3)
    assert (batch.image.shape, batch.caption.shape, batch.valid.shape) == ((5,), (5, 2), (5, 2))
    assert (batch.image.dtype, batch.caption.dtype) == (np.int32, np.int32)
    batch = sampler(batch_size=5, captions_per_pair=1)(3)
    assert batch.caption.shape == (5, 1)
    assert batch.valid.all()


def test_a_pure_function_of_seed_and_step():
    steps = np.random.default_rng(0).permutation(60)
    made = sampler()
    out_of_order = {step: made(int(step)) for step in steps}
    for step, batch in out_of_order.items():
        assert same(batch, sampler()(int(step)))


def test_seeds_epochs_and_steps_differ():
    first = stream(sampler(seed=0, batch_size=26), 2)["caption"]
    other = stream(sampler(seed=1, batch_size=26), 2)["caption"]
    assert not np.array_equal(first[:, 0], other[:, 0])
    assert not np.array_equal(first[:, 1], other[:, 1])
    assert not np.array_equal(first[:26, 0], first[26:, 0])


def test_the_weak_captions_do_not_change_the_order():
    one, two = (stream(sampler(captions_per_pair=count), 20)["caption"] for count in (1, 2))
    np.testing.assert_array_equal(one[:, 0], two[:, 0])


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_weak_caption_is_of_another_image_of_the_same_person(shuffled):
    order = np.random.default_rng(0).permutation(PAIRS) if shuffled else np.arange(PAIRS)
    seen = stream(sampler(order=order), 400)
    caption_image = CAPTION_IMAGE[order]
    strong, weak = seen["caption"].T
    valid = seen["valid"][:, 1]
    assert seen["valid"][:, 0].all()
    np.testing.assert_array_equal(LABELS[caption_image[weak]], LABELS[seen["image"]])
    assert np.all(caption_image[weak[valid]] != seen["image"][valid])
    # Identity 2 has one image, and only one image of identity 3 has captions.
    np.testing.assert_array_equal(valid, ~np.isin(LABELS[seen["image"]], [2, 3]))
    np.testing.assert_array_equal(weak[~valid], strong[~valid])


def test_weak_captions_are_uniform_over_the_captions_of_all_other_images():
    seen = stream(sampler(batch_size=26), 1000)
    strong, weak = seen["caption"].T
    for image in np.flatnonzero(np.isin(LABELS, [0, 1])):
        others = np.flatnonzero((LABELS[CAPTION_IMAGE] == LABELS[image]) & (image != CAPTION_IMAGE))
        drawn = weak[CAPTION_IMAGE[strong] == image]
        counts = np.array([(drawn == caption).sum() for caption in others])
        mean = len(drawn) / len(others)
        assert counts.sum() == len(drawn)
        # Chi square: its mean is the number of kinds less one, its variance twice that.
        freedom = len(others) - 1
        assert np.sum((counts - mean) ** 2 / mean) < freedom + 5 * np.sqrt(2 * freedom) + 1


def test_the_weak_caption_is_drawn_anew_at_each_visit():
    seen = stream(sampler(batch_size=26), 20)
    visits = seen["caption"][seen["caption"][:, 0] == 0, 1]
    assert len(visits) == 20
    assert len(np.unique(visits)) > 1


def test_far_into_a_long_run():
    batch = sampler(batch_size=64)(3_000_000)
    assert np.all((batch.caption >= 0) & (batch.caption < PAIRS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, r"config\.batch_size is 0; it takes 1 or more"),
        ({"captions_per_pair": 3}, r"config\.data\.captions_per_pair is 3; it takes 1 or 2"),
        ({"seed": -1}, r"config\.seed is -1; it takes 0 to 2147483647\."),
        ({"seed": 2**31}, r"config\.seed is 2147483648; it takes 0 to 2147483647\."),
        ({"order": np.array([], int)}, "has no caption"),
    ],
)
def test_what_it_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        sampler(**change)


# --- images with a caption drawn at random ---

IMAGE_OF = np.array([0, 0, 2, 2, 2, 3, 4, 4])  # image 1 has no caption


def images(batch_size=3, seed=0):
    return make_sampler(
        "images", IMAGE_OF, np.arange(5), batch_size=batch_size, captions_per_pair=1, seed=seed
    )


def test_every_image_with_a_caption_once_an_epoch():
    sampler = images()
    assert sampler.steps_per_epoch == 2
    seen = np.concatenate([sampler(step).image for step in range(4)])
    for epoch in range(3):
        assert sorted(seen[4 * epoch : 4 * epoch + 4]) == [0, 2, 3, 4]


def test_the_caption_is_one_of_the_image_and_each_comes_up():
    sampler, drawn = images(4), collections.Counter()
    for step in range(300):
        indices = sampler(step)
        assert indices.caption.shape == indices.valid.shape == (4, 1)
        assert indices.valid.all()
        np.testing.assert_array_equal(IMAGE_OF[indices.caption[:, 0]], indices.image)
        drawn.update(indices.caption[:, 0].tolist())
    # Image 2 comes 300 times, its captions 100 each (standard deviation 8).
    assert all(60 < drawn[caption] < 140 for caption in (2, 3, 4))
    assert set(drawn) == set(range(8))


def test_images_are_a_pure_function_of_seed_and_step():
    one, other = images()(7), images()(7)
    np.testing.assert_array_equal(one.caption, other.caption)
    assert any(not np.array_equal(images()(s).caption, images(seed=1)(s).caption) for s in range(4))


@pytest.mark.parametrize(
    ("sampling", "captions", "message"),
    [("people", 1, "config.data.sampling is 'people'; .* pairs, images"), ("images", 2, "takes 1")],
)
def test_samplings_it_refuses(sampling, captions, message):
    with pytest.raises(ValueError, match=message):
        make_sampler(
            sampling,
            IMAGE_OF,
            np.arange(5),
            batch_size=2,
            captions_per_pair=captions,
            seed=0,
        )

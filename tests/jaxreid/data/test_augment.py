"""Mirroring and normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.data.augment import IMAGENET_MEAN, IMAGENET_STD, augment, normalise, turn


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (400, 4, 6, 3), np.uint8))


def mirrored(images, out):
    """Which images were mirrored; each must be either that or untouched."""
    images, out = np.asarray(images), np.asarray(out)
    same = (out == images).all(axis=(1, 2, 3))
    flipped = (out == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert np.all(same ^ flipped)
    return flipped


def test_off_by_default(images):
    np.testing.assert_array_equal(augment(images, jax.random.key(0)), images)


def test_mirrors_about_half_of_the_images_exactly(images):
    out = augment(images, jax.random.key(0), flip=True)
    assert out.dtype == jnp.uint8
    # 200 expected, standard deviation 10.
    assert 150 < mirrored(images, out).sum() < 250


def test_the_key_decides(images):
    once, again, other = (
        mirrored(images, augment(images, jax.random.key(seed), flip=True)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(once, again)
    assert 100 < (once != other).sum() < 300


@pytest.mark.parametrize(
    ("mean", "std"), [(IMAGENET_MEAN, IMAGENET_STD), ((0.5, 0.5, 0.5), (0.5, 0.4, 0.3))]
)
def test_normalise_like_numpy(images, mean, std):
    expected = (np.asarray(images, np.float64) / 255 - np.array(mean)) / np.array(std)
    found = normalise(images, mean=mean, std=std)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_normalise_computes_in_float32_and_gives_the_wanted_type(images):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        found = normalise(images, dtype=jnp.bfloat16)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, normalise(images).astype(jnp.bfloat16))


def test_shift_moves_whole_images_and_repeats_the_edge():
    column = np.arange(20, dtype=np.uint8)
    images = np.broadcast_to(column[None, :, None, None] * 10, (64, 20, 8, 3))
    moved = np.asarray(augment(jnp.asarray(images), jax.random.key(1), shift=0.1))
    offsets = moved[:, 10, 0, 0] // 10 - 10.0
    assert set(offsets) == {-2, -1, 0, 1, 2}  # a tenth of 20 rows
    for image, offset in zip(moved, offsets, strict=True):
        expected = np.clip(column + offset, 0, 19) * 10
        np.testing.assert_array_equal(image[:, 3, 1], expected)
    sideways = np.asarray(augment(jnp.asarray(images.swapaxes(1, 2)), jax.random.key(1), shift=0.1))
    assert len(np.unique(sideways[:, 0, 10, 0])) == 5


def test_light_scales_whole_images_and_stays_in_range():
    images = jnp.full((256, 2, 2, 3), 100, jnp.uint8)
    lit = np.asarray(augment(images, jax.random.key(2), light=0.3)).astype(float)
    assert np.all(lit == lit[:, :1, :1]), "one factor for all pixels of a channel"
    assert lit.min() >= 62
    assert lit.max() <= 144
    assert lit.mean() == pytest.approx(100, abs=3)  # 256 draws of standard deviation 18
    ratio = lit[:, 0, 0] / lit[:, 0, 0].mean(axis=1, keepdims=True)
    assert 0.03 < ratio.std() < 0.1, "channels differ a little"
    white = augment(jnp.full((64, 2, 2, 3), 255, jnp.uint8), jax.random.key(3), light=0.3)
    assert np.asarray(white).max() == 255


def painted(images, out):
    """Which pixels took the ImageNet mean; all others must be untouched."""
    hole = (np.asarray(out) == np.array([124, 116, 104], np.uint8)).all(axis=3)
    np.testing.assert_array_equal(np.asarray(out)[~hole], np.asarray(images)[~hole])
    return hole


def test_erasing_paints_one_rectangle_of_the_promised_size_and_shape():
    white = jnp.full((600, 64, 48, 3), 255, jnp.uint8)
    hole = painted(white, augment(white, jax.random.key(3), erase=0.5))
    chosen = hole.any(axis=(1, 2))
    # 300 expected, standard deviation 12; a drawn rectangle nearly always fits within ten tries.
    assert 250 < chosen.sum() < 350
    tall, wide = hole.any(axis=2).sum(1)[chosen], hole.any(axis=1).sum(1)[chosen]
    np.testing.assert_array_equal(hole.sum((1, 2))[chosen], tall * wide)  # a full rectangle
    # Sides are rounded to whole pixels, so what was drawn lies half a pixel around them.
    assert np.all((tall - 0.5) * (wide - 0.5) <= 0.4 * 64 * 48)
    assert np.all((tall + 0.5) * (wide + 0.5) >= 0.02 * 64 * 48)
    assert np.all((tall - 0.5) / (wide + 0.5) <= 3.3)
    assert np.all((tall + 0.5) / (wide - 0.5) >= 0.3)
    area, ratio = tall * wide / (64 * 48), tall / wide
    assert area.min() < 0.04
    assert area.max() > 0.35
    assert ratio.min() < 0.5
    assert ratio.max() > 2.5
    rows = hole[chosen].any(axis=2)
    assert rows[:, 0].any()
    assert rows[:, -1].any()  # a rectangle may touch either edge


def test_erasing_takes_other_sizes_and_shapes():
    white = jnp.full((64, 32, 32, 3), 255, jnp.uint8)
    out = augment(
        white, jax.random.key(4), erase=1.0, erase_area=(0.0625, 0.0625), erase_ratio=(4.0, 4.0)
    )
    hole = painted(white, out)  # 64 pixels, four times as high as wide
    assert set(hole.any(axis=2).sum(1)) == {16}
    assert set(hole.any(axis=1).sum(1)) == {4}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("erase", 1.5),
        ("shift", -0.1),
        ("light", 2.0),
        ("erase_area", (0.4, 0.02)),
        ("erase_area", (0.0, 0.4)),
        ("erase_area", (0.5, 1.5)),
        ("erase_ratio", (-1.0, 3.3)),
    ],
)
def test_fields_that_make_no_sense_are_named(images, field, value):
    with pytest.raises(ValueError, match=f"config.augment.{field} is "):
        augment(images, jax.random.key(0), **{field: value})


def test_erasing_leaves_the_other_draws_as_they_are(images):
    plain = augment(images, jax.random.key(0), flip=True)
    erased = augment(images, jax.random.key(0), flip=True, erase=1.0)
    assert painted(plain, erased).any()


def test_a_sentence_is_turned_over_its_own_words_only():
    lengths = jnp.asarray([[5], [1], [0], [8]], jnp.int32)
    tokens = jnp.where(jnp.arange(8) < lengths[..., None], jnp.arange(1, 9), 0)
    seen = set()
    for seed in range(60):
        out = np.asarray(turn(tokens, lengths, jax.random.key(seed)))
        assert out[1, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
        assert out[2, 0].tolist() == [0] * 8
        first = out[0, 0]
        assert first[5:].tolist() == [0, 0, 0]
        offset = int(first[0]) - 1
        np.testing.assert_array_equal(first[:5], np.roll(np.arange(1, 6), -offset))
        seen.add(offset)
    assert seen == set(range(5))

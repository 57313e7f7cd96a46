"""Mirroring and normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.data.augment import IMAGENET_MEAN, IMAGENET_STD, augment, normalise


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

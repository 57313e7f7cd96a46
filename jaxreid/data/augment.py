"""Augmentation and normalisation of images, on the device, inside the step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from jaxreid.typing import DType

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def augment(
    images: UInt8[Array, "B H W 3"],
    key: Key[Array, ""],
    *,
    flip: bool = False,
    shift: float = 0.0,
    light: float = 0.0,
) -> UInt8[Array, "B H W 3"]:
    """Changes images at random, each by draws of its own.

    Args:
      images: [B, H, W, 3] uint8.
      key: of this step; the same key gives the same result on any number of devices.
      flip: mirror every second image on average. Makes "left" and "right" false, so data whose
        captions name sides should leave it off.
      shift: move each image up or down by up to this share of its height, and sideways by up to
        this share of its width; what is bared repeats the edge.
      light: multiply the brightness of each image by up to 1 +- this, and that of each of its
        channels by up to a third of it more.

    Returns:
      [B, H, W, 3] uint8.
    """
    flip_key, shift_key, light_key = jax.random.split(key, 3)
    if flip:
        mirrored = jax.random.bernoulli(flip_key, 0.5, (images.shape[0], 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    if shift:
        for axis, axis_key in zip((1, 2), jax.random.split(shift_key), strict=True):
            images = _move(images, axis_key, axis, round(shift * images.shape[axis]))
    if light:
        images = _relight(images, light_key, light)
    return images


def _relight(
    images: UInt8[Array, "B H W 3"], key: Key[Array, ""], most: float
) -> UInt8[Array, "B H W 3"]:
    """Multiplies brightness and channels of each image, as another lamp or camera would."""
    whole_key, channel_key = jax.random.split(key)
    count = images.shape[0]
    whole = jax.random.uniform(whole_key, (count, 1, 1, 1), jnp.float32, 1 - most, 1 + most)
    channel = jax.random.uniform(
        channel_key, (count, 1, 1, 3), jnp.float32, 1 - most / 3, 1 + most / 3
    )
    bright = images.astype(jnp.float32) * (whole * channel)
    return jnp.clip(jnp.round(bright), 0, 255).astype(jnp.uint8)


def _move(
    images: UInt8[Array, "B H W 3"], key: Key[Array, ""], axis: int, most: int
) -> UInt8[Array, "B H W 3"]:
    """Moves each image along an axis by a whole number of pixels in [-most, most]."""
    count, size = images.shape[0], images.shape[axis]
    offset = jax.random.randint(key, (count, 1), -most, most + 1)
    source = jnp.clip(jnp.arange(size).reshape(1, -1) + offset, 0, size - 1)
    shape = [count, 1, 1, 1]
    shape[axis] = size
    return jnp.take_along_axis(images, source.reshape(shape), axis=axis)


def normalise(
    images: UInt8[Array, "B H W 3"],
    *,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    dtype: DType = jnp.float32,
) -> Float[Array, "B H W 3"]:
    """Turns uint8 pixels into (pixel / 255 - mean) / std, per channel.

    Args:
      images: [B, H, W, 3] uint8 RGB.
      mean: of each channel, in units of full brightness.
      std: likewise.
      dtype: of the result, the network's compute type.

    Returns:
      [B, H, W, 3] of that type; the arithmetic is float32.
    """
    # One multiplication and one addition, so that a compiler can fuse them into the first layer.
    scale = np.float32(1 / 255) / np.asarray(std, np.float32)
    shift = -np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    pixels = images.astype(jnp.float32) * scale[None, None, None] + shift[None, None, None]
    return pixels.astype(dtype)

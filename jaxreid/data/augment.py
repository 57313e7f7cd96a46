"""Augmentation and normalisation of images, on the device, inside the step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from jaxreid.typing import DType

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Rectangles that random erasing draws until one fits.
_TRIES = 10


def augment(
    images: UInt8[Array, "B H W 3"],
    key: Key[Array, ""],
    *,
    flip: bool = False,
    shift: float = 0.0,
    light: float = 0.0,
    erase: float = 0.0,
    erase_area: tuple[float, float] = (0.02, 0.4),
    erase_ratio: tuple[float, float] = (0.3, 3.3),
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
      erase: share of the images of which a rectangle is painted over, see `paint_over`.
      erase_area: area of that rectangle, from and to, as share of the image's.
      erase_ratio: its height by its width, from and to.

    Returns:
      [B, H, W, 3] uint8.

    Raises:
      ValueError: a share is no share, or a range no range.
    """
    _check_shares(shift=shift, light=light, erase=erase)
    _check_range("erase_area", erase_area, most=1.0)
    _check_range("erase_ratio", erase_ratio, most=float("inf"))
    flip_key, shift_key, light_key = jax.random.split(key, 3)
    if flip:
        mirrored = jax.random.bernoulli(flip_key, 0.5, (images.shape[0], 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    if shift:
        for axis, axis_key in zip((1, 2), jax.random.split(shift_key), strict=True):
            images = _move(images, axis_key, axis, round(shift * images.shape[axis]))
    if light:
        images = _relight(images, light_key, light)
    if erase:
        erase_key = jax.random.fold_in(key, 2)
        images = paint_over(images, erase_key, erase, erase_area, erase_ratio)
    return images


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"config.augment.{name} is {share}; it takes a share, from 0 to 1.")


def _check_range(name: str, values: tuple[float, float], most: float) -> None:
    if len(values) != 2 or not 0 < values[0] <= values[1] <= most:
        upper = f" up to {most:g}" if np.isfinite(most) else ""
        raise ValueError(
            f"config.augment.{name} is {tuple(values)}; it takes two positive numbers{upper}, the "
            "smaller one first."
        )


def paint_over(
    images: UInt8[Array, "B H W 3"],
    key: Key[Array, ""],
    share: float,
    area: tuple[float, float] = (0.02, 0.4),
    ratio: tuple[float, float] = (0.3, 3.3),
) -> UInt8[Array, "B H W 3"]:
    """Random erasing: fills a rectangle of some images with the ImageNet mean.

    Of ten drawn rectangles the first that fits is taken, and none if none does.

    Args:
      images: [B, H, W, 3] uint8.
      key: of the draw.
      share: of the images, between 0 and 1.
      area: of the rectangle, from and to, as share of the image's.
      ratio: its height by its width, from and to.

    Reference: Zhong et al., "Random erasing data augmentation", arXiv:1708.04896.
    """
    count, height, width, _ = images.shape
    chosen_key, area_key, ratio_key, top_key, left_key = jax.random.split(key, 5)
    tries = (count, _TRIES)
    areas = jax.random.uniform(area_key, tries, minval=area[0], maxval=area[1]) * (height * width)
    ratios = jax.random.uniform(ratio_key, tries, minval=ratio[0], maxval=ratio[1])
    tall, wide = jnp.round(jnp.sqrt(areas * ratios)), jnp.round(jnp.sqrt(areas / ratios))
    fits = (tall < height) & (wide < width)
    first = jnp.argmax(fits, axis=1)[:, None]
    tall, wide = (jnp.take_along_axis(x, first, axis=1) for x in (tall, wide))
    chosen = jax.random.bernoulli(chosen_key, share, (count, 1)) & fits.any(axis=1, keepdims=True)
    rows = _inside(top_key, tall, height) & chosen
    columns = _inside(left_key, wide, width)
    mean = jnp.asarray(np.round(255 * np.asarray(IMAGENET_MEAN)), jnp.uint8)
    hole = (rows[:, :, None] & columns[:, None, :])[..., None]
    return jnp.where(hole, mean[None, None, None], images)


def _inside(key: Key[Array, ""], length: Float[Array, "B 1"], size: int) -> Bool[Array, "B S"]:
    """Whether each of `size` places lies in a stretch of this length, put anywhere it fits."""
    start = jnp.floor(jax.random.uniform(key, length.shape) * (size - length + 1))
    place = jnp.arange(size, dtype=length.dtype)[None]
    return (place >= start) & (place < start + length)


def turn(
    tokens: Int[Array, "B T L"], lengths: Int[Array, "B T"], key: Key[Array, ""]
) -> Int[Array, "B T L"]:
    """Circular shift of each sentence: its last words, a random number of them, come first.

    Args:
      tokens: [B, T, L] word ids; padding stays where it is.
      lengths: [B, T] number of words.
      key: of the draw; every shift of a sentence is equally likely.
    """
    length = jnp.maximum(lengths, 1)[..., None]
    offset = jax.random.randint(key, length.shape, 0, length)
    place = jnp.arange(tokens.shape[2]).reshape(1, 1, -1)
    source = jnp.where(place < length, (place - offset) % length, place)
    return jnp.take_along_axis(tokens, source, axis=2)


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

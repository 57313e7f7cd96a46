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
    images: UInt8[Array, "B H W 3"], key: Key[Array, ""], *, flip: bool = False
) -> UInt8[Array, "B H W 3"]:
    """Changes images at random, each by draws of its own.

    Args:
      images: [B, H, W, 3] uint8.
      key: of this step; the same key gives the same result on any number of devices.
      flip: mirror every second image on average. Makes "left" and "right" false, so data whose
        captions name sides should leave it off.

    Returns:
      [B, H, W, 3] uint8.
    """
    if flip:
        mirrored = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    return images


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

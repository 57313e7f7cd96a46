"""Stored image files to RGB arrays of one size."""

from __future__ import annotations

import cv2
import numpy as np
import PIL.Image
import simplejpeg
from jaxtyping import UInt8

# Raise it whenever decoding changes, so that no stale pixels are read from a cache. The versions of
# the libraries are no part of it: JPEG decoders of one family agree to the bit, and so far have all
# versions of the filters.
VERSION = 2

RESIZES = ("bicubic", "bilinear", "area")

_PILLOW = {
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "bilinear": PIL.Image.Resampling.BILINEAR,
}
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_SCAN, _JPEG_EXIF = 0xDA, 0xE1


def check_resize(resize: str) -> None:
    """Refuses a name of no way of resizing.

    Args:
      resize: one of `RESIZES`.

    Raises:
      ValueError: it is none of them.
    """
    if resize not in RESIZES:
        raise ValueError(
            f"config.data.resize is {resize!r}; it takes one of {', '.join(RESIZES)}. A trained "
            "run keeps the one it was trained with."
        )


def decode_image(
    data: bytes, size: tuple[int, int], *, name: str, resize: str = "bicubic"
) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes an image file, turns it upright as its Exif data say, and resizes it.

    Grey, palette and RGBA files become RGB. A JPEG that decoders merely warn of (stray bytes, odd
    headers) is decoded, as long as its end is there.

    Args:
      data: bytes of a JPEG, PNG or BMP file (or whatever OpenCV reads).
      size: (height, width) wanted, in pixels.
      name: what to call the image in an error, its ``image_id``.
      resize: ``bicubic`` or ``bilinear``, Pillow's filters, which average where the picture
        shrinks; or ``area``, OpenCV's average over areas where it shrinks in both directions and
        OpenCV's bicubic filter elsewhere.

    Returns:
      [H, W, 3] uint8, RGB.

    Raises:
      ValueError: the bytes are no complete image, or ``resize`` is unknown.
    """
    check_resize(resize)
    image = _decode(data, name)
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    if resize in _PILLOW:
        picture = PIL.Image.fromarray(image)
        return np.array(picture.resize((width, height), _PILLOW[resize]))
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


def _decode(data: bytes, name: str) -> UInt8[np.ndarray, "h w 3"]:
    if data.startswith(_JPEG_START):
        markers, scan = _jpeg_header(data)
        if _JPEG_END not in data[scan:]:
            # Decoders would fill the missing rows with grey and say nothing.
            raise ValueError(_broken(name, data, "a JPEG cut off before its end marker"))
        image = None if _JPEG_EXIF in markers else _fast_jpeg(data)
        if image is not None:
            return image
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    except cv2.error as error:
        raise ValueError(_broken(name, data, f"OpenCV says {error}")) from error
    if image is None:
        raise ValueError(_broken(name, data, "not an image that OpenCV can read"))
    return image


def _fast_jpeg(data: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
    """Decodes a JPEG to the pixels that OpenCV gives, in two thirds of the time.

    Returns:
      RGB, or None for what is left to OpenCV: other colours than three (grey, CMYK), and files that
      are no JPEG after all. It does not know Exif data either: OpenCV turns such pictures upright.
    """
    try:
        if simplejpeg.decode_jpeg_header(data, strict=False)[2] != "YCbCr":
            return None
        return simplejpeg.decode_jpeg(data, "RGB", strict=False)
    except ValueError:
        return None


def _jpeg_header(jpeg: bytes) -> tuple[set[int], int]:
    """Returns the markers before the first scan of a JPEG, and where that scan begins.

    End markers before it belong to thumbnails; cameras append data of their own behind the end.
    """
    markers, position = set(), 2
    while jpeg[position : position + 1] == b"\xff" and position + 4 <= len(jpeg):
        marker = jpeg[position + 1]
        if marker == _JPEG_SCAN:
            break
        if marker == 0xFF:  # padding
            position += 1
        else:
            markers.add(marker)
            position += 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
    return markers, position


def _broken(name: str, data: bytes, what: str) -> str:
    return (
        f"image {name!r} cannot be decoded: {what} ({len(data)} bytes). Replace the file by an "
        "intact copy and build the dataset again."
    )

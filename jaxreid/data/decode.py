"""Stored image files to RGB arrays of one size."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_SCAN = 0xDA


def decode_image(data: bytes, size: tuple[int, int], *, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes an image file and resizes it.

    Grey, palette and RGBA files become RGB. A picture that shrinks in both directions is averaged
    over areas (no aliasing), any other is resized bicubically.

    Args:
      data: bytes of a JPEG, PNG or BMP file (or whatever OpenCV reads).
      size: (height, width) wanted, in pixels.
      name: what to call the image in an error, its ``image_id``.

    Returns:
      [H, W, 3] uint8, RGB.

    Raises:
      ValueError: the bytes are no complete image.
    """
    if data.startswith(_JPEG_START) and _is_cut_off(data):
        # OpenCV would fill the missing rows with grey and say nothing.
        raise ValueError(_broken(name, data, "a JPEG cut off before its end marker"))
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    except cv2.error as error:
        raise ValueError(_broken(name, data, f"OpenCV says {error}")) from error
    if image is None:
        raise ValueError(_broken(name, data, "not an image that OpenCV can read"))
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


def _is_cut_off(jpeg: bytes) -> bool:
    """Whether a JPEG has no end marker behind the start of its first scan.

    Those before it belong to thumbnails; cameras append data of their own behind it.
    """
    position = 2
    while jpeg[position : position + 1] == b"\xff" and position + 4 <= len(jpeg):
        marker = jpeg[position + 1]
        if marker == _JPEG_SCAN:
            break
        if marker == 0xFF:  # padding
            position += 1
        else:
            position += 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
    return _JPEG_END not in jpeg[position:]


def _broken(name: str, data: bytes, what: str) -> str:
    return (
        f"image {name!r} cannot be decoded: {what} ({len(data)} bytes). Replace the file by an "
        "intact copy and build the dataset again."
    )

"""Image files of every kind become RGB; broken ones are named."""

import cv2
import numpy as np
import pytest

from jaxreid.data.decode import decode_image

# Red above green above blue, so that swapped channels or axes show.
BANDS = np.repeat(
    np.array([[[200, 10, 20]], [[10, 200, 20]], [[10, 20, 200]]], np.uint8), 16, axis=0
).repeat(24, axis=1)
SIZE = BANDS.shape[:2]


def encode(suffix, image, *options):
    done, data = cv2.imencode(suffix, image, list(options))
    assert done
    return data.tobytes()


def bgr(image):
    return np.ascontiguousarray(image[..., ::-1])


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".bmp", 0), (".jpg", 30)])
def test_colours_are_rgb(suffix, tolerance):
    image = decode_image(encode(suffix, bgr(BANDS)), SIZE, name="a")
    assert image.shape == BANDS.shape
    assert image.dtype == np.uint8
    centre = image[[8, 24, 40], 12].astype(int)
    assert np.abs(centre - BANDS[[8, 24, 40], 12]).max() <= tolerance


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_an_image_of_the_right_size_keeps_every_pixel(suffix):
    noise = np.random.default_rng(0).integers(0, 256, (48, 24, 3), np.uint8)
    np.testing.assert_array_equal(
        decode_image(encode(suffix, bgr(noise)), (48, 24), name="a"), noise
    )


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_grey_becomes_three_equal_channels(suffix):
    grey = np.linspace(0, 255, 48 * 24).astype(np.uint8).reshape(48, 24)
    image = decode_image(encode(suffix, grey), (48, 24), name="a")
    assert image.shape == (48, 24, 3)
    assert np.all(image == image[..., :1])
    assert np.abs(image[..., 0].astype(int) - grey).max() <= 3


def test_rgba_loses_its_alpha_alone():
    alpha = np.random.default_rng(0).integers(0, 256, (*SIZE, 1), np.uint8)
    data = encode(".png", np.concatenate([bgr(BANDS), alpha], axis=2))
    np.testing.assert_array_equal(decode_image(data, SIZE, name="a"), BANDS)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif"])
def test_palette(suffix):
    image_module = pytest.importorskip("PIL.Image")
    import io

    out = io.BytesIO()
    image_module.fromarray(BANDS).quantize(8).save(out, suffix[1:])
    np.testing.assert_array_equal(decode_image(out.getvalue(), SIZE, name="a"), BANDS)


def test_sixteen_bits_become_eight():
    deep = bgr(BANDS).astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_image(encode(".png", deep), SIZE, name="a"), BANDS)


def test_shrinking_averages_areas():
    checks = np.indices((8, 4)).sum(axis=0) % 2 * 255
    image = np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)
    small = decode_image(encode(".png", image), (4, 2), name="a")
    assert np.all(np.abs(small.astype(int) - 127.5) <= 0.5)  # no aliasing: grey, not black or white


def test_growing_keeps_the_order_of_axes():
    image = decode_image(encode(".png", bgr(BANDS)), (96, 30), name="a")
    assert image.shape == (96, 30, 3)
    np.testing.assert_array_equal(image[[16, 48, 80], 15], BANDS[[8, 24, 40], 12])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.99])
def test_cut_off_files_are_refused(suffix, part):
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 3), np.uint8)
    data = encode(suffix, noise)
    with pytest.raises(ValueError, match=r"'cam_a/7\.jpg' cannot be decoded: .* bytes\)\. Replace"):
        decode_image(data[: int(len(data) * part)], (64, 32), name="cam_a/7.jpg")


@pytest.mark.parametrize("data", [b"", b"A text, no image.\n" * 9, b"\xff", b"\xff\xd8\xff\xd9"])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(ValueError, match="image 'notes.txt' cannot be decoded"):
        decode_image(data, (8, 8), name="notes.txt")


def with_thumbnail(jpeg, thumbnail):
    """Puts a thumbnail into an application segment, as cameras do."""
    segment = b"Exif\0\0" + thumbnail
    return jpeg[:2] + b"\xff\xe5" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture():
    jpeg = with_thumbnail(encode(".jpg", bgr(BANDS)), encode(".jpg", bgr(BANDS)[::4, ::4]))
    assert decode_image(jpeg, SIZE, name="a").shape == (*SIZE, 3)
    with pytest.raises(ValueError, match="a JPEG cut off before its end marker"):
        decode_image(jpeg[:-40], SIZE, name="a")


def test_a_jpeg_may_have_data_of_the_camera_behind_its_end():
    jpeg = encode(".jpg", bgr(BANDS))
    expected = decode_image(jpeg, SIZE, name="a")
    np.testing.assert_array_equal(decode_image(jpeg + bytes(5000), SIZE, name="a"), expected)


def test_progressive_jpeg():
    data = encode(".jpg", bgr(BANDS), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert decode_image(data, SIZE, name="a").shape == (*SIZE, 3)
    with pytest.raises(ValueError, match="cut off"):
        decode_image(data[:-20], SIZE, name="a")


def test_an_error_of_opencv_names_the_image(monkeypatch):
    def fail(*args):
        raise cv2.error("too many pixels")

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(ValueError, match="image 'huge.png' cannot be decoded: .*too many pixels"):
        decode_image(b"x", (8, 8), name="huge.png")

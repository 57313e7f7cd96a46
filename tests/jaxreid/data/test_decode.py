"""Image files of every kind become RGB; broken ones are named."""

import io

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from jaxreid.data import decode
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


def pillow_file(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


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
    data = pillow_file(PIL.Image.fromarray(BANDS).quantize(8), suffix[1:])
    np.testing.assert_array_equal(decode_image(data, SIZE, name="a"), BANDS)


def test_sixteen_bits_become_eight():
    deep = bgr(BANDS).astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_image(encode(".png", deep), SIZE, name="a"), BANDS)


@pytest.mark.parametrize("resize", decode.RESIZES)
def test_shrinking_averages(resize):
    checks = np.indices((32, 16)).sum(axis=0) % 2 * 255
    image = np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)
    small = decode_image(encode(".png", image), (16, 8), name="a", resize=resize)
    inside = small[2:-2, 2:-2].astype(int)
    assert np.all(np.abs(inside - 127.5) <= 0.5)  # no aliasing: grey, not black or white


# Of a picture of 61 x 37: grown, shrunk, both, little changed.
OTHER_SIZES = [(192, 64), (30, 20), (90, 20), (62, 36)]


@pytest.fixture(scope="module")
def soft():
    noise = np.random.default_rng(0).integers(0, 256, (61, 37, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 0.8)


@pytest.mark.parametrize("size", OTHER_SIZES)
@pytest.mark.parametrize("resize", ["bicubic", "bilinear"])
def test_filters_are_those_of_pillow(soft, size, resize):
    found = decode_image(encode(".png", bgr(soft)), size, name="a", resize=resize)
    method = PIL.Image.Resampling[resize.upper()]
    wanted = np.asarray(PIL.Image.fromarray(soft).resize(size[::-1], method))
    np.testing.assert_array_equal(found, wanted)
    assert found.flags.writeable


def test_bicubic_is_the_default(soft):
    data = encode(".png", bgr(soft))
    one, other = (decode_image(data, (30, 20), name="a", **k) for k in ({}, {"resize": "bicubic"}))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", OTHER_SIZES)
def test_area_is_that_of_opencv_where_both_sides_shrink(soft, size):
    found = decode_image(encode(".png", bgr(soft)), size, name="a", resize="area")
    method = cv2.INTER_AREA if size == (30, 20) else cv2.INTER_CUBIC
    np.testing.assert_array_equal(found, cv2.resize(soft, size[::-1], interpolation=method))


def test_area_halves_exactly():
    picture = np.random.default_rng(0).integers(0, 256, (32, 16, 3), np.uint8)
    found = decode_image(encode(".png", bgr(picture)), (16, 8), name="a", resize="area")
    means = picture.reshape(16, 2, 8, 2, 3).astype(int).sum(axis=(1, 3))
    np.testing.assert_array_equal(found, (means + 2) // 4)


@pytest.mark.parametrize("resize", ["lanczos", "", "Bicubic"])
def test_an_unknown_way_of_resizing_is_refused(resize):
    with pytest.raises(
        ValueError, match=r"config\.data\.resize is .*; it takes one of bicubic, bil"
    ):
        decode_image(encode(".png", BANDS), SIZE, name="a", resize=resize)


@pytest.mark.parametrize("resize", decode.RESIZES)
def test_growing_keeps_the_order_of_axes(resize):
    image = decode_image(encode(".png", bgr(BANDS)), (96, 30), name="a", resize=resize)
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


def by_opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_both_decoders_of_jpeg_give_the_same_pixels(soft, subsampling, options):
    for quality in (35, 75, 95):
        for picture in (soft, soft[:60, :36], soft[:8, :9]):
            image = PIL.Image.fromarray(picture)
            data = pillow_file(image, "jpeg", quality=quality, subsampling=subsampling, **options)
            fast = decode._fast_jpeg(data)
            assert fast is not None
            np.testing.assert_array_equal(fast, by_opencv(data))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_are_left_to_opencv(soft, mode):
    data = pillow_file(PIL.Image.fromarray(soft).convert(mode), "jpeg")
    assert decode._fast_jpeg(data) is None
    found = decode_image(data, soft.shape[:2], name="a")
    np.testing.assert_array_equal(found, by_opencv(data))
    assert np.abs(found.mean() - soft.mean()) < 10


def test_ordinary_jpegs_take_the_fast_way(soft, monkeypatch):
    data = pillow_file(PIL.Image.fromarray(soft), "jpeg")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the slow way"))
    assert decode_image(data, soft.shape[:2], name="a").shape == soft.shape


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_pictures_of_a_turned_camera_stand_upright(soft, kind, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = pillow_file(PIL.Image.fromarray(soft), kind, exif=exif)
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
    wanted = np.asarray(upright)
    assert (wanted.shape[:2] == (37, 61)) == (orientation > 4)
    found = decode_image(data, wanted.shape[:2], name="a")
    np.testing.assert_array_equal(found, wanted)


def test_stray_bytes_are_no_reason_to_refuse(soft):
    data = pillow_file(PIL.Image.fromarray(soft), "jpeg")
    stray = data[:-2] + b"\x12\x34\x56" + data[-2:]
    np.testing.assert_array_equal(
        decode_image(stray, soft.shape[:2], name="a"), decode_image(data, soft.shape[:2], name="a")
    )

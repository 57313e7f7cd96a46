"""What file names of CUHK-PEDES tell."""

import pytest

from tfds_builders.domains import (
    DOMAINS,
    camera_id,
    market_pid,
    shows_no_identity,
    source_domain,
    view_key,
)


@pytest.mark.parametrize(
    ("path", "domain", "camera", "view"),
    [
        ("Market/0002_c1s1_000451_00.jpg", "market", 1, "c1"),
        ("Market/0509_c4s2_066223_00.jpg.jpg", "market", 4, "c4"),
        ("Market/-1_c6s2_066223_00.jpg", "market", 6, "c6"),
        ("Market/unusual.jpg", "market", -1, ""),
        ("CUHK01/0001001.png", "cuhk01", 1, "1-2"),
        ("CUHK01/0971002.png", "cuhk01", 2, "1-2"),
        ("CUHK01/0001003.png", "cuhk01", 3, "3-4"),
        ("CUHK01/0001004.png", "cuhk01", 4, "3-4"),
        ("CUHK01/0001005.png", "cuhk01", 5, ""),
        ("CUHK01/1.png", "cuhk01", -1, ""),
        ("CUHK03/1_1.jpg", "cuhk03", 1, "1-2"),
        ("CUHK03/1427_2.png", "cuhk03", 2, "1-2"),
        ("CUHK03/1_3.jpg", "cuhk03", 3, "3-4"),
        ("CUHK03/1_4.jpg", "cuhk03", 4, "3-4"),
        ("CUHK03/1_7.jpg", "cuhk03", 7, ""),
        ("cam_a/001_45.bmp", "viper", 0, "cam_a"),
        ("cam_b/001_90.bmp", "viper", 1, "cam_b"),
        ("train_query/p11600_s14885.jpg", "sysu", -1, "s14885"),
        ("test_query/p2703_s3526.JPG", "sysu", -1, "s3526"),
        ("test_query/p2703.jpg", "sysu", -1, ""),
        ("imgs/Market/0002_c1s1_000451_00.jpg", "market", 1, "c1"),
        ("elsewhere/0002_c1s1_000451_00.jpg", None, -1, ""),
        ("0002_c1s1_000451_00.jpg", None, -1, ""),
    ],
)
def test_source_camera_and_view(path, domain, camera, view):
    assert source_domain(path) == domain
    assert camera_id(path) == camera
    assert view_key(path) == view


def test_domains_are_named_once_each():
    assert DOMAINS == ("sysu", "cuhk01", "cuhk03", "market", "viper")


@pytest.mark.parametrize(
    ("path", "pid"),
    [
        ("Market/0002_c1s1_000451_00.jpg", 2),
        ("0002_c1s1_000451_00.jpg", 2),
        ("bounding_box_test/1501_c6s4_001902_01.jpg.jpg", 1501),
        ("bounding_box_test/0010_c6s4_001902_01.JPG", 10),
        ("bounding_box_test/-1_c1s1_000401_03.jpg", -1),
        ("bounding_box_test/0000_c1s1_000151_01.jpg.jpg", 0),
        ("bounding_box_test/Thumbs.db", None),
        ("query/0002_c1s1_000451_00.mat", None),
        ("CUHK01/0001001.png", None),
        ("readme.jpg", None),
    ],
)
def test_market_pid(path, pid):
    assert market_pid(path) == pid


@pytest.mark.parametrize(
    ("path", "nobody"),
    [
        ("Market/-1_c1s1_000401_03.jpg", True),
        ("Market/0000_c1s1_000401_03.jpg.jpg", True),
        ("Market/0001_c1s1_000401_03.jpg", False),
        ("Market/odd.jpg", False),
        ("CUHK01/0000001.png", False),
        ("elsewhere/-1_c1s1_000401_03.jpg", False),
    ],
)
def test_junk_and_distractors_show_no_identity(path, nobody):
    assert shows_no_identity(path) is nobody

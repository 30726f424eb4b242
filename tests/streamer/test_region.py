"""The ultrasound picture on a scanner's screen."""

import cv2
import numpy as np
import pytest

from streamer.analysis import Region
from streamer.frame import Pixels
from streamer.region import RegionError, find_region, inside, locate


def screen(x: int, y: int, width: int, height: int) -> Pixels:
    """A black screen with menus and, in the given place, speckle."""
    picture = np.zeros((600, 800), np.uint8)
    rng = np.random.default_rng(0)
    picture[y : y + height, x : x + width] = np.clip(rng.rayleigh(45, (height, width)), 0, 255)
    for row in range(40, 580, 40):
        cv2.putText(picture, "Gain 62  DR 70", (640, row), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 220, 1)
    cv2.putText(picture, "DOE JANE 1970-01-01", (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
    return picture


def test_the_picture_is_found_between_menus_and_names() -> None:
    found = find_region(screen(100, 80, 480, 460))

    assert abs(found.x - 100) < 20
    assert abs(found.y - 80) < 20
    assert abs(found.width - 480) < 30
    assert abs(found.height - 460) < 30


def test_a_dark_screen_has_no_picture() -> None:
    with pytest.raises(RegionError, match="set `region`"):
        find_region(np.zeros((480, 640), np.uint8))


def test_a_region_outside_the_frame_is_refused_with_both_sizes() -> None:
    with pytest.raises(RegionError, match="600,0,300,100 reaches outside the frame of 800 x 600"):
        locate((600, 0, 300, 100), np.zeros((600, 800), np.uint8))


def test_the_view_holds_exactly_the_region() -> None:
    picture = np.arange(100, dtype=np.uint8).reshape(10, 10)

    np.testing.assert_array_equal(inside(Region(2, 3, 4, 5), picture), picture[3:8, 2:6])

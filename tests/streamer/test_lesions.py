"""Outlines, sizes and identities of lesions."""

import math

import numpy as np
import pytest

from streamer.analysis import Region
from streamer.frame import Pixels
from streamer.lesions import find_outlines, measure
from streamer.tracks import LesionTracker

S = 1_000_000_000
SQUARE = Region(0, 0, 512, 512)


def ellipse(x: float, y: float, a: float, b: float, degrees: float = 0, side: int = 128) -> Pixels:
    """A smooth probability map of an ellipse, as a network would give it."""
    rows, columns = np.indices((side, side)) + 0.5
    angle = math.radians(degrees)
    u = (columns - x) * math.cos(angle) + (rows - y) * math.sin(angle)
    v = -(columns - x) * math.sin(angle) + (rows - y) * math.cos(angle)
    distance = (np.hypot(u / a, v / b) - 1) * math.sqrt(a * b)
    return np.rint(255 / (1 + np.exp(distance * 1.5))).astype(np.uint8)


@pytest.mark.parametrize("side", [128, 256])
@pytest.mark.parametrize("degrees", [0, 10, 20, 33, 45, 57, 70, 80, 90, 135])
@pytest.mark.parametrize(("a", "b"), [(30, 18), (12, 8), (20, 19.5)])
def test_diameters_of_an_ellipse_are_within_two_percent_at_any_rotation(
    a: float, b: float, degrees: float, side: int
) -> None:
    grow = side / 128
    drawn = ellipse(64 * grow, 60 * grow, a * grow, b * grow, degrees, side)
    (outline,) = find_outlines(drawn, SQUARE)

    lesion = measure(outline, 1, SQUARE, (0.1, 0.1))

    assert lesion.longest_mm == pytest.approx(2 * a * 4 * 0.1, rel=0.02)
    assert lesion.perpendicular_mm == pytest.approx(2 * b * 4 * 0.1, rel=0.02)
    assert lesion.area_mm2 == pytest.approx(math.pi * a * b * 16 * 0.01, rel=0.03)


@pytest.mark.parametrize("degrees", [0, 30, 60, 90])
def test_an_ellipse_is_measured_right_through_pixels_that_are_not_square(degrees: float) -> None:
    # An ellipse of 12 x 7 mm, seen through pixels twice as wide as high.
    row, column = 0.05, 0.1
    rows, columns = (np.indices((128, 128)) + 0.5) * 4
    angle = math.radians(degrees)
    x, y = (columns - 256) * column, (rows - 256) * row
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    outside_mm = (np.hypot(u / 6, v / 3.5) - 1) * 4.5
    drawn = (255 / (1 + np.exp(outside_mm / 0.2))).astype(np.uint8)
    (outline,) = find_outlines(drawn, SQUARE)

    lesion = measure(outline, 1, SQUARE, (row, column))

    assert lesion.longest_mm == pytest.approx(12, rel=0.02)
    assert lesion.perpendicular_mm == pytest.approx(7, rel=0.02)
    assert lesion.area_mm2 == pytest.approx(math.pi * 6 * 3.5, rel=0.03)


def test_pixels_that_are_not_square_are_measured_in_mm_along_each_axis() -> None:
    (outline,) = find_outlines(ellipse(64, 64, 20, 20), SQUARE)

    lesion = measure(outline, 1, SQUARE, (0.05, 0.1))

    assert lesion.longest_mm == pytest.approx(40 * 4 * 0.1, rel=0.02)
    assert lesion.perpendicular_mm == pytest.approx(40 * 4 * 0.05, rel=0.03)


@pytest.mark.parametrize("spacing", [None, (0.1, 0.1), (0.05, 0.1)])
@pytest.mark.parametrize("degrees", [0, 25, 60, 90])
def test_calipers_are_as_far_apart_as_the_diameters_say_and_at_right_angles(
    degrees: float, spacing: tuple[float, float] | None
) -> None:
    (outline,) = find_outlines(ellipse(64, 60, 30, 18, degrees), SQUARE)

    lesion = measure(outline, 1, SQUARE, spacing)

    row, column = spacing or (1.0, 1.0)
    assert lesion.longest_ends is not None
    assert lesion.perpendicular_ends is not None
    longest, across = (
        np.subtract(*ends) * (column, row) for ends in (lesion.longest_ends, lesion.perpendicular_ends)
    )
    told = (lesion.longest_mm, lesion.perpendicular_mm) if spacing else (
        lesion.longest_px, lesion.perpendicular_px)  # fmt: skip
    assert np.hypot(*longest) == pytest.approx(told[0], rel=0.005)
    assert np.hypot(*across) == pytest.approx(told[1], rel=0.005)
    assert abs(longest @ across) / (np.hypot(*longest) * np.hypot(*across)) < 0.01
    for ends in (lesion.longest_ends, lesion.perpendicular_ends):
        assert np.mean(ends, axis=0) == pytest.approx((256, 240), abs=8)


def test_without_spacing_there_are_no_millimetres() -> None:
    (outline,) = find_outlines(ellipse(64, 64, 20, 20), SQUARE)

    lesion = measure(outline, 1, SQUARE, None)

    assert (lesion.longest_mm, lesion.perpendicular_mm, lesion.area_mm2) == (None, None, None)


def test_points_are_placed_in_the_sources_frame() -> None:
    (outline,) = find_outlines(ellipse(32, 96, 10, 10), Region(100, 50, 640, 480))

    centre = outline.contour.mean(axis=0)

    assert centre[0] == pytest.approx(100 + 640 * 32 / 128, abs=1)
    assert centre[1] == pytest.approx(50 + 480 * 96 / 128, abs=1)
    assert outline.centre == pytest.approx((260, 410), abs=0.5)
    assert len(outline.simple) < 40


def test_specks_and_empty_maps_are_no_lesions() -> None:
    assert find_outlines(np.zeros((128, 128), np.uint8), SQUARE) == []
    assert find_outlines(ellipse(64, 64, 1.2, 1.2), SQUARE) == []


def test_a_lesion_keeps_its_identity_while_it_moves_and_a_new_one_gets_its_own() -> None:
    tracker = LesionTracker()
    first = tracker.identify(find_outlines(ellipse(40, 40, 12, 9), SQUARE), S, SQUARE, None)
    moved = find_outlines(np.maximum(ellipse(44, 42, 12, 9), ellipse(100, 100, 15, 12)), SQUARE)

    second = tracker.identify(moved, S + S // 30, SQUARE, None)

    old = next(lesion for lesion in second if lesion.box[0] < 256)
    new = next(lesion for lesion in second if lesion.box[0] > 256)
    assert old.track == first[0].track
    assert new.track != old.track


def test_an_identity_survives_a_short_dropout_and_not_a_long_one() -> None:
    tracker = LesionTracker()
    outlines = find_outlines(ellipse(40, 40, 12, 9), SQUARE)
    (first,) = tracker.identify(outlines, S, SQUARE, None)
    tracker.identify([], S + S, SQUARE, None)
    (back,) = tracker.identify(outlines, S + S * 19 // 10, SQUARE, None)
    (late,) = tracker.identify(outlines, 5 * S, SQUARE, None)

    assert back.track == first.track
    assert late.track != first.track

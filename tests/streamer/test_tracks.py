"""Identities and histories of lesions."""

import cv2
import numpy as np
import pytest

from streamer.analysis import Region
from streamer.frame import Pixels
from streamer.lesions import find_outlines
from streamer.smoothing.motion import Motion
from streamer.tracks import LesionTracker

S = 1_000_000_000
REGION = Region(20, 10, 256, 256)
NAMES = ("normal", "benign", "malignant")
BENIGN = np.array([0.05, 0.9, 0.05], np.float32)
MALIGNANT = np.array([0.05, 0.05, 0.9], np.float32)
EMPTY = np.zeros((128, 128), np.uint8)


def disc(x: float, y: float, radius: float = 12) -> Pixels:
    rows, columns = np.indices((128, 128))
    distance = radius - np.hypot(rows + 0.5 - y, columns + 0.5 - x)
    return (255 / (1 + np.exp(-distance))).astype(np.uint8)


def see(tracker: LesionTracker, lesion: Pixels, time_s: float, **options: object) -> list[int]:
    outlines = find_outlines(lesion, REGION)
    lesions = tracker.identify(outlines, round(time_s * S), REGION, None, **options)  # type: ignore[arg-type]
    return [each.track for each in lesions]


def test_an_identity_survives_two_seconds_of_dropout_and_a_small_jump() -> None:
    tracker = LesionTracker()
    first = see(tracker, disc(50, 50), 1.0)
    see(tracker, EMPTY, 1.5)

    assert see(tracker, disc(58, 46), 2.9) == first


def test_an_identity_is_not_handed_to_a_lesion_elsewhere() -> None:
    tracker = LesionTracker()
    first = see(tracker, disc(30, 30), 1.0)

    assert see(tracker, disc(100, 100), 1.03) != first


def test_two_lesions_side_by_side_keep_their_own_identities() -> None:
    tracker = LesionTracker()
    left, right = (disc(40 + 36 * side, 60, 14 - side) for side in range(2))
    first = see(tracker, np.maximum(left, right), 1.0)

    both = np.maximum(disc(46, 60, 14), disc(82, 60, 13))
    assert see(tracker, both, 1.03) == first


def test_of_two_pieces_the_larger_keeps_the_identity() -> None:
    tracker = LesionTracker()
    (whole,) = see(tracker, disc(60, 60, 20), 1.0)
    pieces = disc(60, 60, 20)
    pieces[:, 66:69] = 0

    larger, smaller = see(tracker, pieces, 1.03)

    assert larger == whole
    assert smaller != whole


def test_identities_end_with_the_view_and_are_never_used_twice() -> None:
    tracker = LesionTracker()
    first = see(tracker, disc(50, 50), 1.0)
    tracker.reset()

    assert see(tracker, disc(50, 50), 1.03) != first


def test_an_unseen_lesion_moves_along_with_the_tissue() -> None:
    field = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
    smooth = np.asarray(cv2.GaussianBlur(field, (0, 0), 3))
    view = np.clip(128 + smooth / smooth.std() * 40, 0, 255).astype(np.uint8)
    tracker, motion = LesionTracker(), Motion((128, 128))
    motion.begin(view)
    first = see(tracker, disc(40, 60, 8), 1.0)
    for step in range(1, 17):
        motion.advance(np.roll(view, 2 * step, axis=1))
        see(tracker, EMPTY, 1 + step / 30, motion=motion)

    assert see(tracker, disc(72, 60, 8), 1.6) == first


def test_a_lesion_has_the_evidence_of_the_frames_that_show_it() -> None:
    tracker, lesion = LesionTracker(NAMES), disc(50, 50)
    outlines = find_outlines(lesion, REGION)
    for number in range(30):
        now = S + number * S // 30
        (seen,) = tracker.identify(outlines, now, REGION, None, evidence=(lesion, MALIGNANT))
    # Only smoothing still shows the lesion: what the model says then is about something else.
    for number in range(30, 60):
        now = S + number * S // 30
        (kept,) = tracker.identify(outlines, now, REGION, None, evidence=(EMPTY, BENIGN))

    assert (seen.label, seen.stable, seen.uncertain) == ("malignant", True, False)
    assert kept.classes == pytest.approx(seen.classes)


def test_place_is_summed_up_over_the_last_second_across_as_well_as_down() -> None:
    tracker = LesionTracker()
    for number in range(40):
        outlines = find_outlines(disc(80 + number % 2, 64), REGION)
        (known,) = tracker.identify(outlines, S + number * S // 30, REGION, (0.1, 0.2))
    (unknown,) = LesionTracker().identify(outlines, S, REGION, None)

    assert known.recent is not None
    assert unknown.recent is not None
    # Two pixels to a cell; a step of one cell from frame to frame is a spread of one pixel.
    assert known.recent.lateral_px == pytest.approx((2 * 16.5, 1.0), abs=0.1)
    assert known.recent.lateral_mm == pytest.approx((2 * 16.5 * 0.2, 0.2), abs=0.02)
    assert unknown.recent.lateral_px == pytest.approx((2 * 17, 0), abs=0.1)
    assert unknown.recent.lateral_mm is None


def test_measures_are_summed_up_over_the_last_second() -> None:
    tracker = LesionTracker()
    for number in range(90):
        radius = 20 if number < 45 else 12 + number % 2
        outlines = find_outlines(disc(64, 64, radius), REGION)
        (lesion,) = tracker.identify(outlines, S + number * S // 30, REGION, (0.1, 0.2))

    assert lesion.recent is not None
    assert lesion.recent.frames == 31
    longest, spread = lesion.recent.perpendicular_px
    assert longest == pytest.approx(2 * 2 * 12.5, rel=0.02)
    assert spread == pytest.approx(2 * 2 * 0.5, rel=0.1)
    assert lesion.recent.longest_mm is not None
    assert lesion.recent.longest_mm[0] == pytest.approx(2 * 2 * 12.5 * 0.2, rel=0.02)
    assert lesion.depth_mm == pytest.approx(2 * 64 * 0.1, abs=0.05)
    assert lesion.lateral_mm == pytest.approx(0, abs=0.1)
    assert lesion.age_s == pytest.approx(89 / 30)

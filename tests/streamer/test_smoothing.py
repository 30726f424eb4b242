"""Steadied answers: calm, fresh, and nothing of one view in the next."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.frame import Pixels
from streamer.smoothing import Floats, Smoothed, Smoother, SmoothingSettings, ViewChange

S = 1_000_000_000
SHAPE = (128, 128)


def speckle(seed: int) -> Pixels:

    field = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    smooth = cv2.GaussianBlur(field, (0, 0), 3)
    return np.clip(128 + smooth / smooth.std() * 40, 0, 255).astype(np.uint8)


def disc(x: float = 64, y: float = 64, radius: float = 20) -> Pixels:
    rows, columns = np.indices(SHAPE)
    return np.where((rows - y) ** 2 + (columns - x) ** 2 < radius**2, 230, 10).astype(np.uint8)


def classes(*values: float) -> Floats:
    return np.array(values, np.float32)


MALIGNANT = classes(0.05, 0.05, 0.9)
BENIGN = classes(0.05, 0.9, 0.05)


def feed(smoother: Smoother, view: Pixels, lesion: Pixels, answer: Floats, times: list[float]) -> Smoothed:
    for time_s in times:
        result = smoother.update(view, lesion, answer, int(time_s * S), SHAPE)
    return result


def test_one_wrong_frame_does_not_change_the_label() -> None:
    smoother, view = Smoother(), speckle(0)
    feed(smoother, view, disc(), BENIGN, [i / 30 for i in range(1, 31)])

    flipped = feed(smoother, view, disc(), MALIGNANT, [31 / 30])

    assert flipped.label == 1
    assert flipped.stable


def test_a_real_change_is_followed() -> None:
    smoother, view = Smoother(), speckle(0)
    feed(smoother, view, disc(), BENIGN, [i / 30 for i in range(1, 31)])

    changed = feed(smoother, view, disc(), MALIGNANT, [1 + i / 30 for i in range(1, 31)])

    assert changed.label == 2


@pytest.mark.parametrize("fps", [15, 60])
def test_the_same_seconds_give_the_same_answer_at_any_frame_rate(fps: int) -> None:
    def trajectory(rate: int) -> Smoothed:
        smoother, view = Smoother(), speckle(0)
        feed(smoother, view, disc(radius=1), BENIGN, [1.0])
        return feed(smoother, view, disc(), MALIGNANT, [1 + i / rate for i in range(1, rate // 5 + 1)])

    reference, other = trajectory(30), trajectory(fps)

    np.testing.assert_allclose(other.classes, reference.classes, atol=0.01)
    assert np.abs(other.lesion.astype(int) - reference.lesion).max() <= 3


def test_a_mask_moves_with_the_picture() -> None:
    smoother, view = Smoother(SmoothingSettings(mask_time_s=5)), speckle(0)
    feed(smoother, view, disc(x=50), BENIGN, [1.0])

    # The model sees nothing in these frames: what is left was carried along.
    for step in range(1, 6):
        moved = np.roll(view, 2 * step, axis=1)
        result = smoother.update(moved, np.zeros(SHAPE, np.uint8), BENIGN, int((1 + step / 30) * S), SHAPE)

    columns = np.nonzero(result.lesion > 100)[1]
    assert abs(float(columns.mean()) - 60) < 1.5


def test_nothing_is_left_of_a_lesion_after_a_cut() -> None:
    smoother = Smoother()
    feed(smoother, speckle(0), disc(), MALIGNANT, [i / 30 for i in range(1, 31)])

    after = smoother.update(speckle(1), np.zeros(SHAPE, np.uint8), BENIGN, int(31 / 30 * S), SHAPE)

    assert after.change is ViewChange.SCENE_CUT
    assert after.lesion.max() == 0
    np.testing.assert_allclose(after.classes, BENIGN, atol=1e-6)


@pytest.mark.parametrize(
    ("at", "shape", "change"),
    [(3.0, SHAPE, ViewChange.GAP), (0.5, SHAPE, ViewChange.GAP), (1.03, (300, 400), ViewChange.RESOLUTION)],
)
def test_a_gap_time_going_back_and_a_new_resolution_start_afresh(
    at: float, shape: tuple[int, int], change: ViewChange
) -> None:
    smoother, view = Smoother(), speckle(0)
    feed(smoother, view, disc(), MALIGNANT, [1.0])

    result = smoother.update(view, disc(radius=5), BENIGN, int(at * S), shape)

    assert result.change is change
    np.testing.assert_array_equal(result.lesion, disc(radius=5))


def test_state_after_a_reset_equals_a_fresh_one() -> None:
    used, fresh = Smoother(), Smoother()
    feed(used, speckle(1), disc(), MALIGNANT, [0.1, 0.2, 0.3])
    used.reset(ViewChange.STATE)

    times = [0.4, 0.43, 0.47]
    after = feed(used, speckle(2), disc(40), BENIGN, times)
    expected = feed(fresh, speckle(2), disc(40), BENIGN, times)

    np.testing.assert_array_equal(after.lesion, expected.lesion)
    np.testing.assert_array_equal(after.classes, expected.classes)


def test_switched_off_it_passes_the_raw_answer_on() -> None:
    smoother = Smoother(SmoothingSettings(enabled=False))
    feed(smoother, speckle(0), disc(), BENIGN, [1.0])

    result = feed(smoother, speckle(0), disc(20), MALIGNANT, [1.03])

    np.testing.assert_array_equal(result.lesion, disc(20))
    np.testing.assert_array_equal(result.classes, MALIGNANT)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-0.1, 0.7), st.floats(0, 1), st.integers(0, 255), st.integers(0, 2)),
        min_size=1,
        max_size=12,
    )
)
def test_probabilities_stay_probabilities_whatever_comes(steps: list[tuple[float, float, int, int]]) -> None:
    smoother, now = Smoother(), 1.0
    for elapsed, first, level, seed in steps:
        now += elapsed
        answer = classes(first, 1 - first, 0)
        result = smoother.update(speckle(seed), np.full(SHAPE, level, np.uint8), answer, int(now * S), SHAPE)

        assert abs(float(result.classes.sum()) - 1) < 1e-5
        assert float(result.classes.min()) >= 0
        assert 0 <= result.label < 3

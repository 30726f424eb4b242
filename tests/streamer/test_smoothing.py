"""Steadied answers: calm, fresh, and nothing of one view in the next."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.frame import Pixels
from streamer.smoothing import Floats, Memory, Smoothed, Smoother, SmoothingSettings, ViewChange

S = 1_000_000_000
SHAPE = (128, 128)


def speckle(seed: int, shape: tuple[int, int] = SHAPE) -> Pixels:
    field = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    smooth = cv2.GaussianBlur(field, (0, 0), 3)
    return np.clip(128 + smooth / smooth.std() * 40, 0, 255).astype(np.uint8)


def living(view: Pixels, number: int) -> Pixels:
    """The same view with the noise that every new picture has."""
    noise = np.random.default_rng(number).integers(-2, 3, view.shape)
    return np.clip(view + noise, 0, 255).astype(np.uint8)


def disc(x: float = 64, y: float = 64, radius: float = 20) -> Pixels:
    rows, columns = np.indices(SHAPE)
    return np.where((rows - y) ** 2 + (columns - x) ** 2 < radius**2, 230, 10).astype(np.uint8)


def classes(*values: float) -> Floats:
    return np.array(values, np.float32)


NOTHING = np.zeros(SHAPE, np.uint8)
MALIGNANT = classes(0.05, 0.05, 0.9)
BENIGN = classes(0.05, 0.9, 0.05)


def feed(smoother: Smoother, view: Pixels, lesion: Pixels, answer: Floats, times: list[float]) -> Smoothed:
    for time_s in times:
        now = round(time_s * S)
        result = smoother.update(living(view, now % 1009), lesion, answer, now, SHAPE)
    return result


def seconds(start: float, count: int, fps: float = 30) -> list[float]:
    return [start + i / fps for i in range(count)]


def shown(result: Smoothed) -> int:
    return int(np.count_nonzero(result.lesion >= 128))


# Mask


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_one_frame_that_misses_the_lesion_does_not_blink(fps: int) -> None:
    smoother, view = Smoother(), speckle(0)
    before = feed(smoother, view, disc(), BENIGN, seconds(1, fps, fps))
    area = shown(before)

    missed = feed(smoother, view, NOTHING, BENIGN, [2.0])

    assert shown(missed) > 0.8 * area


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_one_frame_with_a_false_lesion_does_not_show_it(fps: int) -> None:
    smoother, view = Smoother(), speckle(0)
    feed(smoother, view, NOTHING, BENIGN, seconds(1, fps, fps))

    assert shown(feed(smoother, view, disc(), BENIGN, [2.0])) == 0


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_a_lesion_appears_within_a_tenth_of_a_second_and_leaves_no_ghost(fps: int) -> None:
    smoother, view = Smoother(), speckle(0)
    feed(smoother, view, NOTHING, BENIGN, seconds(1, fps, fps))

    present = feed(smoother, view, disc(), BENIGN, seconds(2, 1 + fps // 10, fps))
    assert shown(present) > 0.8 * np.count_nonzero(disc() >= 128)

    feed(smoother, view, disc(), BENIGN, seconds(2.5, fps, fps))
    gone = feed(smoother, view, NOTHING, BENIGN, seconds(3.5, 1 + int(0.15 * fps), fps))
    assert shown(gone) == 0


def test_jitter_of_an_outline_is_calmed_more_than_news() -> None:
    smoother, view = Smoother(), speckle(0)
    feed(smoother, view, disc(), BENIGN, seconds(1, 30))
    steady = shown(feed(smoother, view, disc(), BENIGN, [2.0]))

    thicker = feed(smoother, view, disc(radius=22), BENIGN, [2 + 1 / 30])

    assert abs(shown(thicker) - steady) < 0.02 * steady


@pytest.mark.parametrize("fps", [15, 60])
def test_the_same_seconds_give_the_same_answer_at_any_frame_rate(fps: int) -> None:
    def trajectory(rate: int) -> Smoothed:
        smoother, view = Smoother(), speckle(0)
        feed(smoother, view, disc(radius=1), BENIGN, seconds(1, 2 * rate, rate))
        return feed(smoother, view, disc(), MALIGNANT, seconds(3, rate // 5, rate))

    reference, other = trajectory(30), trajectory(fps)

    np.testing.assert_allclose(other.classes, reference.classes, atol=0.05)
    assert np.abs(other.lesion.astype(int) - reference.lesion).max() <= 25


def test_a_mask_moves_with_the_picture() -> None:
    smoother, view = Smoother(SmoothingSettings(mask_time_s=5)), speckle(0)
    feed(smoother, view, disc(x=50), BENIGN, seconds(0.1, 30))

    # The model sees nothing in these frames: what is left was carried along.
    for step in range(1, 6):
        moved = np.roll(view, 2 * step, axis=1)
        result = smoother.update(moved, NOTHING, BENIGN, int((1.1 + step / 30) * S), SHAPE)

    columns = np.nonzero(result.lesion > 100)[1]
    assert abs(float(columns.mean()) - 60) < 1.5


def test_where_the_picture_became_another_the_new_mask_counts() -> None:
    smoother, view = Smoother(SmoothingSettings(mask_time_s=5, cut_below=-1)), speckle(0)
    feed(smoother, view, disc(x=30), BENIGN, seconds(1, 30))
    half = view.copy()
    half[:, :64] = speckle(5)[:, :64]

    result = feed(smoother, half, NOTHING, BENIGN, [2.0])

    assert result.change is None
    assert int(result.lesion[64, 30]) < 100


# Classes


def test_one_wrong_frame_does_not_change_the_label() -> None:
    smoother, view = Smoother(), speckle(0)
    feed(smoother, view, disc(), BENIGN, seconds(0.1, 30))

    flipped = feed(smoother, view, disc(), MALIGNANT, [1.1])

    assert flipped.label == 1
    assert flipped.stable


def test_one_frame_alone_never_changes_the_label_however_short_the_memory() -> None:
    smoother, view = Smoother(SmoothingSettings(class_time_s=0.001)), speckle(0)
    feed(smoother, view, disc(), BENIGN, seconds(0.1, 30))

    assert feed(smoother, view, disc(), MALIGNANT, [1.1]).label == 1
    assert feed(smoother, view, disc(), MALIGNANT, [1.1 + 1 / 30]).label == 2


def test_a_real_change_is_followed_and_stable_only_after_it_has_held() -> None:
    smoother, view = Smoother(), speckle(0)
    feed(smoother, view, disc(), BENIGN, seconds(0.1, 30))

    changed = feed(smoother, view, disc(), MALIGNANT, seconds(1.1, 10))
    assert (changed.label, changed.stable) == (2, False)

    held = feed(smoother, view, disc(), MALIGNANT, seconds(1.1 + 10 / 30, 30))
    assert (held.label, held.stable) == (2, True)


def test_evidence_that_conflicts_is_called_uncertain() -> None:
    smoother, view = Smoother(), speckle(0)
    assert not feed(smoother, view, disc(), BENIGN, seconds(0.1, 30)).uncertain

    for time_s in seconds(1.1, 30):
        answer = MALIGNANT if round(time_s * 30) % 2 else BENIGN
        torn = feed(smoother, view, disc(), answer, [time_s])

    assert torn.uncertain
    assert not torn.stable


def test_frames_that_agree_give_the_probability_that_each_gave() -> None:
    result = feed(Smoother(), speckle(0), disc(), classes(0.1, 0.6, 0.3), seconds(0.1, 60))

    np.testing.assert_allclose(result.classes, [0.1, 0.6, 0.3], atol=1e-4)


# Time


def test_the_same_picture_again_is_no_new_evidence() -> None:
    smoother, view = Smoother(), speckle(0)
    feed(smoother, view, disc(), BENIGN, seconds(0.1, 30))
    before = smoother.update(view, disc(), BENIGN, round(1.1 * S), SHAPE)
    kept = before.lesion.copy()

    for number in range(1, 10):
        again = smoother.update(view, NOTHING, MALIGNANT, round((1.1 + number / 30) * S), SHAPE)

    assert again.repeated
    np.testing.assert_array_equal(again.lesion, kept)
    np.testing.assert_array_equal(again.classes, before.classes)


def test_a_late_frame_changes_nothing() -> None:
    smoother, view = Smoother(), speckle(0)
    before = feed(smoother, view, disc(), BENIGN, seconds(0.1, 30))
    kept = before.lesion.copy()

    late = smoother.update(speckle(7), NOTHING, MALIGNANT, round(0.9 * S), SHAPE)

    assert (late.repeated, late.change) == (True, None)
    np.testing.assert_array_equal(late.lesion, kept)
    assert feed(smoother, view, disc(), BENIGN, [1.1]).change is None


# Views


def test_nothing_is_left_of_a_lesion_after_a_cut() -> None:
    smoother = Smoother()
    feed(smoother, speckle(0), disc(), MALIGNANT, seconds(0.1, 30))

    after = feed(smoother, speckle(1), NOTHING, BENIGN, [1.1])

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


@pytest.mark.parametrize("scale", [0.7, 1.35])
def test_another_depth_forgets_where_things_are_but_not_what_they_are(scale: float) -> None:
    smoother, wide = Smoother(), speckle(0, (256, 256))
    feed(smoother, cv2.resize(wide[:128, 64:192], SHAPE), disc(), MALIGNANT, seconds(0.1, 30))
    side = round(128 / scale)
    left = 128 - side // 2
    deeper = np.asarray(cv2.resize(wide[:side, left : left + side], SHAPE), np.uint8)

    after = feed(smoother, deeper, NOTHING, BENIGN, [1.1])

    assert after.change is ViewChange.DEPTH
    assert after.lesion.max() == 0
    assert after.label == 2
    assert after.forgets(Memory.TRACKS)


def test_another_pixel_spacing_is_another_depth() -> None:
    smoother, view = Smoother(), speckle(0)
    smoother.update(living(view, 1), disc(), BENIGN, S, SHAPE, (0.1, 0.1))

    result = smoother.update(living(view, 2), disc(), BENIGN, S + S // 30, SHAPE, (0.12, 0.12))

    assert result.change is ViewChange.DEPTH


def test_another_gain_forgets_nothing_but_the_motion() -> None:
    smoother, view = Smoother(), speckle(0)
    before = feed(smoother, view, disc(), MALIGNANT, seconds(0.1, 30))
    area = shown(before)

    after = feed(smoother, np.minimum(view, 215) + np.uint8(40), NOTHING, BENIGN, [1.1])

    assert after.change is ViewChange.GAIN
    assert after.label == 2
    assert shown(after) > 0.8 * area
    assert not after.forgets(Memory.TRACKS)


def test_a_probe_lift_and_its_landing_each_start_afresh_once() -> None:
    smoother, view = Smoother(), speckle(0)
    air = np.full(SHAPE, 6, np.uint8)
    air[:16] = 150
    feed(smoother, view, disc(), MALIGNANT, seconds(0.1, 30))

    lifted = feed(smoother, air, NOTHING, BENIGN, [1.1])
    assert (lifted.change, lifted.lesion.max()) == (ViewChange.LIFT, 0)
    still = [feed(smoother, air, NOTHING, BENIGN, [time_s]).change for time_s in seconds(1.13, 10)]
    landed = feed(smoother, view, disc(), MALIGNANT, [1.5])

    assert still == [None] * 10
    assert landed.change is ViewChange.LANDED
    np.testing.assert_allclose(landed.classes, MALIGNANT, atol=1e-6)


def test_state_after_a_reset_equals_a_fresh_one() -> None:
    used, fresh = Smoother(), Smoother()
    feed(used, speckle(1), disc(), MALIGNANT, [0.1, 0.2, 0.3])
    used.reset(ViewChange.STATE)

    times = [0.4, 0.43, 0.47]
    after = feed(used, speckle(2), disc(40), BENIGN, times)
    expected = feed(fresh, speckle(2), disc(40), BENIGN, times)

    np.testing.assert_array_equal(after.lesion, expected.lesion)
    np.testing.assert_array_equal(after.classes, expected.classes)


def test_switched_off_it_passes_the_raw_answer_on_and_still_tells_changes() -> None:
    smoother = Smoother(SmoothingSettings(enabled=False))
    feed(smoother, speckle(0), disc(), BENIGN, [1.0])

    result = feed(smoother, speckle(1), disc(20), MALIGNANT, [1.03])

    np.testing.assert_array_equal(result.lesion, disc(20))
    np.testing.assert_array_equal(result.classes, MALIGNANT)
    assert result.change is ViewChange.SCENE_CUT


VIEWS = [speckle(seed) for seed in range(3)] + [np.zeros(SHAPE, np.uint8)]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.just(0.0), st.floats(-0.7, 0.7)),
            st.floats(0, 1),
            st.integers(0, 255),
            st.integers(0, len(VIEWS) - 1),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_probabilities_stay_probabilities_whatever_comes(steps: list[tuple[float, float, int, int]]) -> None:
    smoother, now = Smoother(), 1.0
    for number, (elapsed, first, level, view) in enumerate(steps):
        now += elapsed
        answer = classes(first, 1 - first, 0)
        picture = living(VIEWS[view], number)
        result = smoother.update(picture, np.full(SHAPE, level, np.uint8), answer, int(now * S), SHAPE)

        assert abs(float(result.classes.sum()) - 1) < 1e-5
        assert float(result.classes.min()) >= 0
        assert 0 <= result.label < 3


Step = tuple[float, float, int, int]
steps = st.lists(
    st.tuples(st.floats(-0.7, 0.7), st.floats(0, 1), st.integers(0, 255), st.integers(0, len(VIEWS) - 1)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=15, deadline=None)
@given(steps)
def test_no_history_leaves_a_trace_after_a_reset(history: list[Step]) -> None:
    used, fresh, now = Smoother(), Smoother(), 1.0
    for number, (elapsed, first, level, view) in enumerate(history):
        now += elapsed
        lesion = np.full(SHAPE, level, np.uint8)
        used.update(living(VIEWS[view], number), lesion, classes(first, 1 - first, 0), int(now * S), SHAPE)
    used.reset(ViewChange.STATE)

    times = seconds(3.0, 4)
    after, expected = (feed(each, VIEWS[0], disc(), BENIGN, times) for each in (used, fresh))

    np.testing.assert_array_equal(after.lesion, expected.lesion)
    np.testing.assert_array_equal(after.classes, expected.classes)
    assert (after.label, after.stable) == (expected.label, expected.stable)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["none", "same time", "same picture", "late"]), min_size=6, max_size=6))
def test_duplicate_and_late_frames_change_nothing_wherever_they_come(extras: list[str]) -> None:
    plain, disturbed, last = Smoother(), Smoother(), 0
    for number, extra in enumerate(extras):
        now, picture = S + number * S // 30, living(VIEWS[0], number)
        expected = plain.update(picture, disc(60 + number), BENIGN, now, SHAPE)
        result = disturbed.update(picture, disc(60 + number), BENIGN, now, SHAPE)
        np.testing.assert_array_equal(result.lesion, expected.lesion)
        np.testing.assert_array_equal(result.classes, expected.classes)
        if extra == "same picture":
            disturbed.update(picture, NOTHING, MALIGNANT, now + S // 90, SHAPE)
        elif extra == "same time":
            disturbed.update(VIEWS[1], NOTHING, MALIGNANT, now, SHAPE)
        elif extra == "late" and last:
            disturbed.update(VIEWS[1], NOTHING, MALIGNANT, last, SHAPE)
        last = now


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(1, 18), max_size=12))
def test_missing_frames_leave_the_same_answer_where_nothing_changes(lost: set[int]) -> None:
    smoother = Smoother()
    for number in range(20):
        if number not in lost:
            now = S + number * S // 30
            result = smoother.update(living(VIEWS[0], number), disc(), BENIGN, now, SHAPE)

    # A gap longer than the limit starts afresh, and is right at once.
    np.testing.assert_allclose(result.classes, BENIGN, atol=1e-4)
    assert abs(shown(result) - np.count_nonzero(disc() >= 128)) < 40

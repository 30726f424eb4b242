"""Live, frozen, no signal, stale."""

import numpy as np
import pytest

from streamer.feed_state import FeedWatch
from streamer.frame import FeedState, Pixels

MS = 1_000_000


def noise(seed: int, shape: tuple[int, ...] = (240, 320)) -> Pixels:
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def states(watch: FeedWatch, pictures: list[Pixels], every_ms: int = 33) -> list[FeedState]:
    return [watch.observe(picture, (i + 1) * every_ms * MS) for i, picture in enumerate(pictures)]


def test_changing_pictures_are_live() -> None:
    assert set(states(FeedWatch(), [noise(i) for i in range(40)])) == {FeedState.LIVE}


def test_a_repeated_picture_is_frozen_after_its_time_and_live_again_at_the_first_change() -> None:
    seen = states(FeedWatch(frozen_after_s=0.5), [noise(1)] * 30 + [noise(2)])

    assert seen[10] is FeedState.LIVE
    assert seen[-2] is FeedState.FROZEN
    assert seen[-1] is FeedState.LIVE


def test_a_slow_feed_that_is_grabbed_at_twice_its_rate_is_not_frozen() -> None:
    doubled = [noise(i // 2) for i in range(60)]

    assert set(states(FeedWatch(), doubled)) == {FeedState.LIVE}


@pytest.mark.parametrize("level", [0, 16, 200])
def test_a_uniform_picture_is_no_signal(level: int) -> None:
    seen = states(FeedWatch(), [noise(0)] + [np.full((240, 320), level, np.uint8)] * 20)

    assert seen[1] is FeedState.LIVE
    assert seen[-1] is FeedState.NO_SIGNAL


def test_a_colour_feed_is_judged_too() -> None:
    seen = states(FeedWatch(), [noise(3, (240, 320, 3))] * 30)

    assert seen[-1] is FeedState.FROZEN


def test_silence_is_overdue_only_after_a_first_frame() -> None:
    watch = FeedWatch(stale_after_s=0.25)
    assert not watch.overdue(10_000 * MS)

    watch.observe(noise(0), 100 * MS)

    assert not watch.overdue(300 * MS)
    assert watch.overdue(400 * MS)


def test_a_reopened_feed_starts_without_a_past() -> None:
    watch = FeedWatch()
    states(watch, [noise(1)] * 30)
    watch.reset()

    assert watch.observe(noise(1), 5000 * MS) is FeedState.LIVE

"""Slopes: found where there are some, not where there are none, and not moved by outliers."""

import numpy as np
import pytest

from benchmarks.trend import trend

TIME = np.arange(90) * 20.0


def noise(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(0, 1, len(TIME))


def test_a_slope_is_found_with_an_interval_around_it() -> None:
    found = trend(TIME, 200 + 12 * TIME / 3600 + noise(1), block=3)
    assert found.low < 12 < found.high
    assert not found.flat
    assert found.slope == pytest.approx(12, abs=2)
    assert found.level == pytest.approx(203, abs=0.5)


def test_noise_and_a_constant_have_no_slope() -> None:
    flat = sum(trend(TIME, 50 + noise(seed), block=3).flat for seed in range(12))
    assert flat >= 10
    constant = trend(TIME, np.full(len(TIME), 16), block=3)
    assert (constant.slope, constant.low, constant.high, constant.flat) == (0, 0, 0, True)


def test_what_happens_once_in_a_block_is_no_slope() -> None:
    spikes = np.where(np.arange(len(TIME)) % 3 == 2, 40.0, 0.0)
    found = [trend(TIME, 20 + spikes + noise(seed) * 0.1, block=3) for seed in range(8)]
    assert sum(each.flat for each in found) >= 6
    assert all(abs(each.slope) < 0.3 for each in found)


def test_a_single_outlier_does_not_move_a_slope() -> None:
    values = 12 * TIME / 3600 + noise(4) * 0.1
    values[-1] += 1000
    assert trend(TIME, values, block=3).slope == pytest.approx(12, abs=0.5)


def test_hours_of_values_are_thinned_and_give_the_same_slope() -> None:
    time_s = np.arange(3000) * 10.0
    found = trend(time_s, 3 * time_s / 3600 + np.random.default_rng(5).normal(0, 1, 3000), block=3)
    assert found.low < 3 < found.high


def test_too_few_values_say_nothing() -> None:
    with pytest.raises(ValueError, match="at least 12"):
        trend(TIME[:11], TIME[:11], block=1)

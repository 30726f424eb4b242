"""Whether a figure grows over time: a slope that outliers do not move, and how sure it is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDS = 1000
_MOST_POINTS = 240
FEWEST_POINTS = 12
"""With fewer nothing is said."""

Floats = NDArray[np.float64]


class Trend(NamedTuple):
    """A slope, in units per hour."""

    slope: float
    low: float
    high: float
    """95 % interval."""
    level: float
    """Median of the values."""

    @property
    def flat(self) -> bool:
        """Whether the slope cannot be told from zero."""
        return self.low <= 0 <= self.high


def trend(time_s: ArrayLike, values: ArrayLike, *, block: int, seed: int = 0) -> Trend:
    """Estimate the slope by Theil and Sen, with an interval by bootstrapping blocks of residuals.

    Neighbouring values are not independent, and what happens once in a block (a reconnect a minute) must not
    pass for a trend: so whole blocks are drawn.

    :param time_s: ascending.
    :param values: as many.
    :param block: so many neighbours are drawn together.
    :raises ValueError: if there are fewer than `FEWEST_POINTS`.
    """
    hours, level = np.asarray(time_s, np.float64) / 3600, np.asarray(values, np.float64)
    if len(hours) < FEWEST_POINTS or len(hours) != len(level):
        raise ValueError(f"a trend needs at least {FEWEST_POINTS} values, got {len(level)}")
    if len(hours) > _MOST_POINTS:  # the number of pairs grows with the square
        parts = np.array_split(np.arange(len(hours)), _MOST_POINTS)
        block = max(1, round(block * _MOST_POINTS / len(hours)))
        hours = np.array([np.median(hours[part]) for part in parts])
        level = np.array([np.median(level[part]) for part in parts])
    first, second = np.triu_indices(len(hours), 1)
    apart = hours[second] - hours[first]

    def slope_of(y: Floats) -> float:
        return float(np.median((y[second] - y[first]) / apart))

    slope = slope_of(level)
    line = slope * hours + np.median(level - slope * hours)
    residuals = level - line
    rng = np.random.default_rng(seed)
    block = min(block, len(hours))
    blocks = -(-len(hours) // block)
    found = []
    for _ in range(_ROUNDS):
        starts = rng.integers(0, len(hours) - block + 1, blocks)
        drawn = (starts[:, None] + np.arange(block)).ravel()[: len(hours)]
        found.append(slope_of(line + residuals[drawn]))
    low, high = np.percentile(found, (2.5, 97.5))
    return Trend(slope, float(low), float(high), float(np.median(level)))

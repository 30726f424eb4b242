"""How sure a figure is: bootstrap intervals over groups, mean and SD over folds."""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from train.metrics.overlap import Floats, Ints


class Interval(NamedTuple):
    """A figure with its 95 % bootstrap interval and the number of images behind it."""

    value: float
    low: float
    high: float
    images: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.images})"


class MeanSd(NamedTuple):
    """Mean and sample standard deviation (n - 1) over folds or runs."""

    mean: float
    sd: float
    """NaN where there are fewer than two."""
    folds: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.sd:.3f}"


def mean_sd(values: Sequence[float]) -> MeanSd:
    """Compute mean and SD with n - 1 of the values that are numbers.

    ACSNet's public script divides by n instead, which makes five folds look 11 % steadier.
    """
    numbers = np.array([value for value in values if np.isfinite(value)])
    mean = float(numbers.mean()) if len(numbers) else float("nan")
    return MeanSd(mean, float(numbers.std(ddof=1)) if len(numbers) > 1 else float("nan"), len(numbers))


def bootstrap(
    figure: Callable[[Ints], float], groups: Ints, *, rounds: int = 1000, seed: int = 0
) -> Interval:
    """Compute a figure and its interval, resampling groups so that near-duplicates stay together.

    :param figure: maps indices of images (with repeats) to the figure.
    :param groups: M: the group of every image.
    """
    return bootstrap_all(lambda rows: np.array([figure(rows)]), groups, rounds=rounds, seed=seed)[0]


def bootstrap_all(
    figures: Callable[[Ints], Floats], groups: Ints, *, rounds: int = 1000, seed: int = 0
) -> list[Interval]:
    """Compute several figures of the same images with their intervals, from the same resamples.

    :param figures: maps indices of images (with repeats) to a vector of figures.
    :param groups: M: the group of every image.
    :param rounds: 0 leaves the intervals NaN.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    values = figures(np.arange(len(groups)))
    low = high = np.full(len(values), np.nan)
    if rounds and members:
        resampled = np.array(
            [
                figures(
                    np.concatenate([members[pick] for pick in rng.integers(len(members), size=len(members))])
                )
                for _ in range(rounds)
            ]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a figure undefined in every resample stays NaN
            low, high = np.nanpercentile(resampled, [2.5, 97.5], axis=0)
    return [
        Interval(float(value), float(lowest), float(highest), len(groups))
        for value, lowest, highest in zip(values, low, high, strict=True)
    ]

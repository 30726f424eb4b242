"""Figures of merit, in numpy. Masks are compared at the network's grid, image by image."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Interval(NamedTuple):
    """A figure with its 95 % bootstrap interval and the number of images behind it."""

    value: float
    low: float
    high: float
    images: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.images})"


def dice(predicted: Bools, truth: Bools) -> Floats:
    """2 |A & G| / (|A| + |G|) of every image; 1 where both are empty.

    :param predicted: M x H x W.
    :param truth: M x H x W.
    """
    overlap = (predicted & truth).sum(axis=(1, 2))
    total = predicted.sum(axis=(1, 2)) + truth.sum(axis=(1, 2))
    return np.where(total == 0, 1.0, 2 * overlap / np.maximum(total, 1))


def auc(scores: Floats, positive: Bools) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counted half.

    :return: NaN where one of the two kinds is absent.
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def accuracy(probabilities: Floats, labels: Ints) -> float:
    """Share of images whose most probable class is the true one."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def balanced_accuracy(probabilities: Floats, labels: Ints) -> float:
    """Mean over the classes present of the share of their images that are recognised."""
    right = probabilities.argmax(axis=1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def calibration_error(probabilities: Floats, labels: Ints, bins: int = 10) -> float:
    """Expected calibration error: |confidence - accuracy| over equal-width bins, weighted by their size."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[which == index].mean() - right[which == index].mean()) * (which == index).mean()
        for index in np.unique(which)
    ]
    return float(sum(gaps))


def false_positive_rate(predicted: Bools, share: float = 0.005) -> float:
    """Share of images (all without a lesion) where more than `share` of the area is marked as lesion."""
    return float((predicted.mean(axis=(1, 2)) > share).mean())


def bootstrap(
    figure: Callable[[Ints], float], groups: Ints, *, rounds: int = 1000, seed: int = 0
) -> Interval:
    """Compute a figure and its interval, resampling groups so that near-duplicates stay together.

    :param figure: maps indices of images (with repeats) to the figure.
    :param groups: M: the group of every image.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    values = [
        figure(np.concatenate([members[pick] for pick in rng.integers(len(members), size=len(members))]))
        for _ in range(rounds)
    ]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Interval(float(figure(np.arange(len(groups)))), float(low), float(high), len(groups))

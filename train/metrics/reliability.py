"""Whether probabilities mean what they say."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from train.metrics.overlap import Floats, Ints


class Bin(NamedTuple):
    """Images whose most probable class is about equally sure."""

    confidence: float
    """Mean probability of the most probable class."""
    accuracy: float
    """Share of them where it is the true one."""
    images: int


def reliability(probabilities: Floats, labels: Ints, bins: int = 10) -> list[Bin]:
    """Sort images into equal-width bins of confidence; empty bins are left out.

    :param probabilities: M x K.
    :param labels: M.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    sure, correct = np.bincount(which, confidence, bins), np.bincount(which, right, bins)
    return [
        Bin(float(sure[i] / counts[i]), float(correct[i] / counts[i]), int(counts[i]))
        for i in np.flatnonzero(counts)
    ]


def calibration_error(probabilities: Floats, labels: Ints, bins: int = 10) -> float:
    """Expected calibration error: |confidence - accuracy| over equal-width bins, weighted by their size."""
    error = expected_error(reliability(probabilities, labels, bins))
    return error if len(labels) else 0.0


def expected_error(bins: Sequence[Bin]) -> float:
    """Mean of |confidence - accuracy| over the images of all bins; NaN without an image."""
    images = sum(part.images for part in bins)
    error = sum(abs(part.confidence - part.accuracy) * part.images for part in bins)
    return error / images if images else float("nan")


def brier(probabilities: Floats, labels: Ints) -> float:
    """Brier score: mean squared distance of the probabilities from the truth, 0 to 2."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())

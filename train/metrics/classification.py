"""Figures by image: confusion counts and what follows from them, and the area under the ROC curve.

They are short and run a thousand times for every interval, where torchmetrics takes a millisecond a call; the
tests hold them to torchmetrics.
"""

from typing import NamedTuple

import numpy as np

from train.metrics.overlap import Bools, Floats, Ints


class Rates(NamedTuple):
    """What a confusion table says of a class, or of all by a mean; 0 to 1, NaN where the class is absent."""

    sensitivity: float
    """TP / (TP + FN), also called recall."""
    specificity: float
    """TN / (TN + FP)."""
    precision: float
    """TP / (TP + FP); 0 where nothing is called so."""
    f1: float
    """2 precision sensitivity / (precision + sensitivity)."""


class Roc(NamedTuple):
    """Points of a ROC curve from (0, 0) to (1, 1)."""

    false_positive: Floats
    true_positive: Floats


def confusion(predicted: Ints, labels: Ints, classes: int) -> Ints:
    """Count images by true class (row) and predicted class (column), K x K."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def one_versus_rest(table: Ints, positive: int) -> Rates:
    """Rates of one class against all others.

    :param table: K x K as `confusion` returns it.
    :param positive: index of the class.
    """
    hits = int(table[positive, positive])
    misses = int(table[positive].sum()) - hits
    alarms = int(table[:, positive].sum()) - hits
    rest = int(table.sum()) - hits - misses - alarms
    sensitivity = _ratio(hits, hits + misses)
    precision = hits / (hits + alarms) if hits + alarms else 0.0
    total = precision + sensitivity
    return Rates(
        sensitivity=sensitivity,
        specificity=_ratio(rest, rest + alarms),
        precision=precision if hits + misses else float("nan"),
        f1=2 * precision * sensitivity / total if total else 0.0 * total,
    )


def macro(table: Ints) -> Rates:
    """Plain mean of the rates of the classes that occur."""
    rates = np.array([one_versus_rest(table, label) for label in _present(table)])
    return Rates(*rates.mean(axis=0).tolist()) if len(rates) else Rates(*[float("nan")] * 4)


def weighted(table: Ints) -> Rates:
    """Mean of the rates of the classes that occur, weighted by how many images they have."""
    present = _present(table)
    rates = np.array([one_versus_rest(table, label) for label in present])
    if not len(rates):
        return Rates(*[float("nan")] * 4)
    return Rates(*np.average(rates, axis=0, weights=table.sum(axis=1)[present]).tolist())


def accuracy(probabilities: Floats, labels: Ints) -> float:
    """Share of images whose most probable class is the true one."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def balanced_accuracy(probabilities: Floats, labels: Ints) -> float:
    """Mean over the classes present of the share of their images that are recognised."""
    right = probabilities.argmax(axis=1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


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


def auc_macro(probabilities: Floats, labels: Ints) -> float:
    """Mean over the classes that occur of the area of that class against the rest.

    :param probabilities: M x K.
    :return: NaN where fewer than two classes occur.
    """
    present = np.unique(labels)
    if len(present) < 2:
        return float("nan")
    return float(np.mean([auc(probabilities[:, label], labels == label) for label in present]))


def roc(scores: Floats, positive: Bools) -> Roc:
    """Points of the ROC curve, one for every different score."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    hits, alarms = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
    return Roc(
        np.concatenate([[0.0], alarms / max(1, int((~positive).sum()))]),
        np.concatenate([[0.0], hits / max(1, int(positive.sum()))]),
    )


def _present(table: Ints) -> list[int]:
    return np.flatnonzero(table.sum(axis=1)).tolist()


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")

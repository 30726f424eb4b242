"""Figures against cases worked out by hand."""

import numpy as np
import pytest

from train import metrics
from train.calibration import cross_entropy, temperature


def test_dice_is_twice_the_overlap_over_the_sizes() -> None:
    predicted, truth = np.zeros((4, 2, 3), bool), np.zeros((4, 2, 3), bool)
    predicted[0, 0] = True  # 3 pixels, of which 2 are right, of 4 true
    truth[0, :, :2] = True
    predicted[1, 0, 0] = True  # only a false alarm
    truth[2, 0, 0] = True  # only a miss; the fourth has nothing to find and nothing found

    assert metrics.dice(predicted, truth) == pytest.approx([4 / 7, 0, 0, 1])


def test_auc_counts_pairs_in_the_right_order_and_ties_half() -> None:
    positive = np.array([True, True, False, False])

    assert metrics.auc(np.array([0.9, 0.8, 0.2, 0.1]), positive) == 1
    assert metrics.auc(np.array([0.1, 0.2, 0.8, 0.9]), positive) == 0
    assert metrics.auc(np.array([0.9, 0.4, 0.4, 0.1]), positive) == pytest.approx(3.5 / 4)
    assert np.isnan(metrics.auc(np.array([0.9, 0.4]), np.array([True, True])))


def test_balanced_accuracy_gives_every_class_the_same_weight() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    labels = np.array([0, 0, 0, 1])

    assert metrics.accuracy(probabilities, labels) == 0.75
    assert metrics.balanced_accuracy(probabilities, labels) == 0.5


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.65, 0.35]])

    # 0.95 sure and always right; 0.65 sure and right half of the time.
    assert metrics.calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(
        0.5 * 0.05 + 0.5 * 0.15
    )


def test_specks_below_the_share_are_no_false_positive() -> None:
    marked = np.zeros((2, 100, 100), bool)
    marked[0, 0, :50] = True  # exactly 0.5 %
    marked[1, 0, :51] = True

    assert metrics.false_positive_rate(marked) == 0.5


def test_the_bootstrap_resamples_groups_not_images() -> None:
    values = np.repeat([0.0, 1.0], 50)
    figure = lambda rows: float(values[rows].mean())  # noqa: E731

    grouped = metrics.bootstrap(figure, np.repeat([0, 1], 50))
    single = metrics.bootstrap(figure, np.arange(100))

    assert grouped.value == single.value == 0.5
    assert (grouped.low, grouped.high) == (0, 1)
    assert 0.38 < single.low < 0.45
    assert single.images == 100


def test_the_temperature_that_calibrates_is_found() -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 1.5, (4000, 3))
    chances = np.exp(true_logits) / np.exp(true_logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in chances])

    found = temperature(true_logits * 2.5, labels)

    assert found == pytest.approx(2.5, rel=0.1)
    assert cross_entropy(true_logits * 2.5 / found, labels) <= cross_entropy(true_logits, labels) + 1e-4

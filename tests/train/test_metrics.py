"""Figures against cases worked out by hand, and against the libraries that define them."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_roc,
    multiclass_auroc,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
    multiclass_specificity,
)

from train import metrics
from train.evaluation.calibration import cross_entropy, temperature
from train.metrics import Bools


def masks(*pictures: str) -> Bools:
    """Masks drawn as rows of `#` and `.`, separated by spaces."""
    return np.array([[[cell == "#" for cell in row] for row in picture.split()] for picture in pictures])


# 3 pixels, of which 2 are right, of 4 true; a false alarm; a miss; nothing to find and nothing found.
PREDICTED = masks("### ...", "#.. ...", "... ...", "... ...")
TRUTH = masks("##. ##.", "... ...", "#.. ...", "... ...")


def test_overlap_is_counted_as_the_papers_define_it() -> None:
    nothing = np.nan

    assert metrics.dice(PREDICTED, TRUTH) == pytest.approx([4 / 7, 0, 0, 1])
    assert metrics.jaccard(PREDICTED, TRUTH) == pytest.approx([2 / 5, 0, 0, 1])
    assert metrics.tpr(PREDICTED, TRUTH) == pytest.approx([2 / 4, nothing, 0, nothing], nan_ok=True)
    assert metrics.fpr(PREDICTED, TRUTH) == pytest.approx([1 / 5, 1, 0, 0])
    assert metrics.tfpr(PREDICTED, TRUTH) == pytest.approx([1 / 4, nothing, 0, nothing], nan_ok=True)
    assert metrics.pixel_specificity(PREDICTED, TRUTH) == pytest.approx([1 / 2, 5 / 6, 1, 1])
    assert metrics.pixel_accuracy(PREDICTED, TRUTH) == pytest.approx([3 / 6, 5 / 6, 5 / 6, 1])


def test_false_positive_pixels_may_outnumber_the_lesion() -> None:
    assert metrics.tfpr(masks("####"), masks("#...")) == pytest.approx([3])
    assert metrics.fpr(masks("####"), masks("#...")) == pytest.approx([3 / 4])


def test_one_pixel_off_by_three_and_four_is_five_away() -> None:
    predicted, truth = np.zeros((1, 8, 8), bool), np.zeros((1, 8, 8), bool)
    predicted[0, 1, 1] = truth[0, 4, 5] = True

    in_mm = metrics.distances(predicted, truth, np.array([[0.5, 2.0]]))

    assert [each[0] for each in metrics.distances(predicted, truth)] == pytest.approx([5 * 32] * 3)
    assert [each[0] for each in metrics.distances(predicted, truth, np.ones((1, 2)))] == pytest.approx(
        [5] * 3
    )
    # 4 columns of 0.5 mm, 3 rows of 2 mm.
    assert in_mm.asd == pytest.approx([np.hypot(2, 6)])


def test_distances_are_of_outlines_and_the_directed_mean_differs_by_direction() -> None:
    truth = masks("....... .#####. .#####. .#####. .#####. .#####. .......")
    predicted = masks("....... .###... .###... .###... ....... ....... .......")

    measured = metrics.distances(predicted, truth, np.ones((1, 2)))

    out, back = _by_brute_force(predicted[0], truth[0])
    assert out.mean() != pytest.approx(back.mean())
    assert measured.asd == pytest.approx([out.mean()])
    assert measured.assd == pytest.approx([(out.mean() + back.mean()) / 2])
    assert measured.hd95 == pytest.approx([np.percentile(np.concatenate([out, back]), 95)])


def test_the_edge_of_the_image_is_part_of_an_outline() -> None:
    truth = masks("##### ##### ##### ##### .....")
    predicted = masks("##### ..... ..... ..... .....")

    measured = metrics.distances(predicted, truth, np.ones((1, 2)))

    out, back = _by_brute_force(predicted[0], truth[0])
    assert len(back) == 14  # all but the 3 x 2 pixels inside
    assert measured.asd == pytest.approx([out.mean()])
    assert measured.hd95 == pytest.approx([np.percentile(np.concatenate([out, back]), 95)])


def test_a_distance_to_nothing_is_undefined_unless_it_is_asked_to_be_zero() -> None:
    predicted, truth = masks("#.", "..", ".."), masks("..", "#.", "..")

    assert metrics.distances(predicted, truth).hd95 == pytest.approx([np.nan, np.nan, 0], nan_ok=True)
    assert metrics.distances(predicted, truth).assd == pytest.approx([np.nan, np.nan, 0], nan_ok=True)
    assert metrics.distances(predicted, truth, empty="zero").asd == pytest.approx([0, 0, 0])


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


def test_rates_of_a_table_worked_out_by_hand() -> None:
    table = np.array([[6, 2], [1, 3]])  # rows true, columns predicted

    benign, malignant = (metrics.one_versus_rest(table, positive) for positive in (0, 1))

    assert malignant == pytest.approx((3 / 4, 6 / 8, 3 / 5, 2 * 0.6 * 0.75 / 1.35))
    assert benign == pytest.approx((6 / 8, 3 / 4, 6 / 7, 2 * (6 / 7) * 0.75 / (6 / 7 + 0.75)))
    assert metrics.macro(table).precision == pytest.approx((3 / 5 + 6 / 7) / 2)
    assert metrics.weighted(table).precision == pytest.approx((8 * 6 / 7 + 4 * 3 / 5) / 12)


def test_the_positive_class_of_rmtl_net_gives_the_accuracy_its_table_prints() -> None:
    table = np.array([[408, 29], [29, 181]])  # 437 benign, 210 malignant; benign positive

    rates = metrics.one_versus_rest(table, 0)

    assert (rates.sensitivity, rates.specificity) == pytest.approx((0.9334, 0.8619), abs=3e-4)
    assert np.trace(table) / table.sum() == pytest.approx(0.9102, abs=3e-4)


def test_rates_where_a_class_is_absent_or_never_named() -> None:
    never = metrics.one_versus_rest(np.array([[5, 0], [2, 0]]), 1)
    absent = metrics.one_versus_rest(np.array([[5, 1], [0, 0]]), 1)

    assert never == pytest.approx((0, 1, 0, 0))
    assert np.isnan([absent.sensitivity, absent.precision, absent.f1]).all()
    assert absent.specificity == pytest.approx(5 / 6)
    # A class that no image has is not in the mean.
    assert metrics.macro(np.array([[5, 1], [0, 0]])).sensitivity == pytest.approx(5 / 6)


def test_figures_agree_with_torchmetrics() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=200)
    scores = rng.dirichlet([1, 1, 1], 200)
    scores[np.arange(200), labels] += rng.random(200)
    scores = np.round(scores / scores.sum(axis=1, keepdims=True), 3)  # rounded: ties
    table = metrics.confusion(scores.argmax(axis=1), labels, 3)
    theirs, truth = torch.from_numpy(scores), torch.from_numpy(labels)

    assert np.array_equal(table, multiclass_confusion_matrix(theirs, truth, 3))
    for average, mine in (("macro", metrics.macro(table)), ("weighted", metrics.weighted(table))):
        for name, function in (
            ("precision", multiclass_precision),
            ("sensitivity", multiclass_recall),
            ("specificity", multiclass_specificity),
            ("f1", multiclass_f1_score),
        ):
            assert getattr(mine, name) == pytest.approx(
                float(function(theirs, truth, 3, average=average)), abs=1e-6
            ), f"{average} {name}"
    positive = labels == 1
    assert metrics.auc(scores[:, 1], positive) == pytest.approx(
        float(binary_auroc(theirs[:, 1], torch.from_numpy(positive).long()))
    )
    assert metrics.auc_macro(scores, labels) == pytest.approx(float(multiclass_auroc(theirs, truth, 3)))
    false_positive, true_positive, _ = binary_roc(theirs[:, 1], torch.from_numpy(positive).long())
    curve = metrics.roc(scores[:, 1], positive)
    assert curve.false_positive == pytest.approx(false_positive.numpy())
    assert curve.true_positive == pytest.approx(true_positive.numpy())
    assert metrics.calibration_error(scores, labels) == pytest.approx(
        float(multiclass_calibration_error(theirs, truth, 3, n_bins=10)), abs=1e-6
    )


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.65, 0.35]])
    labels = np.array([0, 0, 0, 1])

    # 0.95 sure and always right; 0.65 sure and right half of the time.
    assert metrics.calibration_error(probabilities, labels) == pytest.approx(0.5 * 0.05 + 0.5 * 0.15)
    assert [one.images for one in metrics.reliability(probabilities, labels)] == [2, 2]
    assert metrics.brier(probabilities[2:], labels[2:]) == pytest.approx((2 * 0.35**2 + 2 * 0.65**2) / 2)


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


def test_a_figure_that_is_never_defined_has_no_interval() -> None:
    missing = metrics.bootstrap(lambda _: float("nan"), np.arange(3), rounds=5)

    assert np.isnan([missing.value, missing.low, missing.high]).all()


def test_the_spread_over_folds_divides_by_one_less() -> None:
    spread = metrics.mean_sd([0.8, 0.9, 1.0, float("nan")])

    assert (spread.mean, spread.sd, spread.folds) == pytest.approx((0.9, 0.1, 3))
    assert np.isnan(metrics.mean_sd([0.8]).sd)


def test_the_temperature_that_calibrates_is_found() -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 1.5, (4000, 3))
    chances = np.exp(true_logits) / np.exp(true_logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in chances])

    found = temperature(true_logits * 2.5, labels)

    assert found == pytest.approx(2.5, rel=0.1)
    assert cross_entropy(true_logits * 2.5 / found, labels) <= cross_entropy(true_logits, labels) + 1e-4


def _by_brute_force(predicted: Bools, truth: Bools) -> tuple[np.ndarray, np.ndarray]:
    """Distances of every outline pixel to the nearest of the other outline, both ways."""
    mine, true = (np.argwhere(_outline(mask)) for mask in (predicted, truth))
    apart = np.sqrt(((mine[:, None] - true[None]) ** 2).sum(axis=2))
    return apart.min(axis=1), apart.min(axis=0)


def _outline(mask: Bools) -> Bools:
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside

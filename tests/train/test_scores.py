"""Which images a figure is of, and what is left out of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from train.data import UNKNOWN_LABEL, DataError, Images
from train.evaluation.answers import Answers, load_answers, save_answers
from train.evaluation.scores import score
from train.metrics import Bools

BENIGN, MALIGNANT, NORMAL = range(3)


def square(left: int, side: int = 16) -> Bools:
    """A mask of 64 x 64 with one square."""
    mask = np.zeros((64, 64), bool)
    mask[16 : 16 + side, left : left + side] = True
    return mask


def make(labels: list[int], masks: list[Bools]) -> Images:
    count = len(labels)
    return Images(
        tuple(f"image {row}" for row in range(count)),
        np.arange(count),
        np.zeros((count, 64, 64), np.uint8),
        np.stack(masks).astype(np.uint8) * np.uint8(255),
        np.array(labels),
    )


def say(named: list[int], masks: list[Bools], classes: int = 3, sure: float = 0.8) -> Answers:
    chances = np.full((len(named), classes), (1 - sure) / (classes - 1))
    chances[np.arange(len(named)), named] = sure
    return Answers(np.stack(masks).astype(np.uint8) * np.uint8(255), chances)


NOTHING = np.zeros((64, 64), bool)


def test_images_without_a_lesion_count_as_alarms_and_not_in_the_dice() -> None:
    images = make([BENIGN, NORMAL, NORMAL], [square(16), NOTHING, NOTHING])
    answers = say([BENIGN, NORMAL, BENIGN], [square(16), NOTHING, square(0)])

    figures = score(answers, images, rounds=0).figures

    assert (figures["dice"].value, figures["dice"].images) == (1, 1)
    assert (figures["false_positives"].value, figures["false_positives"].images) == (0.5, 2)


def test_what_is_not_known_of_an_image_is_not_scored() -> None:
    images = make([BENIGN, UNKNOWN_LABEL, MALIGNANT], [square(16), square(16), NOTHING])
    images = replace(images, masked=np.array([True, True, False]))
    answers = say([BENIGN, MALIGNANT, MALIGNANT], [square(16), square(24), square(8)])

    scores = score(answers, images, rounds=0)

    assert scores.figures["dice"].images == 2  # the third has no outline to compare with
    assert scores.figures["dice"].value == pytest.approx((1 + 0.5) / 2)
    assert scores.figures["accuracy"].images == 2  # the second has no class
    assert scores.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert "false_positives" not in scores.figures


def test_a_missed_lesion_has_no_distance_and_is_counted() -> None:
    images = make([BENIGN, BENIGN], [square(16), square(16)])
    answers = say([BENIGN, BENIGN], [square(18), NOTHING])

    scores = score(answers, images, rounds=0)
    as_zero = score(answers, images, empty="zero", rounds=0)

    # 2 columns of 64 are 8 pixels of a 256 grid.
    assert scores.figures["hd95_px"].value == pytest.approx(8)
    assert as_zero.figures["hd95_px"].value == pytest.approx(4)
    assert scores.counts["lesions without a predicted outline (distances undefined)"] == 1
    assert scores.figures["missed"].value == 0.5


def test_distances_are_in_mm_where_the_pixel_size_is_known() -> None:
    images = make([BENIGN, BENIGN], [square(16), square(16)])
    images = replace(images, spacing_mm=np.array([[0.25, 0.5], [np.nan, np.nan]]))

    figures = score(say([BENIGN] * 2, [square(18)] * 2), images, rounds=0).figures

    assert figures["hd95_mm"].value == pytest.approx(0.5)
    assert (figures["hd95_mm"].images, figures["hd95_px"].images) == (1, 2)


def test_the_positive_class_decides_what_sensitivity_is_of() -> None:
    labels = [BENIGN, BENIGN, BENIGN, MALIGNANT, MALIGNANT, NORMAL]
    images = make(labels, [square(16)] * 5 + [NOTHING])
    answers = say([BENIGN, BENIGN, MALIGNANT, MALIGNANT, NORMAL, BENIGN], [square(16)] * 6)

    malignant = score(answers, images, rounds=0).figures
    benign = score(answers, images, positive="benign", rounds=0).figures

    # A lesion that is named normal is missed, and the normal image is no lesion: it is not among these.
    assert malignant["sensitivity"].value == pytest.approx(1 / 2)
    assert malignant["specificity"].value == pytest.approx(2 / 3)
    assert benign["sensitivity"].value == malignant["recall_benign"].value == pytest.approx(2 / 3)
    assert benign["specificity"].value == pytest.approx(1)
    assert malignant["accuracy"].value == pytest.approx(3 / 6)
    assert malignant["accuracy_lesions"].value == pytest.approx(3 / 5)


def test_a_model_of_two_classes_is_not_asked_about_normals() -> None:
    images = make([BENIGN, MALIGNANT, NORMAL], [square(16), square(16), NOTHING])

    scores = score(say([BENIGN, BENIGN, BENIGN], [square(16)] * 3, classes=2), images, rounds=0)

    assert scores.classes == ("benign", "malignant")
    assert scores.figures["accuracy"].images == 2
    assert scores.figures["accuracy"].value == 0.5


def test_a_model_without_masks_has_no_figures_of_masks() -> None:
    images = make([BENIGN, MALIGNANT], [square(16), square(16)])
    answers = say([BENIGN, MALIGNANT], [NOTHING, NOTHING])._replace(segments=False)

    scores = score(answers, images, rounds=0)

    assert scores.figures["accuracy"].value == 1
    assert not {"dice", "missed", "hd95_px"} & set(scores.figures)
    group = next(one for one in scores.sizes if one.images)
    assert (group.images, group.accuracy) == (2, 1)
    assert np.isnan([group.dice, group.missed]).all()


def test_lesions_are_grouped_by_their_true_size() -> None:
    images = make([BENIGN, BENIGN, MALIGNANT], [square(16, 8), square(16, 16), square(16, 32)])
    answers = say([BENIGN, MALIGNANT, MALIGNANT], [NOTHING, square(16, 16), square(16, 32)])

    small, medium, large = score(answers, images, rounds=0).sizes

    assert [one.images for one in (small, medium, large)] == [1, 1, 1]
    assert (small.dice, small.missed, small.accuracy) == (0, 1, 1)
    assert (medium.dice, medium.accuracy) == (1, 0)


def test_the_probabilities_before_the_temperature_are_found_again() -> None:
    logits = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, 0.0]])
    before, after = (
        np.exp(values) / np.exp(values).sum(axis=1, keepdims=True) for values in (logits, logits / 2.5)
    )
    answers = Answers(np.zeros((2, 4, 4), np.uint8), after, temperature=2.5)

    assert answers.uncalibrated() == pytest.approx(before)


def test_answers_are_kept_with_what_they_are_about(tmp_path: Path) -> None:
    images = make([BENIGN, NORMAL], [square(16), NOTHING])
    images = replace(images, sources=("busi", "udiat"), spacing_mm=np.array([[0.1, 0.2], [np.nan, np.nan]]))
    answers = say([BENIGN, BENIGN], [square(18), NOTHING])._replace(temperature=1.25)

    save_answers(tmp_path / "answers.npz", answers, images)
    read, about = load_answers(tmp_path / "answers.npz")

    assert (read.temperature, read.segments) == (1.25, True)
    assert np.array_equal(read.classes, answers.classes)
    assert (about.names, about.sources) == (images.names, images.sources)
    assert np.array_equal(about.spacing_mm, images.spacing_mm, equal_nan=True)
    (tmp_path / "answers.npz").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(DataError, match="holds no answers that can be read"):
        load_answers(tmp_path / "answers.npz")

"""Two models on the same images."""

import numpy as np
import pytest

from train.data import Images
from train.evaluation.answers import Answers
from train.evaluation.paired import differences
from train.evaluation.scores import score

COUNT, SIDE = 40, 16


@pytest.fixture
def images() -> Images:
    masks = np.zeros((COUNT, SIDE, SIDE), np.uint8)
    for row in range(COUNT):
        masks[row, 4:12, 3 : 6 + row % 7] = 255
    return Images(
        tuple(f"image {row}" for row in range(COUNT)),
        np.arange(COUNT),
        np.zeros_like(masks),
        masks,
        np.arange(COUNT) % 2,
        sources=("BUSI",) * COUNT,
    )


def answers(images: Images, *, shift: int, sure: float, seed: int) -> Answers:
    """Masks that are moved sideways, and classes that are right more or less often."""
    chance = np.random.default_rng(seed).normal(0, 1 - sure, len(images))
    malignant = 1 / (1 + np.exp(-2 * (images.labels - 0.5 + 2 * chance)))
    return Answers(np.roll(images.masks, shift, axis=2), np.stack([1 - malignant, malignant], axis=1))


def test_a_difference_is_that_of_the_two_figures(images: Images) -> None:
    good, poor = (answers(images, shift=n, sure=1 - n / 4, seed=n) for n in (1, 3))

    apart = differences((good, images), (poor, images))

    figures = [score(each, images, rounds=0).figures for each in (good, poor)]
    assert set(apart) == {"dice", "accuracy", "auc"}
    for name, found in apart.items():
        assert found.value == pytest.approx(figures[0][name].value - figures[1][name].value)
        assert found.low <= found.value <= found.high
        assert found.images == COUNT
    assert apart["dice"].low > 0, "the difference is there on every image"


def test_images_meet_by_name_whatever_their_order(images: Images) -> None:
    good, poor = (answers(images, shift=n, sure=1 - n / 4, seed=n) for n in (1, 3))
    order = np.random.default_rng(5).permutation(COUNT)

    mixed = differences((good, images), (poor.take(order[5:]), images.take(order[5:])), rounds=0)

    rest = np.sort(order[5:])
    plain = differences((good.take(rest), images.take(rest)), (poor.take(rest), images.take(rest)), rounds=0)
    assert mixed["dice"].images == COUNT - 5
    assert {name: found.value for name, found in mixed.items()} == pytest.approx(
        {name: found.value for name, found in plain.items()}
    )


def test_a_model_equal_to_itself_is_no_distance_apart(images: Images) -> None:
    one = answers(images, shift=2, sure=0.5, seed=0)

    for found in differences((one, images), (one, images)).values():
        assert (found.value, found.low, found.high) == (0, 0, 0)


def test_only_what_both_have_is_compared(images: Images) -> None:
    both = answers(images, shift=1, sure=0.5, seed=0)
    without_classes = both._replace(classes=np.empty((COUNT, 0)))
    without_masks = both._replace(segments=False)

    assert set(differences((both, images), (without_classes, images))) == {"dice"}
    assert set(differences((without_masks, images), (both, images))) == {"accuracy", "auc"}
    others = images.take(np.arange(COUNT) < 0)
    assert differences((both, images), (both.take(np.arange(COUNT) < 0), others)) == {}

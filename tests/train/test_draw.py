"""Which images make up an epoch, and what is known of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.train.small import small_recipe, stills
from train.data import Images
from train.learning.batch import UNKNOWN
from train.learning.draw import Pool, for_network, hide_masks
from train.recipe import RecipeError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pictures() -> Images:
    return stills(12, 32)


def pool(real: Images, synthetic: Images | None = None, batch: int = 5, **draw: object) -> Pool:
    return Pool(real, synthetic, small_recipe(draw=draw), CPU, batch=batch, classes=3)


def test_every_image_comes_once_in_an_epoch_before_any_comes_again(pictures: Images) -> None:
    order = pool(pictures).order(7)

    assert order.shape == (3, 5)
    counts = np.bincount(order.ravel(), minlength=12)
    assert set(counts) == {1, 2}
    assert counts.sum() == 15
    assert np.array_equal(order, pool(pictures).order(7))
    assert not np.array_equal(order, pool(pictures).order(8))


def test_classes_are_drawn_by_the_shares_asked_for(pictures: Images) -> None:
    few = pictures.take(np.array([0, 1, 2, 3, 4, 5, 6, 9]))  # mostly benign
    drawn = Pool(
        few,
        None,
        small_recipe(draw={"class_shares": [0.2, 0.2, 0.6]}, train={"epochs": 1, "epoch_images": 3000}),
        CPU,
        batch=10,
        classes=3,
    ).order(0)

    shares = np.bincount(few.labels[drawn.ravel()], minlength=3) / 3000
    assert shares == pytest.approx([0.2, 0.2, 0.6], abs=0.05)


def test_synthetic_images_are_drawn_by_their_share(pictures: Images) -> None:
    mixed = Pool(
        pictures.take(np.arange(6)),
        pictures.take(np.arange(6, 12)),
        small_recipe(draw={"synthetic_share": 0.25}, train={"epochs": 1, "epoch_images": 3000}),
        CPU,
        batch=10,
        classes=3,
    )
    drawn = mixed.order(0)

    assert (drawn >= 6).mean() == pytest.approx(0.25, abs=0.05)
    batch = mixed.take(np.array([1, 7]))
    assert torch.equal(batch.frames[1, 0], torch.from_numpy(pictures.pixels[7]).float() / 255)
    assert batch.labels.tolist() == [pictures.labels[1], pictures.labels[7]]


def test_shares_for_another_number_of_classes_are_refused(pictures: Images) -> None:
    with pytest.raises(RecipeError, match="has 2 shares, the network 3 classes"):
        pool(pictures, class_shares=[0.5, 0.5])


def test_hidden_masks_are_a_share_of_every_class_and_the_same_for_a_seed(pictures: Images) -> None:
    hidden = hide_masks(pictures, 0.25, seed=1)

    for label in (0, 1):
        assert hidden.masked[pictures.labels == label].sum() == 1
    assert hidden.masked[pictures.labels == 2].all()
    assert not hidden.masks[~hidden.masked].any()
    assert np.array_equal(hidden.masks[hidden.masked], pictures.masks[hidden.masked])
    assert np.array_equal(hidden.masked, hide_masks(pictures, 0.25, seed=1).masked)
    assert hide_masks(pictures, 1.0, seed=1) is pictures


def test_classes_that_a_network_lacks_are_left_out_unknown_ones_kept(pictures: Images) -> None:
    labels = pictures.labels.copy()
    labels[0] = UNKNOWN
    kept = for_network(replace(pictures, labels=labels), 2)

    assert sorted(set(kept.labels)) == [UNKNOWN, 0, 1]
    assert len(kept) == 8


def test_only_known_glands_are_taken_for_truth(pictures: Images) -> None:
    glands = np.full_like(pictures.masks, 255)
    with_glands = replace(
        pictures.take(np.arange(6)), glands=glands[:6], gland_known=np.array([True] * 3 + [False] * 3)
    )
    batch = pool(with_glands, pictures.take(np.arange(6, 12)), synthetic_share=0.5).take(np.array([0, 4, 8]))

    assert batch.gland_known is not None
    assert batch.gland_known.tolist() == [True, False, False]
    assert batch.glands is not None
    assert batch.glands[2].max() == 0

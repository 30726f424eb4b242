"""What augmentation may change, and what it must leave true."""

import pytest
import torch

from tests.train.small import stills
from train.augment.feed import augment
from train.augment.strength import Strength
from train.augment.texture import compress, texture
from train.data import Images
from train.learning.batch import UNKNOWN, Batch
from train.learning.chance import Chance, Rows
from train.recipe import load_recipe

CPU = torch.device("cpu")
COUNT = 12


@pytest.fixture(scope="module")
def pictures() -> Images:
    return stills(COUNT, 64)


def as_batch(images: Images, rows: slice = slice(None)) -> Batch:
    masks = torch.from_numpy(images.masks[rows])[:, None].float() / 255
    count = len(masks)
    return Batch(
        torch.from_numpy(images.pixels[rows])[:, None].float() / 255,
        masks,
        torch.from_numpy(images.labels[rows]),
        torch.ones(count, dtype=torch.bool),
        torch.zeros(count, dtype=torch.bool),
        masks.clone(),  # a gland where the lesion is: it must stay there
        torch.ones(count, dtype=torch.bool),
    )


def chance(seed: int, first: int = 0, own: int = COUNT) -> Chance:
    return Chance(seed, Rows(first, own, COUNT), CPU)


def everything() -> Strength:
    live = load_recipe("live", "mtl_oca").augment
    more: dict[str, object] = {
        "quarter_turns": True,
        "vertical_flip": 0.5,
        "crop": 0.6,
        "median_share": 0.3,
        "lift": 0.3,
    }
    return live.model_copy(update={**more, "brightness": 0.1})


def test_what_happens_to_an_image_does_not_depend_on_who_shares_its_batch(pictures: Images) -> None:
    whole = augment(as_batch(pictures), (32, 32), everything(), chance(5))
    halves = [
        augment(as_batch(pictures, slice(first, first + 6)), (32, 32), everything(), chance(5, first, 6))
        for first in (0, 6)
    ]

    assert torch.equal(torch.cat([half.frames for half in halves]), whole.frames)
    assert torch.equal(torch.cat([half.masks for half in halves]), whole.masks)
    assert torch.equal(torch.cat([half.labels for half in halves]), whole.labels)


def test_nothing_asked_for_changes_nothing(pictures: Images) -> None:
    batch = as_batch(pictures)
    same = augment(batch, (64, 64), Strength(), chance(0))

    assert torch.allclose(same.frames, batch.frames, atol=1e-5)
    assert torch.allclose(same.masks, batch.masks, atol=1e-5)
    assert torch.equal(same.labels, batch.labels)


def test_glands_and_masks_go_the_same_way(pictures: Images) -> None:
    changed = augment(as_batch(pictures), (32, 32), everything(), chance(1))

    assert changed.glands is not None
    assert torch.equal(changed.masks, changed.glands)
    assert not torch.allclose(
        changed.masks, augment(as_batch(pictures), (32, 32), Strength(), chance(1)).masks
    )


def test_a_crop_without_its_lesion_has_no_class_to_learn(pictures: Images) -> None:
    batch = as_batch(pictures)
    unknown = 0
    for seed in range(20):
        changed = augment(batch, (32, 32), Strength(shift=0.6), chance(seed))
        unknown += int((changed.labels == UNKNOWN).sum())
        gone = changed.masks.sum(dim=(1, 2, 3)) == 0
        assert (changed.labels[gone & (batch.labels != 2)] == UNKNOWN).all()
        assert (changed.labels[batch.labels == 2] == 2).all()
    assert unknown > 0


def test_marks_grain_and_gain_change_pictures_but_never_their_masks(pictures: Images) -> None:
    strength = Strength(gain=0.3, gamma=0.3, depth_gain=0.4, contrast=0.3, speckle=0.3, blur=1, marks=1)
    plain = augment(as_batch(pictures), (64, 64), Strength(), chance(5))
    changed = augment(as_batch(pictures), (64, 64), strength, chance(5))

    assert torch.equal(changed.masks, plain.masks)
    assert not torch.allclose(changed.frames, plain.frames, atol=0.05)
    assert changed.frames.min() >= 0
    assert changed.frames.max() <= 1


def test_what_a_border_or_a_lifted_probe_hides_is_no_lesion(pictures: Images) -> None:
    batch = as_batch(pictures)
    full = batch._replace(masks=torch.ones_like(batch.masks), glands=torch.ones_like(batch.masks))
    changed = augment(full, (64, 64), Strength(borders=1.0, lift=1.0), chance(2))

    assert (changed.masks == 0).any()
    dark = changed.frames[changed.masks == 0]
    assert dark.max() <= 0.3 + 1e-6
    assert changed.glands is not None
    assert torch.equal(changed.masks, changed.glands)


def test_flips_come_as_often_as_they_are_asked_for(pictures: Images) -> None:
    batch = as_batch(pictures)
    flipped = augment(batch, (64, 64), Strength(horizontal_flip=1.0), chance(3))
    assert torch.allclose(flipped.frames, batch.frames.flip(3), atol=1e-5)
    turned = augment(batch, (64, 64), Strength(vertical_flip=1.0), chance(3))
    assert torch.allclose(turned.masks, batch.masks.flip(2), atol=1e-5)


def test_closer_views_show_larger_lesions(pictures: Images) -> None:
    batch = as_batch(pictures)
    close = augment(batch, (64, 64), Strength(closer=0.3), chance(4))

    lesions = (batch.masks[:, 0, 24:40, 24:40].mean(dim=(1, 2)) > 0) & (close.labels != UNKNOWN)
    assert lesions.any()
    assert (close.masks.mean(dim=(1, 2, 3))[lesions] > batch.masks.mean(dim=(1, 2, 3))[lesions]).all()


@pytest.mark.parametrize(
    "change", [{"detail": 0.8, "detail_share": 1.0}, {"filter": 0.1, "filter_share": 1.0}]
)
def test_another_scanner_s_texture_keeps_the_brightness(pictures: Images, change: dict[str, float]) -> None:
    frames = 0.4 + 0.2 * as_batch(pictures).frames
    changed = texture(frames, Strength.model_validate(change), chance(6))

    assert not torch.allclose(changed, frames, atol=0.01)
    assert torch.allclose(changed.mean(dim=(2, 3)), frames.mean(dim=(2, 3)), atol=0.02)


def test_a_bent_gray_map_keeps_black_and_white(pictures: Images) -> None:
    batch = as_batch(pictures)
    ends = batch._replace(frames=(batch.frames > 0.4).float())
    changed = augment(ends, (64, 64), Strength(tone=0.15), chance(7))
    bent = augment(batch, (64, 64), Strength(tone=0.15), chance(7))

    assert torch.allclose(changed.frames, ends.frames, atol=1e-5)
    assert not torch.allclose(bent.frames, batch.frames, atol=0.01)


def test_coarse_quantisation_keeps_a_block_s_mean() -> None:
    frames = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    fine = compress(frames, torch.full((2, 1, 1, 1), 1e-4))
    coarse = compress(frames, torch.full((2, 1, 1, 1), 0.3))

    assert torch.allclose(fine, frames, atol=2e-3)
    assert (coarse - frames).abs().mean() > 0.05
    blocks = (coarse - frames).unfold(2, 8, 8).unfold(3, 8, 8).mean(dim=(4, 5))
    assert blocks.abs().max() <= 0.3 / 2 / 8 + 1e-5

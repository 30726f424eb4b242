"""The papers' losses against their definitions, written out literally."""

import math

import pytest
import torch
from torch import Tensor

from models.losses import (
    DynamicWeightAverage,
    LossNet,
    UncertaintyWeights,
    coarse_dice_loss,
    dice_loss,
    localization_loss,
    pseudo_masks,
)
from models.networks.vgg import VGG16


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("squared", [False, True])
def test_dice_loss_is_its_definition_per_image_and_channel(squared: bool) -> None:
    p, g = draw(2, 3, 4, 5), (draw(2, 3, 4, 5, seed=1) > 0.6).double()

    terms = []
    for n in range(2):
        for c in range(3):
            pairs = [(float(a), float(b)) for a, b in zip(p[n, c].flatten(), g[n, c].flatten(), strict=True)]
            size = sum(a * a + b * b if squared else a + b for a, b in pairs)
            terms.append(1 - (2 * sum(a * b for a, b in pairs) + 1) / (size + 1))

    assert float(dice_loss(p, g, squared=squared)) == pytest.approx(sum(terms) / 6)


def test_dice_loss_is_zero_for_the_truth_even_if_empty() -> None:
    empty, full = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)

    assert dice_loss(empty, empty) == dice_loss(full, full) == 0
    assert dice_loss(full, empty) > 0.9


def test_images_without_a_gland_mask_train_the_lesion_channel_only() -> None:
    logits = draw(2, 3, 6, 6).requires_grad_()
    lesion, gland = (draw(2, 1, 6, 6, seed=1) > 0.7).double(), (draw(2, 1, 6, 6, seed=2) > 0.5).double()
    p = logits.softmax(dim=1)

    loss = coarse_dice_loss(logits, lesion, gland, torch.tensor([True, False]))

    gland_only = gland * (1 - lesion)
    three = torch.cat([1 - torch.maximum(lesion, gland), gland_only, lesion], dim=1)
    rest = torch.cat([p[:, :1] + p[:, 1:2], p[:, 2:]], dim=1)
    two = torch.cat([1 - lesion, lesion], dim=1)
    expected = (dice_loss(p[:1], three[:1], squared=True) + dice_loss(rest[1:], two[1:], squared=True)) / 2
    torch.testing.assert_close(loss, expected)
    other_gland = coarse_dice_loss(logits, lesion, 1 - gland, torch.tensor([False, False]))
    torch.testing.assert_close(
        other_gland, coarse_dice_loss(logits, lesion, gland, torch.tensor([False, False]))
    )


def test_dynamic_weights_follow_the_ratio_of_the_last_two_steps() -> None:
    dwa = DynamicWeightAverage(tasks=2, temperature=2.0)

    assert dwa.weights == (1.0, 1.0)
    dwa.update([0.9, 0.8])
    assert dwa.weights == (1.0, 1.0)
    dwa.update([0.45, 0.72])
    falling, slow = math.exp(0.5 / 2), math.exp(0.9 / 2)
    assert dwa.weights == pytest.approx((2 * falling / (falling + slow), 2 * slow / (falling + slow)))
    dwa.update([0.45, 0.36])
    falling, slow = math.exp(0.5 / 2), math.exp(1.0 / 2)
    assert dwa.weights == pytest.approx((2 * slow / (falling + slow), 2 * falling / (falling + slow)))


@pytest.mark.parametrize("losses", [[0.5], [0.5, 0.0], [0.5, float("nan")]])
def test_dynamic_weights_refuse_losses_they_cannot_compare(losses: list[float]) -> None:
    with pytest.raises(ValueError, match="expected 2 positive losses"):
        DynamicWeightAverage().update(losses)


@pytest.fixture(scope="module")
def loss_net(tmp_path_factory: pytest.TempPathFactory) -> LossNet:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save(VGG16().state_dict(), path)
    return LossNet(path)


def test_lossnet_sums_the_squared_distance_of_four_levels(loss_net: LossNet) -> None:
    p, g = draw(1, 1, 256, 256).float(), (draw(1, 1, 256, 256, seed=1) > 0.5).float()

    def features(mask: Tensor) -> list[Tensor]:
        x = torch.cat(
            [(mask - m) / s for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)], 1
        )
        outputs = []
        for position, layer in enumerate(loss_net.vgg.features):
            x = layer(x)
            # torchvision's layers 0-3, 4-8, 9-15 and 16-22 end with these ReLUs.
            if position in (3, 8, 15, 22):
                outputs.append(x.clone())
        return outputs

    expected = sum(
        (((a - b) ** 2).mean() for a, b in zip(features(p), features(g), strict=True)), torch.zeros(())
    )
    torch.testing.assert_close(loss_net(p, g), expected)


def test_lossnet_trains_the_prediction_and_nothing_of_its_own(loss_net: LossNet) -> None:
    p = torch.full((1, 1, 64, 64), 0.5, requires_grad=True)

    loss_net(p, torch.ones(1, 1, 64, 64)).backward()

    assert p.grad is not None
    assert p.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in loss_net.parameters())


def test_uncertainty_weights_are_their_definition() -> None:
    weights = UncertaintyWeights().double()
    with torch.no_grad():
        weights.s.copy_(torch.tensor([0.5, 2.0]))

    loss = weights(torch.tensor([0.3, 0.8], dtype=torch.float64)).detach()

    expected = 0.5 / 0.25 * 0.3 + math.log(1 + 0.25) + 0.5 / 4 * 0.8 + math.log(1 + 4)
    assert float(loss) == pytest.approx(expected)


def test_pseudo_masks_are_taken_where_the_class_is_sure() -> None:
    mask = torch.tensor([0.6, 0.9, 0.5]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    class_logits = torch.tensor([[2.0, 0.0], [0.5, 0.0], [0.0, 3.0]], requires_grad=True)

    pseudo, use = pseudo_masks(mask, class_logits)

    assert pseudo[:, 0, 0, 0].tolist() == [1.0, 1.0, 0.0]
    assert use.tolist() == [True, False, True]
    assert not pseudo.requires_grad


def test_pseudo_masks_by_pixel_keep_sure_pixels_of_every_image() -> None:
    mask = torch.tensor([0.6, 0.8, 0.9]).view(3, 1, 1, 1)

    pseudo, use = pseudo_masks(mask, torch.zeros(3, 2), gate="pixel")

    assert pseudo.flatten().tolist() == [0.0, 1.0, 1.0]
    assert use.all()


def test_localization_loss_weighs_labelled_and_pseudo_labelled_images() -> None:
    logits = 4 * draw(3, 1, 2, 2) - 2
    target, pseudo = draw(3, 1, 3, 3, seed=1), (draw(3, 1, 2, 2, seed=2) > 0.5).double()
    has_mask, use_pseudo = torch.tensor([True, False, False]), torch.tensor([True, True, False])

    loss = localization_loss(logits, target, has_mask, pseudo, use_pseudo, alpha=0.1)

    def bce(n: int, expected: Tensor) -> float:
        p = logits[n, 0].sigmoid()
        return float(-(expected * p.log() + (1 - expected) * (1 - p).log()).mean())

    # 3 x 3 to 2 x 2 with aligned corners reads the corners, which stay soft.
    corners = target[0, 0][::2, ::2]
    assert float(loss) == pytest.approx(bce(0, corners) + 0.1 * bce(1, pseudo[1, 0]))


def test_a_batch_without_pseudo_labels_has_no_such_term() -> None:
    logits, target = draw(2, 1, 2, 2), draw(2, 1, 2, 2, seed=1)
    none, every = torch.zeros(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)

    loss = localization_loss(logits, target, every, torch.ones_like(target), none)

    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(loss, expected)

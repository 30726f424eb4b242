"""Losses that the networks' papers define themselves; cross-entropies are torch's.

LossNet needs VGG-16 weights from a file; nothing is fetched.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.base import IMAGENET_MEAN, IMAGENET_STD
from models.networks.blocks import full_precision
from models.networks.vgg import VGG16
from models.networks.weights import load_weights


def mean_over(losses: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the losses of the chosen images; 0, with a gradient of 0, where there are none.

    :param losses: N.
    :param chosen: N, bool.
    :return: a scalar.
    """
    return torch.where(chosen, losses, 0).sum() / chosen.sum().clamp(min=1)


def dice_loss(probability: Tensor, target: Tensor, *, squared: bool = False, smooth: float = 1.0) -> Tensor:
    """Dice loss per image and channel, 1 - (2 sum p g + smooth) / (sum p + sum g + smooth), then the mean.

    ACSNet's eq 9 as it stands; CTG-Net's (V-Net's) with `squared`, whose denominator sums p^2 and g^2.

    :param probability: N x C x H x W in [0, 1].
    :param target: N x C x H x W in [0, 1].
    :return: a scalar in [0, 1].
    """
    return dice_terms(probability, target, squared=squared, smooth=smooth).mean()


def dice_terms(probability: Tensor, target: Tensor, *, squared: bool = False, smooth: float = 1.0) -> Tensor:
    """Compute `dice_loss` before its mean: N x C."""
    p = full_precision(probability).flatten(2)
    g = target.to(p.dtype).flatten(2)
    overlap = 2 * (p * g).sum(dim=2) + smooth
    size = (p.square() + g.square() if squared else p + g).sum(dim=2) + smooth
    return 1 - overlap / size


def coarse_dice_loss(coarse_logits: Tensor, lesion: Tensor, gland: Tensor, has_gland: Tensor) -> Tensor:
    """L_cseg of CTG-Net where only some images have a gland mask.

    With one: Dice over background, gland and lesion. Without: over lesion and the rest, because the
    background and gland terms have no target.

    :param coarse_logits: N x 3 x H x W (background, gland, lesion).
    :param lesion: N x 1 x H x W, 0 or 1.
    :param gland: N x 1 x H x W, 0 or 1; its part inside the lesion counts as lesion; ignored where
        `has_gland` is False.
    :param has_gland: N, bool.
    :return: a scalar, the mean over images.
    """
    return coarse_dice_terms(coarse_logits, lesion, gland, has_gland).mean()


def coarse_dice_terms(coarse_logits: Tensor, lesion: Tensor, gland: Tensor, has_gland: Tensor) -> Tensor:
    """Compute `coarse_dice_loss` before its mean: N."""
    p = full_precision(coarse_logits).softmax(dim=1)
    gland = gland * (1 - lesion)
    full = dice_terms(p, torch.cat([(1 - lesion) * (1 - gland), gland, lesion], dim=1), squared=True)
    two = torch.cat([p[:, :2].sum(dim=1, keepdim=True), p[:, 2:]], dim=1)
    partial = dice_terms(two, torch.cat([1 - lesion, lesion], dim=1), squared=True)
    return torch.where(has_gland, full.mean(dim=1), partial.mean(dim=1))


class DynamicWeightAverage:
    """Dynamic weight average over tasks (CTG-Net's eq 9; Liu, Johns, Davison, CVPR 2019).

    l_k(t) = K exp(w_k(t-1) / T) / sum_i exp(w_i(t-1) / T), w_k(t-1) = L_k(t-1) / L_k(t-2). A step t is an
    epoch, or an iteration, as the caller likes: `update` ends one.
    """

    def __init__(self, tasks: int = 2, temperature: float = 2.0) -> None:
        """K and T."""
        self.tasks = tasks
        self.temperature = temperature
        self.history: list[tuple[float, ...]] = []

    def update(self, losses: Sequence[float]) -> None:
        """End a step.

        :param losses: mean loss of each task over it.
        :raises ValueError: if there is not one positive loss per task.
        """
        if len(losses) != self.tasks or not all(loss > 0 for loss in losses):
            raise ValueError(f"expected {self.tasks} positive losses, one per task, got {tuple(losses)}")
        self.history = [*self.history[-1:], tuple(losses)]

    @property
    def weights(self) -> tuple[float, ...]:
        """Weight of each task in the present step; they add up to K, and are all 1 in the first two."""
        if len(self.history) < 2:
            return (1.0,) * self.tasks
        before, last = self.history
        ratios = torch.tensor([a / b for a, b in zip(last, before, strict=True)], dtype=torch.float64)
        return tuple((self.tasks * (ratios / self.temperature).softmax(dim=0)).tolist())


class LossNet(nn.Module):
    """Distance between the features of the predicted and the true mask (ACSNet's eqs 10 and 11).

    The features are those of a frozen VGG-16 after conv1_2, conv2_2, conv3_3 and conv4_3; the distance is the
    mean squared error, as in the paper's programs (eq 11 prints the norm, whose scale depends on the size).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str | Path) -> None:
        """Load the features.

        :param weights: a local copy of torchvision's vgg16-397923af.pth.
        :raises ModelError: if the file does not fit.
        """
        super().__init__()
        self.vgg = VGG16()
        load_weights(self.vgg, weights)
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, probability: Tensor, target: Tensor) -> Tensor:
        """Compare masks.

        :param probability: N x 1 x H x W in [0, 1].
        :param target: N x 1 x H x W in [0, 1].
        :return: a scalar, the sum over the four levels.
        """
        return self.distances(probability, target).mean()

    def distances(self, probability: Tensor, target: Tensor) -> Tensor:
        """Compare masks image by image: N x 1 x H x W twice -> N."""
        with torch.no_grad():
            truth = self.features(target)
        pairs = zip(self.features(probability), truth, strict=True)
        return torch.stack([(f_p - f_g).square().mean(dim=(1, 2, 3)) for f_p, f_g in pairs]).sum(dim=0)

    def features(self, mask: Tensor) -> list[Tensor]:
        """Compute F^1 to F^4 of an N x 1 x H x W mask, brought to 256 x 256 and to ImageNet's statistics."""
        image = F.interpolate(mask, (256, 256), mode="bilinear").expand(-1, 3, -1, -1)
        return self.vgg.levels((image - self.mean) / self.std, 4)


class UncertaintyWeights(nn.Module):
    """Learned task weights, the sum of 0.5 / s_k^2 L_k + log(1 + s_k^2) (ACSNet's public programs)."""

    def __init__(self, tasks: int = 2) -> None:
        """How many tasks; every s_k starts at 1."""
        super().__init__()
        self.s = nn.Parameter(torch.ones(tasks))

    def forward(self, losses: Tensor) -> Tensor:
        """Weigh the K losses."""
        variance = self.s.square()
        return (0.5 / variance * losses + torch.log1p(variance)).sum()


def pseudo_masks(
    mask: Tensor, class_logits: Tensor, *, gate: Literal["class", "pixel"] = "class", tau: float = 0.8
) -> tuple[Tensor, Tensor]:
    """Make targets from LA-Net's own masks, for images without one (eq 7 and Algorithm 1).

    :param mask: f_mask, N x 1 x S x S in [0, 1].
    :param class_logits: N x K.
    :param gate: "class": masks above 0.5, of images whose class is surer than `tau` (the paper); "pixel":
        pixels from `tau` on, of every image (its public programs).
    :param tau: the threshold.
    :return: the masks, N x 1 x S x S, 0 or 1, and which images to use, N, bool. Neither carries a gradient.
    """
    if gate == "pixel":
        return (mask.detach() >= tau).float(), torch.ones(len(mask), dtype=torch.bool, device=mask.device)
    sure = class_logits.detach().softmax(dim=1).amax(dim=1) > tau
    return (mask.detach() > 0.5).float(), sure


def localization_loss(
    mask_logits: Tensor,
    target: Tensor,
    has_mask: Tensor,
    pseudo: Tensor,
    use_pseudo: Tensor,
    *,
    alpha: float = 0.1,
) -> Tensor:
    """L_sloc = L_sloc-w + alpha L_sloc-wo (LA-Net's eq 7), both binary cross-entropies.

    :param mask_logits: N x 1 x S x S.
    :param target: N x 1 x H x W in [0, 1]; brought to S x S by bilinear interpolation, where it stays soft.
    :param has_mask: N, bool: which targets are known.
    :param pseudo: N x 1 x S x S: targets of the others.
    :param use_pseudo: N, bool: which of those to use.
    :param alpha: weight of the images without a mask.
    :return: a scalar; each term is the mean over its images, 0 where there are none.
    """
    known = mean_over(location_terms(mask_logits, target), has_mask)
    return known + alpha * mean_over(location_terms(mask_logits, pseudo), use_pseudo & ~has_mask)


def location_terms(mask_logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of LA-Net's masks (its eq 6), image by image.

    As printed, eq 6 has no term for the background and its minimum is a mask that is all lesion.

    :param mask_logits: N x 1 x S x S.
    :param target: N x 1 x H x W in [0, 1]; brought to S x S by bilinear interpolation, where it stays soft.
    :return: N.
    """
    logits = full_precision(mask_logits)
    soft = F.interpolate(target.to(logits.dtype), logits.shape[2:], mode="bilinear", align_corners=True)
    return F.binary_cross_entropy_with_logits(logits, soft, reduction="none").mean(dim=(1, 2, 3))

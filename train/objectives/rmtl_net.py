"""RMTL-Net's objective: cross-entropy over three regions drawn from the mask, and over classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import mean_over
from models.networks.base import Network, Output
from models.networks.blocks import full_precision
from train.learning.batch import Batch
from train.objectives.base import Objective, ObjectiveError, Options, Positive, Share

RING_PX = 32.0
"""Width of the peritumoral region, of the network's own pixels: a cell of its coarsest features, so that the
region survives there (section II-A)."""


class RMTLNetOptions(Options, frozen=True, kw_only=True):
    """Options of `rmtl_net`."""

    # "lambda" cannot be a name in Python.
    lambda_: Share = 0.9
    """Weight of the segmentation, 1 - lambda that of the classification (eq 7)."""
    ring_px: Positive = RING_PX
    """Width of the peritumoral region, in pixels."""


class RMTLNetObjective(Objective):
    """L = lambda L_seg + (1 - lambda) L_cls (eq 7), cross-entropies per pixel (eq 8) and image (eq 9).

    L_seg is over lesion, peritumoral and background, or over lesion and background where the network has no
    regions (MTL-Net, MTL-COSA). A network of one task (UResNet) has that task's loss alone.
    """

    def __init__(self, network: Network, options: RMTLNetOptions) -> None:
        """See `RMTLNetOptions`.

        :raises ObjectiveError: if the network's first region is not the lesion.
        """
        super().__init__(network)
        if self.regions not in (("lesion", "peritumoral", "background"), ("lesion", "background"), ()):
            raise ObjectiveError(
                f"objective rmtl_net needs the regions lesion, peritumoral, background or lesion, "
                f"background; {network.name} has {self.regions}: use objective.name=generic"
            )
        self.ring_px = options.ring_px
        both = bool(self.regions) and self.classes > 0
        self.weights = (options.lambda_, 1 - options.lambda_) if both else (1.0, 1.0)

    def forward(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Parts `mask` and `class`."""
        losses: dict[str, Tensor] = {}
        total = batch.frames.new_zeros(())
        if output.lesion_logits is not None:
            if len(self.regions) == 3:
                target = region_targets(batch.masks, self.ring_px)
            else:
                target = (batch.masks[:, 0] < 0.5).long()
            terms = F.cross_entropy(full_precision(output.lesion_logits), target, reduction="none")
            losses["mask"] = mean_over(terms.mean(dim=(1, 2)), batch.masked)
            total = total + self.weights[0] * losses["mask"]
        if output.class_logits is not None:
            losses["class"] = self.class_loss(output.class_logits, batch.labels)
            total = total + self.weights[1] * losses["class"]
        losses["total"] = total
        return losses


def region_targets(masks: Tensor, ring_px: float = RING_PX) -> Tensor:
    """Draw tumour, peritumoral region and background from masks.

    The peritumoral region is what lies within `ring_px` of the tumour, in Euclidean distance. The paper
    dilates the tumour and does not name the structuring element; several lesions are one tumour.

    :param masks: N x 1 x H x W in [0, 1]; from 0.5 on it is tumour.
    :param ring_px: in pixels.
    :return: N x H x W, int64: 0 tumour, 1 peritumoral, 2 background.
    """
    tumour = masks[:, 0] >= 0.5
    return torch.where(tumour, 0, torch.where(within(tumour, ring_px), 1, 2))


def within(marked: Tensor, distance: float) -> Tensor:
    """Find the pixels at most a Euclidean distance from a marked one.

    :param marked: N x H x W, bool.
    :param distance: in pixels, between centres.
    :return: N x H x W, bool.
    """
    height, width = marked.shape[1:]
    far = 4 * (height + width)
    rows = torch.arange(height, device=marked.device).view(1, -1, 1)
    # Distance to the nearest marked pixel of the same column, above and below.
    above = rows - torch.where(marked, rows, -far).cummax(dim=1).values
    below = torch.where(marked, rows, far).flip(1).cummin(dim=1).values.flip(1) - rows
    squared = torch.minimum(above, below).square()
    reach = int(distance)
    padded = F.pad(squared, (reach, reach), value=far**2)
    near = torch.zeros_like(marked)
    for shift in range(-reach, reach + 1):
        column = padded[:, :, reach + shift : reach + shift + width]
        near |= column <= distance**2 - shift**2
    return near

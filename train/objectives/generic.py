"""One objective for every network: cross-entropy of masks, Dice, cross-entropy of classes."""

import torch.nn.functional as F
from torch import Tensor

from models.losses import dice_terms, mean_over
from models.networks.base import Network, Output
from models.networks.blocks import full_precision
from train.learning.batch import Batch
from train.objectives.base import NotNegative, Objective, Options, Share, lesion_log_odds, mask_terms
from train.objectives.rmtl_net import region_targets

# Pixels added to both sides of Dice's fraction. They let an empty mask be right: without them every normal
# image would cost the full loss.
_DICE_SMOOTH = 20.0


class GenericOptions(Options, frozen=True, kw_only=True):
    """Options of `generic`."""

    mask_weight: NotNegative = 1.0
    coarse_weight: NotNegative = 0.4
    """Of the cross-entropy of a coarse mask, where the network has one."""
    dice_weight: NotNegative = 0.0
    class_weight: NotNegative = 1.0
    label_smoothing: Share = 0.0


class GenericObjective(Objective):
    """mask + 0.4 coarse + Dice + class, of which a network has what it returns.

    It is what `live` trains with, and what a baseline without a recipe of its own trains with. Where a mask
    is smaller than the frame (LA-Net), a cell's target is the share of it that is lesion. Where a network
    tells the peritumoral region (RMTL-Net), the mask's loss is the cross-entropy of its three regions.
    """

    def __init__(self, network: Network, options: GenericOptions) -> None:
        """See `GenericOptions`."""
        super().__init__(network)
        self.options = options

    def forward(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Parts `mask`, `dice`, `coarse` and `class`."""
        options = self.options
        weighted: list[tuple[str, float, Tensor]] = []
        if output.lesion_logits is not None and output.lesion is not None:
            mask = mean_over(self._mask_terms(output.lesion_logits, batch), batch.masked)
            weighted.append(("mask", options.mask_weight, mask))
            if options.dice_weight:
                terms = dice_terms(output.lesion.unsqueeze(1), batch.masks, smooth=_DICE_SMOOTH)[:, 0]
                weighted.append(("dice", options.dice_weight, mean_over(terms, batch.masked)))
        if "coarse_logits" in output.auxiliary:
            terms = _coarse_terms(output.auxiliary["coarse_logits"], batch)
            weighted.append(("coarse", options.coarse_weight, mean_over(terms, batch.masked)))
        if output.class_logits is not None:
            loss = self.class_loss(output.class_logits, batch.labels, smoothing=options.label_smoothing)
            weighted.append(("class", options.class_weight, loss))
        losses = {name: loss for name, _, loss in weighted}
        losses["total"] = sum(
            (weight * loss for _, weight, loss in weighted), start=batch.frames.new_zeros(())
        )
        return losses

    def _mask_terms(self, logits: Tensor, batch: Batch) -> Tensor:
        if "peritumoral" in self.regions:
            losses = F.cross_entropy(full_precision(logits), region_targets(batch.masks), reduction="none")
            return losses.mean(dim=(1, 2))
        target = batch.masks
        height, width = logits.shape[2:]
        if target.shape[2:] != (height, width):
            target = F.adaptive_avg_pool2d(target, (height, width))
        return mask_terms(lesion_log_odds(logits, self.regions.index("lesion")), target)


def _coarse_terms(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of a coarse mask whose last channel is the lesion; of three, the second is the gland.

    Where the gland is not known it counts as the rest.
    """
    lesion = mask_terms(lesion_log_odds(logits, -1), batch.masks)
    if logits.shape[1] < 3 or batch.glands is None or batch.gland_known is None:
        return lesion
    gland = batch.glands * (1 - batch.masks)
    target = (1 - gland - batch.masks, gland, batch.masks)
    surprise = -full_precision(logits).log_softmax(dim=1)
    full = sum(surprise[:, k] * part[:, 0] for k, part in enumerate(target))
    assert isinstance(full, Tensor)
    return full.mean(dim=(1, 2)).where(batch.gland_known, lesion)

"""CTG-Net's objective: cross-entropy of the class, Dice of both masks, weighed by how fast they fall."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from models.losses import DynamicWeightAverage, coarse_dice_terms, dice_terms, mean_over
from models.networks.base import Network, Output
from models.networks.blocks import full_precision
from train.learning.batch import Batch
from train.objectives.base import Objective, ObjectiveError, Options, Positive


class CTGNetOptions(Options, frozen=True, kw_only=True):
    """Options of `ctg_net`."""

    dwa: bool = True
    """Weigh the tasks by dynamic weight average; off, both weigh 1."""
    temperature: Positive = 2.0
    """T of eq 9."""
    dwa_step: Literal["epoch", "iteration"] = "epoch"
    """What t of eq 9 counts. The paper says iteration; ratios of single batches are noise, and Liu et al.,
    whose method it is, average over epochs."""


class CTGNetObjective(Objective):
    """L_total = l_1 L_cls + l_2 (L_cseg + L_fseg) (eq 8), l_1 and l_2 from eq 9.

    L_cls is a cross-entropy, L_cseg and L_fseg are Dice losses (V-Net's, with squares), averaged over three
    or two channels. Where an image has no gland mask, L_cseg tells the lesion from the rest only.
    """

    def __init__(self, network: Network, options: CTGNetOptions) -> None:
        """See `CTGNetOptions`.

        :raises ObjectiveError: if the network does not return masks of background and lesion, and classes.
        """
        super().__init__(network)
        if self.regions != ("background", "lesion") or not self.classes:
            raise ObjectiveError(
                f"objective ctg_net needs masks of background and lesion, and classes; {network.name} has "
                f"regions {self.regions} and {self.classes} classes: use objective.name=generic"
            )
        self.options = options
        self.dwa = DynamicWeightAverage(tasks=2, temperature=options.temperature)

    @property
    def weights(self) -> tuple[float, ...]:
        """l_1 of the classification and l_2 of the segmentation; their sum is 2."""
        return self.dwa.weights

    def forward(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Parts `class`, `coarse` (L_cseg) and `mask` (L_fseg)."""
        assert output.lesion_logits is not None
        assert output.class_logits is not None
        fine = full_precision(output.lesion_logits).softmax(dim=1)
        both = torch.cat([1 - batch.masks, batch.masks], dim=1)
        losses = {
            "class": self.class_loss(output.class_logits, batch.labels),
            "mask": mean_over(dice_terms(fine, both, squared=True).mean(dim=1), batch.masked),
        }
        segmentation = losses["mask"]
        if "coarse_logits" in output.auxiliary:
            terms = _coarse_terms(output.auxiliary["coarse_logits"], batch)
            losses["coarse"] = mean_over(terms, batch.masked)
            segmentation = losses["coarse"] + segmentation
        l_cls, l_seg = self.weights
        losses["total"] = l_cls * losses["class"] + l_seg * segmentation
        if self.options.dwa_step == "iteration" and torch.is_grad_enabled():
            self._end_step(float(losses["class"].detach()), float(segmentation.detach()))
        return losses

    def on_epoch(self, mean_losses: Mapping[str, float]) -> None:
        """End a step of eq 9, if a step is an epoch."""
        if self.options.dwa_step == "epoch":
            segmentation = mean_losses["mask"] + mean_losses.get("coarse", 0.0)
            self._end_step(mean_losses["class"], segmentation)

    def _end_step(self, classification: float, segmentation: float) -> None:
        # A task without a single label has no rate at which its loss falls: the weights stay.
        if self.options.dwa and classification > 0 and segmentation > 0:
            self.dwa.update((classification, segmentation))

    def get_extra_state(self) -> dict[str, Any]:
        """What a resumed run needs beside tensors."""
        return {"history": [list(losses) for losses in self.dwa.history]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_extra_state`."""
        self.dwa.history = [tuple(losses) for losses in state["history"]]


def _coarse_terms(logits: Tensor, batch: Batch) -> Tensor:
    if logits.shape[1] == 2:
        p = full_precision(logits).softmax(dim=1)
        return dice_terms(p, torch.cat([1 - batch.masks, batch.masks], dim=1), squared=True).mean(dim=1)
    if batch.glands is None or batch.gland_known is None:
        unknown = torch.zeros_like(batch.masked)
        return coarse_dice_terms(logits, batch.masks, torch.zeros_like(batch.masks), unknown)
    return coarse_dice_terms(logits, batch.masks, batch.glands, batch.gland_known)

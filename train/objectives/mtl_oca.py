"""MTL-OCA's objective: three cross-entropies."""

from torch import Tensor

from models.losses import mean_over
from models.networks.base import Network, Output
from train.learning.batch import Batch
from train.objectives.base import NotNegative, Objective, ObjectiveError, Options, lesion_log_odds, mask_terms


class MTLOCAOptions(Options, frozen=True, kw_only=True):
    """Options of `mtl_oca`."""

    alpha: NotNegative = 0.4
    """Weight of the soft object regions (eq 5)."""


class MTLOCAObjective(Objective):
    """L = L_seg + L_cls (eq 4), L_seg = alpha L_soft + L_aug (eq 5), all cross-entropies.

    A normal image is in all three, with an empty mask. Without `oca` there are no soft object regions.
    """

    def __init__(self, network: Network, options: MTLOCAOptions) -> None:
        """See `MTLOCAOptions`.

        :raises ObjectiveError: if the network does not return masks of background and lesion, and classes.
        """
        super().__init__(network)
        if self.regions != ("background", "lesion") or not self.classes:
            raise ObjectiveError(
                f"objective mtl_oca needs masks of background and lesion, and classes; {network.name} has "
                f"regions {self.regions} and {self.classes} classes: use objective.name=generic"
            )
        self.alpha = options.alpha

    def forward(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Parts `mask` (L_aug), `coarse` (L_soft) and `class`."""
        assert output.lesion_logits is not None
        assert output.class_logits is not None

        def mask_loss(logits: Tensor) -> Tensor:
            return mean_over(mask_terms(lesion_log_odds(logits, 1), batch.masks), batch.masked)

        losses = {"mask": mask_loss(output.lesion_logits)}
        total = losses["mask"]
        if "coarse_logits" in output.auxiliary:
            losses["coarse"] = mask_loss(output.auxiliary["coarse_logits"])
            total = self.alpha * losses["coarse"] + total
        losses["class"] = self.class_loss(output.class_logits, batch.labels)
        losses["total"] = total + losses["class"]
        return losses

"""ACSNet's objective: cross-entropy of the class, Dice and LossNet of the mask."""

from typing import Any, Literal

import torch
from torch import Tensor

from models.losses import LossNet, UncertaintyWeights, dice_terms, mean_over
from models.networks.base import Network, Output
from models.networks.registry import ModelError
from train.learning.batch import Batch
from train.objectives.base import Objective, ObjectiveError, Options, Share


class ACSNetOptions(Options, frozen=True, kw_only=True):
    """Options of `acsnet`."""

    # "lambda" cannot be a name in Python.
    lambda_: Share = 0.3
    """Weight of the class, 1 - lambda that of the mask (eq 13)."""
    gamma: Share = 0.2
    """Weight of LossNet in the mask's loss (eq 12)."""
    lossnet: str | None = None
    """File of torchvision's VGG-16 weights that LossNet compares masks with; needed unless `gamma` is 0."""
    task_weighting: Literal["fixed", "uncertainty"] = "fixed"
    """`fixed`: lambda; `uncertainty`: learned, as the public programs do (with `gamma` 0)."""


class ACSNetObjective(Objective):
    """L_total = lambda L_cls + (1 - lambda) L_seg (eq 13), L_seg = L_dice + gamma L_LossNet (eq 12).

    L_cls is a cross-entropy (eq 8), L_dice eq 9, L_LossNet eqs 10 and 11. A network of one task (UNet,
    ResNet) has that task's loss alone.
    """

    def __init__(self, network: Network, options: ACSNetOptions) -> None:
        """See `ACSNetOptions`.

        :raises ObjectiveError: if the network's mask is not one through a sigmoid, or LossNet has no weights.
        """
        super().__init__(network)
        if self.regions not in (("lesion",), ()):
            raise ObjectiveError(
                f"objective acsnet needs one mask through a sigmoid; {network.name} has regions "
                f"{self.regions}: use objective.name=generic"
            )
        self.options = options
        both = bool(self.regions) and self.classes > 0
        self.weights = (options.lambda_, 1 - options.lambda_) if both else (1.0, 1.0)
        self.learned: UncertaintyWeights | None = None
        if both and options.task_weighting == "uncertainty":
            self.learned = UncertaintyWeights(tasks=2)
        self.lossnet = _lossnet(options) if self.regions and options.gamma else None
        self.register_state_dict_post_hook(_drop_lossnet)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_expect_no_lossnet)  # type: ignore[no-untyped-call]

    def forward(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Parts `class`, `dice` and `lossnet`."""
        losses: dict[str, Tensor] = {}
        tasks: list[Tensor] = []
        if output.class_logits is not None:
            losses["class"] = self.class_loss(output.class_logits, batch.labels)
            tasks.append(losses["class"])
        if output.lesion is not None:
            probability = output.lesion.unsqueeze(1)
            terms = dice_terms(probability, batch.masks)[:, 0]
            losses["dice"] = segmentation = mean_over(terms, batch.masked)
            if self.lossnet is not None:
                distances = self.lossnet.distances(probability, batch.masks)
                losses["lossnet"] = mean_over(distances, batch.masked)
                segmentation = segmentation + self.options.gamma * losses["lossnet"]
            tasks.append(segmentation)
        if self.learned is not None:
            losses["total"] = self.learned(torch.stack(tasks))
        else:
            losses["total"] = sum(
                (weight * task for weight, task in zip(self.weights, tasks, strict=False)),
                start=batch.frames.new_zeros(()),
            )
        return losses


def _lossnet(options: ACSNetOptions) -> LossNet:
    if options.lossnet is None:
        raise ObjectiveError(
            "objective acsnet compares masks through an ImageNet VGG-16 (LossNet): give its weights with "
            "--set objective.lossnet=FILE, a local copy of torchvision's vgg16-397923af.pth, or train "
            "without it with --set objective.gamma=0"
        )
    try:
        return LossNet(options.lossnet)
    except ModelError as error:
        raise ObjectiveError(f"objective.lossnet: {error}") from None


def _drop_lossnet(_: Any, state: dict[str, Any], prefix: str, __: Any) -> None:
    """Keep 60 MB of weights that never change, and lie in a file anyway, out of every checkpoint."""
    for key in [key for key in state if key.startswith(f"{prefix}lossnet.")]:
        del state[key]


def _expect_no_lossnet(_: Any, keys: Any) -> None:
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.startswith("lossnet.")]

"""What every objective has in common: its options, its contract, the class loss."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from models.losses import mean_over
from models.networks.base import Network, Output
from models.networks.blocks import full_precision
from train.learning.batch import UNKNOWN, Batch

Share = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]


class ObjectiveError(ValueError):
    """An objective or option that does not exist or does not fit; says what is possible instead."""


class Options(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename=lambda name: name.rstrip("_"),
):
    """Options of an objective, as in a recipe's table `[objective]`."""


class Objective(nn.Module):
    """What a network is trained to minimise.

    A module because it may learn weights of its own, which belong into the optimizer, or carry frozen ones,
    which must be on the network's device.
    """

    def __init__(self, network: Network) -> None:
        """Learn from the network what it returns."""
        super().__init__()
        self.classes = len(network.classes)
        self.regions = network.regions

    def forward(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Masks count where `batch.masked`, classes where `batch.labels` is not `UNKNOWN`; each part is the mean
        over the images that have what it needs, and 0, with a gradient of 0, where there are none.

        :return: each part unweighted, and `total`; for one network always the same keys.
        :raises ObjectiveError: if a label is none of the network's classes.
        """
        raise NotImplementedError

    def on_epoch(self, mean_losses: Mapping[str, float]) -> None:
        """End an epoch.

        :param mean_losses: what `forward` returned, averaged over the epoch.
        """

    def class_loss(self, logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy over the images whose class is known.

        :param logits: N x K.
        :param labels: N, `UNKNOWN` or below K.
        :param smoothing: share of the truth that is spread over all classes.
        :raises ObjectiveError: if a label is K or more (on a GPU the check would stall it: there CUDA stops).
        """
        if labels.device.type == "cpu" and len(labels) and int(labels.max()) >= self.classes:
            raise ObjectiveError(
                f"an image has class {int(labels.max())}, but the network tells {self.classes} classes "
                "(benign 0, malignant 1, normal 2): give it num_classes=3, or leave such images out"
            )
        losses = F.cross_entropy(
            full_precision(logits), labels, ignore_index=UNKNOWN, label_smoothing=smoothing, reduction="none"
        )
        return mean_over(losses, labels != UNKNOWN)


def lesion_log_odds(logits: Tensor, channel: int) -> Tensor:
    """Log-odds of the lesion against everything else.

    :param logits: N x R x H x W; one channel is the log-odds itself, more are a softmax's.
    :param channel: which of the R is the lesion; -1 is the last.
    :return: N x H x W, at least in FP32.
    """
    logits = full_precision(logits)
    count = logits.shape[1]
    if count == 1:
        return logits[:, 0]
    channel %= count
    others = torch.cat([logits[:, :channel], logits[:, channel + 1 :]], dim=1)
    return logits[:, channel] - others.logsumexp(dim=1)


def mask_terms(log_odds: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of masks, image by image.

    For two regions it is their cross-entropy. Soft targets stay soft.

    :param log_odds: N x H x W.
    :param target: N x 1 x H x W in [0, 1].
    :return: N.
    """
    soft = target[:, 0].to(log_odds.dtype)
    return F.binary_cross_entropy_with_logits(log_odds, soft, reduction="none").mean(dim=(1, 2))

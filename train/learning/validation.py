"""Asks a network in training about images, and scores what it says."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray

from models.networks.base import Network
from models.networks.registry import CLASSES
from train import metrics
from train.data import Images
from train.learning.batch import UNKNOWN

_NORMAL = CLASSES.index("normal")


class Prediction(NamedTuple):
    """What a network says of a set of images."""

    lesion: NDArray[np.float32] | None
    """M x H x W, probability; None for a network that does not segment."""
    logits: NDArray[np.float32] | None
    """M x K; None for a network that does not classify."""


def predict(network: Network, images: Images, *, batch: int = 32, bf16: bool = False) -> Prediction:
    """Run a network over images of its own size, on the device it is on.

    :param batch: images at a time.
    :param bf16: compute in bfloat16 where autocast allows it.
    """
    device = next(network.parameters()).device
    lesions, logits = [], []
    training = network.training
    network.eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for start in range(0, len(images), batch):
            pixels = np.ascontiguousarray(images.pixels[start : start + batch])
            output = network(torch.from_numpy(pixels).to(device).unsqueeze(1).float() / 255)
            if output.lesion is not None:
                lesions.append(output.lesion.float().cpu().numpy())
            if output.class_logits is not None:
                logits.append(output.class_logits.float().cpu().numpy())
    network.train(training)
    return Prediction(
        np.concatenate(lesions) if lesions else None, np.concatenate(logits) if logits else None
    )


def predict_shared(network: Network, images: Images, *, batch: int = 32, bf16: bool = False) -> Prediction:
    """Do as `predict`, the images shared between the processes of a run; each gets the whole answer."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return predict(network, images, batch=batch, bf16=bf16)
    shares = np.array_split(np.arange(len(images)), dist.get_world_size())
    own = predict(network, images.take(shares[dist.get_rank()]), batch=batch, bf16=bf16)
    everyone: list[Prediction] = [own] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    lesions = [part.lesion for part in everyone if part.lesion is not None]
    logits = [part.logits for part in everyone if part.logits is not None]
    return Prediction(
        np.concatenate(lesions) if lesions else None, np.concatenate(logits) if logits else None
    )


def figures(answers: Prediction, images: Images) -> dict[str, float]:
    """Score answers; a figure that cannot be computed (no such task, no such images) is left out.

    `dice` over images with a lesion whose mask is the truth; `false_positives`: share of normals with more
    than 0.5 % of the area marked; `auc`: malignant against benign; `accuracy`, `balanced_accuracy`,
    `cross_entropy` over images of known class.
    """
    values: dict[str, float] = {}
    labels = images.labels
    if answers.lesion is not None:
        marked, truth = answers.lesion >= 0.5, images.masks >= 128
        lesions = images.masked & truth.any(axis=(1, 2))
        if lesions.any():
            values["dice"] = float(metrics.dice(marked[lesions], truth[lesions]).mean())
        if (labels == _NORMAL).any():
            values["false_positives"] = metrics.false_positive_rate(marked[labels == _NORMAL])
    known = labels != UNKNOWN
    if answers.logits is not None and known.any():
        logits = torch.from_numpy(answers.logits[known])
        probabilities = logits.double().softmax(dim=1).numpy()
        labels = labels[known]
        values["accuracy"] = metrics.accuracy(probabilities, labels)
        values["balanced_accuracy"] = metrics.balanced_accuracy(probabilities, labels)
        values["cross_entropy"] = float(F.cross_entropy(logits, torch.from_numpy(labels)))
        told = labels < _NORMAL
        if len(np.unique(labels[told])) == 2:
            values["auc"] = metrics.auc(probabilities[told, 1], labels[told] == 1)
    return values


def score(sets: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> float | None:
    """Mean over the validation sets of the weighted sum of their figures.

    :param weights: by figure; one that a set does not have counts nothing.
    :return: None where nothing is weighed: then the last epoch is the best.
    """
    if not weights or not sets:
        return None
    return float(
        np.mean(
            [
                sum(weights[name] * value for name, value in one.items() if name in weights)
                for one in sets.values()
            ]
        )
    )

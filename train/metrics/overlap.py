"""How much of a lesion a mask covers, image by image, at the network's grid.

A: pixels predicted as lesion; G: pixels that are. Every function takes two stacks of masks, M x H x W, and
returns M figures. NaN: not defined for that image.
"""

import numpy as np
import torch
from monai.metrics.meandice import compute_dice
from monai.metrics.meaniou import compute_iou
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def dice(predicted: Bools, truth: Bools) -> Floats:
    """2 |A & G| / (|A| + |G|); 1 where both are empty."""
    return _floats(compute_dice(_one_channel(predicted), _one_channel(truth), ignore_empty=False))


def jaccard(predicted: Bools, truth: Bools) -> Floats:
    """|A & G| / |A or G|; 1 where both are empty."""
    return _floats(compute_iou(_one_channel(predicted), _one_channel(truth), ignore_empty=False))


def tpr(predicted: Bools, truth: Bools) -> Floats:
    """|A & G| / |G|, CTG-Net's TPR and RMTL-Net's SEN; NaN where there is no lesion."""
    return _share(_count(predicted & truth), _count(truth))


def fpr(predicted: Bools, truth: Bools) -> Floats:
    """|A minus G| / |A or G|, CTG-Net's FPR: the union below, not the background; 0 where both are empty."""
    union = _count(predicted | truth)
    return np.where(union == 0, 0.0, _share(_count(predicted & ~truth), np.maximum(union, 1)))


def tfpr(predicted: Bools, truth: Bools) -> Floats:
    """|A minus G| / |G|, CTG-Net's tFPR, which can exceed 1; NaN where there is no lesion."""
    return _share(_count(predicted & ~truth), _count(truth))


def pixel_specificity(predicted: Bools, truth: Bools) -> Floats:
    """TN / (TN + FP) over pixels, RMTL-Net's SPE; NaN where the lesion fills the image."""
    return _share(_count(~predicted & ~truth), _count(~truth))


def pixel_accuracy(predicted: Bools, truth: Bools) -> Floats:
    """(TP + TN) / all over pixels, RMTL-Net's ACC."""
    right: Floats = (predicted == truth).mean(axis=(1, 2))
    return right


def false_positive_rate(predicted: Bools, share: float = 0.005) -> float:
    """Share of images (all without a lesion) where more than `share` of the area is marked as lesion."""
    return float((predicted.mean(axis=(1, 2)) > share).mean())


def _count(masks: Bools) -> Ints:
    counts: Ints = masks.sum(axis=(1, 2))
    return counts


def _share(part: Ints, whole: Ints) -> Floats:
    shares: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return shares


def _one_channel(masks: Bools) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(masks))[:, None].byte()


def _floats(per_image: Tensor) -> Floats:
    return np.asarray(per_image[:, 0], float)

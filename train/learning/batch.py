"""What one step sees: frames and what is known of each."""

from typing import NamedTuple

from torch import Tensor

UNKNOWN = -100
"""Label of a frame whose class is not known, or cannot be told from it; ignored by every class loss."""


class Batch(NamedTuple):
    """Frames of a network's own size and what is true of them; all on one device."""

    frames: Tensor
    """N x 1 x H x W, float32 in [0, 1]."""
    masks: Tensor
    """N x 1 x H x W, float32 in [0, 1]: the lesion; filled boxes where `boxed`; zeros where neither."""
    labels: Tensor
    """N: class index, or `UNKNOWN`."""
    masked: Tensor
    """N, bool: the mask is the truth."""
    boxed: Tensor
    """N, bool: the mask holds filled boxes, which tell the place and not the outline."""
    glands: Tensor | None = None
    """N x 1 x H x W, float32 in [0, 1]: mammary gland; None where no frame of the run has one."""
    gland_known: Tensor | None = None
    """N, bool: the gland mask is the truth; None with `glands`."""

"""How far the outline of a mask is from the lesion's, as MedPy measures it.

An outline is a mask without its erosion by the 4-neighbour cross. Distances are in pixels of a 256 x 256 grid
unless the spacing is known, then in mm.
"""

from typing import Literal, NamedTuple

import numpy as np
from monai.metrics.utils import get_mask_edges, get_surface_distance

from train.metrics.overlap import Bools, Floats

Empty = Literal["undefined", "zero"]
"""What a distance is where only one of the two masks is empty: `undefined` leaves the image out of the mean
(count it apart); `zero` reproduces ACSNet's public script, which so flatters misses."""

GRID = 256
"""Side of the grid whose pixels distances are in."""


class Distances(NamedTuple):
    """Distances between outlines, M each; NaN where they are undefined."""

    hd95: Floats
    """95th percentile of the distances of both directions, pooled."""
    asd: Floats
    """Mean distance from the predicted outline to the true one."""
    assd: Floats
    """Mean of `asd` and of the same the other way round."""


def distances(
    predicted: Bools, truth: Bools, spacing: Floats | None = None, *, empty: Empty = "undefined"
) -> Distances:
    """Measure the distances between outlines; all 0 where both masks are empty.

    :param predicted: M x H x W.
    :param truth: M x H x W.
    :param spacing: M x 2, width and height of a pixel; None: such that the image's sides are 256.
    """
    height, width = truth.shape[1:]
    if spacing is None:
        spacing = np.full((len(truth), 2), (GRID / width, GRID / height))
    rows = [_measure(*row, empty) for row in zip(predicted, truth, spacing, strict=True)]
    return Distances(*np.array(rows, float).reshape(-1, 3).T)


def _measure(predicted: Bools, truth: Bools, spacing: Floats, empty: Empty) -> tuple[float, float, float]:
    if not predicted.any() or not truth.any():
        nothing = 0.0 if empty == "zero" or not (predicted.any() or truth.any()) else float("nan")
        return nothing, nothing, nothing
    # MONAI's own 95HD is the larger of two percentiles, its ASSD pools both directions: neither is MedPy's.
    mine, true = get_mask_edges(predicted, truth)
    down_across = (float(spacing[1]), float(spacing[0]))
    out = np.asarray(get_surface_distance(mine, true, spacing=down_across), float)
    back = np.asarray(get_surface_distance(true, mine, spacing=down_across), float)
    hd95 = float(np.percentile(np.concatenate([out, back]), 95))
    return hd95, float(out.mean()), float((out.mean() + back.mean()) / 2)

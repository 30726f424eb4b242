"""How good a picture is to judge from: said with every result, never used to hide one."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.analysis import Lesion, Quality, Region
from streamer.frame import Pixels

_NEAR_FIELD = 0.2
"""Upper part of the picture that shows bands even in air."""
_FAR_FIELD = 0.75
"""Below this the beam may have died out with the best of contacts."""
_AIR, _TISSUE = 18.0, 32.0
"""Mean gray levels of a column that shows air, and of one that surely shows tissue."""
_DARK, _BRIGHT = 12, 250


def assess(view: Pixels, lesions: Sequence[Lesion], region: Region) -> Quality:
    """Measure a picture.

    :param view: H x W gray, the region as the model saw it.
    :param lesions: those found in it.
    """
    small = np.asarray(cv2.resize(view, (64, 64), interpolation=cv2.INTER_AREA))
    return Quality(
        contact=contact(small),
        signal=_signal(small),
        sharpness=_sharpness(view),
        lesion_cut=any(_is_cut(lesion, region) for lesion in lesions),
    )


def contact(small: NDArray[Any]) -> float:
    """Return the part of the probe's face that touches skin, judged by the echoes below it, 0 to 1.

    A picture that is dark from too little gain looks the same as one of air.

    :param small: H x W gray; some 64 rows are enough.
    """
    rows = small.shape[0]
    between = small[int(rows * _NEAR_FIELD) : int(rows * _FAR_FIELD)]
    columns = np.asarray(cv2.reduce(between, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F), np.float32)
    lit = (columns - _AIR) / (_TISSUE - _AIR)
    return cv2.mean(np.clip(lit, 0, 1, out=lit))[0]


def _signal(small: NDArray[Any]) -> float:
    """Return the part of the picture that is neither black nor saturated."""
    return cv2.countNonZero(cv2.inRange(small, _DARK + 1, _BRIGHT - 1)) / small.size


def _sharpness(view: Pixels) -> float:
    """Return how much of the contrast is fine detail, from 0 (blurred) to 1."""
    _, overall = cv2.meanStdDev(view)
    if overall[0, 0] < 1:
        return 0.0
    # White noise has sqrt(2) of its spread from pixel to pixel.
    step = cv2.norm(view[:, 1:], view[:, :-1], cv2.NORM_L2)
    pairs = view.shape[0] * (view.shape[1] - 1)
    return min(1.0, step / (math.sqrt(2.0 * pairs) * float(overall[0, 0])))


def _is_cut(lesion: Lesion, region: Region) -> bool:
    """Whether a lesion ends at the region's border, so that its true size is not seen."""
    near_x, near_y = region.width * 0.01, region.height * 0.01
    x, y, width, height = lesion.box
    return (
        x - region.x <= near_x
        or y - region.y <= near_y
        or region.x + region.width - (x + width) <= near_x
        or region.y + region.height - (y + height) <= near_y
    )

"""From a probability map to lesions: outline, size, identity."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.analysis import Lesion, Region
from streamer.frame import Pixels

THRESHOLD = 128
"""Half of the 0 to 255 range: lesion where lesion is more probable than not."""
MIN_AREA = 0.002
"""Smaller spots, as a fraction of the region, are left out: 3 mm across in a picture of 40 x 60 mm."""
_UPSAMPLE = 3
"""The map is thresholded at three times its size, so that outlines don't show its cells."""
_FORGET_AFTER_S = 1.0


class Outline(NamedTuple):
    """One connected lesion, before it has an identity."""

    contour: NDArray[np.float32]
    """N x 2, (x, y) in source pixels."""
    box: tuple[float, float, float, float]
    probability: float


def find_outlines(lesion: Pixels, region: Region) -> list[Outline]:
    """Outline every lesion in a probability map, largest first.

    :param lesion: H x W, 0 to 255, over the region.
    """
    if int(lesion.max(initial=0)) < THRESHOLD:
        return []
    height, width = lesion.shape
    fine = cv2.resize(lesion, (width * _UPSAMPLE, height * _UPSAMPLE), interpolation=cv2.INTER_LINEAR)
    shape = (np.asarray(cv2.blur(fine, (3, 3))) >= THRESHOLD).view(np.uint8)
    contours, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    least = MIN_AREA * shape.size
    large = [c for c in contours if cv2.contourArea(c) >= least]
    scale = np.array([region.width / shape.shape[1], region.height / shape.shape[0]], np.float32)
    origin = np.array([region.x, region.y], np.float32)
    outlines = []
    for contour in sorted(large, key=cv2.contourArea, reverse=True):
        filled = np.zeros_like(shape)
        cv2.drawContours(filled, [contour], -1, 255, cv2.FILLED)
        probability = cv2.mean(fine, filled)[0] / 255
        points = cv2.approxPolyDP(contour, 0.7, True)[:, 0].astype(np.float32)
        # A point of the fine map is the centre of its cell.
        placed = (points + 0.5) * scale + origin
        low, high = placed.min(axis=0), placed.max(axis=0)
        box = (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))
        outlines.append(Outline(placed, box, float(probability)))
    return outlines


def diameters(points: NDArray[np.float32]) -> tuple[float, float]:
    """Return the longest diameter of a polygon, and its extent perpendicular to that, in the points' unit."""
    hull = cv2.convexHull(points)[:, 0].astype(np.float64)
    between = hull[:, None] - hull[None]
    squared = (between**2).sum(axis=-1)
    first, second = np.unravel_index(int(np.argmax(squared)), squared.shape)
    longest = math.sqrt(float(squared[first, second]))
    if longest == 0:
        return 0.0, 0.0
    axis = (hull[first] - hull[second]) / longest
    across = hull @ np.array([-axis[1], axis[0]])
    return longest, float(across.max() - across.min())


class _Track(NamedTuple):
    identity: int
    box: tuple[float, float, float, float]
    seen: int


class LesionTracker:
    """Gives lesions of one source an identity that lasts from frame to frame.

    A lesion keeps the identity of the lesion before whose box it overlaps most; an identity that was not
    seen for a second is forgotten. Does not follow lesions that cross each other.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._next = 1

    def reset(self) -> None:
        """Forget all lesions, as after a change of view; identities are never used twice."""
        self._tracks.clear()

    def identify(
        self, outlines: list[Outline], captured_monotonic: int, spacing_mm: tuple[float, float] | None
    ) -> list[Lesion]:
        """Measure each outline and give it its identity.

        :param spacing_mm: (row, column) of a source pixel, or None where unknown.
        """
        known = [t for t in self._tracks if (captured_monotonic - t.seen) * 1e-9 <= _FORGET_AFTER_S]
        lesions, seen = [], []
        for outline in outlines:
            best = max(known, key=lambda track: _overlap(track.box, outline.box), default=None)
            if best is not None and _overlap(best.box, outline.box) > 0:
                known.remove(best)
                identity = best.identity
            else:
                identity, self._next = self._next, self._next + 1
            seen.append(_Track(identity, outline.box, captured_monotonic))
            lesions.append(measure(outline, identity, spacing_mm))
        self._tracks = seen + known
        return lesions


def measure(outline: Outline, track: int, spacing_mm: tuple[float, float] | None) -> Lesion:
    """Measure an outline, in mm only where the pixel spacing is known; pixels need not be square."""
    area = float(cv2.contourArea(outline.contour))
    longest, across = diameters(outline.contour)
    lesion = Lesion(
        track=track,
        contour=[(round(float(x), 1), round(float(y), 1)) for x, y in outline.contour],
        box=outline.box,
        area_px=area,
        longest_px=longest,
        perpendicular_px=across,
        probability=min(1.0, outline.probability),
    )
    if spacing_mm is None:
        return lesion
    row, column = spacing_mm
    longest_mm, across_mm = diameters(outline.contour * np.array([column, row], np.float32))
    return Lesion(
        lesion.track,
        lesion.contour,
        lesion.box,
        area,
        longest,
        across,
        lesion.probability,
        area_mm2=area * row * column,
        longest_mm=longest_mm,
        perpendicular_mm=across_mm,
    )


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (a[2] * a[3] + b[2] * b[3] - both)

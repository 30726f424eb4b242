"""From a probability map to lesions: outline and size."""

import math
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.analysis import Lesion, Region
from streamer.frame import Pixels

Floats = NDArray[np.float32]
Points = list[tuple[float, float]]

THRESHOLD = 128
"""Half of the 0 to 255 range: lesion where lesion is more probable than not."""
MIN_AREA = 0.002
"""Smaller spots, as a fraction of the region, are left out: 3 mm across in a picture of 40 x 60 mm."""
_SIMPLER_BY = 0.7
"""A published outline keeps within this of the measured one, in cells of the enlarged map."""
_MARGIN = 3
"""Cells of the map around a lesion that enlarging it looks at."""


class Outline(NamedTuple):
    """One connected lesion, before it has an identity."""

    contour: Floats
    """N x 2, (x, y) in source pixels: smooth, a point every third of a cell; all measures are taken on it."""
    simple: Floats
    """The same shape in few points, to be drawn."""
    box: tuple[float, float, float, float]
    centre: tuple[float, float]
    area: float
    probability: float


def find_outlines(lesion: Pixels, region: Region) -> list[Outline]:
    """Outline every lesion in a probability map, largest first.

    :param lesion: H x W, 0 to 255, over the region.
    """
    cells = _cells(lesion)
    left, top, width, height = cv2.boundingRect(cells)
    if not width:
        return []
    rows, columns = lesion.shape
    left, top = max(left - _MARGIN, 0), max(top - _MARGIN, 0)
    part = lesion[top : top + height + 2 * _MARGIN, left : left + width + 2 * _MARGIN]
    # Enlarged, so that outlines don't show the map's cells.
    enlarge = 3 if max(rows, columns) <= 160 else 2
    enlarged = cv2.resize(part, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_LINEAR)
    fine: Pixels = np.asarray(cv2.blur(enlarged, (3, 3)), np.uint8)
    shape = _cells(fine)
    contours, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    least = MIN_AREA * rows * columns * enlarge**2
    large = [(area, c) for c in contours if (area := cv2.contourArea(c)) >= least]
    scale = np.array([region.width / columns, region.height / rows], np.float32)
    origin = np.array([region.x, region.y], np.float32)
    # A point of the enlarged map is the centre of its cell.
    to_region = scale / np.float32(enlarge)
    origin += np.array([left, top], np.float32) * scale + to_region / 2

    outlines = []
    for _, contour in sorted(large, key=lambda pair: pair[0], reverse=True):
        smooth = _smooth(contour[:, 0].astype(np.float32))
        simple = np.asarray(cv2.approxPolyDP(smooth, _SIMPLER_BY, True), np.float32)[:, 0]
        outlines.append(
            _outline(smooth * to_region + origin, simple * to_region + origin, _mean_inside(fine, contour))
        )
    return outlines


def outline_roughly(lesion: Pixels, region: Region) -> list[Points]:
    """Outline every lesion in a map to the nearest cell, for comparison; largest first."""
    cells = _cells(lesion)
    contours, _ = cv2.findContours(cells, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rows, columns = lesion.shape
    large = [(area, c) for c in contours if (area := cv2.contourArea(c)) >= MIN_AREA * rows * columns]
    scale = np.array([region.width / columns, region.height / rows], np.float32)
    origin = np.array([region.x, region.y], np.float32)
    return [
        as_points((cv2.approxPolyDP(contour, 0.5, True)[:, 0] + np.float32(0.5)) * scale + origin)
        for _, contour in sorted(large, key=lambda pair: pair[0], reverse=True)
    ]


def as_points(contour: Floats) -> Points:
    """Round a contour for the wire, to a tenth of a pixel."""
    if len(contour) < 8:
        return [(round(x, 1), round(y, 1)) for x, y in contour.tolist()]
    return list(map(tuple, np.round(contour.astype(np.float64), 1).tolist()))


class Calipers(NamedTuple):
    """Two diameters of a shape, in the points' unit, and where they are measured."""

    longest: float
    perpendicular: float
    """Largest extent perpendicular to the longest diameter."""
    longest_ends: Floats
    """2 x 2: both ends as (x, y)."""
    perpendicular_ends: Floats
    """Of a line as long as the extent and perpendicular to the other one, between the outermost points."""


def calipers(points: Floats) -> Calipers:
    """Measure a polygon's longest diameter, and its extent perpendicular to that.

    :param points: N x 2, (x, y).
    """
    corners: Floats = np.asarray(cv2.convexHull(points), np.float32)[:, 0]
    # Every corner against every other: in place and in single precision, as there may be hundreds.
    squared, down = (np.subtract.outer(along, along) for along in corners.T)
    squared *= squared
    down *= down
    squared += down
    first, second = divmod(int(squared.argmax()), len(corners))
    hull = corners.astype(np.float64)
    ends = hull[[first, second]]
    longest = math.dist(*ends.tolist())
    if longest == 0:
        return Calipers(0.0, 0.0, _float32(ends), _float32(ends))
    axis = (ends[1] - ends[0]) / longest
    normal = np.array([-axis[1], axis[0]])
    across = hull @ normal
    outermost = [int(np.argmin(across)), int(np.argmax(across))]
    # Where both outermost points meet the other diameter differs; the line goes through the middle of that.
    along = float((hull[outermost] @ axis).mean())
    across_ends = along * axis + np.outer(across[outermost], normal)
    extent = float(across[outermost[1]] - across[outermost[0]])
    return Calipers(longest, extent, _float32(ends), _float32(across_ends))


def measure(outline: Outline, track: int, region: Region, spacing_mm: tuple[float, float] | None) -> Lesion:
    """Measure an outline, in mm only where the pixel spacing is known; pixels need not be square."""
    measured = in_mm = calipers(outline.contour)
    shown = measured
    to_pixels: Floats = np.ones(2, np.float32)
    if spacing_mm is not None and spacing_mm[0] != spacing_mm[1]:
        # The longest diameter in millimetres may be another one than in pixels; it is the one to be shown.
        to_mm = np.array(spacing_mm[::-1], np.float32)
        shown = in_mm = calipers(outline.contour * to_mm)
        to_pixels = np.asarray(1 / to_mm, np.float32)
    depth = outline.centre[1] - region.y
    lesion = Lesion(
        track=track,
        contour=as_points(outline.simple),
        box=outline.box,
        area_px=outline.area,
        longest_px=measured.longest,
        perpendicular_px=measured.perpendicular,
        probability=outline.probability,
        centre=outline.centre,
        depth_px=depth,
        longest_ends=_ends(shown.longest_ends * to_pixels),
        perpendicular_ends=_ends(shown.perpendicular_ends * to_pixels),
    )
    if spacing_mm is None:
        return lesion
    row, column = spacing_mm
    scale = row if row == column else 1.0
    return msgspec.structs.replace(
        lesion,
        area_mm2=outline.area * row * column,
        longest_mm=in_mm.longest * scale,
        perpendicular_mm=in_mm.perpendicular * scale,
        depth_mm=depth * row,
        lateral_mm=(outline.centre[0] - region.x - region.width / 2) * column,
    )


def _ends(points: Floats) -> tuple[tuple[float, float], tuple[float, float]]:
    first, second = as_points(points)
    return first, second


def _float32(points: NDArray[np.float64]) -> Floats:
    return points.astype(np.float32)


def _cells(lesion: Pixels) -> Pixels:
    return np.greater_equal(lesion, THRESHOLD).view(np.uint8)


def _smooth(chain: Floats) -> Floats:
    """Turn the chain of a shape's outermost cells into a smooth curve along their outer edges."""
    curve = _average_along(chain)
    # Averaging pulls a curve inwards where it bends; adding back what it took undoes most of that.
    curve += _average_along(chain - curve)
    # The chain runs through the cells' centres, the edge half a cell outside them.
    closed = np.concatenate([curve[-2:], curve, curve[:2]])
    ahead = closed[4:] - closed[:-4]
    length = np.maximum(np.hypot(ahead[:, 0], ahead[:, 1]), 1e-6)
    outwards = 0.5 if cv2.contourArea(curve, oriented=True) > 0 else -0.5
    curve[:, 0] += outwards * ahead[:, 1] / length
    curve[:, 1] -= outwards * ahead[:, 0] / length
    return curve


def _average_along(chain: Floats) -> Floats:
    """Average a closed curve over its neighbouring points; less on a small one."""
    reach = max(1, min(6, len(chain) // 16))
    closed = np.concatenate([chain[-2 * reach :], chain, chain[: 2 * reach]])
    # Twice a box is a triangle: smooth enough, and a running sum.
    return np.asarray(
        cv2.blur(cv2.blur(closed, (1, 2 * reach + 1)), (1, 2 * reach + 1))[2 * reach : -2 * reach]
    )


def _outline(contour: Floats, simple: Floats, probability: float) -> Outline:
    low, high = contour.min(axis=0).tolist(), contour.max(axis=0).tolist()
    moments = cv2.moments(contour)
    area = moments["m00"]
    centre = (moments["m10"] / area, moments["m01"] / area)
    return Outline(
        contour, simple, (low[0], low[1], high[0] - low[0], high[1] - low[1]), centre, area, probability
    )


def _mean_inside(fine: Pixels, contour: NDArray[Any]) -> float:
    left, top, width, height = cv2.boundingRect(contour)
    inside = np.zeros((height, width), np.uint8)
    cv2.drawContours(inside, [contour], -1, 255, cv2.FILLED, offset=(-left, -top))
    return min(1.0, cv2.mean(fine[top : top + height, left : left + width], inside)[0] / 255)

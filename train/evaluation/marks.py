"""Finds calipers and text burned into a picture and paints them over, to see how much a model leans on them.

Conservative: only crisp, nearly white strokes that are narrow sideways, which speckle and tissue borders are
not, since a beam blurs sideways; what stands beside them in a line of text; and dotted lines between crosses.
Not found: gray or coloured marks, marks on white tissue, thick arrows, body-mark pictograms. What is painted
over is made up from its surroundings, so a figure on such pictures also pays for the repair.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from train.data import Study, fit, read_gray
from train.metrics import Bools, Floats
from train.pictures import Pixels

_WHITE = 175
_CRISP = 70
_SEED_WHITE, _SEED_CRISP = 195, 95
_STROKE_PX = 9  # strokes are narrower
_RUN_PX = 5  # and their upright parts at least as tall
_GLYPH_PX = 42
_ARM_PX = 4  # of a caliper's cross, from its centre, at least
_LONGEST_ARM_PX = 14
_EVEN = 30
_NUMBER_PX = 14


class _Glyph(NamedTuple):
    x: int
    y: int
    width: int
    height: int
    label: int


def without_marks(studies: Sequence[Study], size: int) -> tuple[Pixels, Bools]:
    """Read pictures as `train.data.read_images` does, their marks painted over.

    :param size: side of the square they are brought to, in pixels.
    :return: M x size x size, and which of the pictures had marks.
    :raises DataError: if a picture cannot be read.
    """
    out = np.empty((len(studies), size, size), np.uint8)

    def clean(row: int) -> bool:
        picture = read_gray(studies[row].image)
        marks = find_marks(picture)
        fit(paint_over(picture, marks), out[row])
        return bool(marks.any())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return out, np.array(list(pool.map(clean, range(len(studies)))), bool)


def paint_over(picture: Pixels, marks: Bools) -> Pixels:
    """Fill marks from their surroundings (Telea 2004).

    :param picture: H x W gray.
    :param marks: H x W, of `find_marks`.
    """
    if not marks.any():
        return picture
    # The rim of a mark is smoothed into the picture, and brighter than it for a pixel or two.
    hidden = cv2.dilate(marks.astype(np.uint8), np.ones((5, 5), np.uint8))
    return np.asarray(cv2.inpaint(picture, hidden, 5, cv2.INPAINT_TELEA), np.uint8)


def find_marks(picture: Pixels) -> Bools:
    """Find calipers, text and the dotted lines between calipers.

    :param picture: H x W gray, as large as it was stored.
    :return: H x W.
    """
    sideways = cv2.morphologyEx(picture, cv2.MORPH_TOPHAT, np.ones((1, _STROKE_PX), np.uint8))
    upright = cv2.morphologyEx(picture, cv2.MORPH_TOPHAT, np.ones((_STROKE_PX, 1), np.uint8))
    strokes = (picture >= _WHITE) & (np.maximum(sideways, upright) >= _CRISP)
    seeds = ((picture >= _SEED_WHITE) & (sideways >= _SEED_CRISP)).astype(np.uint8)
    seeds = cv2.morphologyEx(seeds, cv2.MORPH_OPEN, np.ones((_RUN_PX, 1), np.uint8)).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(strokes.astype(np.uint8), connectivity=8)
    small = [
        _Glyph(*(int(value) for value in (*stats[label, :4], label)))
        for label in range(1, count)
        if max(stats[label, 2:4]) <= _GLYPH_PX and stats[label, cv2.CC_STAT_AREA] >= 10
    ]
    seeded = set(np.unique(labels[seeds > 0]).tolist())
    letters = [one for one in small if one.label in seeded and _is_letter(one)]
    text = [one for one in letters if any(_beside(one, other) for other in letters if other is not one)]
    text += [one for one in small if one.label not in seeded and any(_beside(one, other) for other in text)]
    crosses = _crosses(picture)
    # The number of a caliper stands beside it and often touches it.
    text += [one for one in letters if any(_near(one, x, y) for x, y in crosses)]
    found: Bools = np.isin(labels, [one.label for one in text])
    for x, y in crosses:
        _mark_cross(found, picture, x, y)
    for one, other in combinations(crosses, 2):
        _mark_line(found, picture, np.array(one, float), np.array(other, float))
    return found


def _crosses(picture: Pixels) -> list[tuple[int, int]]:
    """Find the centres (x, y) of upright crosses: two even white bars, dark between their arms."""
    level = picture.astype(np.int16)
    height, width = level.shape
    if min(height, width) <= 2 * _ARM_PX:
        return []
    centre = level[_ARM_PX:-_ARM_PX, _ARM_PX:-_ARM_PX]

    def at(down: int, across: int) -> NDArray[np.int16]:
        rows = slice(_ARM_PX + down, height - _ARM_PX + down)
        return level[rows, _ARM_PX + across : width - _ARM_PX + across]

    bars = centre >= _WHITE
    for step in range(1, _ARM_PX + 1):
        for down, across in ((step, 0), (-step, 0), (0, step), (0, -step)):
            bars &= at(down, across) >= centre - _EVEN
    corners = [
        at(down, across) <= centre - _CRISP for down in (-_ARM_PX, _ARM_PX) for across in (-_ARM_PX, _ARM_PX)
    ]
    # Tissue or the caliper's number may fill one corner.
    centres = bars & (np.sum(corners, axis=0) >= 3)
    count, _, _, middles = cv2.connectedComponentsWithStats(centres.astype(np.uint8), connectivity=8)
    return [(round(x) + _ARM_PX, round(y) + _ARM_PX) for x, y in middles[1:count].tolist()]


def _mark_cross(found: Bools, picture: Pixels, x: int, y: int) -> None:
    least = int(picture[y, x]) - _CRISP
    for down, across in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        for step in range(_LONGEST_ARM_PX):
            row, column = y + step * down, x + step * across
            inside = 0 <= row < picture.shape[0] and 0 <= column < picture.shape[1]
            if not inside or picture[row, column] < least:
                break
            found[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True


def _is_letter(one: _Glyph) -> bool:
    return 6 <= one.height <= _GLYPH_PX and one.width <= 1.8 * one.height


def _near(one: _Glyph, x: int, y: int) -> bool:
    across = max(one.x - x, x - (one.x + one.width), 0)
    down = max(one.y - y, y - (one.y + one.height), 0)
    return max(across, down) <= _NUMBER_PX


def _beside(one: _Glyph, other: _Glyph) -> bool:
    """Whether two glyphs could stand in one line of text."""
    apart = max(one.x, other.x) - min(one.x + one.width, other.x + other.width)
    tall = max(one.height, other.height)
    level = abs((one.y + one.height) - (other.y + other.height)) <= 0.25 * tall
    alike = min(one.height, other.height) >= 0.6 * tall
    return -2 <= apart <= 1.2 * tall and level and alike


def _mark_line(found: Bools, picture: Pixels, start: Floats, end: Floats) -> None:
    """Mark the dots between two crosses, if there is a line of them."""
    length = float(np.hypot(*(end - start)))
    if length < 3 * _LONGEST_ARM_PX:
        return
    # Nothing wider than a dot is left: bright borders of tissue are.
    dots = cv2.morphologyEx(picture, cv2.MORPH_TOPHAT, np.ones((4, 4), np.uint8)).astype(float)
    along = (end - start) / length
    across = np.array([-along[1], along[0]])
    steps = np.arange(_LONGEST_ARM_PX, length - _LONGEST_ARM_PX, 0.5)

    def strength(shift: float) -> float:
        points = start + steps[:, None] * along + shift * across
        x, y = (points[:, axis].round().astype(int).clip(0, picture.shape[1 - axis] - 1) for axis in (0, 1))
        return float(dots[y, x].mean())

    best = max((-1.0, 0.0, 1.0), key=strength)
    beside = float(np.mean([strength(best + shift) for shift in (-6, -4, 4, 6)]))
    if strength(best) < 20 or strength(best) < 3 * beside:
        return
    line = np.zeros(picture.shape, np.uint8)
    (x0, y0), (x1, y1) = ((point + best * across).round().astype(int).tolist() for point in (start, end))
    cv2.line(line, (x0, y0), (x1, y1), 1, 2)
    found |= line > 0

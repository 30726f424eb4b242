"""Finds pictures that show the same thing: exact copies, and near ones that were cropped or marked anew.

Two steps, for speed. Every pair is compared by the correlation of small thumbnails, as two matrix products:
coarse ones, which find neighbouring frames of one lesion, and band-passed ones, which find another crop of
the same frame. The few pairs that are left are registered: the middle of one picture, slightly stretched or
squeezed, is searched for in the other one. Other views of one lesion, with another angle of the probe, are
not found; only a patient's identity helps there.
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from train.data import fit
from train.pictures import Pixels

THUMBNAIL = 64
"""Side of the thumbnails that are compared, in pixels."""
SAME_LAYOUT = 0.94
"""Correlation of 16 x 16 thumbnails from which two pictures may be neighbouring frames ..."""
SAME_DETAIL = 0.65
"""... if their registered detail correlates as much as this."""
SAME_CROP = 0.85
"""Registered detail that correlates this much is the same frame, however its crop differs."""
# Below these a pair is not registered.
_CANDIDATE_LAYOUT = 0.88
_CANDIDATE_DETAIL = 0.5
_CANDIDATE_UNSCALED = 0.45
_SCALES = (0.9, 1.0, 1.1)
_BLOCK = 1024

_Planes = NDArray[np.float32]


class Duplicates(NamedTuple):
    """Pairs of indices, the smaller first."""

    exact: tuple[tuple[int, int], ...]
    """Pixel for pixel the same."""
    near: tuple[tuple[int, int], ...]
    """The same frame or a neighbouring one, without the exact ones."""


def thumbnail(picture: Pixels) -> Pixels:
    """Shrink a gray picture (H x W) to what is compared."""
    out = np.empty((THUMBNAIL, THUMBNAIL), np.uint8)
    fit(picture, out)
    return out


def find_duplicates(thumbnails: Pixels, digests: Sequence[bytes]) -> Duplicates:
    """Compare every picture with every other one.

    :param thumbnails: M x 64 x 64, of `thumbnail`.
    :param digests: of the whole pictures' pixels, equal for equal pictures.
    """
    first: dict[bytes, int] = {}
    exact = []
    for index, digest in enumerate(digests):
        if (known := first.setdefault(digest, index)) != index:
            exact.append((known, index))
    kept = np.array(sorted(first.values()), int)
    near = _near(thumbnails[kept]) if len(kept) > 1 else []
    return Duplicates(tuple(exact), tuple((int(kept[one]), int(kept[other])) for one, other in near))


def join_pairs(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Number the groups that pairs of `count` items form, in the order of their first items."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(item), len(numbers)) for item in range(count)]


def _near(thumbnails: Pixels) -> list[tuple[int, int]]:
    coarse = np.empty((len(thumbnails), 16, 16), np.float32)
    middle = np.empty((len(thumbnails), 32, 32), np.float32)
    detail = np.empty(thumbnails.shape, np.float32)
    for row, small in enumerate(thumbnails):
        plane = small.astype(np.float32)
        wide = cv2.GaussianBlur(plane, (0, 0), 8)
        coarse[row] = cv2.resize(plane, (16, 16), interpolation=cv2.INTER_AREA)
        middle[row] = cv2.resize(cv2.GaussianBlur(plane, (0, 0), 2) - wide, (32, 32))
        detail[row] = cv2.GaussianBlur(plane, (0, 0), 1) - wide
    pairs, layout = _candidates(_unit(coarse), _unit(middle))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        registered = list(pool.map(lambda pair: _register(detail[pair[0]], detail[pair[1]]), pairs))
    return [
        pair
        for pair, alike, same in zip(pairs, layout, registered, strict=True)
        if same >= SAME_CROP or (alike >= SAME_LAYOUT and same >= SAME_DETAIL)
    ]


def _unit(planes: _Planes) -> _Planes:
    rows = planes.reshape(len(planes), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    length: _Planes = np.linalg.norm(rows, axis=1, keepdims=True)
    # A picture of one colour is like nothing, not like everything.
    return np.asarray(np.where(length > 1e-3, rows / np.maximum(length, 1e-3), 0), np.float32)


def _candidates(coarse: _Planes, middle: _Planes) -> tuple[list[tuple[int, int]], list[float]]:
    pairs: list[tuple[int, int]] = []
    layout: list[float] = []
    for start in range(0, len(coarse), _BLOCK):
        rows = slice(start, start + _BLOCK)
        alike = coarse[rows] @ coarse[start:].T
        likely = (alike >= _CANDIDATE_LAYOUT) | (middle[rows] @ middle[start:].T >= _CANDIDATE_DETAIL)
        one, other = np.nonzero(np.triu(likely, 1))
        pairs += [(int(a) + start, int(b) + start) for a, b in zip(one, other, strict=True)]
        layout += alike[one, other].tolist()
    return pairs, layout


def _register(one: _Planes, other: _Planes) -> float:
    """Search the middle of each picture in the other one; the best correlation of both ways."""
    best = max(_search(one, other, 1, 1), _search(other, one, 1, 1))
    if best < _CANDIDATE_UNSCALED:
        return best
    scales = [(x, y) for x in _SCALES for y in _SCALES if (x, y) != (1, 1)]
    return max(best, *(max(_search(one, other, x, y), _search(other, one, x, y)) for x, y in scales))


def _search(part_of: _Planes, within: _Planes, scale_x: float, scale_y: float) -> float:
    width, height = round(THUMBNAIL * scale_x), round(THUMBNAIL * scale_y)
    scaled = part_of if scale_x == scale_y == 1 else cv2.resize(part_of, (width, height))
    middle = scaled[int(0.2 * height) : int(0.8 * height), int(0.2 * width) : int(0.8 * width)]
    return float(cv2.matchTemplate(within, middle, cv2.TM_CCOEFF_NORMED).max())

"""Where each part of a picture was in the picture before, and where that is not to be believed."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.frame import Pixels

Floats = NDArray[np.float32]

_LONGEST_SIDE = 64
"""Flow is measured at this size: tissue moves smoothly, speckle averages out, cost falls with the square."""
_FINEST = 1
"""The finest level of DIS's pyramid that is searched: half the size."""
_CELL = 2
"""Pixels of the flow that share one motion, before it is smoothed further."""
_AGREE_PX, _DISAGREE_PX = 0.5, 1.5
"""How far from its start the way forth and back may end: to be believed, and not to be."""
_SAME, _OTHER = 12.0, 40.0
"""How far blurred gray levels may differ after the motion: to be believed, and not to be."""
_LEAST_CONFIDENCE = 0.05
"""Where nothing near is believed, the motion goes to zero."""


class Motion:
    """Dense optical flow between successive pictures, checked forth and back, averaged by confidence."""

    def __init__(self, shape: tuple[int, int]) -> None:
        """Allocate.

        :param shape: (height, width) of the pictures.
        """
        height, width = shape
        shrink = max(1.0, max(shape) / _LONGEST_SIDE)
        # DIS matches patches of 8 on a pyramid: below 32 pixels a side it has nothing to go by.
        rows, columns = max(32, round(height / shrink)), max(32, round(width / shrink))
        self._size = (columns, rows)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._flow.setFinestScale(_FINEST)
        self._now, self._before, self._moved = np.zeros((3, rows, columns), np.uint8)
        self._back, self._forth, self._where, self._work = np.zeros((4, rows, columns, 2), np.float32)
        self._doubt, self._confidence = np.empty((2, rows, columns), np.float32)
        self._grid = _grid(rows, columns)
        self._cells = (max(1, columns // _CELL), max(1, rows // _CELL))
        self._scale = np.array([width / columns, height / rows], np.float32)
        self._full_grid = _grid(height, width)
        self.where = self._full_grid.copy()
        """H x W x 2: (x, y) in the picture before of what is now at each pixel."""
        self.doubt = np.zeros(shape, np.float32)
        """H x W: 0 where `where` is to be believed, 1 where it is not."""

    def begin(self, view: Pixels) -> None:
        """Take a picture that has none before it: nothing has moved."""
        self._reduce(view)
        # The search for the next flow starts from these.
        self._back.fill(0)
        self._forth.fill(0)
        np.copyto(self.where, self._full_grid)
        self.doubt.fill(0)

    def advance(self, view: Pixels) -> None:
        """Take the next picture and measure what moved since the one before."""
        self._reduce(view)
        self._flow.calc(self._now, self._before, self._back)
        self._flow.calc(self._before, self._now, self._forth)
        self._check()
        confidence = np.subtract(1, self._doubt, out=self._confidence)
        np.multiply(self._back, confidence[..., None], out=self._work)
        flow = _mean_over(self._work, self._cells)
        share = _mean_over(confidence, self._cells)
        flow *= (self._scale / np.maximum(share, _LEAST_CONFIDENCE)[..., None]).astype(np.float32)
        height, width = self.doubt.shape
        cv2.resize(flow, (width, height), dst=self.where)
        cv2.add(self.where, self._full_grid, dst=self.where)
        cv2.resize(1 - share, (width, height), dst=self.doubt)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return how far what is near a point of the picture before has moved since, (x, y) in pixels."""
        height, width = self.doubt.shape
        column, row = min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)
        was_x, was_y = self.where[row, column]
        return float(column - was_x), float(row - was_y)

    def _reduce(self, view: Pixels) -> None:
        self._before, self._now = self._now, self._before
        cv2.resize(view, self._size, dst=self._now, interpolation=cv2.INTER_AREA)

    def _check(self) -> None:
        """Fill `_doubt`, 0 to 1: by the way forth and back, and by what it leaves unexplained."""
        np.add(self._back, self._grid, out=self._where)
        cv2.remap(self._forth, self._where, None, cv2.INTER_LINEAR, dst=self._work)  # type: ignore[call-overload]
        self._work += self._back
        np.abs(self._work, out=self._work)
        cv2.transform(self._work, _SUM, dst=self._doubt)
        _ramp(self._doubt, _AGREE_PX, _DISAGREE_PX)
        cv2.remap(
            self._before,
            self._where,
            None,  # type: ignore[call-overload]
            cv2.INTER_LINEAR,
            dst=self._moved,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cv2.absdiff(self._moved, self._now, dst=self._moved)
        np.copyto(self._confidence, cv2.blur(self._moved, (5, 5)))
        _ramp(self._confidence, _SAME, _OTHER)
        np.maximum(self._doubt, self._confidence, out=self._doubt)


_SUM = np.ones((1, 2), np.float32)


def _ramp(values: NDArray[Any], low: float, high: float) -> None:
    """Map low..high to 0..1 in place."""
    values -= low
    values *= 1 / (high - low)
    np.clip(values, 0, 1, out=values)


def _mean_over(values: NDArray[Any], size: tuple[int, int]) -> Floats:
    cells = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(cells, (0, 0), 1.5), np.float32)


def _grid(rows: int, columns: int) -> Floats:
    y, x = np.indices((rows, columns), dtype=np.float32)
    return np.stack([x, y], axis=-1)

"""Bring a picture of any size to a model's input size, the same way in training and on the live path.

Plain bilinear sampling of a large picture skips most of its pixels, so speckle aliases and answers flicker;
area averaging in one step costs 0.46 ms for 800 x 600 on one core. Halving with bilinear weights (which at
a factor of two *is* the average of four pixels) until less than a factor of two is left costs 0.03 ms.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class Fitter:
    """Fits pictures to one size; keeps its scratch buffers from frame to frame."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._scratch: dict[tuple[int, int], Pixels] = {}

    def fit(self, picture: Pixels, out: Pixels) -> None:
        """Resize a picture, ignoring its aspect ratio.

        :param picture: H x W gray or H x W x 3 RGB; never written.
        :param out: height x width x C, C 1 (colour is turned to gray) or 3 (gray is repeated).
        """
        while True:
            height, width = picture.shape[:2]
            half = (
                (width + 1) // 2 if width >= 2 * self._size[0] else width,
                (height + 1) // 2 if height >= 2 * self._size[1] else height,
            )
            if half == (width, height):
                break
            picture = cv2.resize(picture, half, dst=self._buffer(half, picture.ndim))  # type: ignore[assignment]
        colour_out = out.shape[2] == 3
        if picture.ndim == 3 and not colour_out:
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
        elif picture.ndim == 2 and colour_out:
            picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)  # type: ignore[assignment]
        cv2.resize(picture, self._size, dst=out if colour_out else out[:, :, 0])

    def _buffer(self, size: tuple[int, int], dimensions: int) -> Pixels:
        shape = (size[1], size[0]) if dimensions == 2 else (size[1], size[0], 3)
        buffer = self._scratch.get(size)
        if buffer is None or buffer.shape != shape:
            if len(self._scratch) > 32:  # a feed whose size keeps changing must not grow memory
                self._scratch.clear()
            buffer = self._scratch[size] = np.empty(shape, np.uint8)
        return buffer

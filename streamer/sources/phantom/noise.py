"""Random fields that fill a volume without end, read one plane at a time."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


def smoothstep(values: NDArray[np.floating]) -> Plane:
    """Ease 0..1 in and out; values outside are clamped.

    :param values: any shape.
    :return: the same shape, float32, 0 to 1.
    """
    clamped = np.clip(values, 0, 1)
    return np.asarray(clamped * clamped * (3 - 2 * clamped), np.float32)


class SmoothNoise:
    """Gaussian noise of unit variance, smooth over one cell in each direction.

    :param cell_mm: size of a cell as (elevation, depth, lateral); a depth or lateral size of 0 means
        constant along that axis.
    :param extent_mm: size of a plane as (depth, lateral).
    :param planes: planes along elevation before the noise repeats.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        cell_mm: tuple[float, float, float],
        extent_mm: tuple[float, float],
        planes: int = 48,
    ) -> None:
        self._cell_y_mm = cell_mm[0]
        rows, columns = (
            1 if cell == 0 else max(2, round(extent / cell) + 1)
            for cell, extent in zip(cell_mm[1:], extent_mm, strict=True)
        )
        self._lattice = rng.standard_normal((planes, rows, columns), dtype=np.float32)

    def plane(self, y_mm: float, shape: tuple[int, int]) -> Plane:
        """Sample the plane at one elevation.

        :param shape: (rows, columns) of the result; 1 along an axis that is constant.
        :return: float32 of that shape.
        """
        position = y_mm / self._cell_y_mm
        before = math.floor(position)
        # Sine and cosine keep the variance the same between two lattice planes.
        angle = (position - before) * math.pi / 2
        planes = len(self._lattice)
        blended = cv2.addWeighted(
            self._lattice[before % planes],
            math.cos(angle),
            self._lattice[(before + 1) % planes],
            math.sin(angle),
            0,
        )
        return np.asarray(cv2.resize(blended, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


class Cells:
    """Rounded cells that fill a volume (a Voronoi tessellation of jittered points), as fat lobules do.

    :param cell_mm: mean size of a cell as (elevation, depth, lateral).
    :param extent_mm: size of a plane as (depth, lateral).
    :param layers: layers of cells along elevation before they repeat.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        cell_mm: tuple[float, float, float],
        extent_mm: tuple[float, float],
        layers: int = 16,
    ) -> None:
        self._cell_mm = cell_mm
        self._rows = math.ceil(extent_mm[0] / cell_mm[1]) + 2
        self._columns = math.ceil(extent_mm[1] / cell_mm[2]) + 2
        shape = (layers, self._rows, self._columns)
        self._jitter = rng.uniform(-0.48, 0.48, (*shape, 3))
        self._value = rng.standard_normal(shape)

    def plane(
        self, y_mm: float, shape: tuple[int, int], extent_mm: tuple[float, float]
    ) -> tuple[Plane, Plane]:
        """Cut the cells at one elevation.

        :param shape: (rows, columns) of the result.
        :return: distance to the wall between the two nearest cells, in cells, 0 on the wall; and the
            value of the cell (Gaussian, unit variance).
        """
        cell_y, cell_z, cell_x = self._cell_mm
        per_row = extent_mm[0] / shape[0] / cell_z
        per_column = extent_mm[1] / shape[1] / cell_x
        nearest = np.full(shape, 1e3, np.float32)
        second = np.full(shape, 1e3, np.float32)
        value = np.zeros(shape, np.float32)
        rows = (np.arange(shape[0], dtype=np.float32) + 0.5) * per_row
        columns = (np.arange(shape[1], dtype=np.float32) + 0.5) * per_column
        # Nothing farther than this is among the two nearest of a point, or nearly never.
        reach = 1.5
        middle = round(y_mm / cell_y)
        for layer in (middle - 1, middle, middle + 1):
            index = layer % len(self._jitter)
            elevation = np.square(layer + self._jitter[index, ..., 0] - y_mm / cell_y)
            for i, j in np.argwhere(elevation < 1.1).tolist():
                # Python floats: NumPy's own would turn the arrays into doubles.
                _, dz, dx = self._jitter[index, i, j].tolist()
                z, x = i - 0.5 + dz, j - 0.5 + dx
                top, bottom = max(0, int((z - reach) / per_row)), max(0, int((z + reach) / per_row))
                left, right = max(0, int((x - reach) / per_column)), max(0, int((x + reach) / per_column))
                window = np.s_[top:bottom, left:right]
                first = nearest[window]
                if first.size == 0:
                    continue
                distance = np.add.outer(
                    np.square(rows[top:bottom] - z) + float(elevation[i, j]),
                    np.square(columns[left:right] - x),
                )
                closer = distance < first
                np.minimum(second[window], np.maximum(distance, first), out=second[window])
                np.copyto(value[window], float(self._value[index, i, j]), where=closer, casting="same_kind")
                np.minimum(first, distance, out=first)
        return cv2.sqrt(second) - cv2.sqrt(nearest), value

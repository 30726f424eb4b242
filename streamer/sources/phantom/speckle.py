"""Fully developed speckle: the interference of the echoes of many unresolved scatterers.

The complex envelope of such echoes is a circular Gaussian process whose correlation is the system's point
spread function, so its magnitude is Rayleigh distributed (mean over standard deviation 1.91).
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

LOOKS = 2


class SpeckleField:
    """A wide complex field that tissue carries with it.

    Lateral resolution varies with depth. Out-of-plane motion draws on distant parts of the one field, blended
    as complex numbers, so that the statistics stay Rayleigh at every elevation.

    :param shape: rows and columns of one view.
    :param pitch_mm: distance between samples as (depth, lateral).
    :param axial_mm: axial resolution, full width at half maximum of the envelope.
    :param lateral_mm: lateral resolution for every row of the field (rows + 2 x margin), as above.
    :param margin: spare rows above and below, for tissue that moves vertically.
    :param period: columns before the field repeats.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        shape: tuple[int, int],
        pitch_mm: tuple[float, float],
        axial_mm: float,
        lateral_mm: NDArray[np.float64],
        margin: int,
        period: int = 1024,
        elevation_mm: float = 1.5,
    ) -> None:
        self.margin = margin
        self.period = period
        self._columns = shape[1] + 4
        self._elevation_mm = elevation_mm
        rows = shape[0] + 2 * margin
        fwhm_per_sigma = 2.3548
        sigma_z = max(axial_mm / pitch_mm[0] / fwhm_per_sigma, 0.3)
        sigma_x = np.maximum(lateral_mm / pitch_mm[1] / fwhm_per_sigma, 0.3)
        frequency = np.fft.rfftfreq(period) * 2 * np.pi
        transfer = np.exp(-0.5 * np.square(np.outer(sigma_x, frequency))).astype(np.float32)
        planes = []
        for _ in range(2 * LOOKS):
            white = rng.standard_normal((rows, period), dtype=np.float32)
            blurred = _blur_rows(white, sigma_z)
            plane = np.fft.irfft(np.fft.rfft(blurred, axis=1) * transfer, period, axis=1)
            planes.append(plane)
        field = np.stack(planes, axis=-1)
        # Unit mean power in every row, whatever its resolution.
        power = np.mean(np.square(field), axis=(1, 2), keepdims=True) * 2
        field /= np.sqrt(power)
        wrapped = np.take(field, np.arange(period + self._columns) % period, axis=1)
        self._field = np.ascontiguousarray(wrapped, dtype=np.float32)

    def at(self, y_mm: float, first_column: int) -> NDArray[np.float32]:
        """Cut out the field around one view.

        :param y_mm: elevation of the view.
        :param first_column: where the view starts, in samples from the middle of the volume.
        :return: (rows + 2 x margin) x (columns + 4) x (2 x `LOOKS`): real and imaginary parts,
            unit mean power in each look.
        """
        position = y_mm / self._elevation_mm
        before = math.floor(position)
        angle = (position - before) * math.pi / 2
        # The golden ratio keeps the starts of neighbouring elevations far apart.
        starts = [
            (int(k * 0.6180339887 * self.period) + first_column) % self.period for k in (before, before + 1)
        ]
        here, there = (self._field[:, start : start + self._columns] for start in starts)
        return cv2.addWeighted(here, math.cos(angle), there, math.sin(angle), 0)  # type: ignore[return-value]


def power(look: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared magnitude of a complex field.

    :param look: rows x columns x 2.
    :return: rows x columns.
    """
    real, imaginary = cv2.split(look)
    return np.asarray(real * real + imaginary * imaginary, np.float32)


def compound(looks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean power of several looks, as a scanner that compounds from several angles shows it.

    :param looks: rows x columns x (2 x `LOOKS`).
    :return: rows x columns, unit mean.
    """
    squares = cv2.multiply(looks, looks)
    return cv2.transform(squares, np.full((1, 2 * LOOKS), 1 / LOOKS, np.float32))  # type: ignore[return-value]


def _blur_rows(white: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    size = 2 * math.ceil(3.5 * sigma) + 1
    kernel = cv2.getGaussianKernel(size, sigma, cv2.CV_32F)
    return cv2.sepFilter2D(white, cv2.CV_32F, np.ones((1, 1), np.float32), kernel)  # type: ignore[return-value]

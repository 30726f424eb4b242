"""Where the scan window lies in the picture and in the breast, and how tissue moves under the probe."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# Fractions of a pixel in the corners handed to cv2.fillPoly.
SUBPIXEL_BITS = 4


class Pose(NamedTuple):
    """Where the probe is, and what the woman's breathing does."""

    y_mm: float
    x_mm: float = 0.0
    breath_mm: float = 0.0
    """Lift of the chest wall towards the probe."""
    press: float = 0.0
    """Compression by the probe, as part of the depth."""
    lifted: float = 0.0
    """0 in contact, 1 in the air."""


class Window:
    """The part of the picture that shows tissue, on a grid of half as many columns.

    Lateral resolution is at least twice coarser than axial, so half the columns lose nothing.

    :param size: (width, height) of the picture.
    :param edges: left, top, right, bottom of the window, as parts of the picture.
    """

    def __init__(
        self, size: tuple[int, int], edges: tuple[float, float, float, float], depth_mm: float
    ) -> None:
        width, height = size
        left, top, right, bottom = edges
        self._picture = (height, width)
        self.left, self.top = round(left * width), round(top * height)
        self.width, self.height = round(right * width) - self.left, round(bottom * height) - self.top
        self.depth_mm = depth_mm
        self.mm_per_px = depth_mm / self.height
        self.width_mm = self.width * self.mm_per_px
        self.shape = (self.height, (self.width + 1) // 2)
        """Rows and columns of the grid."""
        self.pitch_mm = (self.mm_per_px, self.width_mm / self.shape[1])
        """Of the grid, as (depth, lateral)."""
        rows, columns = (np.arange(count, dtype=np.float32) + 0.5 for count in self.shape)
        self.z_mm = (rows * self.pitch_mm[0])[:, None]
        self.x_mm = (columns * self.pitch_mm[1] - self.width_mm / 2)[None]

    def tissue(self, pose: Pose) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where the tissue that each point of the grid shows lies at rest, as (lateral, depth) in mm."""
        coarse_x = cv2.resize(self.x_mm, (24, 1), interpolation=cv2.INTER_AREA)
        coarse_z = cv2.resize(self.z_mm, (1, 24), interpolation=cv2.INTER_AREA)
        along, down = self._displacement(np.asarray(coarse_x), np.asarray(coarse_z), pose)
        size = self.shape[::-1]
        dx = cv2.resize(along.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        dz = cv2.resize(down.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        return dx + self.x_mm, dz + self.z_mm

    def locate(self, points_mm: NDArray[np.float64], pose: Pose) -> NDArray[np.float64]:
        """Where points of the tissue at rest appear.

        :param points_mm: N x 2: (lateral, depth).
        :return: N x 2: (column, row) in pixels of the window, whose first pixel spans 0 to 1.
        """
        x, z = points_mm[:, 0], points_mm[:, 1]
        # Tissue moves a few mm at most and smoothly: four rounds settle to a hundredth of a pixel.
        for _ in range(4):
            along, down = self._displacement(x, z, pose)
            x, z = points_mm[:, 0] - along, points_mm[:, 1] - down
        return np.stack([(x + self.width_mm / 2) / self.mm_per_px, z / self.mm_per_px], axis=1)

    def framed(self, inside: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Put what the window shows into a picture, black around."""
        if inside.shape == self._picture:
            return inside
        picture = np.zeros(self._picture, np.uint8)
        picture[self.top : self.top + self.height, self.left : self.left + self.width] = inside
        return picture

    def _displacement(
        self, x_mm: NDArray[np.floating], z_mm: NDArray[np.floating], pose: Pose
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """From a place in the window to its tissue at rest, as (lateral, depth) in mm."""
        depth = z_mm / self.depth_mm
        wave = 1 + 0.25 * np.sin(x_mm * 0.11 + pose.y_mm * 0.05)
        along = pose.x_mm + 0.35 * pose.breath_mm * np.sin(depth * 2.6) * np.cos(x_mm * 0.05)
        down = pose.breath_mm * depth * wave + pose.press * z_mm
        return along, down


def fixed_point(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Corners for cv2.fillPoly, in fractions of a pixel."""
    return np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)

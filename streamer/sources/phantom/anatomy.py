"""A breast without end along the sweep: skin, fat, gland, muscle and ribs, cut plane by plane.

Planes are made when they are first looked at. A plane is a map of what the tissue sends back, before speckle,
shadows of lesions, gain and compression.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.sources.phantom.noise import Cells, Plane, SmoothNoise, smoothstep

PITCH_Z_MM = 0.15
PITCH_X_MM = 0.2
PITCH_Y_MM = 0.5


class Channel(IntEnum):
    """What the channels of a plane mean."""

    ECHO = 0
    """Mean echo level in dB; 0 dB is bright gland."""
    COHERENCE = 1
    """Part of the echo that comes from smooth interfaces and carries no speckle, 0 to 1."""
    GLAND = 2
    """1 in the glandular layer, 0 elsewhere."""
    GRAIN = 3
    """Noise of unit variance, for the inside of lesions."""


@dataclass(frozen=True, slots=True)
class Build:
    """How one breast is built; depths and levels vary from woman to woman."""

    skin_mm: float
    gland_top_mm: float
    gland_bottom_mm: float
    muscle_top_mm: float
    muscle_mm: float
    fat_db: float
    gland_db: float
    muscle_db: float
    lobule_mm: float
    septa_db: float
    fibre: float
    """How streaky the gland is, 0 to 1."""
    islands: float
    """How much of the gland layer is fat, 0 to 1."""
    ribs: bool

    @staticmethod
    def random(rng: np.random.Generator, depth_mm: float) -> "Build":
        """Draw one that fits a depth of view."""
        top = rng.uniform(0.12, 0.3) * depth_mm
        bottom = rng.uniform(0.5, 0.68) * depth_mm
        return Build(
            skin_mm=rng.uniform(1.2, 2.2),
            gland_top_mm=top,
            gland_bottom_mm=bottom,
            muscle_top_mm=bottom + rng.uniform(0.03, 0.12) * depth_mm,
            muscle_mm=rng.uniform(6, 10),
            fat_db=rng.uniform(-13, -7),
            gland_db=rng.uniform(-2, 1),
            muscle_db=rng.uniform(-14, -9),
            lobule_mm=rng.uniform(6, 11),
            septa_db=rng.uniform(8, 15),
            fibre=rng.uniform(0.4, 1.0),
            islands=rng.uniform(0, 0.7),
            ribs=bool(rng.random() < 0.45),
        )


class Anatomy:
    """The volume that a probe sweeps over.

    :param width_mm: lateral size that must be covered, centred on 0.
    :param depth_mm: depth that must be covered, from the skin.
    :param planes: variety along the sweep; few are enough for a still.
    """

    def __init__(
        self, rng: np.random.Generator, build: Build, *, width_mm: float, depth_mm: float, planes: int = 48
    ) -> None:
        self.build = build
        self.shape = (math.ceil(depth_mm / PITCH_Z_MM), math.ceil(width_mm / PITCH_X_MM))
        self._extent_mm = (self.shape[0] * PITCH_Z_MM, self.shape[1] * PITCH_X_MM)
        self.left_mm = -self._extent_mm[1] / 2

        def noise(y: float, z: float, x: float) -> SmoothNoise:
            return SmoothNoise(rng, cell_mm=(y, z, x), extent_mm=self._extent_mm, planes=planes)

        self._surfaces = [noise(9, 0, 11) for _ in range(4)]
        self._ripple = noise(5, 0, 4)
        self._warp = noise(6, 4, 7), noise(6, 3, 6)
        self._fine_warp = noise(3, 1.5, 2.5)
        lobule = build.lobule_mm
        self._lobules = Cells(
            rng,
            cell_mm=(lobule, lobule * 0.42, lobule),
            extent_mm=self._extent_mm,
            layers=min(16, planes),
        )
        self._patches = noise(5, 4, 7)
        self._islands = noise(5, 2.6, 5.5)
        self._fibres = noise(3, 0.8, 5), noise(2, 0.5, 2.2)
        self._strands = noise(4, 0.9, 7), noise(3, 1.3, 5)
        self._striae = noise(5, 0.55, 9)
        self._glints = noise(4, 1.5, 3)
        self._streaks = noise(4, 0, 2.5)
        self._grain = noise(1.2, 0.7, 0.9), noise(3, 2, 2.6)
        self._rib_x_mm = rng.uniform(-14, 14)
        self._rib_slope = rng.uniform(-0.25, 0.25)
        self._rib_spacing_mm = rng.uniform(24, 32)
        self.plane = lru_cache(maxsize=8)(self._plane)

    def cut(self, y_mm: float) -> NDArray[np.float32]:
        """Cut the volume at an elevation.

        :return: rows x columns x `Channel`.
        """
        position = y_mm / PITCH_Y_MM
        before = math.floor(position)
        part = position - before
        if part < 1e-6:
            return self.plane(before)
        return cv2.addWeighted(self.plane(before), 1 - part, self.plane(before + 1), part, 0)  # type: ignore[return-value]

    def _plane(self, index: int) -> NDArray[np.float32]:
        y = index * PITCH_Y_MM
        build, shape = self.build, self.shape
        row = (1, shape[1])
        z = ((np.arange(shape[0], dtype=np.float32) + 0.5) * PITCH_Z_MM)[:, None]
        wobble = self._fine_warp.plane(y, shape) * 0.25

        def surface(number: int, depth_mm: float, amplitude_mm: float) -> Plane:
            profile = self._surfaces[number].plane(y, row) * amplitude_mm
            ripple = self._ripple.plane(y + 7 * number, row) * (0.25 * amplitude_mm)
            return np.asarray(profile + ripple + depth_mm, np.float32)

        def below(depth_mm: Plane, soft_mm: float = 0.5) -> Plane:
            return smoothstep((z + wobble - depth_mm) / soft_mm + 0.5)

        def line(depth_mm: Plane, thick_mm: float) -> Plane:
            return np.asarray(np.exp(-np.square((z + wobble - depth_mm) / thick_mm)), np.float32)

        gland_top = np.maximum(surface(0, build.gland_top_mm, 1.6), build.skin_mm + 1.5)
        gland_bottom = np.maximum(surface(1, build.gland_bottom_mm, 1.4), gland_top + 3)
        muscle_top = np.maximum(surface(2, build.muscle_top_mm, 0.7), gland_bottom + 0.6)
        chest = surface(3, build.muscle_top_mm + build.muscle_mm, 0.6)
        glints = smoothstep(self._glints.plane(y, shape) * 0.45 + 0.45)

        wall, lobule = self._lobule_walls(y)
        patches = self._patches.plane(y, shape)
        fat = build.fat_db + 1.6 * lobule + 1.0 * patches + 1.2 * self._fibres[0].plane(y + 31, shape)
        septa = wall * (0.25 + 0.75 * glints)

        fibres = self._fibres[0].plane(y, shape), self._fibres[1].plane(y, shape)
        strands = self._strand_lines(y, shape)
        islands = smoothstep((self._islands.plane(y, shape) - 1.6 + 1.5 * build.islands) * 1.2)
        gland = build.gland_db + build.fibre * (3.2 * fibres[0] + 2.4 * fibres[1]) + 2.0 * patches
        gland += islands * (build.fat_db + 1.0 - gland)

        in_gland = below(gland_top, 0.9) * (1 - below(gland_bottom, 0.9))
        echo = fat + in_gland * (gland - fat)
        lines = septa * (1 - in_gland) + build.fibre * strands * in_gland * glints

        striae = smoothstep((self._striae.plane(y, shape) - 0.5) * 1.1)
        in_muscle = below(muscle_top)
        echo += in_muscle * (build.muscle_db + 1.0 * patches - echo)
        lines = lines * (1 - in_muscle) + 0.75 * striae * (0.3 + 0.7 * glints) * in_muscle
        lines = np.maximum(lines, 0.8 * line(gland_top, 0.3) * glints)
        lines = np.maximum(lines, 0.9 * line(muscle_top, 0.35) * (0.3 + 0.7 * glints))

        echo, lines = self._chest_wall(y, z, chest, echo, lines, wobble, glints)

        echo += lines * (build.septa_db - echo) * 0.9
        coherence = 0.75 * lines

        skin = np.exp(-np.square((z - 0.35) / 0.3)) + 0.8 * np.exp(-np.square((z - build.skin_mm) / 0.2))
        dermis = 1 - smoothstep((z - build.skin_mm) / 0.3 + 0.5)
        echo += dermis * (-4.0 + patches - echo)
        echo += np.minimum(skin, 1) * (5 - echo) * 0.7
        coherence = np.maximum(coherence, 0.5 * np.minimum(skin, 1))
        # Ligaments and ducts above each column take a little of the beam.
        echo -= 1.5 * np.abs(self._streaks.plane(y, row)) * smoothstep((z - build.gland_top_mm) / 15)
        grain = 0.7 * self._grain[0].plane(y, shape) + 0.7 * self._grain[1].plane(y, shape)
        return cv2.merge([echo, coherence.astype(np.float32), in_gland, grain])  # type: ignore[return-value]

    def _lobule_walls(self, y_mm: float) -> tuple[Plane, Plane]:
        """Bright septa between fat lobules (0 to 1), and each lobule's own level."""
        half = (self.shape[0] // 2, self.shape[1] // 2)
        gap, value = self._lobules.plane(y_mm, half, self._extent_mm)
        rows, columns = np.indices(self.shape, dtype=np.float32)
        shift_x, shift_z = (noise.plane(y_mm, self.shape) for noise in self._warp)
        map_x = columns * 0.5 + shift_x * (0.55 / PITCH_X_MM / 2)
        map_y = rows * 0.5 + shift_z * (0.5 / PITCH_Z_MM / 2)
        gap = cv2.remap(gap, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
        value = cv2.remap(value, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
        slope_z = cv2.Sobel(gap, cv2.CV_32F, 0, 1) / PITCH_Z_MM
        slope_x = cv2.Sobel(gap, cv2.CV_32F, 1, 0) / PITCH_X_MM
        # A wall sends most back where it faces the probe.
        facing = np.square(slope_z) / (np.square(slope_z) + np.square(slope_x) + 1e-3)
        wall = np.exp(-np.square(gap / 0.09)) * (0.25 + 0.75 * cv2.GaussianBlur(facing, (5, 5), 0))
        return wall.astype(np.float32), value

    def _strand_lines(self, y_mm: float, shape: tuple[int, int]) -> Plane:
        """Thin bright strands of fibrous tissue: the zero crossings of a stretched noise."""
        first, second = (noise.plane(y_mm, shape) for noise in self._strands)
        strands = np.exp(-np.square(first / 0.16)) + 0.7 * np.exp(-np.square(second / 0.12))
        return np.asarray(np.minimum(strands, 1), np.float32)

    def _chest_wall(
        self, y_mm: float, z: Plane, chest: Plane, echo: Plane, lines: Plane, wobble: Plane, glints: Plane
    ) -> tuple[Plane, Plane]:
        """Ribs with their shadow, and the pleura with its reverberations between them."""
        depth = z + wobble * 0.4 - (chest + 3)
        pleura = np.exp(-np.square(depth / 0.35))
        air = smoothstep(depth / 0.5 + 0.5)
        repeats = np.square(np.cos(depth * 1.3)) ** 3
        echo = echo + air * (-22 + 5 * repeats * np.exp(-np.maximum(depth, 0) / 6) - 0.5 * depth - echo)
        lines = np.maximum(lines * (1 - air), pleura * (0.4 + 0.5 * glints))
        if not self.build.ribs:
            return echo, lines
        x = self.left_mm + (np.arange(self.shape[1], dtype=np.float32) + 0.5) * PITCH_X_MM
        spacing = self._rib_spacing_mm
        across = (x - self._rib_x_mm - self._rib_slope * y_mm + spacing / 2) % spacing - spacing / 2
        inside = np.clip(1 - np.square(across / 7.0), 0, None)
        top = chest + 2.2 - 2.4 * inside
        present = smoothstep(inside[None, :] * 1.6)
        depth = z + wobble * 0.5 - top
        arc = np.exp(-np.square(depth / 0.4)) * present
        shadow = smoothstep(depth / 0.6) * present
        echo = echo + shadow * (-36 - echo)
        lines = np.maximum(lines * (1 - shadow), arc)
        return echo, lines

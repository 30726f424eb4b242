"""Lesions as bodies in the volume: their outline at every elevation, and what they do to the beam."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["benign", "malignant"]

_ANGLES = np.linspace(0, 2 * np.pi, 256, endpoint=False)
# Sections thinner than this part of the largest one are lost in the thickness of the beam.
SEEN_FROM = 0.2


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion; positions are in the tissue at rest."""

    number: int
    kind: Kind
    centre_mm: tuple[float, float, float]
    """(lateral, depth, elevation)."""
    radius_mm: tuple[float, float, float]
    """Half axes in the same order, before tilting."""
    tilt: float
    """Of the long axis against the skin, radians."""
    waves: tuple[tuple[float, float, float, float], ...]
    """Undulations of the outline: (count around, amplitude as part of the radius, phase, turns per mm)."""
    spikes: tuple[tuple[float, float, float, float], ...]
    """Spicules: (angle, height as part of the radius, half width in radians, elevation in mm)."""
    echo_db: float
    grain_db: float
    """How uneven the inside is."""
    edge_mm: float
    """Over which the margin fades."""
    capsule_db: float
    """Thin bright rim, or 0."""
    halo_db: float
    """Broad bright surround, or 0."""
    halo_mm: float
    posterior_db_per_mm: float
    """Gained (> 0: enhancement) or lost (< 0: shadow) behind each mm of lesion."""
    edge_shadow_db: float
    calcifications: float
    """Part of the inside that is bright specks, 0 to 1."""
    area_mm2: float = field(default=0.0, compare=False)

    def scale(self, y_mm: float) -> float:
        """Size of the section at an elevation, as part of the largest one (0: outside)."""
        offset = (y_mm - self.centre_mm[2]) / self.radius_mm[2]
        return math.sqrt(1 - offset * offset) if abs(offset) < 1 else 0.0

    def outline(self, y_mm: float) -> NDArray[np.float64]:
        """Outline of the section at an elevation.

        :return: 256 x 2: (lateral, depth) in mm; all points on the centre where there is no section.
        """
        scale = self.scale(y_mm)
        offset = y_mm - self.centre_mm[2]
        factor = np.ones_like(_ANGLES)
        for count, amplitude, phase, turn in self.waves:
            factor += amplitude * np.cos(count * _ANGLES + phase + turn * offset)
        for angle, height, width, elevation in self.spikes:
            near = math.exp(-(((offset - elevation) / (0.45 * self.radius_mm[2])) ** 2))
            distance = np.abs((_ANGLES - angle + np.pi) % (2 * np.pi) - np.pi)
            factor += height * near * np.maximum(0, 1 - distance / width) ** 1.5
        across = self.radius_mm[0] * scale * factor * np.cos(_ANGLES)
        along = self.radius_mm[1] * scale * factor * np.sin(_ANGLES)
        cosine, sine = math.cos(self.tilt), math.sin(self.tilt)
        return np.stack(
            [
                self.centre_mm[0] + across * cosine - along * sine,
                self.centre_mm[1] + across * sine + along * cosine,
            ],
            axis=1,
        )


def random_lesion(
    rng: np.random.Generator,
    kind: Kind,
    *,
    number: int,
    centre_mm: tuple[float, float, float],
    size_mm: float,
    fat_db: float,
    varied: bool = False,
) -> Lesion:
    """Draw a lesion of a kind.

    :param size_mm: geometric mean of its diameters in the largest section.
    :param fat_db: echo level of the surrounding fat, which the lesion is darker than.
    :param varied: also the less typical ones (nearly round, wide malignant, more cysts), as in clinical
        collections.
    """
    if kind == "benign":
        return _benign(rng, number, centre_mm, size_mm, fat_db, varied=varied)
    return _malignant(rng, number, centre_mm, size_mm, fat_db, varied=varied)


def _benign(
    rng: np.random.Generator,
    number: int,
    centre_mm: tuple[float, float, float],
    size_mm: float,
    fat_db: float,
    *,
    varied: bool,
) -> Lesion:
    cyst = rng.random() < (0.22 if varied else 0.15)
    ratio = rng.uniform(1.15 if varied else 1.4, 2.4)
    half_x, half_z = size_mm / 2 * math.sqrt(ratio), size_mm / 2 / math.sqrt(ratio)
    waves = tuple(
        (
            float(n),
            rng.uniform(0, (0, 0, 0.05, 0.035, 0.018)[n]),
            rng.uniform(0, 2 * math.pi),
            rng.uniform(-0.1, 0.1),
        )
        for n in (2, 3, 4)
    )
    return Lesion(
        number=number,
        kind="benign",
        centre_mm=centre_mm,
        radius_mm=(half_x, half_z, rng.uniform(0.75, 1.0) * half_x),
        tilt=rng.normal(0, 0.16 if varied else 0.1),
        waves=waves,
        spikes=(),
        echo_db=fat_db - (rng.uniform(12, 22) if cyst else rng.uniform(1.0, 6)),
        grain_db=0.3 if cyst else rng.uniform(0.3, 1.1),
        edge_mm=rng.uniform(0.2, 0.35),
        capsule_db=rng.uniform(2, 6),
        halo_db=0.0,
        halo_mm=1.0,
        posterior_db_per_mm=rng.uniform(0.7, 1.1) if cyst else rng.uniform(0.35, 0.8),
        edge_shadow_db=rng.uniform(3, 8),
        calcifications=0.0,
    )


def _malignant(
    rng: np.random.Generator,
    number: int,
    centre_mm: tuple[float, float, float],
    size_mm: float,
    fat_db: float,
    *,
    varied: bool,
) -> Lesion:
    ratio = rng.uniform(0.65, 1.5) if varied else rng.uniform(0.66, 0.88)
    half_x, half_z = size_mm / 2 * math.sqrt(ratio), size_mm / 2 / math.sqrt(ratio)
    half_y = rng.uniform(0.8, 1.1) * size_mm / 2
    waves = tuple(
        (
            float(n),
            rng.uniform(0.3, 1) * 0.16 / math.sqrt(n - 1),
            rng.uniform(0, 2 * math.pi),
            rng.uniform(-0.25, 0.25),
        )
        for n in (2, 3, 4, 5, 7, 9)
    )
    spikes = tuple(
        (
            rng.uniform(0, 2 * math.pi),
            rng.uniform(0.1, 0.4),
            rng.uniform(0.1, 0.28),
            rng.uniform(-0.5, 0.5) * half_y,
        )
        for _ in range(rng.integers(5, 13))
    )
    shadow = rng.uniform(0.3, 2.2) if varied else rng.uniform(0.9, 2.0)
    return Lesion(
        number=number,
        kind="malignant",
        centre_mm=centre_mm,
        radius_mm=(half_x, half_z, half_y),
        tilt=rng.normal(0, 0.25 if varied else 0.12),
        waves=waves,
        spikes=spikes,
        echo_db=fat_db - rng.uniform(1.5, 7),
        grain_db=rng.uniform(2, 4.5),
        edge_mm=rng.uniform(0.35, 0.8),
        capsule_db=0.0,
        halo_db=rng.uniform(2, 7),
        halo_mm=rng.uniform(1.2, 2.5),
        posterior_db_per_mm=-shadow,
        edge_shadow_db=0.0,
        calcifications=rng.uniform(0.3, 1) if rng.random() < 0.4 else 0.0,
    )

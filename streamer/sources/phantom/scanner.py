"""From tissue to picture: beam, shadows, gain, noise, log compression, scan window and exact masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.sources.phantom import speckle
from streamer.sources.phantom.anatomy import PITCH_X_MM, PITCH_Z_MM, Anatomy, Channel
from streamer.sources.phantom.lesion import SEEN_FROM, Lesion
from streamer.sources.phantom.painting import paint
from streamer.sources.phantom.window import SUBPIXEL_BITS, Pose, Window, fixed_point

Mask = NDArray[np.uint8]

_DB_TO_LN = math.log(10) / 10


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator sets, and what the instrument is."""

    depth_mm: float
    gain_db: float
    dynamic_range_db: float
    focus_mm: float
    axial_mm: float
    lateral_mm: float
    """At the focus."""
    fall_db_per_cm: float
    """Signal that gain compensation leaves missing with depth."""
    noise_db: float
    """Electronic noise near the skin, below bright gland."""
    gamma: float
    smoothness: float
    """Part of the speckle that the instrument smooths away, 0 to 1."""
    coupling: float
    """How uneven the contact is along the probe, 0 to 1."""
    window: tuple[float, float, float, float]
    """Left, top, right, bottom of the scan window, as parts of the picture."""


class LesionView(NamedTuple):
    """One lesion as it lies in one frame."""

    id: int
    label: str
    """"benign" or "malignant"."""
    centre_px: tuple[float, float]
    """Centroid of the visible part as (column, row)."""
    visible_fraction: float
    """Visible area over that of the lesion's largest section; may pass 1 a little under compression."""


class Picture(NamedTuple):
    """What the scanner makes of one pose."""

    pixels: NDArray[np.uint8]
    lesion_mask: Mask
    gland_mask: Mask
    lesions: tuple[LesionView, ...]


class Scanner:
    """A linear probe and its electronics; renders any pose over any anatomy.

    :param width: of the picture.
    :param height: of the picture.
    :param period: columns of speckle before it repeats.
    """

    def __init__(
        self, rng: np.random.Generator, settings: Settings, *, width: int, height: int, period: int = 1024
    ) -> None:
        self.settings = settings
        self.size = (width, height)
        window = self.window = Window(self.size, settings.window, settings.depth_mm)
        rows, columns = window.shape
        margin = math.ceil(4 / window.mm_per_px)
        depths = (np.arange(rows + 2 * margin) - margin) * window.mm_per_px
        spread = np.hypot(1, (depths - settings.focus_mm) / (0.55 * settings.focus_mm + 4))
        self.speckle = speckle.SpeckleField(
            rng,
            shape=window.shape,
            pitch_mm=window.pitch_mm,
            axial_mm=settings.axial_mm,
            lateral_mm=settings.lateral_mm * spread,
            margin=margin,
            period=period,
        )
        self._noise, self._noise_gain = self._noise_field(rng)
        self._dither = rng.normal(0, 1.1, (rows + 64, columns + 64)).astype(np.float32)
        ramp = window.z_mm / 10
        self._gain_ln = (_DB_TO_LN * (settings.gain_db - settings.fall_db_per_cm * ramp)).astype(np.float32)
        knots = rng.normal(0, 1, 9).astype(np.float32)
        along = cv2.resize(knots[None], (columns, 1), interpolation=cv2.INTER_CUBIC)
        self._coupling_ln = -_DB_TO_LN * 6 * settings.coupling * np.square(np.asarray(along)) / 2
        self._reverberation = self._reverberations()
        curve = np.linspace(0, 1, 256) ** settings.gamma
        self._curve = np.clip(255 * curve, 0, 255).round().astype(np.uint8)

    def render(
        self, anatomy: Anatomy, lesions: Sequence[Lesion], pose: Pose, rng: np.random.Generator
    ) -> Picture:
        """Make the picture and its truth.

        :param anatomy: must cover the scan window and the probe's lateral travel.
        :param lesions: those that may be in view.
        :param rng: draws this frame's electronic noise.
        """
        tissue, echo = self._scan(anatomy, pose)
        channels = [np.asarray(channel, np.float32) for channel in cv2.split(tissue)]
        lesion_mask = np.zeros((self.window.height, self.window.width), np.uint8)
        views = []
        for lesion in lesions:
            scale = lesion.scale(pose.y_mm)
            if scale < SEEN_FROM / 2:
                continue
            outline = self.window.locate(lesion.outline(pose.y_mm), pose)
            paint(channels, lesion, outline, scale, self.window)
            if scale >= SEEN_FROM and pose.lifted == 0:
                view = self._mark(lesion_mask, lesion, outline)
                if view is not None:
                    views.append(view)
        pixels = self._develop(channels, speckle.compound(echo), pose, rng)
        gland = self._gland_mask(channels[Channel.GLAND], lesion_mask, pose)
        return Picture(
            self.window.framed(pixels),
            self.window.framed(lesion_mask),
            self.window.framed(gland),
            tuple(views),
        )

    def _scan(self, anatomy: Anatomy, pose: Pose) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Sample the tissue and its speckle where this pose sees them."""
        window = self.window
        x, z = window.tissue(pose)
        tissue = cv2.remap(
            anatomy.cut(pose.y_mm),
            (x - anatomy.left_mm) * (1 / PITCH_X_MM) - 0.5,
            z * (1 / PITCH_Z_MM) - 0.5,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        first = math.floor(pose.x_mm / window.pitch_mm[1])
        field = self.speckle.at(pose.y_mm, first)
        echo = cv2.remap(
            field,
            (x + window.width_mm / 2) * (1 / window.pitch_mm[1]) - 0.5 - first,
            z * (1 / window.pitch_mm[0]) - 0.5 + self.speckle.margin,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return tissue, echo  # type: ignore[return-value]

    def _mark(self, mask: Mask, lesion: Lesion, outline: NDArray[np.float64]) -> LesionView | None:
        """Fill the outline into the mask; None where nothing of it is inside the window."""
        own = np.zeros_like(mask)
        cv2.fillPoly(own, [fixed_point(outline - 0.5)], 255, shift=SUBPIXEL_BITS)
        moments = cv2.moments(own, binaryImage=True)
        if moments["m00"] == 0:
            return None
        np.maximum(mask, own, out=mask)
        centre = (
            moments["m10"] / moments["m00"] + self.window.left,
            moments["m01"] / moments["m00"] + self.window.top,
        )
        area_mm2 = moments["m00"] * self.window.mm_per_px**2
        return LesionView(lesion.number, lesion.kind, centre, area_mm2 / lesion.area_mm2)

    def _develop(
        self,
        channels: list[NDArray[np.float32]],
        power: NDArray[np.float32],
        pose: Pose,
        rng: np.random.Generator,
    ) -> NDArray[np.uint8]:
        """Amplify, add noise, compress and quantise."""
        rows, columns = self.window.shape
        level = channels[Channel.ECHO] * np.float32(_DB_TO_LN) + self._gain_ln + self._coupling_ln
        coherence = channels[Channel.COHERENCE]
        if pose.lifted:
            level -= np.float32(_DB_TO_LN * 60 * pose.lifted)
        np.maximum(coherence, self.settings.smoothness, out=coherence)
        power += coherence * (1 - power)
        signal = np.asarray(cv2.exp(level)) * power
        if pose.lifted:
            signal += np.float32(pose.lifted) * self._reverberation
        down, across = rng.integers(0, 64, 2)
        signal += self._noise[down : down + rows, across : across + columns] * self._noise_gain
        down, across = rng.integers(0, 64, 2)
        dither = self._dither[down : down + rows, across : across + columns]
        settings = self.settings
        per_ln = 255 / settings.dynamic_range_db / _DB_TO_LN
        # 0 dB lies this far below white, so that septa and skin still have room above the gland.
        headroom_db = 12
        offset = 255 * (1 - headroom_db / settings.dynamic_range_db)
        gray = cv2.addWeighted(np.asarray(cv2.log(signal)), per_ln, dither, 1.0, offset, dtype=cv2.CV_8U)
        gray = cv2.LUT(gray, self._curve)
        return cv2.resize(gray, (self.window.width, self.window.height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]

    def _gland_mask(self, gland: NDArray[np.float32], lesion_mask: Mask, pose: Pose) -> Mask:
        if pose.lifted:
            return np.zeros_like(lesion_mask)
        wide = cv2.resize(gland, (self.window.width, self.window.height), interpolation=cv2.INTER_LINEAR)
        return np.where((np.asarray(wide) > 0.5) & (lesion_mask == 0), np.uint8(255), np.uint8(0))

    def _noise_field(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Power of the electronic noise, larger than a view, and its gain by row."""
        rows, columns = self.window.shape
        complex_noise = rng.standard_normal((rows + 64, columns + 64, 2), dtype=np.float32)
        complex_noise = np.asarray(cv2.GaussianBlur(complex_noise, (0, 0), sigmaX=0.6, sigmaY=0.7))
        noise = speckle.power(complex_noise)
        noise /= noise.mean()
        # Gain compensation amplifies the noise with depth.
        rise_db = np.minimum(self.window.z_mm / self.settings.depth_mm, 1) * 6
        level = self.settings.gain_db - self.settings.noise_db + rise_db
        return noise, np.exp(_DB_TO_LN * level).astype(np.float32)

    def _reverberations(self) -> NDArray[np.float32]:
        """Power of the echoes of a probe in the air: bands under its face, dying away."""
        z = self.window.z_mm
        bands = np.exp(-np.square((z % 1.9 - 0.7) / 0.35)) + 0.15
        power = np.exp(_DB_TO_LN * (self.settings.gain_db + 8)) * bands * np.exp(-z / 0.9)
        return np.asarray(power, np.float32)

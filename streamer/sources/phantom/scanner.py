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
from streamer.sources.phantom.noise import smoothstep

Mask = NDArray[np.uint8]

_DB_TO_LN = math.log(10) / 10
# Fractions of a pixel in the corners handed to cv2.fillPoly.
_SUBPIXEL_BITS = 4


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
        left, top, right, bottom = settings.window
        self._x0, self._y0 = round(left * width), round(top * height)
        self._wf, self._hf = round(right * width) - self._x0, round(bottom * height) - self._y0
        self.mm_per_px = settings.depth_mm / self._hf
        self.width_mm = self._wf * self.mm_per_px
        # Lateral resolution is at least twice coarser than axial: half the columns lose nothing.
        self._shape = (self._hf, (self._wf + 1) // 2)
        self._pitch_mm = (self.mm_per_px, self.width_mm / self._shape[1])
        rows, columns = self._shape
        self._z_mm = ((np.arange(rows, dtype=np.float32) + 0.5) * self._pitch_mm[0])[:, None]
        self._x_mm = ((np.arange(columns, dtype=np.float32) + 0.5) * self._pitch_mm[1] - self.width_mm / 2)[
            None
        ]

        margin = math.ceil(4 / self.mm_per_px)
        depths = (np.arange(rows + 2 * margin) - margin) * self.mm_per_px
        spread = np.hypot(1, (depths - settings.focus_mm) / (0.55 * settings.focus_mm + 4))
        self.speckle = speckle.SpeckleField(
            rng,
            shape=self._shape,
            pitch_mm=self._pitch_mm,
            axial_mm=settings.axial_mm,
            lateral_mm=settings.lateral_mm * spread,
            margin=margin,
            period=period,
        )
        self._noise, self._noise_gain = self._noise_field(rng)
        self._dither = rng.normal(0, 1.1, (rows + 64, columns + 64)).astype(np.float32)
        ramp = self._z_mm / 10
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
        channels = list(cv2.split(tissue))
        lesion_mask = np.zeros((self._hf, self._wf), np.uint8)
        views = []
        for lesion in lesions:
            scale = lesion.scale(pose.y_mm)
            if scale < SEEN_FROM / 2:
                continue
            outline = self._to_window(lesion.outline(pose.y_mm), pose)
            self._paint(channels, lesion, outline, _strength(scale))
            if scale >= SEEN_FROM and pose.lifted == 0:
                view = self._mark(lesion_mask, lesion, outline)
                if view is not None:
                    views.append(view)
        pixels = self._develop(channels, speckle.compound(echo), pose, rng)
        gland = self._gland_mask(channels[Channel.GLAND], lesion_mask, pose)
        return Picture(self._framed(pixels), self._framed(lesion_mask), self._framed(gland), tuple(views))

    def _displacement(
        self, x_mm: NDArray[np.floating], z_mm: NDArray[np.floating], pose: Pose
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """From a place in the window to its tissue at rest, as (lateral, depth) in mm."""
        depth = z_mm / self.settings.depth_mm
        wave = 1 + 0.25 * np.sin(x_mm * 0.11 + pose.y_mm * 0.05)
        along = pose.x_mm + 0.35 * pose.breath_mm * np.sin(depth * 2.6) * np.cos(x_mm * 0.05)
        down = pose.breath_mm * depth * wave + pose.press * z_mm
        return along, down

    def _scan(self, anatomy: Anatomy, pose: Pose) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Sample the tissue and its speckle where this pose sees them."""
        coarse_x = cv2.resize(self._x_mm, (24, 1), interpolation=cv2.INTER_AREA)
        coarse_z = cv2.resize(self._z_mm, (1, 24), interpolation=cv2.INTER_AREA)
        along, down = self._displacement(np.asarray(coarse_x), np.asarray(coarse_z), pose)
        size = self._shape[::-1]
        dx = cv2.resize(along.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        dz = cv2.resize(down.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        x, z = dx + self._x_mm, dz + self._z_mm
        tissue = cv2.remap(
            anatomy.cut(pose.y_mm),
            (x - anatomy.left_mm) * (1 / PITCH_X_MM) - 0.5,
            z * (1 / PITCH_Z_MM) - 0.5,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        first = math.floor(pose.x_mm / self._pitch_mm[1])
        field = self.speckle.at(pose.y_mm, first)
        echo = cv2.remap(
            field,
            (x + self.width_mm / 2) * (1 / self._pitch_mm[1]) - 0.5 - first,
            z * (1 / self._pitch_mm[0]) - 0.5 + self.speckle.margin,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return tissue, echo  # type: ignore[return-value]

    def _to_window(self, outline_mm: NDArray[np.float64], pose: Pose) -> NDArray[np.float64]:
        """Where points of the tissue at rest appear, as (column, row) of the window in pixels."""
        x, z = outline_mm[:, 0].copy(), outline_mm[:, 1].copy()
        for _ in range(4):
            along, down = self._displacement(x, z, pose)
            x, z = outline_mm[:, 0] - along, outline_mm[:, 1] - down
        return np.stack([(x + self.width_mm / 2) / self.mm_per_px, z / self.mm_per_px], axis=1)

    def _paint(
        self,
        channels: list[NDArray[np.float32]],
        lesion: Lesion,
        outline: NDArray[np.float64],
        strength: float,
    ) -> None:
        """Put a lesion and its effect on the beam into the tissue, in place."""
        rows, columns = self._shape
        per_column = self._pitch_mm[1] / self.mm_per_px
        pad_mm = lesion.halo_mm * 2 + 1
        pad_z, pad_x = pad_mm / self.mm_per_px, pad_mm / self._pitch_mm[1]
        low, high = outline.min(axis=0), outline.max(axis=0)
        left = max(0, math.floor(low[0] / per_column - pad_x))
        right = min(columns, math.ceil(high[0] / per_column + pad_x))
        top, bottom = max(0, math.floor(low[1] - pad_z)), min(rows, math.ceil(high[1] + pad_z))
        if left >= right or top >= bottom:
            return
        window = np.s_[top:bottom, left:right]
        stencil = np.zeros((bottom - top, right - left), np.float32)
        points = (outline - 0.5) / (per_column, 1) + (0.5 / per_column - 0.5, 0) - (left, top)
        cv2.fillPoly(stencil, [_fixed_point(points)], 1.0, shift=_SUBPIXEL_BITS)

        def blurred(mm: float) -> NDArray[np.float32]:
            sigma_x, sigma_z = mm / self._pitch_mm[1], mm / self.mm_per_px
            return cv2.GaussianBlur(stencil, (0, 0), sigmaX=max(sigma_x, 0.3), sigmaY=max(sigma_z, 0.3))  # type: ignore[return-value]

        inside = blurred(lesion.edge_mm * 0.5) * np.float32(strength)
        echo, coherence = channels[Channel.ECHO][window], channels[Channel.COHERENCE][window]
        grain = channels[Channel.GRAIN][window]
        if lesion.halo_db:
            around = blurred(lesion.halo_mm) * (1 - inside) * np.float32(2 * strength)
            echo += np.minimum(around, 1) * np.float32(lesion.halo_db)
        body = np.float32(lesion.echo_db) + grain * np.float32(lesion.grain_db)
        if lesion.calcifications:
            body += smoothstep((grain - 1.9) * 2.5) * np.float32(13 * lesion.calcifications)
        echo += inside * (body - echo)
        coherence *= 1 - inside
        if lesion.capsule_db:
            soft = blurred(0.22)
            rim = 4 * soft * (1 - soft)
            facing = np.abs(cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3))
            rim *= np.minimum(facing * np.float32(0.25 / self.mm_per_px), 1) * np.float32(strength)
            echo += rim * (np.float32(lesion.capsule_db) + np.maximum(0, -6 - echo)) * 0.8
            coherence += rim * 0.5 * (1 - coherence)
        self._cast(channels[Channel.ECHO], lesion, inside, (left, right, top, bottom), outline, strength)

    def _cast(
        self,
        echo: NDArray[np.float32],
        lesion: Lesion,
        inside: NDArray[np.float32],
        box: tuple[int, int, int, int],
        outline: NDArray[np.float64],
        strength: float,
    ) -> None:
        """Enhancement or shadow behind a lesion, and shadows of its edges, in place."""
        left, right, top, bottom = box
        rows = self._shape[0]
        passed_mm = np.cumsum(inside, axis=0, dtype=np.float32) * np.float32(self.mm_per_px)
        change = passed_mm * np.float32(lesion.posterior_db_per_mm)
        # More than this no beam gains or loses: gain compensation and noise bound it.
        change = np.clip(change, -20, 9)
        behind = np.broadcast_to(change[-1], (rows - bottom, right - left))
        # Inside, where the echoes come from on the way, only part of it shows.
        profile = np.concatenate([change * (1 - 0.6 * inside), behind])
        widen = max(0.6 / self._pitch_mm[1], 0.5)
        profile = cv2.blur(profile, (2 * round(widen) + 1, 1), borderType=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
        below_mm = np.maximum(self._z_mm[top:] - np.float32(outline[:, 1].max() * self.mm_per_px), 0)
        profile = profile * np.exp(-below_mm / np.float32(22 if lesion.posterior_db_per_mm > 0 else 40))
        if lesion.edge_shadow_db:
            x = (outline[:, 0] * self.mm_per_px) - self.width_mm / 2
            columns = self._x_mm[:, left:right]
            centre = np.float32(outline[:, 1].mean() * self.mm_per_px)
            ahead = smoothstep((self._z_mm[top:] - centre) / 2) * np.exp(
                -np.maximum(self._z_mm[top:] - centre, 0) / 12
            )
            for edge, sign in ((x.min(), 1), (x.max(), -1)):
                dark = np.exp(-np.square((columns - np.float32(edge + sign * 0.5)) / np.float32(0.7)))
                profile = profile - ahead * dark * np.float32(lesion.edge_shadow_db * strength)
        echo[top:, left:right] += profile

    def _mark(self, mask: Mask, lesion: Lesion, outline: NDArray[np.float64]) -> LesionView | None:
        """Fill the outline into the mask; None where nothing of it is inside the window."""
        own = np.zeros_like(mask)
        cv2.fillPoly(own, [_fixed_point(outline - 0.5)], 255, shift=_SUBPIXEL_BITS)
        moments = cv2.moments(own, binaryImage=True)
        if moments["m00"] == 0:
            return None
        np.maximum(mask, own, out=mask)
        centre = moments["m10"] / moments["m00"] + self._x0, moments["m01"] / moments["m00"] + self._y0
        area_mm2 = moments["m00"] * self.mm_per_px**2
        return LesionView(lesion.number, lesion.kind, centre, area_mm2 / lesion.area_mm2)

    def _develop(
        self,
        channels: list[NDArray[np.float32]],
        power: NDArray[np.float32],
        pose: Pose,
        rng: np.random.Generator,
    ) -> NDArray[np.uint8]:
        """Amplify, add noise, compress and quantise."""
        rows, columns = self._shape
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
        return cv2.resize(gray, (self._wf, self._hf), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]

    def _gland_mask(self, gland: NDArray[np.float32], lesion_mask: Mask, pose: Pose) -> Mask:
        if pose.lifted:
            return np.zeros_like(lesion_mask)
        wide = cv2.resize(gland, (self._wf, self._hf), interpolation=cv2.INTER_LINEAR)
        return np.where((np.asarray(wide) > 0.5) & (lesion_mask == 0), np.uint8(255), np.uint8(0))

    def _framed(self, window: NDArray[np.uint8]) -> NDArray[np.uint8]:
        width, height = self.size
        if window.shape == (height, width):
            return window
        picture = np.zeros((height, width), np.uint8)
        picture[self._y0 : self._y0 + self._hf, self._x0 : self._x0 + self._wf] = window
        return picture

    def _noise_field(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Power of the electronic noise, larger than a view, and its gain by row."""
        rows, columns = self._shape
        complex_noise = rng.standard_normal((rows + 64, columns + 64, 2), dtype=np.float32)
        complex_noise = np.asarray(cv2.GaussianBlur(complex_noise, (0, 0), sigmaX=0.6, sigmaY=0.7))
        noise = speckle.power(complex_noise)
        noise /= noise.mean()
        # Gain compensation amplifies the noise with depth.
        rise_db = np.minimum(self._z_mm / self.settings.depth_mm, 1) * 6
        level = self.settings.gain_db - self.settings.noise_db + rise_db
        return noise, np.exp(_DB_TO_LN * level).astype(np.float32)

    def _reverberations(self) -> NDArray[np.float32]:
        """Power of the echoes of a probe in the air: bands under its face, dying away."""
        z = self._z_mm
        bands = np.exp(-np.square((z % 1.9 - 0.7) / 0.35)) + 0.15
        power = np.exp(_DB_TO_LN * (self.settings.gain_db + 8)) * bands * np.exp(-z / 0.9)
        return np.asarray(power, np.float32)


def _strength(scale: float) -> float:
    """Contrast of a section: a beam as thick as a small one averages it with what lies beside."""
    ease = min(max((scale - 0.1) / 0.25, 0.0), 1.0)
    return ease * ease * (3 - 2 * ease)


def _fixed_point(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)

"""Lesions in the tissue: their inside, margin and surround, and the enhancement or shadow behind them."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.sources.phantom.anatomy import Channel
from streamer.sources.phantom.lesion import Lesion
from streamer.sources.phantom.noise import smoothstep
from streamer.sources.phantom.window import SUBPIXEL_BITS, Window, fixed_point


def paint(
    channels: list[NDArray[np.float32]],
    lesion: Lesion,
    outline: NDArray[np.float64],
    scale: float,
    window: Window,
) -> None:
    """Put a lesion and its effect on the beam into the tissue, in place.

    :param channels: rows x columns each, see `Channel`.
    :param outline: N x 2: (column, row) in pixels of the window.
    :param scale: size of this section as part of the largest one.
    """
    strength = _strength(scale)
    rows, columns = window.shape
    per_column = window.pitch_mm[1] / window.mm_per_px
    pad_mm = lesion.halo_mm * 2 + 1
    pad_z, pad_x = pad_mm / window.mm_per_px, pad_mm / window.pitch_mm[1]
    low, high = outline.min(axis=0), outline.max(axis=0)
    left = max(0, math.floor(low[0] / per_column - pad_x))
    right = min(columns, math.ceil(high[0] / per_column + pad_x))
    top, bottom = max(0, math.floor(low[1] - pad_z)), min(rows, math.ceil(high[1] + pad_z))
    if left >= right or top >= bottom:
        return
    box = np.s_[top:bottom, left:right]
    stencil = np.zeros((bottom - top, right - left), np.float32)
    points = (outline - 0.5) / (per_column, 1) + (0.5 / per_column - 0.5, 0) - (left, top)
    cv2.fillPoly(stencil, [fixed_point(points)], 1.0, shift=SUBPIXEL_BITS)

    def blurred(mm: float) -> NDArray[np.float32]:
        sigma_x, sigma_z = mm / window.pitch_mm[1], mm / window.mm_per_px
        return cv2.GaussianBlur(stencil, (0, 0), sigmaX=max(sigma_x, 0.3), sigmaY=max(sigma_z, 0.3))  # type: ignore[return-value]

    inside = blurred(lesion.edge_mm * 0.5) * np.float32(strength)
    echo, coherence = channels[Channel.ECHO][box], channels[Channel.COHERENCE][box]
    grain = channels[Channel.GRAIN][box]
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
        # Outside the margin, where the outline of the mask leaves it.
        rim = 6 * soft * (1 - soft) * (1 - inside)
        facing = np.abs(cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3))
        rim *= np.minimum(facing * np.float32(0.25 / window.mm_per_px), 1) * np.float32(strength)
        echo += rim * (np.float32(lesion.capsule_db) + np.maximum(0, -6 - echo)) * 0.8
        coherence += rim * 0.5 * (1 - coherence)
    _cast(channels[Channel.ECHO], lesion, inside, (left, right, top, bottom), outline, strength, window)


def _cast(
    echo: NDArray[np.float32],
    lesion: Lesion,
    inside: NDArray[np.float32],
    box: tuple[int, int, int, int],
    outline: NDArray[np.float64],
    strength: float,
    window: Window,
) -> None:
    """Enhancement or shadow behind a lesion, and shadows of its edges, in place."""
    left, right, top, bottom = box
    rows = window.shape[0]
    passed_mm = np.cumsum(inside, axis=0, dtype=np.float32) * np.float32(window.mm_per_px)
    change = passed_mm * np.float32(lesion.posterior_db_per_mm)
    # More than this no beam gains or loses: gain compensation and noise bound it.
    change = np.clip(change, -20, 9)
    behind = np.broadcast_to(change[-1], (rows - bottom, right - left))
    # Inside, where the echoes come from on the way, only part of it shows.
    profile = np.concatenate([change * (1 - 0.6 * inside), behind])
    widen = max(0.6 / window.pitch_mm[1], 0.5)
    profile = np.asarray(cv2.blur(profile, (2 * round(widen) + 1, 1), borderType=cv2.BORDER_REPLICATE))
    below_mm = np.maximum(window.z_mm[top:] - np.float32(outline[:, 1].max() * window.mm_per_px), 0)
    profile = profile * np.exp(-below_mm / np.float32(22 if lesion.posterior_db_per_mm > 0 else 40))
    if lesion.edge_shadow_db:
        x = (outline[:, 0] * window.mm_per_px) - window.width_mm / 2
        columns = window.x_mm[:, left:right]
        centre = np.float32(outline[:, 1].mean() * window.mm_per_px)
        ahead = smoothstep((window.z_mm[top:] - centre) / 2) * np.exp(
            -np.maximum(window.z_mm[top:] - centre, 0) / 12
        )
        for edge, sign in ((x.min(), 1), (x.max(), -1)):
            dark = np.exp(-np.square((columns - np.float32(edge + sign * 0.5)) / np.float32(0.7)))
            profile = profile - ahead * dark * np.float32(lesion.edge_shadow_db * strength)
    echo[top:, left:right] += profile


def _strength(scale: float) -> float:
    """Contrast of a section: a beam as thick as a small one averages it with what lies beside."""
    ease = min(max((scale - 0.1) / 0.25, 0.0), 1.0)
    return ease * ease * (3 - 2 * ease)

"""Notice when a feed shows something else, and say what that makes worthless."""

from enum import Enum, StrEnum, auto
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.frame import Pixels
from streamer.quality import contact
from streamer.smoothing.settings import SmoothingSettings

Floats = NDArray[np.float32]

_SIDE = 64
"""Pictures are compared at this size."""
_SUSPECT_BELOW = 0.85
"""Pictures that correlate better are not searched for a change of scale."""
_ZOOM_GAIN = 0.15
"""Scaling must explain this much more, or it was a movement."""
_FLAT = 2.0
"""Structure under so many gray levels (standard deviation) is noise, and noise never correlates."""
_CONTACT_HYSTERESIS = 0.15


class ViewChange(StrEnum):
    """What changed with a frame."""

    FIRST = "first"
    """The first frame of a feed."""
    SCENE_CUT = "scene_cut"
    """The picture shows another place."""
    DEPTH = "depth"
    """The same place at another depth or zoom."""
    GAIN = "gain"
    """The same picture, suddenly brighter or darker."""
    LIFT = "lift"
    """The probe lost contact with the skin."""
    LANDED = "landed"
    """The probe touched the skin again."""
    GAP = "gap"
    """Too long since the frame before, or time ran backwards."""
    RESOLUTION = "resolution"
    """The region changed its size."""
    FREEZE = "freeze"
    """The feed was frozen in between."""
    STATE = "state"
    """The feed was not live in between for another reason."""


class Memory(Enum):
    """What is remembered from frame to frame."""

    MOTION = auto()
    """The picture that the next one's motion is measured against."""
    MASK = auto()
    CLASSES = auto()
    """The evidence for the classes of the view."""
    TRACKS = auto()
    """Identities, measures and class evidence of lesions."""


_ALL = frozenset(Memory)
FORGETS: dict[ViewChange, frozenset[Memory]] = {
    **dict.fromkeys(ViewChange, _ALL),
    # The tissue is the same, so what it is stays known; where it is does not.
    ViewChange.DEPTH: frozenset({Memory.MOTION, Memory.MASK, Memory.TRACKS}),
    # Nothing moved and nothing is other tissue; only gray levels can't be compared.
    ViewChange.GAIN: frozenset({Memory.MOTION}),
}
"""What each change makes worthless; all else goes on."""


class _Seen(NamedTuple):
    structure: Floats
    """64 x 64, zero mean and unit spread."""
    contrast: float
    """Spread of the structure in gray levels."""
    gray: float
    shape: tuple[int, ...]
    region_shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None


class ViewWatch:
    """Compares each picture of a feed with the one before."""

    def __init__(self, settings: SmoothingSettings) -> None:
        self._settings = settings
        self._before: _Seen | None = None
        self._lifted = False

    def reset(self) -> None:
        """Forget the picture before: the next one is a first one."""
        self._before = None
        self._lifted = False

    def observe(
        self,
        view: Pixels,
        elapsed_s: float,
        region_shape: tuple[int, int],
        spacing_mm: tuple[float, float] | None,
    ) -> ViewChange | None:
        """Say what changed since the picture before.

        :param view: H x W gray.
        :param elapsed_s: since the picture before.
        :param region_shape: (height, width) of the region in the source's pixels.
        :param spacing_mm: (row, column) of a source pixel, or None where unknown.
        """
        before = self._before
        small = np.asarray(cv2.resize(view, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))
        structure, contrast = _structure(small)
        seen = _Seen(structure, contrast, float(small.mean()), view.shape, region_shape, spacing_mm)
        self._before = seen
        change = self._contact_change(contact(small))
        if before is None:
            return ViewChange.FIRST
        if before.region_shape != region_shape or before.shape != view.shape:
            return ViewChange.RESOLUTION
        if not 0 <= elapsed_s <= self._settings.gap_s:
            return ViewChange.GAP
        if spacing_mm != before.spacing_mm and None not in (spacing_mm, before.spacing_mm):
            return ViewChange.DEPTH
        if change is not None or self._lifted:
            return change
        return self._picture_change(before, seen)

    def _contact_change(self, part: float) -> ViewChange | None:
        limit = self._settings.contact_below
        was, self._lifted = self._lifted, part < limit + (_CONTACT_HYSTERESIS if self._lifted else 0)
        if was == self._lifted:
            return None
        return ViewChange.LIFT if self._lifted else ViewChange.LANDED

    def _picture_change(self, before: _Seen, seen: _Seen) -> ViewChange | None:
        if max(before.contrast, seen.contrast) < _FLAT:
            return None
        alike = float(np.vdot(before.structure, seen.structure)) / before.structure.size
        if alike < _SUSPECT_BELOW:
            scaled = _best_scaled(before.structure, seen.structure)
            if scaled >= max(self._settings.zoom_above, alike + _ZOOM_GAIN):
                return ViewChange.DEPTH
        if alike < self._settings.cut_below:
            return ViewChange.SCENE_CUT
        return ViewChange.GAIN if abs(seen.gray - before.gray) >= self._settings.gain_jump else None


def _structure(small: NDArray[Any]) -> tuple[Floats, float]:
    """Return a picture's coarse structure, free of brightness and of the gain's slope over depth."""
    fine = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 2.0)
    # The wide average at a quarter of the size costs a tenth and differs by nothing that matters.
    coarse = cv2.GaussianBlur(cv2.resize(fine, (16, 16), interpolation=cv2.INTER_AREA), (0, 0), 3.0)
    structure = np.asarray(cv2.subtract(fine, cv2.resize(coarse, (_SIDE, _SIDE))), np.float32)
    mean, spread = cv2.meanStdDev(structure)
    contrast = float(spread[0, 0])
    structure -= np.float32(mean[0, 0])
    structure *= np.float32(1 / max(contrast, 1e-3))
    return structure, contrast


def _scalings() -> list[Floats]:
    """How a console rescales a picture: from the probe's face, in depth only, or about the middle."""
    middle, scalings = (_SIDE - 1) / 2, []
    for scale in np.exp(np.linspace(np.log(0.62), np.log(1.62), 13)):
        if abs(scale - 1) < 0.05:
            continue
        for across, down, at in ((scale, scale, 0.0), (1.0, scale, 0.0), (scale, scale, middle)):
            scalings.append(
                np.array([[across, 0, middle * (1 - across)], [0, down, at * (1 - down)]], np.float32)
            )
    return scalings


_SCALINGS = _scalings()
_EVERYWHERE = np.ones((_SIDE, _SIDE), np.float32)


def _best_scaled(before: Floats, seen: Floats) -> float:
    """Return the best correlation that scaling the picture before gives, where both have a picture."""
    best = 0.0
    for scaling in _SCALINGS:
        moved = np.asarray(cv2.warpAffine(before, scaling, (_SIDE, _SIDE)))
        both = np.asarray(cv2.warpAffine(_EVERYWHERE, scaling, (_SIDE, _SIDE))) > 0.99
        there, here = moved[both], seen[both]
        spread = float(there.std() * here.std())
        if spread > 0:
            best = max(best, float(((there - there.mean()) * (here - here.mean())).mean()) / spread)
    return best

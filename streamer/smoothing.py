"""Turn answers to single frames into something a person can watch, without hiding a change.

Time constants are seconds and weights come from the time that really passed between two frames, so 15 and
60 frames a second feel the same. The mask is carried along the motion of the image before it is blended; the
classes are averaged as log-probabilities, in which evidence adds. A new view starts from nothing.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.frame import Pixels

Floats = NDArray[np.float32]


class ViewChange(StrEnum):
    """Why smoothing began afresh."""

    FIRST = "first"
    """The first frame of a feed."""
    SCENE_CUT = "scene_cut"
    """The picture shows another place."""
    GAP = "gap"
    """Too long since the frame before, or time ran backwards."""
    RESOLUTION = "resolution"
    """The region changed its size."""
    STATE = "state"
    """The feed was not live in between."""


@dataclass(frozen=True, slots=True)
class SmoothingSettings:
    """How much is smoothed; times in seconds."""

    enabled: bool = True
    mask_time_s: float = 0.10
    """Time constant of the mask: a lesion that appears crosses the threshold after 0.7 of it."""
    class_time_s: float = 0.5
    """Time constant of the class evidence."""
    gap_s: float = 0.5
    """A longer pause between two frames starts a new view."""
    cut_below: float = 0.35
    """Correlation of two successive pictures' structure under which they show different places."""
    label_margin: float = 0.15
    """The shown label changes only to a class more probable by this much."""
    stable_after_s: float = 0.5
    """How long the label must have held to be stable..."""
    stable_above: float = 0.6
    """...with at least this smoothed probability."""


class Smoothed(NamedTuple):
    """A steadied answer."""

    lesion: Pixels
    """H x W probability, 0 to 255; overwritten by the next update."""
    classes: Floats
    """K probabilities that sum to 1."""
    label: int
    """Index of the class to show."""
    stable: bool
    change: ViewChange | None
    """Why smoothing began afresh with this frame, or None if it went on."""


class Smoother:
    """The state of one source."""

    def __init__(self, settings: SmoothingSettings | None = None) -> None:
        self._settings = settings or SmoothingSettings()
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._restart: ViewChange | None = ViewChange.FIRST
        self._at = 0
        self._structure: Floats = np.empty(0, np.float32)
        self._region_shape: tuple[int, int] = (0, 0)

    def reset(self, reason: ViewChange) -> None:
        """Start afresh with the next frame."""
        self._restart = reason

    def update(
        self,
        view: Pixels,
        lesion: Pixels,
        classes: Floats,
        captured_monotonic: int,
        region_shape: tuple[int, int],
    ) -> Smoothed:
        """Take one frame's answer and return the steadied one.

        :param view: H x W gray, what the model saw; copied.
        :param lesion: H x W lesion probability, 0 to 255.
        :param classes: K probabilities.
        :param captured_monotonic: ns; a frame older than the one before starts a new view.
        :param region_shape: (height, width) of the region in the source's pixels.
        """
        if not self._settings.enabled:
            return Smoothed(lesion, classes, int(np.argmax(classes)), True, None)
        elapsed = (captured_monotonic - self._at) * 1e-9
        change = self._restart or self._changed(view, elapsed, region_shape)
        if change is not None:
            self._begin(view, lesion, classes, captured_monotonic)
        else:
            self._blend_mask(view, lesion, elapsed)
            self._blend_classes(classes, elapsed, captured_monotonic)
        self._at, self._region_shape, self._restart = captured_monotonic, region_shape, None
        np.copyto(self._view, view)
        np.rint(self._probability, out=self._rounded, casting="unsafe")
        return Smoothed(
            self._rounded, self._smoothed, self._label, self._is_stable(captured_monotonic), change
        )

    def _changed(self, view: Pixels, elapsed: float, region_shape: tuple[int, int]) -> ViewChange | None:
        if region_shape != self._region_shape or view.shape != self._view.shape:
            return ViewChange.RESOLUTION
        if not 0 < elapsed <= self._settings.gap_s:
            return ViewChange.GAP
        structure = _structure(view)
        correlation = float((structure * self._structure).mean())
        self._structure = structure
        return ViewChange.SCENE_CUT if correlation < self._settings.cut_below else None

    def _begin(self, view: Pixels, lesion: Pixels, classes: Floats, now: int) -> None:
        self._view = view.copy()
        self._structure = _structure(view)
        self._probability = lesion.astype(np.float32)
        self._rounded = np.empty_like(lesion)
        self._motion = np.zeros((*view.shape, 2), np.float32)
        rows, columns = np.indices(view.shape, dtype=np.float32)
        self._grid = np.stack([columns, rows], axis=-1)
        self._evidence = _log(classes)
        self._smoothed = _softmax(self._evidence)
        self._label, self._label_since = int(np.argmax(classes)), now
        self._weak_at = now

    def _blend_mask(self, view: Pixels, lesion: Pixels, elapsed: float) -> None:
        """Carry the mask along the image's motion and move it towards the new one.

        The flow points from each pixel to where it was before; where the two pictures still differ after
        that, the motion is not to be believed and the new mask counts.
        """
        self._flow.calc(view, self._view, self._motion)
        where = self._motion + self._grid
        carried = _sample(self._probability, where)
        before = _sample(self._view, where)
        doubt = cv2.blur(cv2.absdiff(before, view), (5, 5)).astype(np.float32) * (1 / 64)
        fresh = 1 - float(np.exp(-elapsed / self._settings.mask_time_s))
        weight = np.clip(doubt, fresh, 1)
        self._probability = carried + weight * (lesion - carried)

    def _blend_classes(self, classes: Floats, elapsed: float, now: int) -> None:
        fresh = 1 - float(np.exp(-elapsed / self._settings.class_time_s))
        self._evidence += fresh * (_log(classes) - self._evidence)
        self._smoothed = _softmax(self._evidence)
        best = int(np.argmax(self._smoothed))
        if self._smoothed[best] - self._smoothed[self._label] > self._settings.label_margin:
            self._label, self._label_since = best, now
        if self._smoothed[self._label] < self._settings.stable_above:
            self._weak_at = now

    def _is_stable(self, now: int) -> bool:
        return (now - max(self._label_since, self._weak_at)) * 1e-9 >= self._settings.stable_after_s


def _sample(picture: NDArray[Any], where: Floats) -> NDArray[Any]:
    # OpenCV's stubs know no empty second map.
    return cv2.remap(picture, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload,no-any-return]


def _log(classes: Floats) -> Floats:
    # The floor keeps one overconfident frame from outweighing all that came before.
    log: Floats = np.log(np.maximum(classes, np.float32(0.01)))
    return log


def _softmax(evidence: Floats) -> Floats:
    raised = np.exp(evidence - evidence.max())
    probabilities: Floats = raised / raised.sum()
    return probabilities


def _structure(view: Pixels) -> Floats:
    """Return the picture's coarse structure, free of brightness and of the gain's slope over depth."""
    small = cv2.resize(view, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.GaussianBlur(small, (0, 0), 1.0) - cv2.GaussianBlur(small, (0, 0), 6.0)
    spread = float(small.std())
    structure: Floats = (small - small.mean()) / max(spread, 1e-3)
    return structure

"""The state of one source, from frame to frame."""

from typing import NamedTuple

import numpy as np

from streamer.frame import Pixels
from streamer.smoothing.classes import Evidence
from streamer.smoothing.mask import MaskSmoother
from streamer.smoothing.motion import Motion
from streamer.smoothing.settings import SmoothingSettings
from streamer.smoothing.view import FORGETS, Floats, Memory, ViewChange, ViewWatch


class Smoothed(NamedTuple):
    """A steadied answer."""

    lesion: Pixels
    """H x W probability, 0 to 255; overwritten by the next update."""
    classes: Floats
    """K probabilities that sum to 1."""
    label: int
    """Index of the class to show."""
    stable: bool
    uncertain: bool
    """The evidence conflicts: `label` is no more than a guess."""
    change: ViewChange | None
    """What changed with this frame, or None."""
    motion: Motion | None
    """How the picture moved since the frame before; None where that is unknown."""
    repeated: bool = False
    """The frame brought nothing new: an older one, or the same picture again."""

    def forgets(self, memory: Memory) -> bool:
        """Whether what changed makes something remembered worthless."""
        return self.change is not None and memory in FORGETS[self.change]


class Smoother:
    """Steadies the answers of one source."""

    def __init__(self, settings: SmoothingSettings | None = None) -> None:
        self._settings = settings or SmoothingSettings()
        self._watch = ViewWatch(self._settings)
        self._evidence = Evidence(self._settings)
        self._reason: ViewChange | None = None
        self._last: Smoothed | None = None
        self._at = self._new_at = self._began = 0
        self._region_shape = (0, 0)
        self._allocate((0, 0))

    def reset(self, reason: ViewChange) -> None:
        """Start afresh with the next frame."""
        self._reason = reason
        self._last = None
        self._watch.reset()

    def update(
        self,
        view: Pixels,
        lesion: Pixels,
        classes: Floats,
        captured_monotonic: int,
        region_shape: tuple[int, int],
        spacing_mm: tuple[float, float] | None = None,
    ) -> Smoothed:
        """Take one frame's answer and return the steadied one.

        A frame a little older than the one before, and the same picture again, are no new evidence: they
        get the answer that stands.

        :param view: H x W gray, what the model saw; copied.
        :param lesion: H x W lesion probability, 0 to 255.
        :param classes: K probabilities.
        :param captured_monotonic: ns; going back by more than `gap_s` starts a new view.
        :param region_shape: (height, width) of the region in the source's pixels.
        :param spacing_mm: (row, column) of a source pixel, or None where unknown.
        """
        elapsed_s = (captured_monotonic - self._at) * 1e-9
        if self._repeats(view, elapsed_s, region_shape):
            self._at = max(self._at, captured_monotonic)
            assert self._last is not None
            return self._answer(self._last._replace(change=None, repeated=True), lesion, classes)
        change = self._watch.observe(view, elapsed_s, region_shape, spacing_mm)
        if change is ViewChange.FIRST:
            change, self._reason = self._reason or change, None
        forgets = FORGETS[change] if change is not None else frozenset()
        self._region_shape = region_shape
        smoothed_mask = self._smooth_mask(view, lesion, captured_monotonic, forgets)
        if Memory.CLASSES in forgets:
            self._evidence.reset()
        verdict = self._evidence.add(classes, captured_monotonic)
        self._at = self._new_at = captured_monotonic
        self._last = Smoothed(
            smoothed_mask,
            verdict.probabilities,
            verdict.label,
            verdict.stable,
            verdict.uncertain,
            change,
            None if Memory.MOTION in forgets or not self._settings.enabled else self._motion,
        )
        return self._answer(self._last, lesion, classes)

    def _repeats(self, view: Pixels, elapsed_s: float, region_shape: tuple[int, int]) -> bool:
        if self._last is None or region_shape != self._region_shape or view.shape != self._view.shape:
            return False
        if -self._settings.gap_s < elapsed_s <= 0:
            return True
        return 0 < elapsed_s <= self._settings.gap_s and np.array_equal(view, self._view)

    def _smooth_mask(self, view: Pixels, lesion: Pixels, now: int, forgets: frozenset[Memory]) -> Pixels:
        settings = self._settings
        if view.shape != self._view.shape:
            self._allocate((view.shape[0], view.shape[1]))
        np.copyto(self._view, view)
        if not settings.enabled:
            return lesion
        if Memory.MOTION in forgets:
            self._motion.begin(view)
        else:
            self._motion.advance(view)
        if Memory.MASK in forgets:
            self._began = now
            return self._mask.begin(lesion)
        elapsed_s, age_s = (now - self._new_at) * 1e-9, (now - self._began) * 1e-9
        return self._mask.advance(lesion, self._motion, elapsed_s, age_s)

    def _allocate(self, shape: tuple[int, int]) -> None:
        self._view = np.empty(shape, np.uint8)
        self._motion = Motion(shape)
        self._mask = MaskSmoother(shape, self._settings.mask_time_s, self._settings.outline_time_s)

    def _answer(self, smoothed: Smoothed, lesion: Pixels, classes: Floats) -> Smoothed:
        if self._settings.enabled:
            return smoothed
        return smoothed._replace(
            lesion=lesion, classes=classes, label=int(np.argmax(classes)), stable=True, uncertain=False
        )

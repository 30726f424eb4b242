"""What is measured of a method on a sequence with ground truth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.temporal.methods import Shown
from benchmarks.temporal.sequences import Instant
from streamer.analysis import Region
from streamer.lesions import MIN_AREA, find_outlines
from streamer.smoothing import SmoothingSettings
from streamer.tracks import LesionTracker

Mask = NDArray[np.uint8]

_GHOST_FRAMES = 5
_CLEAR = 2 * MIN_AREA
"""A lesion has appeared when it is twice the least size that is shown: 4 mm across in 40 x 60 mm."""


class Truth:
    """What is true of a sequence, worked out once for all methods."""

    def __init__(self, instants: Sequence[Instant]) -> None:
        self.instants = instants
        self.masks = [displayed(instant.truth) for instant in instants]
        self.sizes = [np.count_nonzero(mask) / mask.size for mask in self.masks]
        """Parts of the picture."""
        self.changed = [0] + [_change(before, now, before, now) for before, now in pairwise(self.masks)]
        """Cells that really changed since the instant before, beyond moving and growing as a whole."""


@dataclass
class Scores:
    """Sums over sequences; `summary` turns them into figures."""

    minutes: float = 0.0
    changed: list[float] = field(default_factory=list)
    """Per frame: area that changed beyond the true change, as a part of the mean lesion's area."""
    dice: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    label_changes: int = 0
    true_label_changes: int = 0
    onset_ms: list[float] = field(default_factory=list)
    missed: int = 0
    """Lesions that were never shown."""
    label_delay_ms: list[float] = field(default_factory=list)
    ghost_ms: list[float] = field(default_factory=list)
    ghost_late: int = 0
    """Ghosts that stayed longer than 150 ms and 5 frames."""
    switches: int = 0
    tracked_minutes: float = 0.0
    _tracked_at: float = 0.0
    _called: dict[int, int] = field(default_factory=dict)
    _tracker: LesionTracker = field(default_factory=LesionTracker)

    def summary(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "mask_flicker_percent": 100 * _mean(self.changed),
            "label_changes_per_min": self.label_changes / self.minutes,
            "true_label_changes_per_min": self.true_label_changes / self.minutes,
            "label_flicker_per_min": max(0, self.label_changes - self.true_label_changes) / self.minutes,
            "dice": _mean(self.dice),
            "label_right": _mean(self.right),
            "onset_ms": {"median": _median(self.onset_ms), "mean": _mean(self.onset_ms)},
            "mask_delay_ms": {"mean": _mean(self.onset_ms + self.ghost_ms)},
            "lesions": len(self.onset_ms) + self.missed,
            "missed": self.missed,
            "label_delay_ms": {"median": _median(self.label_delay_ms), "mean": _mean(self.label_delay_ms)},
            "ghost_ms": {"median": _median(self.ghost_ms), "max": max(self.ghost_ms, default=0.0)},
            "ghosts_too_long": self.ghost_late,
            "id_switches_per_min": self.switches / self.tracked_minutes if self.tracked_minutes else 0.0,
        }

    def add(self, truth: "Truth", shown: Sequence[Shown], fps: int) -> None:
        """Score one sequence.

        :param fps: at which it was shown, for limits in frames.
        """
        instants, truths, sizes = truth.instants, truth.masks, truth.sizes
        masks = [displayed(each.lesion) for each in shown]
        present = [size > 0 for size in sizes]
        lesion_area = max(1.0, _mean([size for size in sizes if size]) * masks[0].size)
        self.minutes += (instants[-1].time_s - instants[0].time_s) / 60
        for n, (before, now) in enumerate(pairwise(range(len(instants))), start=1):
            if instants[before].scene == instants[now].scene and present[before] == present[now]:
                changed = _change(masks[before], masks[now], truths[before], truths[now])
                self.changed.append(max(0, changed - truth.changed[now]) / lesion_area)
            self.label_changes += shown[now].label != shown[before].label
            self.true_label_changes += instants[now].label != instants[before].label
            if instants[now].label != instants[before].label:
                self._label_delay(instants, shown, n)
            new_view = instants[now].scene != instants[before].scene
            if sizes[now] >= _CLEAR > (0 if new_view else sizes[before]):
                self._onset(instants, masks, truths, n)
            if present[before] and (not present[now] or new_view):
                self._ghost(instants, masks, truths, n, fps)
        for mask, true, is_there in zip(masks, truths, present, strict=True):
            if is_there:
                both = np.count_nonzero(mask & true)
                self.dice.append(2 * both / (np.count_nonzero(mask) + np.count_nonzero(true)))
        self.right += [each.label == instant.label for each, instant in zip(shown, instants, strict=True)]

    def track(self, instant: Instant, shown: Shown, *, restart: bool) -> None:
        """Follow the lesions shown, and count how often one that stays is called another.

        :param restart: this is the first instant of a sequence.
        """
        rows, columns = instant.view.shape
        region, now = Region(0, 0, columns, rows), round((1 + instant.time_s) * 1e9)
        if restart:
            self._tracker = LesionTracker((), SmoothingSettings())
            self._called = {}
        else:
            self.tracked_minutes += max(0.0, instant.time_s - self._tracked_at) / 60
        self._tracked_at = instant.time_s
        if shown.forget_tracks:
            self._tracker.reset()
        outlines = find_outlines(shown.lesion, region)
        lesions = self._tracker.identify(outlines, now, region, None, motion=shown.motion)
        over = [
            lesion
            for lesion in lesions
            if instant.truth[min(int(lesion.centre[1]), rows - 1), min(int(lesion.centre[0]), columns - 1)]
        ]
        if instant.lesion is not None and over:
            identity = max(over, key=lambda lesion: lesion.area_px).track
            self.switches += self._called.get(instant.lesion, identity) != identity
            self._called[instant.lesion] = identity

    def _label_delay(self, instants: Sequence[Instant], shown: Sequence[Shown], n: int) -> None:
        label = instants[n].label
        for instant, each in zip(instants[n:], shown[n:], strict=False):
            if instant.label != label:
                return
            if each.label == label:
                self.label_delay_ms.append((instant.time_s - instants[n].time_s) * 1e3)
                return

    def _onset(self, instants: Sequence[Instant], masks: list[Mask], truths: list[Mask], n: int) -> None:
        for m in range(n, len(instants)):
            if not truths[m].any() or instants[m].scene != instants[n].scene:
                self.missed += m - n > 3
                return
            if np.count_nonzero(masks[m] & truths[m]) >= MIN_AREA * masks[m].size:
                self.onset_ms.append((instants[m].time_s - instants[n].time_s) * 1e3)
                return

    def _ghost(
        self, instants: Sequence[Instant], masks: list[Mask], truths: list[Mask], n: int, fps: int
    ) -> None:
        around = cv2.dilate(truths[n], np.ones((5, 5), np.uint8))
        left = cv2.bitwise_and(masks[n - 1], cv2.bitwise_not(around))
        for m in range(n, len(instants)):
            if np.count_nonzero(cv2.bitwise_and(masks[m], left)) < MIN_AREA * left.size:
                lasted_s = instants[m].time_s - instants[n].time_s
                self.ghost_ms.append(lasted_s * 1e3)
                # Where frames were lost in between, the fifth that came still counts as in time.
                self.ghost_late += lasted_s > max(0.150, 5 / fps) + 1e-6 and m - n > _GHOST_FRAMES
                return


def displayed(lesion: Mask) -> Mask:
    """Return what a display would fill: 255 inside lesions of at least the least area."""
    cells = np.where(lesion >= 128, np.uint8(255), np.uint8(0))
    contours, _ = cv2.findContours(cells, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        if cv2.contourArea(contour) < MIN_AREA * lesion.size:
            cv2.drawContours(cells, [contour], -1, 0, cv2.FILLED)
    return cells


def _change(before: Mask, now: Mask, true_before: Mask, true_now: Mask) -> int:
    """Count the cells that differ after the mask before was moved along with the truth."""
    return int(np.count_nonzero(_moved(before, true_before, true_now) != now))


def _moved(mask: Mask, before: Mask, now: Mask) -> Mask:
    """Move a mask the way the true lesion moved and grew."""
    was, is_ = cv2.moments(before, binaryImage=True), cv2.moments(now, binaryImage=True)
    if not was["m00"] or not is_["m00"] or not mask.any():
        return mask
    scale = math.sqrt(is_["m00"] / was["m00"])
    x, y = was["m10"] / was["m00"], was["m01"] / was["m00"]
    to_x, to_y = is_["m10"] / is_["m00"], is_["m01"] / is_["m00"]
    matrix = np.array([[scale, 0, to_x - scale * x], [0, scale, to_y - scale * y]])
    moved = np.asarray(cv2.warpAffine(mask, matrix, mask.shape[::-1], flags=cv2.INTER_LINEAR))
    return np.where(moved >= 128, np.uint8(255), np.uint8(0))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else 0.0

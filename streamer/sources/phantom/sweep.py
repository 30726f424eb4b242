"""What the operator does: where the probe is at any instant, and which lesions lie on its way."""

import bisect
import math
from dataclasses import replace
from typing import Literal, NamedTuple

import cv2
import numpy as np

from streamer.sources.phantom.lesion import Kind, Lesion, random_lesion
from streamer.sources.phantom.window import Pose

Content = Literal["mixed", "benign", "malignant", "none"]


class Stay(NamedTuple):
    """Time in one place, from one cut or lift to the next."""

    scene: int
    start_s: float
    lift_s: float
    """When the probe leaves the skin; the same as `end_s` where the stay ends with a cut."""
    end_s: float


class Timeline:
    """Stays, one after the other, without end."""

    def __init__(self, seed: int, *, lift: bool, cut: bool) -> None:
        self._rng = np.random.default_rng([seed, 11])
        self._lift, self._cut = lift, cut
        self._stays: list[Stay] = []
        self._end_s = 0.0

    def at(self, time_s: float) -> Stay:
        """Find the stay that an instant falls into."""
        while not self._stays or self._end_s <= time_s:
            self._extend()
        return self._stays[bisect.bisect_right(self._stays, time_s, key=lambda stay: stay.start_s) - 1]

    def _extend(self) -> None:
        until_lift_s = self._rng.uniform(30, 45)
        lasts_s = self._rng.uniform(1.3, 1.7)
        cut_part = self._rng.uniform(0.35, 0.65)
        cut_here = self._cut and self._rng.random() < 0.6
        if not self._lift:
            lasts_s = 0.0
        start_s, scene = self._end_s, len(self._stays)
        lift_s = start_s + until_lift_s
        if not self._lift and not self._cut:
            lift_s = math.inf
        elif not self._lift:
            # Without lifts the only boundaries are cuts.
            self._append(Stay(scene, start_s, lift_s, lift_s))
            return
        if cut_here:
            cut_s = start_s + until_lift_s * cut_part
            self._append(Stay(scene, start_s, cut_s, cut_s))
            start_s, scene = cut_s, scene + 1
        self._append(Stay(scene, start_s, lift_s, lift_s + lasts_s))

    def _append(self, stay: Stay) -> None:
        self._stays.append(stay)
        self._end_s = stay.end_s


class _Move(NamedTuple):
    start_s: float
    end_s: float
    from_mm: float
    to_mm: float


class Sweep:
    """The probe's path over one place, and the lesions that it meets.

    :param fat_db: echo level of the fat around.
    :param depth_mm: range of depths where lesions lie.
    :param half_width_mm: of the scan window.
    :param max_size_mm: of a lesion.
    :param first_number: number of the first lesion met here.
    """

    def __init__(
        self,
        seed: tuple[int, ...],
        content: Content,
        *,
        fat_db: float,
        depth_mm: tuple[float, float],
        half_width_mm: float,
        max_size_mm: float,
        first_number: int = 0,
    ) -> None:
        self._rng = np.random.default_rng([*seed, 23])
        self._content = content
        self._fat_db = fat_db
        self._depth_mm = depth_mm
        self._half_width_mm = half_width_mm
        self._max_size_mm = max_size_mm
        self._first_number = first_number
        self._moves: list[_Move] = []
        self._lesions: list[Lesion] = []
        self._end_s, self._end_mm = 0.0, 0.0
        self._phase = self._rng.uniform(0, 2 * np.pi, 6)
        self._breath_hz = self._rng.uniform(0.2, 0.3)
        self._breath_mm = self._rng.uniform(0.5, 1.3)

    def pose(self, time_s: float) -> Pose:
        """Where the probe is, `time_s` after it came to this place."""
        while self._end_s <= time_s:
            self._meet()
        move = self._moves[bisect.bisect_right(self._moves, time_s, key=lambda move: move.start_s) - 1]
        part = (time_s - move.start_s) / (move.end_s - move.start_s)
        y = move.from_mm + (move.to_mm - move.from_mm) * (0.5 - 0.5 * math.cos(math.pi * part))
        phase = self._phase
        x = 1.8 * math.sin(0.41 * time_s + phase[0]) + 1.1 * math.sin(0.93 * time_s + phase[1])
        turn = 2 * math.pi * self._breath_hz * time_s + phase[2]
        # Inhaling is quicker than exhaling.
        breath = self._breath_mm * math.sin(turn + 0.35 * math.sin(turn))
        tremor = 0.05 * math.sin(7.3 * time_s + phase[3]) + 0.04 * math.sin(11.9 * time_s + phase[4])
        press = 0.015 * math.sin(0.63 * time_s + phase[5])
        return Pose(y, x + tremor, breath + tremor, press)

    def lesions(self, y_mm: float) -> list[Lesion]:
        """Those that the plane at an elevation cuts; ask for the pose first, which lays them out."""
        here = bisect.bisect_left(self._lesions, y_mm, key=lambda lesion: lesion.centre_mm[2])
        return [lesion for lesion in self._lesions[max(here - 2, 0) : here + 2] if lesion.scale(y_mm) > 0]

    def _meet(self) -> None:
        """Lay out a stretch of normal tissue and one lesion, and how the probe passes them."""
        rng = self._rng
        kind: Kind = "benign" if rng.random() < 0.5 else "malignant"
        if self._content == "benign" or self._content == "malignant":
            kind = self._content
        size_mm = rng.uniform(8, 17) if kind == "benign" else rng.uniform(9, 16)
        size_mm = min(size_mm, self._max_size_mm)
        gap_mm = rng.uniform(4, 12)
        lateral = self._half_width_mm * rng.uniform(-0.55, 0.55)
        depth = rng.uniform(*self._depth_mm)
        draft = random_lesion(
            rng,
            kind,
            number=self._first_number + len(self._lesions),
            centre_mm=(lateral, depth, 0.0),
            size_mm=size_mm,
            fat_db=self._fat_db,
        )
        half = draft.radius_mm[2]
        start, middle = self._end_mm, self._end_mm + gap_mm + half
        lesion = settle(replace(draft, centre_mm=(lateral, depth, middle)))
        if self._content != "none":
            self._lesions.append(lesion)
        back = middle - half * rng.uniform(0.4, 0.8)
        end = middle + half + gap_mm * 0.4
        speed_mm_s = rng.uniform(3, 4.5)
        self._go(start, middle, (middle - start) / speed_mm_s)
        self._go(middle, middle, rng.uniform(0.7, 1.8))
        self._go(middle, back, (middle - back) / speed_mm_s * 1.3)
        self._go(back, back, rng.uniform(0.2, 0.6))
        self._go(back, end, (end - back) / speed_mm_s)
        self._go(end, end, rng.uniform(0.3, 1.2))

    def _go(self, from_mm: float, to_mm: float, seconds: float) -> None:
        self._moves.append(_Move(self._end_s, self._end_s + seconds, from_mm, to_mm))
        self._end_s += seconds
        self._end_mm = to_mm


def settle(lesion: Lesion) -> Lesion:
    """Fill in the area of a lesion's largest section."""
    outline = lesion.outline(lesion.centre_mm[2]).astype(np.float32)
    return replace(lesion, area_mm2=float(cv2.contourArea(outline)))

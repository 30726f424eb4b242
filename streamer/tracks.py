"""Lesions over time: who is who, how large on average, and what the evidence says about each."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import msgspec
import numpy as np

from streamer.analysis import Lesion, Recent, Region
from streamer.frame import Pixels
from streamer.lesions import THRESHOLD, Outline, measure
from streamer.smoothing import Evidence, Floats, SmoothingSettings
from streamer.smoothing.motion import Motion

_JUMP = 1.0
"""A lesion is the same within so many of its diameters..."""
_JUMP_PER_S = 0.5
"""...and so many more for every second that it was not seen."""
_SIZE_WEIGHT = 0.5
"""What doubling in size costs, in jumps: half of one, so that of two pieces the larger keeps the name."""

_Measures = tuple[float, float, float, float, float]


@dataclass(slots=True)
class _Track:
    identity: int
    began: int
    evidence: Evidence
    centre: tuple[float, float] = (0.0, 0.0)
    area: float = 0.0
    seen: int = 0
    recent: "deque[tuple[int, _Measures]]" = field(default_factory=deque)


class LesionTracker:
    """Gives lesions of one source an identity that lasts, and tells each one's history.

    Lesions are separate patches of one mask, so few compete for the same track: the nearest pairs are
    matched first, which for them is also the best assignment. Unseen tracks move along with the tissue.
    Does not follow lesions that merge and part again: one of them gets a new identity.
    """

    def __init__(self, classes: Sequence[str] = (), settings: SmoothingSettings | None = None) -> None:
        self._classes = classes
        self._settings = settings or SmoothingSettings()
        self._tracks: list[_Track] = []
        self._next = 1

    def reset(self) -> None:
        """Forget all lesions, as after a change of view; identities are never used twice."""
        self._tracks.clear()

    def identify(
        self,
        outlines: Sequence[Outline],
        captured_monotonic: int,
        region: Region,
        spacing_mm: tuple[float, float] | None,
        *,
        evidence: tuple[Pixels, Floats] | None = None,
        motion: Motion | None = None,
    ) -> list[Lesion]:
        """Measure each outline and give it its identity.

        :param spacing_mm: (row, column) of a source pixel, or None where unknown.
        :param evidence: the frame's raw map, H x W, and its class probabilities; they count for the lesions
            that the raw map shows.
        :param motion: of the picture since the frame before.
        """
        now = captured_monotonic
        keep_ns = self._settings.track_memory_s * 1e9
        self._tracks = [track for track in self._tracks if now - track.seen <= keep_ns]
        if motion is not None:
            self._carry(motion, region)
        lesions = []
        for outline, track in zip(outlines, self._match(outlines, now), strict=True):
            lesion = measure(outline, track.identity, region, spacing_mm)
            track.centre, track.area, track.seen = outline.centre, outline.area, now
            if evidence is not None and _shows(evidence[0], outline, region):
                track.evidence.add(evidence[1], now)
            lateral = outline.centre[0] - region.x - region.width / 2
            lesions.append(self._described(lesion, track, lateral, spacing_mm))
        return lesions

    def _carry(self, motion: Motion, region: Region) -> None:
        rows, columns = motion.doubt.shape
        to_x, to_y = region.width / columns, region.height / rows
        for track in self._tracks:
            x, y = track.centre
            across, down = motion.at((x - region.x) / to_x, (y - region.y) / to_y)
            track.centre = (x + across * to_x, y + down * to_y)

    def _match(self, outlines: Sequence[Outline], now: int) -> list[_Track]:
        """Return each outline's track, new or old."""
        costs = sorted(
            (cost, number, t)
            for number, outline in enumerate(outlines)
            for t, track in enumerate(self._tracks)
            if (cost := _cost(track, outline, now)) is not None
        )
        matched: dict[int, _Track] = {}
        taken: set[int] = set()
        for _, number, t in costs:
            if number not in matched and t not in taken:
                matched[number] = self._tracks[t]
                taken.add(t)
        for number in range(len(outlines)):
            if number not in matched:
                matched[number] = _Track(self._next, now, Evidence(self._settings))
                self._tracks.append(matched[number])
                self._next += 1
        return [matched[number] for number in range(len(outlines))]

    def _described(
        self, lesion: Lesion, track: _Track, lateral: float, spacing_mm: tuple[float, float] | None
    ) -> Lesion:
        """Add what is known from the frames before.

        :param lateral: of the centroid from the region's middle line, in pixels.
        """
        now, recent = track.seen, track.recent
        while recent and (recent[-1][0] >= now or now - recent[0][0] > self._settings.spread_s * 1e9):
            # A frame that came again, or late, takes the place of the one it repeats.
            recent.pop() if recent[-1][0] >= now else recent.popleft()
        measures = (lesion.area_px, lesion.longest_px, lesion.perpendicular_px, lesion.depth_px, lateral)
        recent.append((now, measures))
        verdict = track.evidence.verdict() if track.evidence.begun else None
        return msgspec.structs.replace(
            lesion,
            age_s=(now - track.began) * 1e-9,
            recent=_summary([each for _, each in recent], lesion, spacing_mm),
            classes=[] if verdict is None else verdict.probabilities.tolist(),
            label="" if verdict is None or not self._classes else self._classes[verdict.label],
            stable=verdict is not None and verdict.stable,
            uncertain=verdict is None or verdict.uncertain,
        )


def _cost(track: _Track, outline: Outline, now: int) -> float | None:
    """How far an outline is from being a track's next one, below 1 at its best; None if it can't be."""
    diameter = math.sqrt((track.area + outline.area) * (2 / math.pi))
    unseen_s = max(0.0, (now - track.seen) * 1e-9)
    jump = math.dist(track.centre, outline.centre) / (diameter * (_JUMP + _JUMP_PER_S * unseen_s))
    if jump >= 1:
        return None
    return jump + _SIZE_WEIGHT * abs(math.log2(outline.area / track.area))


def _shows(raw: Pixels, outline: Outline, region: Region) -> bool:
    """Whether the raw map has a lesion where the outline is."""
    rows, columns = raw.shape
    x, y, width, height = outline.box
    to_column, to_row = columns / region.width, rows / region.height
    left, top = max(0, int((x - region.x) * to_column)), max(0, int((y - region.y) * to_row))
    part = raw[top : top + 1 + int(height * to_row), left : left + 1 + int(width * to_column)]
    return int(part.max(initial=0)) >= THRESHOLD


def _summary(measures: list[_Measures], lesion: Lesion, spacing_mm: tuple[float, float] | None) -> Recent:
    # Mean and spread of each in one pass, which needs them near zero.
    newest = measures[-1]
    apart = np.array(measures) - newest
    mean, spread = cv2.meanStdDev(apart.reshape(-1, 1, len(newest)))
    means = (mean[:, 0] + newest).tolist()
    area, longest, across, depth, lateral = zip(means, spread[:, 0].tolist(), strict=True)
    if spacing_mm is None:
        return Recent(len(measures), area, longest, across, depth, lateral_px=lateral)

    def scaled(pair: tuple[float, float], pixels: float, millimetres: float | None) -> tuple[float, float]:
        # Where pixels are not square a diameter's millimetres depend on its direction, which hardly turns
        # within a second: the newest frame's.
        factor = (millimetres or 0.0) / pixels if pixels else 0.0
        return pair[0] * factor, pair[1] * factor

    return Recent(
        len(measures),
        area,
        longest,
        across,
        depth,
        scaled(area, lesion.area_px, lesion.area_mm2),
        scaled(longest, lesion.longest_px, lesion.longest_mm),
        scaled(across, lesion.perpendicular_px, lesion.perpendicular_mm),
        scaled(depth, 1.0, spacing_mm[0]),
        lateral,
        scaled(lateral, 1.0, spacing_mm[1]),
    )

"""What the analyzer keeps for one source from frame to frame, and how an answer becomes an analysis."""

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from models.artifact import ModelCard
from models.fit import Fitter
from streamer.analysis import Analysis, Classes, Latency, Lesion, Mask, Model, Quality, Size
from streamer.feed import Arrival, Feed
from streamer.frame import FeedState, Pixels, expand_range
from streamer.lesions import Points, find_outlines, outline_roughly
from streamer.quality import assess
from streamer.region import inside
from streamer.sinks import Result
from streamer.smoothing import Floats, Memory, Smoother, SmoothingSettings, ViewChange
from streamer.tracks import LesionTracker

STAGES = ("capture", "wait", "resize", "inference", "smoothing", "lesions")
"""What happens to a frame, in order; each begins where the one before ended."""


class Picked(NamedTuple):
    """A frame the analyzer has chosen."""

    arrival: Arrival
    stamps: list[int]
    """Capture, then the end of every stage so far, in ns on CLOCK_MONOTONIC."""


class Lane:
    """The analyzer's memory of one source."""

    def __init__(
        self, feed: Feed, card: ModelCard, model: Model, smoothing: SmoothingSettings, *, publisher: str
    ) -> None:
        self.feed = feed
        self._classes = list(card.classes)
        self._malignant = self._classes.index("malignant") if "malignant" in self._classes else None
        self._size = Size(card.input.width, card.input.height)
        self._fitter = Fitter(card.input.width, card.input.height)
        self._smoother = Smoother(smoothing)
        self._tracker = LesionTracker(self._classes, smoothing)
        self._model = model
        self._publisher = publisher
        self._seq = 0

    def take_over(self, former: "Lane") -> None:
        """Go on with the numbers of another lane of the same source; no lesion's id is used again."""
        self._seq = former._seq
        self._tracker = former._tracker
        self._tracker.reset()

    def pick(self) -> Picked | None:
        """Choose the frame to analyse next: the newest there is, or the next one of a file."""
        arrival = self.feed.mailbox.take_now()
        if arrival is None:
            return None
        stamps = [arrival.frame.captured_monotonic, arrival.arrived_monotonic, time.monotonic_ns()]
        return Picked(arrival, stamps)

    def fit(self, picked: Picked, slot: Pixels) -> None:
        """Bring the frame's region into its slot of the model's input, H x W x C."""
        frame = picked.arrival.frame
        self._fitter.fit(inside(picked.arrival.region, frame.pixels), slot)
        if not frame.full_range:
            expand_range(slot, slot)

    def conclude(self, picked: Picked, slot: Pixels, lesion: Pixels, classes: Floats) -> Result:
        """Turn the model's answer for a slot into an analysis.

        :param lesion: H x W, 0 to 255.
        :param classes: K probabilities.
        """
        frame, region, stamps = picked.arrival.frame, picked.arrival.region, picked.stamps
        # bfloat16 rounds: a sum of probabilities may come out as 1.004.
        classes = np.clip(classes, 0, 1)
        classes /= classes.sum()
        view = slot[:, :, 0]
        smoothed = self._smoother.update(
            view, lesion, classes, frame.captured_monotonic, (region.height, region.width), frame.spacing_mm
        )
        stamps.append(time.monotonic_ns())
        if smoothed.forgets(Memory.TRACKS):
            self._tracker.reset()
        lesions = self._tracker.identify(
            find_outlines(smoothed.lesion, region),
            frame.captured_monotonic,
            region,
            frame.spacing_mm,
            evidence=None if smoothed.repeated else (lesion, classes),
            motion=None if smoothed.repeated else smoothed.motion,
        )
        probabilities = smoothed.classes.tolist()
        described = Classes(
            names=self._classes,
            raw=classes.tolist(),
            smoothed=probabilities,
            label=self._classes[smoothed.label],
            stable=smoothed.stable,
            malignancy=0.0 if self._malignant is None else probabilities[self._malignant],
            uncertain=smoothed.uncertain,
        )
        raw_contours = outline_roughly(lesion, region)
        quality = assess(view, lesions, region)
        stamps.append(time.monotonic_ns())
        mask = smoothed.lesion.tobytes()
        return self._report(picked, described, lesions, mask, smoothed.change, raw_contours, quality)

    def pass_over(self, picked: Picked) -> Result:
        """Report a frame of a feed that is not live: its state and its picture, but no answer."""
        frozen = picked.arrival.state is FeedState.FROZEN
        self._smoother.reset(ViewChange.FREEZE if frozen else ViewChange.STATE)
        return self._report(picked, None, [], b"", None)

    def _report(
        self,
        picked: Picked,
        classes: Classes | None,
        lesions: list[Lesion],
        mask: bytes,
        change: ViewChange | None,
        raw_contours: Sequence[Points] = (),
        quality: Quality | None = None,
    ) -> Result:
        frame, stamps = picked.arrival.frame, picked.stamps
        durations = ((end - start) * 1e-9 for start, end in pairwise(stamps))
        analysis = Analysis(
            publisher=self._publisher,
            source=frame.source,
            seq=self._seq,
            frame_id=frame.frame_id,
            state=picked.arrival.state,
            captured_at=frame.captured_at,
            captured_monotonic=frame.captured_monotonic,
            clock=frame.clock,
            published_monotonic=0,  # the publisher's to fill in, like the age
            age=0.0,
            media_time=frame.media_time_s,
            frame=Size(frame.width, frame.height),
            region=picked.arrival.region,
            pixel_spacing_mm=frame.spacing_mm,
            classes=classes,
            lesions=lesions,
            mask=Mask(self._size.width, self._size.height) if mask else None,
            view_change=change,
            latency=Latency((stamps[-1] - stamps[0]) * 1e-9, dict(zip(STAGES, durations, strict=False))),
            dropped=self.feed.ledger.newly_dropped(),
            model=self._model,
            raw_contours=list(raw_contours),
            quality=quality,
        )
        self._seq += 1
        return Result(analysis, mask, frame)

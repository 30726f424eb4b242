"""What a first pass over a recording keeps of each frame: enough to plan the second, little to hold."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from streamer.analysis import Lesion, Model
from streamer.extract.frames import Shown
from streamer.frame import FeedState


class LesionFact(NamedTuple):
    """One lesion in one frame."""

    track: int
    area_px: float
    area_mm2: float | None
    longest_px: float
    longest_mm: float | None
    perpendicular_px: float
    perpendicular_mm: float | None
    label: str


class Fact(NamedTuple):
    """One frame."""

    number: int
    frame_id: int
    time_s: float
    state: FeedState
    label: str | None
    """None where the frame was not analysed, like what follows."""
    stable: bool
    uncertain: bool
    malignancy: float | None
    cut: bool
    lesions: tuple[LesionFact, ...]

    @property
    def area_px(self) -> float:
        """Of all lesions together."""
        return sum(lesion.area_px for lesion in self.lesions)

    @property
    def area_mm2(self) -> float | None:
        """Of all lesions together, where the spacing is known."""
        areas = [lesion.area_mm2 for lesion in self.lesions if lesion.area_mm2 is not None]
        return sum(areas) if areas else None


@dataclass(slots=True)
class Facts:
    """A source of a recording, without its pictures."""

    frames: list[Fact] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Classes of every model that answered."""
    models: list[Model] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    in_mm: bool = False
    first_captured_at: int = 0
    """ns since the epoch."""


def gather(frames: Iterable[Shown]) -> Facts:
    """Go through the frames once."""
    facts = Facts()
    for shown in frames:
        analysis = shown.analysis
        if not facts.frames:
            facts.first_captured_at = analysis.captured_at
        classes = analysis.classes
        for name in classes.names if classes else ():
            if name not in facts.names:
                facts.names.append(name)
        if analysis.model not in facts.models:
            facts.models.append(analysis.model)
        facts.dropped.update(analysis.dropped)
        facts.in_mm = facts.in_mm or analysis.pixel_spacing_mm is not None
        facts.frames.append(
            Fact(
                shown.number,
                analysis.frame_id,
                shown.time_s,
                analysis.state,
                classes.label if classes else None,
                bool(classes and classes.stable),
                bool(classes and classes.uncertain),
                classes.malignancy if classes else None,
                analysis.view_change is not None,
                tuple(_lesion(each) for each in analysis.lesions),
            )
        )
    return facts


def _lesion(lesion: Lesion) -> LesionFact:
    return LesionFact(
        lesion.track,
        lesion.area_px,
        lesion.area_mm2,
        lesion.longest_px,
        lesion.longest_mm,
        lesion.perpendicular_px,
        lesion.perpendicular_mm,
        lesion.label,
    )

"""Which few frames of a recording a person should see first, and why."""

from typing import NamedTuple

from streamer.extract.facts import Fact, Facts

_MOST = 8
_MIN_TRACK_S = 0.5
"""A lesion seen for less is not shown on its own."""


class KeyFrame(NamedTuple):
    """A frame, and why it was chosen."""

    number: int
    why: str


class TrackFact(NamedTuple):
    """One lesion's life in the recording."""

    track: int
    first_s: float
    last_s: float
    frames: int
    largest: Fact
    """The frame in which its area is largest."""
    label: str
    """What its own evidence said last."""


def tracks(facts: Facts) -> list[TrackFact]:
    """Return every lesion, those seen in most frames first."""
    found: dict[int, TrackFact] = {}
    for fact in facts.frames:
        for lesion in fact.lesions:
            known = found.get(lesion.track)
            if known is None:
                found[lesion.track] = TrackFact(lesion.track, fact.time_s, fact.time_s, 1, fact, lesion.label)
                continue
            larger = lesion.area_px > _area(known.largest, lesion.track)
            found[lesion.track] = known._replace(
                last_s=fact.time_s,
                frames=known.frames + 1,
                largest=fact if larger else known.largest,
                label=lesion.label or known.label,
            )
    return sorted(found.values(), key=lambda track: (-track.frames, track.track))


def choose_key_frames(facts: Facts, most: int = _MOST) -> list[KeyFrame]:
    """Choose frames: where the evidence is highest and lesions are largest; else one from the middle.

    :return: in order of time; each frame once.
    """
    wanted: list[KeyFrame] = []
    analysed = [fact for fact in facts.frames if fact.malignancy is not None]
    seen = [fact for fact in analysed if fact.lesions]
    stable = [fact for fact in seen if fact.stable] or seen
    if stable:
        top = max(stable, key=lambda fact: fact.malignancy or 0.0)
        wanted.append(KeyFrame(top.number, "highest probability of malignancy with a lesion outlined"))
        largest = max(seen, key=lambda fact: fact.area_px)
        wanted.append(KeyFrame(largest.number, "largest outlined area"))
    wanted += [
        KeyFrame(track.largest.number, f"lesion {track.track} at its largest")
        for track in tracks(facts)
        if track.last_s - track.first_s >= _MIN_TRACK_S
    ]
    if not wanted and facts.frames:
        fact = (analysed or facts.frames)[len(analysed or facts.frames) // 2]
        wanted.append(KeyFrame(fact.number, "no lesion was outlined: a frame from the middle"))
    merged: dict[int, str] = {}
    for frame in wanted:
        if frame.number in merged:
            merged[frame.number] += f"; {frame.why}"
        elif len(merged) < most:
            merged[frame.number] = frame.why
    return [KeyFrame(number, merged[number]) for number in sorted(merged)]


def _area(fact: Fact, track: int) -> float:
    return next(lesion.area_px for lesion in fact.lesions if lesion.track == track)

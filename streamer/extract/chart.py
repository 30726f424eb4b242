"""Malignancy and area over time, as SVG that needs nothing else."""

import html
from collections.abc import Callable, Iterable, Sequence

from streamer.extract.facts import Fact, Facts

_WIDTH, _HEIGHT, _GAP_S = 960, 150, 0.6
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 24
_MOST_POINTS = 2000
"""More than that no screen shows; of every run of frames the largest value is kept."""


def charts(facts: Facts, keys: Sequence[int] = ()) -> str:
    """Draw both charts.

    :param keys: numbers of the frames to mark.
    :return: two SVG elements.
    """
    frames = facts.frames
    marks = [fact.time_s for fact in frames if fact.number in set(keys)]
    unit, area = ("mm²", _area_mm2) if facts.in_mm else ("px", _area_px)
    largest = max((area(fact) or 0.0 for fact in frames), default=0.0)
    return _chart("Probability of malignancy", "%", frames, _malignancy, 100.0, marks) + _chart(
        "Outlined area", unit, frames, area, _round_up(largest), marks
    )


def _malignancy(fact: Fact) -> float | None:
    return None if fact.malignancy is None else fact.malignancy * 100


def _area_px(fact: Fact) -> float | None:
    return None if fact.malignancy is None else fact.area_px


def _area_mm2(fact: Fact) -> float | None:
    return None if fact.malignancy is None else fact.area_mm2 or 0.0


def _chart(
    title: str,
    unit: str,
    frames: Sequence[Fact],
    value: Callable[[Fact], float | None],
    top: float,
    marks: Iterable[float],
) -> str:
    begin = frames[0].time_s if frames else 0.0
    length = max(1e-3, (frames[-1].time_s if frames else 0.0) - begin)

    def x(time_s: float) -> float:
        return _LEFT + (time_s - begin) / length * (_WIDTH - _LEFT - _RIGHT)

    def y(amount: float) -> float:
        return _HEIGHT - _BOTTOM - amount / top * (_HEIGHT - _TOP - _BOTTOM)

    name = html.escape(f"{title}, {unit}")
    parts = [
        f'<figure><figcaption>{name}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{name} over time">'
    ]
    for part in (0.0, 0.5, 1.0):
        at = y(part * top)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{part * top:g}</text>')
    for part in range(6):
        time_s = begin + length * part / 5
        anchor = "start" if part == 0 else "end" if part == 5 else "middle"
        parts.append(
            f'<text x="{x(time_s):.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{time_s:.1f} s</text>'
        )
    for time_s in marks:
        parts.append(
            f'<line class="key" x1="{x(time_s):.1f}" x2="{x(time_s):.1f}" y1="{_TOP}" '
            f'y2="{_HEIGHT - _BOTTOM}"/>'
        )
    path = " ".join(
        f"{'L' if joined else 'M'}{x(time_s):.1f},{y(amount):.1f}"
        for joined, time_s, amount in _line(frames, value)
    )
    return "".join([*parts, f'<path class="line" d="{path}"/>', "</svg></figure>"])


def _line(
    frames: Sequence[Fact], value: Callable[[Fact], float | None]
) -> Iterable[tuple[bool, float, float]]:
    """Yield (whether it continues the line, time, value); what was not analysed interrupts it."""
    run = max(1, -(-len(frames) // _MOST_POINTS))
    before: float | None = None
    for start in range(0, len(frames), run):
        known = [(v, fact.time_s) for fact in frames[start : start + run] if (v := value(fact)) is not None]
        if not known:
            before = None
            continue
        amount, time_s = max(known)
        yield before is not None and (run > 1 or time_s - before < _GAP_S), time_s, amount
        before = time_s


def _round_up(value: float) -> float:
    """Return the next number that is 1, 2 or 5 times a power of ten."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value)

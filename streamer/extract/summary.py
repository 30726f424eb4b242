"""A summary of a recording in one HTML file: what was seen, when, and the frames to look at."""

import base64
import html
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import cv2

from streamer.extract.chart import charts
from streamer.extract.facts import Facts
from streamer.extract.frames import USE, Shown
from streamer.extract.keyframes import KeyFrame, TrackFact, choose_key_frames, tracks
from streamer.extract.overlay import canvas_size, draw
from streamer.frame import FeedState

_JPEG_QUALITY = 85
_MOST_TRACKS = 20
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, "Segoe UI", Roboto, sans-serif; margin: 0 auto; padding: 24px;
  max-width: 1000px; color: #16202a; background: #fff; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 28px 0 8px; }
.use { background: #fff3c4; border: 1px solid #d8b62a; padding: 8px 12px; font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 10px 4px 0; border-bottom: 1px solid #d9dfe5; vertical-align: top; }
td.n, th.n { text-align: right; }
figure { margin: 0 0 14px; break-inside: avoid; } figcaption { color: #47535f; margin-bottom: 3px; }
svg { width: 100%; height: auto; border: 1px solid #d9dfe5; }
svg text { font: 12px system-ui, sans-serif; fill: #47535f; }
.grid { stroke: #d9dfe5; } .key { stroke: #b06000; stroke-dasharray: 3 3; }
.line { fill: none; stroke: #1d5fa8; stroke-width: 1.6; stroke-linejoin: round; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(400px, 1fr)); gap: 16px; }
.frames img { width: 100%; height: auto; display: block; background: #000; }
@media print { body { padding: 0; } }
"""


class Summary:
    """Gathers the key frames' pictures and writes the page."""

    def __init__(self, path: Path, facts: Facts, *, recording: str, source: str) -> None:
        """Choose the key frames; `add` needs pixels of `numbers` only.

        :param recording: name of the recording's file.
        """
        self._path = path
        self._facts = facts
        self._recording, self._source = recording, source
        self._keys = choose_key_frames(facts)
        self.numbers = frozenset(key.number for key in self._keys)
        self._pictures: dict[int, str] = {}

    def add(self, shown: Shown) -> None:
        """Take the next frame."""
        if shown.number not in self.numbers:
            return
        drawn = draw(shown, canvas_size(shown.pixels, shown.analysis))
        coded = cv2.imencode(
            ".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        )[1]
        self._pictures[shown.number] = base64.b64encode(coded.tobytes()).decode()

    def close(self) -> None:
        """Write the page."""
        self._path.write_text(self._page(), encoding="utf-8")

    def _page(self) -> str:
        facts = self._facts
        title = f"{self._source} in {self._recording}"
        found = tracks(facts)
        body = [
            f"<h1>{html.escape(title)}</h1>",
            f'<p class="use">{USE} What follows is the output of a network, not a finding of a person; '
            "it is of use only beside the pictures.</p>",
            _table(_overview(facts)),
            "<h2>Over time</h2>",
            charts(facts, [key.number for key in self._keys]),
            "<h2>Key frames</h2>",
            '<div class="frames">',
            *(self._key_frame(key) for key in self._keys),
            "</div>",
            f"<h2>Lesions ({len(found)})</h2>",
            _lesions(found, in_mm=facts.in_mm),
        ]
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>\n"
            + "\n".join(body)
            + "\n</body></html>\n"
        )

    def _key_frame(self, key: KeyFrame) -> str:
        fact = next(each for each in self._facts.frames if each.number == key.number)
        words = html.escape(f"Frame {key.number}, {fact.time_s:.2f} s: {key.why}")
        data = self._pictures.get(key.number, "")
        return (
            f'<figure><img alt="{words}" src="data:image/jpeg;base64,{data}">'
            f"<figcaption>{words}</figcaption></figure>"
        )


def _overview(facts: Facts) -> Iterable[tuple[str, str]]:
    frames = facts.frames
    length_s = frames[-1].time_s - frames[0].time_s if frames else 0.0
    when = datetime.fromtimestamp(facts.first_captured_at * 1e-9, UTC)
    yield "Recorded", f"{when:%Y-%m-%d %H:%M:%S} UTC, {length_s:.1f} s, {len(frames)} frames"
    states = Counter(fact.state for fact in frames)
    yield (
        "Feed",
        ", ".join(f"{str(state).replace('_', ' ')} {states[state]}" for state in FeedState if states[state]),
    )
    labels = Counter(
        f"{fact.label}{'' if fact.stable else ' (uncertain)' if fact.uncertain else ' (settling)'}"
        for fact in frames
        if fact.label is not None
    )
    yield "Shown as", ", ".join(f"{label} {count}" for label, count in labels.most_common()) or "not analysed"
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(facts.dropped.items()) if count)
    yield "Dropped between these frames", dropped or "none"
    for model in facts.models:
        yield (
            "Model",
            f"{model.name} {model.version}, {model.runtime} {model.precision}, sha256 {model.sha256[:16]}",
        )


def _table(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in pairs)
    return f"<table>{rows}</table>"


def _lesions(found: list[TrackFact], *, in_mm: bool) -> str:
    if not found:
        return "<p>None was outlined.</p>"
    unit = "mm" if in_mm else "px"
    head = (
        '<tr><th>lesion</th><th class="n">first seen</th><th class="n">last seen</th>'
        '<th class="n">frames</th>'
        f'<th class="n">largest, {unit}</th><th class="n">in frame</th><th>its own evidence</th></tr>'
    )
    rows = "".join(_lesion_row(track) for track in found[:_MOST_TRACKS])
    more = len(found) - _MOST_TRACKS
    note = f"<p>{more} more were seen in fewer frames.</p>" if more > 0 else ""
    return f"<table>{head}{rows}</table>{note}"


def _lesion_row(track: TrackFact) -> str:
    lesion = next(each for each in track.largest.lesions if each.track == track.track)
    if lesion.longest_mm is not None and lesion.perpendicular_mm is not None:
        size = f"{lesion.longest_mm:.1f} × {lesion.perpendicular_mm:.1f}"  # noqa: RUF001
    else:
        size = f"{lesion.longest_px:.0f} × {lesion.perpendicular_px:.0f}"  # noqa: RUF001
    cells = [
        f"{track.first_s:.2f} s",
        f"{track.last_s:.2f} s",
        str(track.frames),
        size,
        str(track.largest.number),
    ]
    numbers = "".join(f'<td class="n">{cell}</td>' for cell in cells)
    return f"<tr><td>{track.track}</td>{numbers}<td>{html.escape(track.label) or 'none'}</td></tr>"

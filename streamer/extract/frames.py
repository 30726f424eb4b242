"""The frames of one source of a recording, numbered as every extract numbers them."""

from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from streamer.analysis import Analysis, Event
from streamer.frame import Pixels, expand_range
from streamer.recorded_pictures import VIDEO, PictureDecoder
from streamer.recording import Overview, Picture, RecordingError, read_recording
from streamer.sources.base import SourceInvalidFrame

_SAME_S = 1e-6
USE = "Research use only. Not for diagnosis."


class ExtractError(ValueError):
    """An extract cannot be made; says why and what to do."""


class Span(NamedTuple):
    """A part of a recording, in seconds after the source's first frame."""

    start_s: float = 0.0
    end_s: float = float("inf")


class Shown(NamedTuple):
    """One recorded frame."""

    number: int
    """Counts from 0 without gaps."""
    time_s: float
    """After the source's first frame in the recording, whatever part is taken."""
    analysis: Analysis
    pixels: Pixels | None
    """Of the region, H x W gray or H x W x 3 RGB, full range; None where not wanted, missing or damaged."""
    coded: Picture | None = None
    """The picture as it was recorded."""


def choose_source(overview: Overview, wanted: str | None, path: Path) -> str:
    """Return the source to extract.

    :raises ExtractError: if there is no such one, or one of several must be chosen.
    """
    names = ", ".join(overview.sources)
    if wanted is not None and wanted not in overview.sources:
        raise ExtractError(f"{path} has no source {wanted!r}, only {names}")
    if wanted is None and len(overview.sources) > 1:
        raise ExtractError(f"{path} holds several sources ({names}): choose one with --source")
    return wanted or overview.sources[0]


def shown_frames(
    path: Path, source: str, span: Span, *, wanted: Container[int] | None = None
) -> Iterator[Shown]:
    """Yield a source's frames in order.

    :param wanted: numbers of the frames whose pixels are needed; None needs all.
    :raises RecordingError: if the recording is damaged.
    """
    decoder, first, number = PictureDecoder(), None, 0
    for item in read_recording(path):
        if isinstance(item, Event) or item.analysis.source != source:
            continue
        analysis = item.analysis
        first = analysis.captured_monotonic if first is None else first
        time_s = (analysis.captured_monotonic - first) * 1e-9
        if time_s > span.end_s + _SAME_S:
            return
        inside = time_s >= span.start_s - _SAME_S
        needed = inside and (wanted is None or number in wanted)
        pixels = None
        # Video must be decoded from its beginning; a still only where it is looked at.
        if item.picture is not None and (needed or (wanted != () and item.picture.format in VIDEO)):
            pixels = _decode(decoder, item.picture, analysis)
        if inside:
            yield Shown(number, time_s, analysis, pixels if needed else None, item.picture)
            number += 1


def _decode(decoder: PictureDecoder, picture: Picture, analysis: Analysis) -> Pixels | None:
    try:
        pixels = decoder.decode(picture, (analysis.region.width, analysis.region.height))
    except SourceInvalidFrame:
        return None
    return pixels if picture.full_range or pixels.ndim == 3 else expand_range(pixels)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place to write to that becomes the file only when all went well.

    :raises ExtractError: if the file exists, or cannot be created.
    """
    if path.exists():
        raise ExtractError(f"{path} exists already: extracts are never overwritten, choose another name")
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise ExtractError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


__all__ = [
    "USE",
    "ExtractError",
    "RecordingError",
    "Shown",
    "Span",
    "choose_source",
    "shown_frames",
    "whole_file",
]

"""Frames from our own recordings, with the very time between them that they had when they were taken."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np

from streamer.analysis import Event
from streamer.frame import Clock, Pixels
from streamer.recorded_pictures import PictureDecoder
from streamer.recording import Picture, Recorded, RecordingError, read_recording, survey
from streamer.region import MIN_SIDE
from streamer.sources.base import (
    Captured,
    Source,
    SourceLost,
    SourceOptions,
    SourceUnavailable,
)
from streamer.sources.libav_pixels import fits
from streamer.sources.pacing import Pacer


def open_mcap(uri: str, options: SourceOptions) -> Source:
    """Open a recording; `mcap:study.mcap?source=name` chooses one of several sources in it.

    :raises SourceUnavailable: if it is not ours, has no pictures, or one of several sources must be chosen.
    """
    text, _, query = uri.removeprefix("mcap:").partition("?")
    wanted = parse_qs(query).get("source", [""])[0]
    path = Path(text)
    try:
        overview = survey(path)
    except RecordingError as error:
        raise SourceUnavailable(str(error)) from None
    names = ", ".join(overview.sources)
    if wanted and wanted not in overview.sources:
        raise SourceUnavailable(f"{path} has no source {wanted!r}, only {names}")
    if not wanted and len(overview.sources) > 1:
        raise SourceUnavailable(
            f"{path} holds several sources ({names}): choose one as in "
            f"'mcap:{path}?source={overview.sources[0]}'"
        )
    name = wanted or overview.sources[0]
    try:
        frames = (item for item in read_recording(path) if not isinstance(item, Event))
        first = next((item for item in frames if item.analysis.source == name), None)
    except RecordingError as error:
        raise SourceUnavailable(str(error)) from None
    if first is None:
        raise SourceUnavailable(f"{path} holds no frame of {name}")
    if first.picture is None:
        raise SourceUnavailable(f"{path} holds results without pictures: record with record.pictures on")
    return McapFile(path, name, overview.length_ns * 1e-9, options)


class McapFile(Source):
    """One source's frames in a recording."""

    policy = "every"

    def __init__(self, path: Path, name: str, length_s: float, options: SourceOptions) -> None:
        self._path = path
        self._name = name
        self._loop = options.loop
        self._decoder = PictureDecoder()
        self._pacer = Pacer(options, length_s=length_s)
        self._items: Iterator[Recorded | Event] = read_recording(path)
        self._first: int | None = None
        self._lap_start = self._media = self._period = 0

    def read(self) -> Captured | None:
        """Wait until the next frame is due; see `Source.read`."""
        while not self._pacer.closed:
            try:
                item = next(self._items, None)
            except RecordingError as error:
                raise SourceLost(str(error)) from None
            if item is None:
                if not self._loop:
                    return None
                self._rewind()
            elif not isinstance(item, Event) and item.analysis.source == self._name and item.picture:
                return self._capture(item, item.picture)
        return None

    def close(self) -> None:
        """Make a waiting `read` return."""
        self._pacer.close()

    def _rewind(self) -> None:
        self._lap_start = self._media + self._period
        self._first = None
        self._decoder = PictureDecoder()
        self._items = read_recording(self._path)

    def _capture(self, item: Recorded, coded: Picture) -> Captured | None:
        analysis = item.analysis
        if self._first is None:
            self._first = analysis.captured_monotonic
        media = max(self._media, self._lap_start + analysis.captured_monotonic - self._first)
        self._period = media - self._media or self._period
        self._media = media
        size = analysis.region.width, analysis.region.height
        pixels, region, spacing = place(item, self._decoder.decode(coded, size))
        due = self._pacer.wait(media)
        if due is None:
            return None
        return Captured(
            pixels,
            due,
            Clock.PTS,
            spacing_mm=spacing,
            media_time_s=media * 1e-9,
            full_range=coded.full_range,
            upstream_id=analysis.frame_id,
            region=region,
        )


def place(
    item: Recorded, picture: Pixels
) -> tuple[Pixels, tuple[int, int, int, int] | None, tuple[float, float] | None]:
    """Put a recorded region back where it was on the scanner's screen; what was around it is black.

    So a replayed contour has the coordinates it had. A picture that was scaled down is left as it is, and its
    spacing is scaled.

    :param picture: its decoded picture.
    :return: pixels, region and spacing in mm.
    """
    analysis = item.analysis
    frame, region, spacing = analysis.frame, analysis.region, analysis.pixel_spacing_mm
    height, width = picture.shape[:2]
    if (width, height) != (region.width, region.height):
        if spacing is not None:
            spacing = (spacing[0] * region.height / height, spacing[1] * region.width / width)
        return picture, None, spacing
    x, y = region.x, region.y
    whole = (x, y, width, height) == (0, 0, frame.width, frame.height)
    inside = x >= 0 and y >= 0 and x + width <= frame.width and y + height <= frame.height
    if whole or not inside or not fits(frame.width, frame.height) or min(width, height) < MIN_SIDE:
        return picture, None, spacing
    pixels = np.zeros((frame.height, frame.width, *picture.shape[2:]), np.uint8)
    pixels[y : y + height, x : x + width] = picture
    return pixels, (x, y, width, height), spacing

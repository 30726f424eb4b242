"""Frames from a video file: every one of them, at the file's own rate or as fast as they are taken."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import av
import av.error

from streamer.frame import Clock
from streamer.sources.base import Captured, Source, SourceInvalidFrame, SourceLost, SourceOptions
from streamer.sources.libav_errors import reason
from streamer.sources.libav_live import low_latency_decoder
from streamer.sources.libav_pixels import MAX_PIXELS, GrayReader

if TYPE_CHECKING:
    from streamer.sources.libav_live import VideoPacket

# Containers whose header promises a duration; others guess one from the size of the file.
_DECLARE_DURATION = ("mov", "matroska", "avi")
_SHORT_BY_S = 1.0


class FileSource(Source):
    """A video file that libav has opened."""

    policy = "every"

    def __init__(self, container: av.container.InputContainer, path: Path, options: SourceOptions) -> None:
        self._path = path
        self._loop = options.loop
        self._realtime = options.pace == "realtime"
        self._closed = Event()
        self._frames: deque[av.VideoFrame] = deque()
        self._start_monotonic = 0
        self._lap_start_s = 0.0
        self._media_s = 0.0
        self._adopt(container)

    def read(self) -> Captured | None:
        """Wait until the next frame is due; see `Source.read`."""
        while not self._closed.is_set():
            if self._frames:
                return self._capture(self._frames.popleft())
            packet = next(self._packets, None)
            if packet is not None:
                self._decode(packet)
            elif not self._loop or not self._any_frame:
                self._container.close()
                return None
            else:
                self._rewind()
        self._container.close()
        return None

    def close(self) -> None:
        """Wake a waiting `read`, which closes the file: nobody else may touch it while it is read."""
        self._closed.set()

    def _adopt(self, container: av.container.InputContainer) -> None:
        self._container = container
        self._stream = container.streams.video[0]
        self._codec = low_latency_decoder(self._stream)
        self._gray = GrayReader(self._codec.name)
        self._tick_s = float(self._stream.time_base or 0)
        self._packets = self._demux()
        self._any_frame = False
        self._first_pts_s: float | None = None
        rate = self._stream.average_rate or self._stream.guessed_rate
        self._period_s = float(1 / rate) if rate else 0.04

    def _rewind(self) -> None:
        # Opened anew: a seek to the start is inexact in some containers and impossible in others.
        self._container.close()
        self._lap_start_s = self._media_s + self._period_s
        try:
            self._adopt(av.open(str(self._path), "r", options=FILE_OPTIONS))
        except (av.error.FFmpegError, IndexError) as error:
            raise SourceLost(f"{self._path} cannot be started over: {reason(error)}") from None

    def _demux(self) -> "Iterator[VideoPacket]":
        last: VideoPacket | None = None
        try:
            for packet in self._container.demux(self._stream):
                last = packet if packet.size else last
                yield packet
        except (av.error.FFmpegError, OSError) as error:
            raise SourceLost(f"{self._path} breaks off: {reason(error)}; copy or export it again") from None
        self._check_complete(last)

    def _check_complete(self, last: "VideoPacket | None") -> None:
        if last is None or last.pts is None:
            return
        there_s = (last.pts + (last.duration or 0) - (self._stream.start_time or 0)) * self._tick_s
        declared_s = self._declared_s()
        cut_short = declared_s is not None and there_s < declared_s - _SHORT_BY_S
        if last.is_corrupt or cut_short:
            of = f" of {declared_s:.1f} s" if declared_s else ""
            raise SourceLost(
                f"{self._path} is cut short: {there_s:.1f} s{of} are there; copy or export it again"
            )

    def _declared_s(self) -> float | None:
        if not self._container.format.name.startswith(_DECLARE_DURATION):
            return None
        if self._stream.duration:
            return self._stream.duration * self._tick_s
        alone = len(self._container.streams) == 1
        return self._container.duration / 1e6 if self._container.duration and alone else None

    def _decode(self, packet: "VideoPacket") -> None:
        try:
            self._frames.extend(self._codec.decode(packet if packet.size else None))
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            at = f" at {packet.pts * float(packet.time_base):.2f} s" if packet.pts is not None else ""
            raise SourceInvalidFrame(
                f"{self._path}: a frame{at} cannot be decoded ({reason(error)}); "
                f"damaged, or larger than {MAX_PIXELS >> 20} megapixels"
            ) from None

    def _capture(self, frame: av.VideoFrame) -> Captured | None:
        media_s = self._place(frame)
        if frame.is_corrupt:
            raise SourceInvalidFrame(f"{self._path}: the frame at {media_s:.2f} s is damaged")
        pixels, full_range = self._gray.read(frame)
        if not self._realtime:
            return Captured(
                pixels, time.monotonic_ns(), Clock.PTS, media_time_s=media_s, full_range=full_range
            )
        if not self._start_monotonic:
            self._start_monotonic = time.monotonic_ns() - int(media_s * 1e9)
        due = self._start_monotonic + int(media_s * 1e9)
        if self._closed.wait(max(0.0, (due - time.monotonic_ns()) / 1e9)):
            return None
        return Captured(pixels, due, Clock.PTS, media_time_s=media_s, full_range=full_range)

    def _place(self, frame: av.VideoFrame) -> float:
        """Give the frame's time since the first one, over all laps; frames without one follow at the rate."""
        pts_s = None if frame.pts is None else frame.pts * self._tick_s
        if self._first_pts_s is None:
            self._first_pts_s = pts_s or 0.0
        if pts_s is None:
            media_s = self._media_s + self._period_s if self._any_frame else self._lap_start_s
        else:
            media_s = self._lap_start_s + pts_s - self._first_pts_s
        self._any_frame = True
        self._media_s = max(self._media_s, media_s)
        return media_s


FILE_OPTIONS = {"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
"""A file may be a playlist: it must not make us fetch from the network."""

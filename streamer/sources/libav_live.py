"""Frames from anything live that libav opens: one thread reads packets, the caller's thread decodes.

libav can sit in a read that nothing interrupts (a capture driver that hangs, a silent peer). It does so in a
thread of its own, so `read` always returns in time and every packet is stamped the instant it arrived, even
while the one before is being decoded.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import av.error
from av.codec.context import Flags, ThreadType

from streamer.frame import Clock
from streamer.sources.base import Captured, Source, SourceError, SourceInvalidFrame, SourceLost
from streamer.sources.libav_errors import reason
from streamer.sources.libav_pixels import MAX_PIXELS, GrayReader
from streamer.sources.libav_srt import SrtRelay

# About ten seconds of packets, or this many bytes of raw pictures: whoever is further behind starts afresh.
_MAX_WAITING = 300
_MAX_WAITING_BYTES = 256 << 20
# Whoever is so far behind goes on with the newest picture that needs no other, as soon as there is one.
_BEHIND_S = 1.0
# A stream joined midway is undecodable up to its next key frame; past this long it is not joining any more.
_JOINING_S = 10.0
# From here on libav cuts an MPEG-TS packet into pieces.
_TS_PIECE_BYTES = 200 * 1024
# Access unit delimiters: every access unit in MPEG-TS begins with one.
_DELIMITER = {"h264": b"\x00\x00\x01\x09", "hevc": b"\x00\x00\x01\x46"}


class Stamp(NamedTuple):
    """Capture instant of a packet, ns on CLOCK_MONOTONIC, and what it means."""

    monotonic: int
    clock: Clock


if TYPE_CHECKING:
    VideoPacket = av.Packet[av.VideoStream]

Stamper = Callable[["VideoPacket", Event], Stamp]
"""Stamps a packet that was just read; may wait, but not once the event is set."""


def stamp_receive(packet: "VideoPacket", closed: Event) -> Stamp:  # noqa: ARG001
    """Stamp with this instant."""
    return Stamp(time.monotonic_ns(), Clock.RECEIVE)


class LiveSource(Source):
    """A device, generator or network stream that libav has opened."""

    policy = "newest"

    def __init__(
        self,
        container: av.container.InputContainer,
        name: str,
        *,
        timeout_s: float,
        stamp: Stamper = stamp_receive,
        whole_packets: bool = False,
        may_end: bool = False,
        relay: SrtRelay | None = None,
    ) -> None:
        """Take over an open container that has a video stream.

        :param name: what messages call it; holds no secret.
        :param whole_packets: the demuxer was told not to parse, so packets are as the container framed them.
        :param may_end: its end is the end of the feed, not a loss.
        :param relay: what feeds the container; closed with it.
        """
        self._container = container
        self._stream = container.streams.video[0]
        self._codec = low_latency_decoder(self._stream)
        self._gray = GrayReader(self._codec.name)
        self._tick_s = float(self._stream.time_base or 0)
        self._name = name
        self._timeout_s = timeout_s
        self._stamp = stamp
        self._may_end = may_end
        self._relay = relay
        annex_b = container.format.name in ("mpegts", "h264", "hevc")
        self._reparse = False
        self._check_packets = whole_packets and annex_b
        self._joining_until = time.monotonic() + _JOINING_S
        self._joined = False
        self._closed = Event()
        self._end: SourceError | None = None
        self._ended = False
        self._arrivals: SimpleQueue[VideoPacket | SourceError | None] = SimpleQueue()
        self._waiting: deque[VideoPacket | SourceError | None] = deque()
        self._frames: deque[av.VideoFrame] = deque()
        self._pump = Thread(target=self._read_packets, name=f"packets of {name}", daemon=True)
        self._pump.start()

    def read(self) -> Captured | None:
        """Wait for the next frame; see `Source.read`."""
        while not self._closed.is_set():
            if self._frames:
                return self._capture(self._frames.popleft())
            if self._end is not None:
                raise self._end
            if self._ended:
                return None
            arrival = self._next()
            if isinstance(arrival, av.Packet):
                self._decode(arrival)
            elif not self._closed.is_set():
                self._ended, self._end = True, arrival
        return None

    def _next(self) -> "VideoPacket | SourceError | None":
        """Wait for a packet, or for the end; packets that a later key frame makes useless are passed over."""
        waiting = self._waiting
        try:
            if not waiting:
                waiting.append(self._arrivals.get(timeout=self._timeout_s))
            while True:
                waiting.append(self._arrivals.get_nowait())
        except Empty:
            pass
        if not waiting:
            return SourceLost(f"{self._name} delivered nothing for {self._timeout_s:g} s")
        first = waiting[0]
        late = isinstance(first, av.Packet) and _age_s(first) > _BEHIND_S
        if late and self._joined and (passed := self._newest_key()):
            for _ in range(passed):
                waiting.popleft()
            raise SourceInvalidFrame(
                f"{self._name} comes faster than it is decoded: {passed} frames left out"
            )
        return waiting.popleft()

    def _newest_key(self) -> int:
        """Find how many packets wait before the newest key frame."""
        for place in range(len(self._waiting) - 1, 0, -1):
            packet = self._waiting[place]
            if isinstance(packet, av.Packet) and packet.is_keyframe:
                return place
        return 0

    def close(self) -> None:
        """Release the device or connection; at once, or as soon as libav comes back from a read."""
        self._closed.set()
        self._arrivals.put(None)
        if self._relay is not None:
            self._relay.interrupt()
        self._pump.join(timeout=0.3)

    def _read_packets(self) -> None:
        end: SourceError | None = None
        try:
            for packet in self._container.demux(self._stream):
                if self._closed.is_set():
                    break
                stamp = self._stamp(packet, self._closed)
                packet.opaque = stamp
                self._arrivals.put(packet)
                waiting = self._arrivals.qsize() + len(self._waiting)
                if waiting > _MAX_WAITING or waiting * packet.size > _MAX_WAITING_BYTES:
                    end = SourceLost(
                        f"{self._name} comes faster than it is decoded: ask for a smaller picture"
                    )
                    break
            else:
                end = None if self._may_end else SourceLost(f"{self._name} ended: the sender closed it")
        except av.error.ExitError:
            end = SourceLost(f"{self._name} delivered nothing for {self._timeout_s:g} s")
        except (av.error.FFmpegError, OSError) as error:
            end = SourceLost(f"{self._name} broke off: {reason(error)}")
        finally:
            self._arrivals.put(end)
            self._container.close()
            if self._relay is not None:
                self._relay.close()

    def _decode(self, packet: "VideoPacket") -> None:
        try:
            for unit in self._access_units(packet):
                self._frames.extend(self._codec.decode(unit))
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            if self._joined or time.monotonic() > self._joining_until:
                raise SourceInvalidFrame(
                    f"{self._name}: a frame cannot be decoded ({reason(error)}); "
                    f"damaged on the way, or larger than {MAX_PIXELS >> 20} megapixels"
                ) from None

    def _access_units(self, packet: "VideoPacket") -> "Iterator[av.Packet[Any] | None]":
        """Give the coded pictures in a packet that the demuxer did not parse.

        A parser only knows that a picture is complete when the next one starts: one frame period late. So
        packets go to the decoder as they are, as long as each holds exactly one picture.
        """
        if not packet.size:
            yield None
            return
        if self._check_packets and not self._reparse:
            self._reparse = not _holds_one_picture(packet, self._codec.name)
        if not self._reparse:
            yield packet
            return
        for unit in self._codec.parse(bytes(packet)):
            unit.opaque = packet.opaque
            yield unit

    def _capture(self, frame: av.VideoFrame) -> Captured:
        self._joined = True
        if frame.is_corrupt:
            raise SourceInvalidFrame(f"{self._name}: a frame was damaged on the way")
        stamp = frame.opaque
        if not isinstance(stamp, Stamp):
            stamp = Stamp(time.monotonic_ns(), Clock.RECEIVE)
        pixels, full_range = self._gray.read(frame)
        media_s = None if frame.pts is None else frame.pts * self._tick_s
        return Captured(pixels, stamp.monotonic, stamp.clock, media_time_s=media_s, full_range=full_range)


def low_latency_decoder(stream: av.VideoStream) -> av.VideoCodecContext:
    """Set a stream's decoder to give each frame as soon as it has its bytes.

    Never frame threading: it holds back one frame per further thread. A second thread for slices gained
    nothing at 800 x 600, and on a busy machine made the slowest frames slower.
    """
    codec = stream.codec_context
    codec.thread_type = ThreadType.SLICE
    codec.thread_count = 1
    codec.flags |= Flags.low_delay
    codec.copy_opaque = True
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    return codec


def _age_s(packet: "VideoPacket") -> float:
    stamp = packet.opaque
    return (time.monotonic_ns() - stamp.monotonic) * 1e-9 if isinstance(stamp, Stamp) else 0.0


def _holds_one_picture(packet: "VideoPacket", codec: str) -> bool:
    delimiter = _DELIMITER.get(codec)
    if delimiter is None or packet.pts is None or packet.size >= _TS_PIECE_BYTES:
        return False
    return bytes(packet).count(delimiter) == 1

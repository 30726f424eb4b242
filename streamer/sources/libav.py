"""Files, capture devices and network streams, all through libav (PyAV).

What a container costs in latency is decided by the sender (measured at 30 fps, H.264): FLV, NUT and raw
pictures arrive whole; MPEG-TS is one frame period late, because nothing but the next picture says that one is
complete, unless the sender writes packet lengths (`ffmpeg -omit_video_pes_length 0`, pictures up to 64 kB);
Matroska and RTSP with H.264 are one period late.

What it costs in memory (measured over 8,000 packets): libav's reader of NUT notes every syncpoint, up to 104
bytes a frame, until the connection is closed, and has no option against it. FLV, MPEG-TS, Matroska, raw H.264
and RTSP keep nothing.
"""

import stat
import sys
import time
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import av
import av.error

from streamer.frame import Clock
from streamer.sources.base import Source, SourceOptions, SourceUnavailable
from streamer.sources.libav_errors import advice, reason, shown_url
from streamer.sources.libav_file import FILE_OPTIONS, FileSource
from streamer.sources.libav_live import LiveSource, Stamp, Stamper, stamp_receive
from streamer.sources.libav_pixels import MAX_PIXELS
from streamer.sources.libav_srt import SrtRelay

if TYPE_CHECKING:
    from streamer.sources.libav_live import VideoPacket

# FFmpeg probes until it has read so much, whatever it found before: at 1 MB that is more than a second of
# video, which then arrives late. A stream joined midway is read on until its tables come, whatever this says.
# Packets read while probing are kept: dropping them (nobuffer) costs the key frame and so the first second.
_PROBING = {"probesize": "32768", "analyzeduration": "200000", "fpsprobesize": "0"}
# Per scheme. Unparsed packets save one frame period in MPEG-TS: see LiveSource.
_UNPARSED = {"fflags": "+noparse+nofillin"}
_STREAM_OPTIONS: dict[str, dict[str, str]] = {
    "rtsp": {"rtsp_transport": "tcp"},
    "rtmp": {"rtmp_live": "live"},
    "udp": _UNPARSED,
    "tcp": _UNPARSED,
    "srt": _UNPARSED,
}
# A device's own stamps are believed when they are at most this old, and not from the future.
_OLDEST_STAMP_NS = 10_000_000_000
_NEWEST_STAMP_NS = 5_000_000
# A generator that is this far behind cannot keep its rate: it goes on from where it is.
_GIVE_UP_PACE_NS = 500_000_000


def open_file(uri: str, options: SourceOptions) -> Source:
    """Open a video file in any container that libav reads.

    :raises SourceUnavailable: if it is missing, unreadable or not video.
    """
    path = Path(uri.removeprefix("file://").removeprefix("file:"))
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SourceUnavailable(
                f"{path} is not a regular file: send live video to tcp:// or udp:// instead"
            )
        container = av.open(str(path), "r", options={**FILE_OPTIONS, **options.device_options})
    except PermissionError:
        raise SourceUnavailable(f"{path} may not be read by this user: check its permissions") from None
    except FileNotFoundError:
        raise SourceUnavailable(f"no such file: {path}") from None
    except av.error.InvalidDataError as error:
        raise SourceUnavailable(
            f"{path} is not a video, or is cut short ({reason(error)}); `ffprobe {path}` says more"
        ) from None
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise SourceUnavailable(f"{path} cannot be opened: {reason(error)}") from None
    _require_video(container, str(path))
    return FileSource(container, path, options)


def open_stream(uri: str, options: SourceOptions) -> Source:
    """Open a network stream for the lowest latency.

    With `rtsp://host:port/path?listen` we wait for a sender to announce itself, as with
    `tcp://host:port?listen=1` for one to connect.

    :raises SourceUnavailable: if nothing that is video arrives within the timeout.
    """
    scheme, name = urlsplit(uri).scheme, shown_url(uri)
    settings = {**_PROBING, "max_pixels": str(MAX_PIXELS), **_STREAM_OPTIONS.get(scheme, {})}
    url = uri
    if scheme == "rtsp" and "listen" in dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True)):
        url = uri.partition("?")[0]
        settings |= {"rtsp_flags": "listen", "listen_timeout": str(max(1, round(options.timeout_s)))}
    settings |= options.device_options
    container, relay = _open_stream(url, name, settings, options.timeout_s)
    try:
        _require_video(container, name)
    except SourceUnavailable:
        if relay:
            relay.close()
        raise
    return LiveSource(
        container,
        name,
        timeout_s=options.timeout_s,
        whole_packets="noparse" in settings.get("fflags", ""),
        relay=relay,
    )


def _open_stream(
    url: str, name: str, settings: dict[str, str], timeout_s: float
) -> tuple[av.container.InputContainer, SrtRelay | None]:
    scheme = urlsplit(url).scheme
    relay = SrtRelay(url, timeout_s) if scheme == "srt" else None
    try:
        container = av.open(
            relay.output if relay else url,
            "r",
            format="mpegts" if relay else None,
            options=settings,
            timeout=(timeout_s, timeout_s),
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        said = relay.close() if relay else ""
        raise SourceUnavailable(
            f"cannot open {name}: {said or reason(error)}; {advice(error, scheme)}"
        ) from None
    return container, relay


def open_device(uri: str, options: SourceOptions) -> Source:
    """Open a capture device or generator: `v4l2:///dev/video0`, `x11grab::0.0`, `lavfi:testsrc=rate=30`.

    :raises SourceUnavailable: if there is no such device, it is busy, or it refuses the size or rate.
    """
    scheme, _, rest = ("v4l2", "", uri) if uri.startswith("/dev/") else uri.partition(":")
    address = rest.removeprefix("//") if scheme != "lavfi" else rest
    settings = {"fpsprobesize": "0"}
    if scheme == "lavfi" and (options.fps or options.size):
        raise SourceUnavailable("lavfi takes size and rate in the graph: lavfi:testsrc=size=800x600:rate=30")
    if scheme == "x11grab":
        _refuse_clashing_libraries()
        settings["draw_mouse"] = "0"
    if options.fps:
        settings["framerate"] = f"{options.fps:g}"
    if options.size:
        settings["video_size"] = f"{options.size[0]}x{options.size[1]}"
    settings |= options.device_options
    try:
        container = av.open(
            address, "r", format=scheme, options=settings, timeout=(options.timeout_s, options.timeout_s)
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise SourceUnavailable(f"cannot open {uri}: {reason(error)}; {advice(error, scheme)}") from None
    _require_video(container, uri)
    generated = scheme == "lavfi"
    stamp: Stamper = Pace() if generated else DeviceStamp(Clock.KERNEL if scheme == "v4l2" else Clock.PTS)
    return LiveSource(container, uri, timeout_s=options.timeout_s, stamp=stamp, may_end=generated)


def _refuse_clashing_libraries() -> None:
    loaded = [name for name in sys.modules if name in ("av", "cv2")]
    if loaded[0] == "cv2":
        raise SourceUnavailable(
            "a screen cannot be grabbed: this program imported cv2 before streamer, and the X11 libraries of "
            "OpenCV and PyAV then crash each other; import streamer first"
        )


class Pace:
    """Holds each packet of a generator back until it is due, as a camera would."""

    def __init__(self) -> None:
        self._start: int | None = None

    def __call__(self, packet: "VideoPacket", closed: Event) -> Stamp:
        """Wait until the packet is due and stamp it with that instant."""
        now = time.monotonic_ns()
        if packet.pts is None:
            return Stamp(now, Clock.PTS)
        media = _media_ns(packet.pts, packet)
        if self._start is None or now - (self._start + media) > _GIVE_UP_PACE_NS:
            self._start = now - media
        due = self._start + media
        closed.wait(max(0.0, (due - now) / 1e9))
        return Stamp(due, Clock.PTS)


class DeviceStamp:
    """Maps a driver's stamps, monotonic or wall clock, to the monotonic clock; refuses wild ones."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, packet: "VideoPacket", closed: Event) -> Stamp:
        """Give the driver's instant where it is believable, otherwise this one."""
        now, wall = time.monotonic_ns(), time.time_ns()
        if packet.pts is not None:
            stamped = _media_ns(packet.pts, packet)
            for offset in (0, now - wall):
                if -_NEWEST_STAMP_NS <= now - (stamped + offset) <= _OLDEST_STAMP_NS:
                    return Stamp(min(now, stamped + offset), self._clock)
        return stamp_receive(packet, closed)


def _media_ns(pts: int, packet: "VideoPacket") -> int:
    base = packet.time_base
    return pts * base.numerator * 1_000_000_000 // base.denominator


def _require_video(container: av.container.InputContainer, name: str) -> None:
    if not container.streams.video:
        container.close()
        raise SourceUnavailable(f"{name} holds no video")
    if container.streams.video[0].codec_context is None:
        container.close()
        raise SourceUnavailable(f"{name} holds video in a codec that is not known here")

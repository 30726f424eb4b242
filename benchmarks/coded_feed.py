"""A sender of live H.264: pre-encoded phantom frames, written to a TCP connection when each is due.

Run as its own process: `python -m benchmarks.coded_feed --port 5001 --clip clip.bin`. Frame n of the stream
has presentation time n / fps and is due at that time after the start, which is printed, in ns on
CLOCK_MONOTONIC, when somebody connects. The container is NUT, in which a packet is complete as soon as it has
arrived; without syncpoints, which libav's reader would note down for as long as it is connected.
"""

import argparse
import io
import socket
import time
from contextlib import suppress
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.sources.phantom import Phantom

_ENCODING = {"preset": "veryfast", "tune": "zerolatency"}


class Clip(NamedTuple):
    """An encoded clip that can be played in a loop: it begins with a key frame."""

    packets: list[bytes]
    keys: list[bool]
    extradata: bytes
    width: int
    height: int
    fps: float


def render(*, frames: int, width: int, height: int, fps: float, seed: int) -> list[NDArray[np.uint8]]:
    """Render phantom frames, H x W each."""
    phantom = Phantom(seed=seed, width=width, height=height, fps=fps, lift=False, cut=False)
    return [phantom.frame(index).pixels for index in range(frames)]


def encode(pictures: list[NDArray[np.uint8]], *, fps: float) -> Clip:
    """Encode with libx264 as a low-latency sender does: no B-frames, a key frame a second."""
    height, width = pictures[0].shape
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, round(fps))
    encoder.framerate = Fraction(round(fps))
    encoder.gop_size = round(fps)
    encoder.bit_rate = 6_000_000
    encoder.options = _ENCODING
    packets = []
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuv420p")
        frame.pts = index
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return Clip(
        [bytes(packet) for packet in packets],
        [packet.is_keyframe for packet in packets],
        bytes(encoder.extradata or b""),
        width,
        height,
        fps,
    )


def write_clip(clip: Clip, file: Path) -> None:
    """Keep a clip for senders in other processes."""
    file.write_bytes(msgspec.msgpack.encode(clip))


def read_clip(file: Path) -> Clip:
    """Read what `write_clip` wrote."""
    return msgspec.msgpack.decode(file.read_bytes(), type=Clip)


class _Connection(io.RawIOBase):
    """A socket as the file that libav writes to."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._connection.sendall(data)
        return len(data)


def send(clip: Clip, connection: socket.socket) -> None:
    """Send until the other side closes the connection."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tick = Fraction(1, round(clip.fps))
    options = {"flush_packets": "1", "syncpoints": "none", "strict": "experimental"}
    with av.open(_Connection(connection), "w", format="nut", options=options) as out:
        # What the header says of the coding must be true: with x264's defaults it would promise B-frames, and
        # every receiver would hold two frames back for them.
        stream = out.add_stream("libx264", rate=round(clip.fps), options=_ENCODING)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.time_base = tick
        stream.codec_context.extradata = clip.extradata
        out.start_encoding()
        start = time.monotonic_ns() + 200_000_000
        print(start, flush=True)
        for index in count():
            packet = av.Packet(clip.packets[index % len(clip.packets)])
            packet.stream, packet.time_base = stream, tick
            packet.pts = packet.dts = index
            packet.is_keyframe = clip.keys[index % len(clip.keys)]
            due = start + round(index * 1e9 / clip.fps)
            time.sleep(max(0.0, (due - time.monotonic_ns()) * 1e-9))
            out.mux(packet)


def main() -> None:
    """Say `ready`, then send to whoever connects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clip", type=Path, required=True)
    arguments = parser.parse_args()
    clip = read_clip(arguments.clip)
    with socket.create_server(("127.0.0.1", arguments.port)) as listener:
        print("ready", flush=True)
        connection, _ = listener.accept()
        with connection, suppress(OSError, av.error.FFmpegError):  # how the other side's leaving shows
            send(clip, connection)


if __name__ == "__main__":
    main()

"""The feeds of the live benchmarks: open-loop, at a fixed rate, each frame due at a known instant."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.error
import msgspec
import numpy as np

from benchmarks.coded_feed import encode, render, write_clip
from benchmarks.daemon import BenchError, free_port
from benchmarks.floor import FloorFrames

FeedKind = Literal["phantom", "h264", "source"]

_PRERENDERED = 240
# Of a file that is analysed: enough for every kind of frame, little enough to be read at once.
_FILE_PACKETS = 600
# Any size of frame will do where a source's own cannot be had: the floor then only resizes.
_STAND_INS = 8


@dataclass(frozen=True)
class FeedSettings:
    """Which feed."""

    kind: FeedKind = "phantom"
    source: str = ""
    """For the kind `source`: its URI."""
    fps: float = 30.0
    width: int = 800
    height: int = 600
    seed: int = 0


@dataclass(frozen=True)
class OpenFeed:
    """A feed that can be read once."""

    uri: str
    flags: dict[str, object]
    """What a daemon must be told besides."""
    start_ns: Callable[[], int | None]
    """When the frame of media time 0 is due, once it is read, on CLOCK_MONOTONIC, which all processes of a
    machine share; None: a frame is due at its capture stamp."""


class Feeds:
    """One feed, opened anew for everyone who reads it; what is sent is prepared once."""

    def __init__(self, settings: FeedSettings, folder: Path) -> None:
        """Prepare.

        :param folder: for files that live as long as the run.
        """
        self.settings, self._folder = settings, folder
        self._clip = folder / "clip.bin"
        if settings.kind == "h264":
            clip = encode(self._render(_PRERENDERED), fps=settings.fps)
            write_clip(clip, self._clip)
            self._packets = self._keep(clip.packets)

    def _render(self, frames: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        asked = self.settings
        return render(frames=frames, width=asked.width, height=asked.height, fps=asked.fps, seed=asked.seed)

    def _keep(self, packets: list[bytes]) -> Path:
        file = self._folder / "packets.bin"
        file.write_bytes(msgspec.msgpack.encode(packets))
        return file

    def for_floor(self, width: int, height: int) -> FloorFrames:
        """Give the same frames once more; of a source that can be read only once, phantom frames as large.

        :param width: of the source's frames, as its first analysis says.
        """
        if self.settings.kind == "h264":
            return FloorFrames(self._packets, "h264")
        if self.settings.kind == "source" and Path(self.settings.source).is_file():
            return self._file()
        frames = self._folder / "frames.npy"
        if not frames.exists():
            if self.settings.kind == "phantom":
                pictures = self._render(_PRERENDERED)
            else:
                pictures = render(frames=_STAND_INS, width=width, height=height, fps=30, seed=0)
            np.save(frames, np.stack(pictures))
        return FloorFrames(frames)

    def _file(self) -> FloorFrames:
        try:
            with av.open(self.settings.source) as container:
                stream = container.streams.video[0]
                packets = [bytes(packet) for packet in container.demux(stream) if packet.size][:_FILE_PACKETS]
                context = stream.codec_context
                return FloorFrames(self._keep(packets), context.codec.name, bytes(context.extradata or b""))
        except (av.error.FFmpegError, OSError, IndexError) as error:
            raise BenchError(
                f"the frames of {self.settings.source} cannot be read for the floor: {error}"
            ) from None

    @contextmanager
    def open(self) -> Iterator[OpenFeed]:
        """Yield the feed for one reader."""
        asked = self.settings
        if asked.kind == "phantom":
            yield OpenFeed(phantom_uri(asked, prerender=_PRERENDERED), {}, lambda: None)
        elif asked.kind == "source":
            is_file = Path(asked.source).is_file()
            flags: dict[str, object] = {"source.policy": "newest"}
            if is_file:
                flags["source.loop"] = "true"
            yield OpenFeed(asked.source, flags, lambda: None)
        else:
            with self._sender() as (uri, start_ns):
                yield OpenFeed(uri, {}, start_ns)

    @contextmanager
    def _sender(self) -> Iterator[tuple[str, Callable[[], int | None]]]:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.coded_feed", f"--port={port}", f"--clip={self._clip}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sender:
            try:
                assert sender.stdout is not None
                output = sender.stdout
                if output.readline().strip() != "ready":
                    raise BenchError("the sender of the H.264 feed did not start")
                started: list[int] = []
                listening = threading.Thread(
                    target=lambda: started.append(int(output.readline() or 0)), daemon=True
                )
                listening.start()

                def start_ns() -> int:
                    listening.join(timeout=5)
                    if not started:
                        raise BenchError("nobody has connected to the H.264 feed")
                    return started[0]

                yield f"tcp://127.0.0.1:{port}", start_ns
            finally:
                sender.kill()


def phantom_uri(asked: FeedSettings, *, prerender: int) -> str:
    """Name a phantom that never lifts the probe or cuts to another view: every frame is alike."""
    query = f"seed={asked.seed}&fps={asked.fps:g}&width={asked.width}&height={asked.height}"
    return f"phantom:?{query}&lift=false&cut=false&prerender={prerender}"

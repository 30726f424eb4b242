"""Records what the daemon sees and says, on a thread of its own."""

import itertools
import logging
import threading
import time
from collections import deque
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np

from streamer.analysis import Event
from streamer.feed import EventKind, Feed
from streamer.recorded_pictures import Coding, PictureEncoder, encode_png
from streamer.recording import Picture, RecordingExists, RecordingWriter
from streamer.region import inside
from streamer.sinks import Result, Sink

log = logging.getLogger(__name__)

# A second of one 60 fps source: a disk that hesitates loses nothing, and memory stays bounded.
_CAPACITY = 64
_SYNC_EVERY_S = 0.5
_MOST_OF_ONE_NAME = 10_000


class Recorder(Sink):
    """Writes every result to a recording; frames a slow or full disk costs are counted."""

    def __init__(
        self, path: Path, *, pictures: bool, config: str, publisher: str, coding: Coding = "png"
    ) -> None:
        """Create the recording, beside one of that name: `study.mcap`, then `study-2.mcap`.

        A daemon that was killed is started again with the same path; nobody's recording is overwritten, and
        none keeps it from starting.

        :param pictures: keep the region's pixels; without them a recording can't be run again.
        :param config: the resolved configuration as TOML.
        :param publisher: identity of the daemon, for events.
        :param coding: how pictures are coded: `png` and `ffv1` are lossless.
        :raises RecordingError: if the file cannot be created.
        """
        super().__init__("recorder", capacity=_CAPACITY)
        self.path, self._writer = _create(expand(path), config)
        self._pictures = pictures
        self._coding: Coding = coding
        self._encoders: dict[str, PictureEncoder] = {}
        self._publisher = publisher
        self._events: deque[Event] = deque(maxlen=1024)
        self._event_seq = itertools.count()
        self._stopping = threading.Event()
        self._synced_at = time.monotonic()
        self._unsynced = False

    def tell(self, feed: Feed, kind: EventKind, detail: str) -> None:
        """Record that something happened to a source; may be called from any thread."""
        accounts = feed.ledger.accounts
        self._events.append(
            Event(
                publisher=self._publisher,
                source=feed.name,
                seq=next(self._event_seq),
                kind=kind,
                state=feed.state,
                at=time.time_ns(),
                monotonic=time.monotonic_ns(),
                detail=detail,
                captured=accounts.captured,
                analyzed=accounts.analyzed,
                dropped=accounts.dropped,
            )
        )

    def handle(self, result: Result) -> None:
        """Encode and write one result.

        :raises OSError: if the disk is full.
        """
        analysis, total = result.analysis, result.analysis.latency.total
        # It is recorded as old as it was when it was there, not when its turn on the disk came.
        analysis = msgspec.structs.replace(
            analysis, published_monotonic=analysis.captured_monotonic + int(total * 1e9), age=total
        )
        picture = self._encode(result) if self._pictures else None
        mask = None
        if analysis.mask is not None:
            shape = (analysis.mask.height, analysis.mask.width)
            mask = encode_png(np.frombuffer(result.mask, np.uint8).reshape(shape))
        self._writer.add(analysis, mask, picture)

    def _run(self) -> None:
        while not (self._stopping.is_set() and not self._mailbox.statistics.waiting):
            result = self._mailbox.take(0.1)
            held, done = self._writer.held, result is None
            try:
                while self._events:
                    self._writer.add_event(self._events.popleft())
                    self._unsynced = True
                if result is not None:
                    self.handle(result)
                    self._unsynced = done = True
                if self._unsynced and time.monotonic() - self._synced_at > _SYNC_EVERY_S:
                    self._synced_at, self._unsynced = time.monotonic(), False
                    self._writer.sync()
            except Exception as error:
                # A frame that is held is not lost yet.
                self.dropped += not done and (self._writer.held is None or self._writer.held is held)
                for encoder in self._encoders.values():
                    encoder.restart()
                self._complaints.say(
                    type(error).__name__, "recording to %s fails: %s; analysis goes on", self.path, error
                )
        try:
            self._writer.close()
        except OSError as error:
            self.dropped += self._writer.held is not None
            log.warning("the end of %s could not be written (%s): it is still readable", self.path, error)

    def _encode(self, result: Result) -> Picture:
        """Code the region of a frame, in the range the source gave it."""
        name = result.analysis.source
        encoder = self._encoders.get(name)
        if encoder is None:
            encoder = self._encoders[name] = PictureEncoder(self._coding)
        pixels = inside(result.analysis.region, result.frame.pixels)
        return encoder.encode(pixels, full_range=result.frame.full_range)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what waits, then the index."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        else:
            self._writer.close()
        self.dropped += len(self._mailbox.close())


def expand(path: Path) -> Path:
    """Replace `{time}` in a path by the time of day in UTC, so that every start has a file of its own."""
    return Path(str(path).replace("{time}", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())))


def _create(path: Path, config: str) -> tuple[Path, RecordingWriter]:
    free, number = path, 1
    while True:
        try:
            return free, RecordingWriter(free, config=config, version=version("sonostream"))
        except RecordingExists:
            number += 1
            if number > _MOST_OF_ONE_NAME:
                raise
            free = path.with_stem(f"{path.stem}-{number}")

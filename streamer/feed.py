"""A feed: the thread that reads one source, judges its state, and opens it again when it is lost."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from streamer.analysis import Region
from streamer.config import FeedConfig, SourceConfig
from streamer.feed_state import FeedWatch
from streamer.frame import FeedState, Frame
from streamer.ledger import DropReason, Ledger
from streamer.logs import Complaints, kind_of
from streamer.mailbox import Mailbox
from streamer.region import RegionError, inside, locate
from streamer.sources import (
    Captured,
    Source,
    SourceInvalidFrame,
    SourceLost,
    SourceOptions,
    SourceUnavailable,
    open_source,
)

log = logging.getLogger(__name__)

EventKind = Literal["state", "lost", "reconnected", "ended"]

# A file's reader may be this far ahead of the analyzer: enough to decode while the engine runs, no more.
_READ_AHEAD = 2
_MAX_DOUBLINGS = 32
_LOOK_AGAIN_NS = 1_000_000_000


class Arrival(NamedTuple):
    """A frame on its way to the analyzer."""

    frame: Frame
    region: Region
    state: FeedState
    arrived_monotonic: int


class Feed:
    """One source of a running daemon."""

    def __init__(
        self,
        config: SourceConfig,
        limits: FeedConfig,
        *,
        bell: threading.Condition,
        tell: Callable[["Feed", EventKind, str], None],
        open_it: Callable[[str, SourceOptions], Source] = open_source,
    ) -> None:
        """Prepare; nothing is opened before `start`.

        :param bell: rung when a frame waits in the mailbox.
        :param tell: called from the feed's thread when something happens to the source.
        """
        self.name = config.name
        self.config = config
        self.ledger = Ledger()
        self.policy = config.policy or "newest"
        self.mailbox: Mailbox[Arrival] = Mailbox(bell=bell)
        self.opened = threading.Event()
        self.ended = threading.Event()
        self.failure: SourceUnavailable | None = None
        """Why the first attempt to open a required source failed."""
        self.reconnects = 0
        self._limits = limits
        self._bell = bell
        self._tell = tell
        self._open = open_it
        self._source: Source | None = None
        self._refused_before = 0
        self._watch = FeedWatch(
            frozen_after_s=limits.frozen_after_s,
            no_signal_after_s=limits.no_signal_after_s,
            stale_after_s=limits.stale_after_s,
        )
        self._region: Region | None = None
        self._region_of: tuple[object, ...] = ()
        self._located_at = 0
        self._seen = FeedState.NO_SIGNAL
        self._stopping = threading.Event()
        self._complaints = Complaints(log)
        self._thread = threading.Thread(target=self._run, name=f"feed-{config.name}", daemon=True)

    @property
    def state(self) -> FeedState:
        """What the feed shows at this moment, also while it is silent."""
        seen = self._seen
        silent_matters = self.policy == "newest" and seen in (FeedState.LIVE, FeedState.FROZEN)
        if silent_matters and self._watch.overdue(time.monotonic_ns()):
            return FeedState.STALE
        return seen

    @property
    def refused(self) -> int:
        """Connections that the source refused, since the start."""
        source = self._source
        return self._refused_before + (0 if source is None else source.refused)

    def start(self) -> None:
        """Begin to open and read the source."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stop reading and count what was waiting."""
        self._stopping.set()
        for _ in self.mailbox.close():
            self.ledger.drop(DropReason.STOPPED)
        source = self._source
        if source is not None:
            source.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                source = self._open(self.config.uri, self._options())
            except SourceUnavailable as error:
                if not self.opened.is_set() and self.config.required:
                    self.failure = error
                    self.opened.set()
                    return
                self._complaints.say("open", "%s: cannot be opened: %s", self.name, error)
                failures += 1
                self._back_off(failures)
                continue
            if self.opened.is_set():
                self.reconnects += 1
                self._tell(self, "reconnected", "")
            self.opened.set()
            self._begin(source)
            captured_before = self.ledger.accounts.captured
            try:
                with source:
                    self._pump(source)
                if not self._stopping.is_set():
                    self._seen = FeedState.NO_SIGNAL
                    self.ended.set()
                    self._tell(self, "ended", "")
                return
            except SourceLost as error:
                log.warning("%s: lost: %s", self.name, error)
                _release(error)
            except Exception as error:
                log.exception("%s: the source failed unexpectedly", self.name)
                _release(error)
            # Before it is opened again: else two decoders with their pictures exist side by side.
            del source
            self._let_go()
            self._seen = FeedState.NO_SIGNAL
            self._tell(self, "lost", "")
            failures = 1 if self.ledger.accounts.captured > captured_before else failures + 1
            self._back_off(failures)

    def _options(self) -> SourceOptions:
        config = self.config
        return SourceOptions(
            fps=config.fps,
            size=config.size,
            pace=config.pace,
            loop=config.loop,
            timeout_s=config.timeout_s,
            keys=config.keys,
        )

    def _begin(self, source: Source) -> None:
        self._source = source
        self._watch.reset()
        self._region = None
        wanted = self.config.policy or source.policy
        if wanted != self.policy or (wanted == "every") != (self.mailbox.statistics.capacity > 1):
            self.policy = wanted
            self.mailbox.resize(_READ_AHEAD if wanted == "every" else 1)

    def _let_go(self) -> None:
        """Hold the source no longer; what it counted stays."""
        self._refused_before, self._source = self.refused, None

    def _back_off(self, failures: int) -> None:
        """Wait twice as long after each failure, up to the limit, at a random point of the last half."""
        # A scanner may be off all night, and 2 to the power of 1024 is no number any more.
        doubled = self._limits.reconnect_first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
        longest = min(self._limits.reconnect_max_s, doubled)
        self._stopping.wait(longest * random.uniform(0.5, 1.0))

    def _pump(self, source: Source) -> None:
        """Read until the source ends; raises SourceLost if it breaks."""
        while not self._stopping.is_set():
            try:
                captured = source.read()
            except SourceInvalidFrame as error:
                self.ledger.capture()
                self.ledger.drop(DropReason.INVALID)
                self._complaints.say(kind_of(error), "%s: refused a frame: %s", self.name, error)
                continue
            if captured is None:
                return
            self._accept(captured)

    def _accept(self, captured: Captured) -> None:
        frame_id = self.ledger.capture()
        region = self._region_for(captured)
        if region is None:
            return
        delay = int(self.config.capture_delay_ms * 1e6)
        now = time.monotonic_ns()
        frame = Frame(
            pixels=captured.pixels,
            source=self.name,
            frame_id=frame_id,
            captured_monotonic=captured.monotonic - delay,
            captured_at=time.time_ns() - (now - captured.monotonic) - delay,
            clock=captured.clock,
            spacing_mm=self.config.pixel_spacing_mm or captured.spacing_mm,
            media_time_s=captured.media_time_s,
            full_range=captured.full_range,
            placement=captured.placement,
        )
        self._seen = self._watch.observe(inside(region, captured.pixels), captured.monotonic)
        arrival = Arrival(frame, region, self._seen, now)
        if self.policy == "every":
            if not self.mailbox.put_waiting(arrival):
                self.ledger.drop(DropReason.STOPPED)
        elif (replaced := self.mailbox.put(arrival)) is not None:
            self.ledger.drop(DropReason.STOPPED if replaced is arrival else DropReason.SUPERSEDED)

    def _region_for(self, captured: Captured) -> Region | None:
        """Return the region for frames of this size, or account for the frame and return None."""
        of = (captured.pixels.shape, captured.region)
        if self._region is None or self._region_of != of or self._is_doubtful(captured.monotonic):
            known = captured.region if self.config.region == "full" else None
            try:
                region = locate(known or self.config.region, captured.pixels)
            except RegionError as error:
                self._complaints.say("region", "%s: %s", self.name, error)
                self._seen = FeedState.NO_SIGNAL
                black = self.config.region == "auto"
                self.ledger.drop(DropReason.NO_SIGNAL if black else DropReason.INVALID)
                return None
            if region != self._region:
                self._watch.reset()
            self._region, self._region_of, self._located_at = region, of, captured.monotonic
        return self._region

    def _is_doubtful(self, now: int) -> bool:
        """Whether to look for the picture again: what was found on a menu or a text shows no life."""
        looked_long_ago = now - self._located_at >= _LOOK_AGAIN_NS
        return self.config.region == "auto" and self._seen is not FeedState.LIVE and looked_long_ago


def _release(error: Exception) -> None:
    """Let go of the frames that an error came through: they hold the source, and are held by the error.

    Else every lost source keeps its decoder's pictures, 3 MiB at 800 x 600, until the collector comes by.
    """
    error.__traceback__ = None

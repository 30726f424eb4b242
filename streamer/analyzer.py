"""The live path's heart: take the newest frame of every source, run the model once, say what it saw."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from models.runtimes import EngineError, Session
from streamer.finisher import Finisher
from streamer.frame import FeedState, Pixels
from streamer.lane import Lane, Picked
from streamer.ledger import DropReason
from streamer.logs import Complaints
from streamer.metrics import Metrics
from streamer.sinks import Result
from streamer.smoothing import Floats

log = logging.getLogger(__name__)

GIVE_UP_AFTER = 5
"""So many engine failures in a row end the daemon, for its supervisor to restart it."""

_DROPPED_AS = {FeedState.FROZEN: DropReason.FROZEN, FeedState.NO_SIGNAL: DropReason.NO_SIGNAL}


class EngineGaveUp(Exception):
    """The engine fails on every frame."""


class Outlet(Protocol):
    """Where results go."""

    def offer(self, result: Result, *, wait: bool = False) -> None:
        """Take a result, without waiting for room unless told to."""


class Analyzer:
    """Serves all sources with one model.

    What they all have goes through the engine as one batch where that pays, as on a GPU. Where it does not,
    frames take turns, and each result is on its way before the next frame is looked at: in a batch every
    answer would be as late as the last.
    """

    def __init__(
        self,
        session: Session,
        lanes: Sequence[Lane],
        outlets: Sequence[Outlet],
        metrics: Metrics,
        *,
        bell: threading.Condition,
    ) -> None:
        """Prepare to serve.

        :param bell: the one that all the lanes' mailboxes ring.
        """
        self._session = session
        self._lanes = tuple(lanes)
        self._outlets = tuple(outlets)
        self._metrics = metrics
        self._bell = bell
        self._stopping = False
        self._turn = 0
        self._next: tuple[Session, tuple[Lane, ...]] | None = None
        self._engine_since: float | None = None
        self._failures = 0
        self._complaints = Complaints(log)
        self._finisher = Finisher()

    def run(self) -> None:
        """Serve until stopped.

        :raises EngineGaveUp: if the engine failed several times in a row.
        """
        try:
            while not self._stopping:
                self._switch_now()
                batch = self._newest()
                live = [each for each in batch if each[1].arrival.state is FeedState.LIVE]
                for lane, picked in batch:
                    if picked.arrival.state is not FeedState.LIVE:
                        self._finish(lane, partial(self._pass_over, lane, picked))
                if live:
                    self._analyze(live)
        finally:
            self._finisher.close()

    def stop(self) -> None:
        """Make `run` return after the batch it is at."""
        self._stopping = True
        with self._bell:
            self._bell.notify_all()

    @property
    def engine_busy_s(self) -> float:
        """How long the engine has been at the batch it has now; 0 while it waits."""
        since = self._engine_since
        return 0.0 if since is None else time.monotonic() - since

    def switch(self, session: Session, lanes: Sequence[Lane]) -> bool:
        """Go on with another model, from the next frame on; called by another thread, waits until it is so.

        :param session: warm, and for batches as large as the first one's.
        :param lanes: for the same sources in the same order.
        :return: False if the analyzer was stopped first; nothing has changed then.
        """
        with self._bell:
            self._next = (session, tuple(lanes))
            self._bell.notify_all()
            self._bell.wait_for(lambda: self._next is None or self._stopping)
            switched, self._next = self._next is None, None
            return switched

    def _switch_now(self) -> None:
        if self._next is None:
            return
        self._finisher.drain()
        with self._bell:
            if self._next is None:
                return
            for lane, former in zip(self._next[1], self._lanes, strict=True):
                lane.take_over(former)
            self._session, self._lanes = self._next
            self._next = None
            self._failures = 0
            self._bell.notify_all()

    def _newest(self) -> list[tuple[Lane, Picked]]:
        """Wait for a frame, then take what the lanes have, each in its turn; never waits to fill a batch."""
        session, count = self._session, len(self._lanes)
        with self._bell:
            while not self._stopping and self._next is None:
                batch: list[tuple[Lane, Picked]] = []
                most = session.max_batch if session.batch_pays else 1
                for at in range(self._turn, self._turn + count):
                    if (picked := self._lanes[at % count].pick()) is not None:
                        batch.append((self._lanes[at % count], picked))
                        if len(batch) == most:
                            self._turn = (at + 1) % count
                            break
                if batch:
                    return batch
                self._bell.wait()
        return []

    def _analyze(self, batch: list[tuple[Lane, Picked]]) -> None:
        session, size = self._session, len(batch)
        frames = session.input(size)
        # A frame that cannot be fitted leaves its slot as it was; the answer to that is not looked at.
        fit = [
            self._try(lane, lane.fit, picked, slot)
            for slot, (lane, picked) in zip(frames, batch, strict=True)
        ]
        if not any(fit):
            return
        fitted = time.monotonic_ns()
        self._engine_since = time.monotonic()
        try:
            prediction = session.infer(size)
        except EngineError as error:
            self._fail([lane for (lane, _), good in zip(batch, fit, strict=True) if good], error)
            return
        finally:
            self._engine_since = None
        inferred = time.monotonic_ns()
        self._failures = 0
        self._metrics.batch_size.observe(size)
        for index, (lane, picked) in enumerate(batch):
            if fit[index]:
                picked.stamps.extend((fitted, inferred))
                answer = (frames[index], prediction.lesion[index], prediction.classes[index])
                if lane.feed.policy == "every":  # the engine writes the next answer where this one is
                    answer = (answer[0].copy(), answer[1].copy(), answer[2].copy())
                self._finish(lane, partial(self._try, lane, self._conclude, lane, picked, *answer))

    def _finish(self, lane: Lane, work: Callable[[], object]) -> None:
        """Do what follows the engine: at once on a live feed, beside the engine for a recorded study."""
        if lane.feed.policy == "every":
            self._finisher.do(work)
        else:
            work()

    def _pass_over(self, lane: Lane, picked: Picked) -> None:
        self._offer(lane, lane.pass_over(picked))
        lane.feed.ledger.drop(_DROPPED_AS[picked.arrival.state])

    def _conclude(self, lane: Lane, picked: Picked, slot: Pixels, lesion: Pixels, classes: Floats) -> None:
        self._offer(lane, lane.conclude(picked, slot, lesion, classes))
        lane.feed.ledger.analyze()

    def _try(self, lane: Lane, stage: Callable[..., None], *arguments: Any) -> bool:
        """Let a stage work on one frame; if it fails, that costs this frame and nothing else."""
        try:
            stage(*arguments)
        except Exception as error:
            lane.feed.ledger.drop(DropReason.FAILED)
            self._complaints.say(type(error).__name__, "%s: a frame failed: %s", lane.feed.name, error)
            return False
        return True

    def _offer(self, lane: Lane, result: Result) -> None:
        for outlet in self._outlets:
            outlet.offer(result, wait=lane.feed.policy == "every")

    def _fail(self, lanes: list[Lane], error: EngineError) -> None:
        for lane in lanes:
            lane.feed.ledger.drop(DropReason.FAILED)
        self._failures += 1
        self._complaints.say("engine", "the engine failed: %s", error)
        if self._failures >= GIVE_UP_AFTER:
            raise EngineGaveUp(f"the engine failed {self._failures} times in a row, last: {error}")

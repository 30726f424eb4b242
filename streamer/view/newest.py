"""Keep the newest picture and state of every source of one daemon, for any number of pages."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from streamer.analysis import Event
from streamer.client import Subscriber
from streamer.view.messages import SourceStatus, Status, View, pack_picture
from streamer.wire import Received, WireError

logger = logging.getLogger(__name__)

MAX_SOURCES = 16
"""Shown at once; a publisher that keeps inventing names must not fill the memory."""

_POLL_S = 0.05
_CLOCK_DRIFT = 2e-4
"""Two machines' clocks drift apart by less than this (200 microseconds per second)."""
_PLAUSIBLE_TRANSIT_NS = 5e9


class Picture(NamedTuple):
    """A message that is ready to be sent to pages."""

    source: str
    number: int
    """Grows with every picture of the viewer's life."""
    message: bytes


class TransitClock:
    """Tells how long messages were on their way.

    On one machine both ends read the same clock. Of another machine's clock only its steadiness can be used:
    the difference of the two clocks is nearly constant, and what exceeds its minimum is time spent in queues.
    """

    def __init__(self, *, same_machine: bool) -> None:
        """Begin anew, as for another publisher."""
        self._same_machine = same_machine
        self._floor_ns: float | None = None
        self._measured_at = 0

    def transit_ns(self, published: int, received: int) -> float:
        """Return the time on the way; from another machine, the time beyond that of the fastest message.

        :param published: ns on the publisher's CLOCK_MONOTONIC.
        :param received: ns on ours.
        """
        delay = received - published
        if self._floor_ns is None:
            # A tunnel makes another machine look like this one; its clock is then far off.
            self._same_machine = self._same_machine and 0 <= delay < _PLAUSIBLE_TRANSIT_NS
            self._floor_ns = 0 if self._same_machine else delay
        elif not self._same_machine:
            self._floor_ns = min(delay, self._floor_ns + (received - self._measured_at) * _CLOCK_DRIFT)
        self._measured_at = received
        return max(0.0, delay - self._floor_ns)


class Newest:
    """Follows a daemon on a thread of its own."""

    def __init__(self, subscriber: Subscriber) -> None:
        """Take over the subscriber; `close` closes it."""
        self._subscriber = subscriber
        self._lock = threading.Lock()
        self._pictures: dict[str, Picture] = {}
        self._last_seq: dict[str, int] = {}
        self._statuses: dict[str, SourceStatus] = {}
        self._listeners: set[Callable[[], None]] = set()
        self._publisher = ""
        self._same_machine = _on_this_machine(subscriber.address)
        self._transit = TransitClock(same_machine=self._same_machine)
        self._connected = False
        self._foreign = ""
        self._crowded = ""
        self._number = 0
        self._version = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="view-newest", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join()
        self._subscriber.close()

    @contextmanager
    def watched(self, changed: Callable[[], None]) -> Iterator[None]:
        """Call `changed` from the following thread whenever there is something new."""
        with self._lock:
            self._listeners.add(changed)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.discard(changed)

    @property
    def version(self) -> int:
        """Changes with the connection, a source's state or what is wrong."""
        return self._version

    def status(self) -> Status:
        """What is known at this instant."""
        with self._lock:
            sources = [self._statuses[name] for name in sorted(self._statuses)]
            return Status(time.monotonic_ns() / 1e6, self._connected, self._foreign or self._crowded, sources)

    def sources(self) -> list[str]:
        """Names of the sources that have a picture."""
        with self._lock:
            return sorted(self._pictures)

    def picture(self, source: str) -> Picture | None:
        """The newest picture of a source."""
        with self._lock:
            return self._pictures.get(source)

    def _follow(self) -> None:
        while not self._stop.is_set():
            changed = False
            try:
                message = self._subscriber.receive(_POLL_S)
            except WireError as error:
                changed = self._note_foreign(str(error))
            else:
                if message is not None:
                    changed = self._take(message)
            if self._connected != self._subscriber.connected:
                self._connected = not self._connected
                self._version += 1
                changed = True
            if changed:
                with self._lock:
                    listeners = list(self._listeners)
                for listener in listeners:
                    listener()

    def _note_foreign(self, problem: str) -> bool:
        if problem == self._foreign:
            return False
        logger.warning("%s answers, but not with sonostream results: %s", self._subscriber.address, problem)
        self._foreign = problem
        self._version += 1
        return True

    def _take(self, message: Received | Event) -> bool:
        """Store a message; return whether pages should hear of it now."""
        about = message.analysis if isinstance(message, Received) else message
        with self._lock:
            if self._foreign:
                self._foreign = ""
                self._version += 1
            if about.publisher != self._publisher:
                self._begin_anew(about.publisher)
            if about.source not in self._statuses and len(self._statuses) >= MAX_SOURCES:
                self._crowded = f"only {MAX_SOURCES} sources are shown; choose others with --source"
                return False
            if isinstance(message, Event):
                return self._take_event(message)
            return self._take_result(message)

    def _begin_anew(self, publisher: str) -> None:
        """Forget a daemon that was restarted: nothing of its former life may be shown beside the new one."""
        self._publisher = publisher
        self._transit = TransitClock(same_machine=self._same_machine)
        self._crowded = ""
        for store in (self._pictures, self._last_seq, self._statuses):
            store.clear()
        self._version += 1

    def _take_result(self, received: Received) -> bool:
        analysis = received.analysis
        last = self._last_seq.get(analysis.source)
        if last is not None and analysis.seq <= last:
            return False
        self._last_seq[analysis.source] = analysis.seq
        transit_ns = self._transit.transit_ns(analysis.published_monotonic, received.received_monotonic)
        view = View(received.received_monotonic / 1e6, analysis.age * 1e3 + transit_ns / 1e6)
        self._number += 1
        self._pictures[analysis.source] = Picture(analysis.source, self._number, pack_picture(received, view))
        known = self._statuses.get(analysis.source)
        self._set_status(
            SourceStatus(
                analysis.source,
                analysis.publisher,
                analysis.state,
                analysis.published_monotonic,
                detail=known.detail if known and known.state == analysis.state else "",
                captured=known.captured if known else 0,
                analyzed=known.analyzed if known else 0,
                dropped=known.dropped if known else {},
            )
        )
        return True

    def _take_event(self, event: Event) -> bool:
        known = self._statuses.get(event.source)
        beat = event.kind == "heartbeat"
        detail = event.detail
        if beat and not detail and known is not None and known.state == event.state:
            # A heartbeat has nothing new to tell about what happened before it.
            detail = known.detail
        return self._set_status(
            SourceStatus(
                event.source,
                event.publisher,
                event.state,
                event.monotonic,
                ended=event.kind == "ended" or (beat and known is not None and known.ended),
                detail=detail,
                captured=event.captured,
                analyzed=event.analyzed,
                dropped=event.dropped,
            )
        )

    def _set_status(self, status: SourceStatus) -> bool:
        """Store it unless a newer one is known; return whether a person should see the change at once."""
        known = self._statuses.get(status.source)
        if known is not None and known.state_monotonic > status.state_monotonic:
            return False
        self._statuses[status.source] = status
        shown = (status.state, status.ended, status.detail)
        if known is not None and shown == (known.state, known.ended, known.detail):
            return False
        self._version += 1
        return True


def _on_this_machine(address: str) -> bool:
    return address.startswith(("ipc:", "inproc:", "tcp://127.", "tcp://localhost:", "tcp://[::1]:"))

"""Publishes results over ZeroMQ, and a sign of life for every source."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import zmq

from streamer.analysis import Analysis, Event
from streamer.client import HEARTBEAT_S
from streamer.feed import EventKind, Feed
from streamer.frame import FeedState
from streamer.keys import KeysError, ServerKeys
from streamer.keys.gate import Gate, bind
from streamer.logs import Complaints
from streamer.mailbox import Mailbox
from streamer.sinks import Result
from streamer.wire import encode_analysis, encode_event, topic

log = logging.getLogger(__name__)

# Two seconds of results of one 30 fps source: a hiccup loses nothing, and memory stays bounded.
_CAPACITY = 64
# Messages that wait for one slow subscriber before ZeroMQ drops for it alone; its own gaps in `seq` say so.
_HIGH_WATER_MARK = 64
# All that a subscriber ever sends are names of topics.
_MAX_SUBSCRIPTION_BYTES = 1024
_REOPEN_S = 0.1


class PublisherError(Exception):
    """The results cannot be published; says where and why."""


class Picture(NamedTuple):
    """A preview that is ready to be sent."""

    analysis: Analysis
    mask: bytes
    jpeg: bytes


class _Answer(NamedTuple):
    """A result without its frame: a picture that waits here is one more that the decoder has to keep."""

    analysis: Analysis
    mask: bytes


class _Happening(NamedTuple):
    feed: Feed
    kind: EventKind
    detail: str


class Publisher:
    """Owns the results' socket; one thread sends, any thread may hand over."""

    name = "zeromq"

    def __init__(
        self,
        address: str,
        *,
        on_sent: Callable[[Analysis], None] = lambda _: None,
        keys: Path | None = None,
    ) -> None:
        """Bind the socket.

        :param address: `tcp://address:port` or `ipc://path`; port 0 takes a free one.
        :param on_sent: called on the publisher's thread after each analysis has been handed to ZeroMQ.
        :param keys: folder with the server's keys; only the clients it allows are let in.
        :raises PublisherError: if the address cannot be bound, or the keys won't do.
        """
        self.identity = secrets.token_hex(4)
        """Changes with every start, so that a reader can tell a restart from a loss."""
        self.dropped = 0
        self._on_sent = on_sent
        self._feeds: tuple[Feed, ...] = ()
        self._outbox: Mailbox[_Answer | Picture | _Happening] = Mailbox(capacity=_CAPACITY)
        self._event_seq: dict[str, int] = {}
        self._state: dict[str, FeedState] = {}
        self._subscriptions: frozenset[bytes] = frozenset()
        self._stopping = False
        # XPUB is PUB that tells who listens: pictures are only made when somebody wants them.
        try:
            self._keys = None if keys is None else ServerKeys(keys)
        except KeysError as error:
            raise PublisherError(f"publish.keys: {error}") from None
        self._refused_before = 0
        self._complaints = Complaints(log)
        self._open(address)
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def _open(self, address: str) -> None:
        self._own_context = None if self._keys is None else zmq.Context()
        self._socket: zmq.Socket[bytes] = (self._own_context or zmq.Context.instance()).socket(zmq.XPUB)
        self._gate = None if self._keys is None else Gate(self._socket, self._keys, name="results")
        self._socket.setsockopt(zmq.SNDHWM, _HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MAX_SUBSCRIPTION_BYTES)
        self._socket.setsockopt(zmq.LINGER, 200)
        try:
            bind(self._socket, address)
        except zmq.ZMQError as error:
            self._close()
            reason = zmq.strerror(error.errno or 0).lower()
            if error.errno == zmq.EADDRINUSE:
                reason += "; another daemon may be running there, choose another publish.bind"
            raise PublisherError(f"cannot publish on {address}: {reason}") from None

    @property
    def refused(self) -> int:
        """Connections that failed for want of an allowed key."""
        return self._refused_before + (0 if self._gate is None else self._gate.refused)

    def start(self, feeds: Iterable[Feed]) -> None:
        """Begin to send; `feeds` are those whose state is told."""
        self._feeds = tuple(feeds)
        self._thread.start()

    def offer(self, result: Result | Picture, *, wait: bool = False) -> None:
        """Hand over a result or picture; unless told to wait, the oldest makes room and is counted."""
        item = _Answer(result.analysis, result.mask) if isinstance(result, Result) else result
        if wait:
            self._outbox.put_waiting(item)
        elif self._outbox.put(item) is not None:
            self.dropped += 1

    def tell(self, feed: Feed, kind: EventKind, detail: str) -> None:
        """Publish that something happened to a source."""
        replaced = self._outbox.put(_Happening(feed, kind, detail))
        self.dropped += isinstance(replaced, _Answer | Picture)

    def wants_picture(self, source: str) -> bool:
        """Whether anybody subscribes to this source's pictures."""
        name = topic(source, "preview")
        return any(name.startswith(prefix) for prefix in self._subscriptions)

    def _run(self) -> None:
        heartbeat_at = time.monotonic()
        while not self._stopping:
            item = self._outbox.take(max(0.0, heartbeat_at - time.monotonic()))
            try:
                if self._gate is not None and self._gate.revoked.is_set():
                    self._part_with_revoked()
                if item is not None:
                    self._send(item)
                self._note_subscriptions()
                if time.monotonic() >= heartbeat_at:
                    heartbeat_at = time.monotonic() + HEARTBEAT_S
                    self._send_heartbeats()
            except Exception as error:
                # One message is lost, not the results of all that follow.
                self.dropped += isinstance(item, _Answer | Picture)
                self._complaints.say(type(error).__name__, "a message could not be published: %s", error)

    def _part_with_revoked(self) -> None:
        """Hang up on everybody and listen anew: who is still allowed is back within a moment."""
        log.info("a client was taken off the list: all are disconnected, those still allowed connect again")
        self._refused_before = self.refused
        self._socket.setsockopt(zmq.LINGER, 0)  # not another word to it
        self._close()
        self._subscriptions = frozenset()
        while not self._stopping:
            try:
                self._open(self.address)
            except PublisherError as error:
                self._complaints.say("reopen", "%s; trying again", error)
                time.sleep(_REOPEN_S)
            else:
                return

    def _note_subscriptions(self) -> None:
        while self._socket.poll(0, zmq.POLLIN):
            message: bytes = self._socket.recv(zmq.NOBLOCK)
            if message.startswith(b"\x01"):
                self._subscriptions |= {message[1:]}
            elif message.startswith(b"\x00"):
                self._subscriptions -= {message[1:]}

    def _send(self, item: _Answer | Picture | _Happening) -> None:
        if isinstance(item, _Happening):
            self._send_event(item.feed, item.kind, item.detail)
            return
        now = time.monotonic_ns()
        age = (now - item.analysis.captured_monotonic) * 1e-9
        analysis = msgspec.structs.replace(item.analysis, published_monotonic=now, age=age)
        if isinstance(item, Picture):
            parts = [topic(analysis.source, "preview"), encode_analysis(analysis), item.mask, item.jpeg]
        else:
            parts = [topic(analysis.source, "analysis"), encode_analysis(analysis), item.mask]
        self._socket.send_multipart(parts, zmq.NOBLOCK)
        if isinstance(item, _Answer):
            self._on_sent(analysis)

    def _send_heartbeats(self) -> None:
        for feed in self._feeds:
            changed = self._state.get(feed.name) != feed.state
            self._send_event(feed, "state" if changed else "heartbeat", "")

    def _send_event(self, feed: Feed, kind: EventKind | str, detail: str) -> None:
        state, accounts = feed.state, feed.ledger.accounts
        self._state[feed.name] = state
        seq = self._event_seq[feed.name] = self._event_seq.get(feed.name, -1) + 1
        event = Event(
            publisher=self.identity,
            source=feed.name,
            seq=seq,
            kind=kind,  # type: ignore[arg-type]
            state=state,
            at=time.time_ns(),
            monotonic=time.monotonic_ns(),
            detail=detail,
            captured=accounts.captured,
            analyzed=accounts.analyzed,
            dropped=accounts.dropped,
        )
        self._socket.send_multipart([topic(feed.name, "event"), encode_event(event)], zmq.NOBLOCK)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Send what waits, then close."""
        deadline = time.monotonic() + timeout_s
        while self._outbox.statistics.waiting and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        self._stopping = True
        self.dropped += len(self._outbox.close())
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._close()

    def _close(self) -> None:
        if self._socket.closed:
            return
        if self._gate is not None:
            self._gate.close()
        self._socket.close()
        if self._own_context is not None:
            self._own_context.term()

"""Read a daemon's results.

    from streamer.client import subscribe

    for result in subscribe("tcp://127.0.0.1:7070"):
        label = result.analysis.classes.label if result.analysis.classes else result.analysis.state
        print(result.analysis.source, result.analysis.frame_id, label)

Research use only: what arrives is not a diagnosis.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import zmq

from streamer.analysis import Event
from streamer.keys import ClientKeys, use_client_keys
from streamer.wire import Channel, Received, decode

HEARTBEAT_S = 0.25
"""How often a daemon sends an event for every source."""
MAX_PART_BYTES = 64 << 20
"""No part of a message is larger; whoever sends more is disconnected before it is there."""
LINK_LOST_AFTER_S = 0.9
"""Silence after which a link counts as lost: three heartbeats and a bit, still within one second."""


class Subscriber:
    """A connection to one daemon; reconnects by itself and tells whether the daemon is heard."""

    def __init__(
        self,
        address: str,
        *,
        sources: Sequence[str] = (),
        channels: Sequence[Channel] = ("analysis",),
        newest_only: bool = False,
        keys: Path | None = None,
    ) -> None:
        """Connect; no daemon needs to be there yet.

        :param address: of the daemon's results, such as `tcp://127.0.0.1:7070`.
        :param sources: names of the sources to follow; all of them if empty.
        :param channels: `analysis`, `preview` (with pictures); events are always received.
        :param newest_only: skip what has piled up since the last call and return only the newest message of
            each source and channel; for displays.
        :param keys: the client's key file, for a daemon that asks for keys.
        :raises ValueError: if the address is not one that ZeroMQ can connect to, or the file holds no keys.
        """
        client_keys = None if keys is None else ClientKeys.load(keys)
        self.address = address
        self._newest_only = newest_only
        self._waiting: dict[bytes, list[bytes]] = {}
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_PART_BYTES)
        if client_keys is not None:
            use_client_keys(self._socket, client_keys)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._sources = frozenset(sources)
        for channel in (*channels, "event"):
            for source in sources or ("",):
                self._socket.subscribe(f"sonostream/{channel}/{source}")
        self._last_heard: float | None = None
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ValueError(
                f"cannot connect to {address!r}: {error}; expected e.g. tcp://127.0.0.1:7070"
            ) from None

    @property
    def connected(self) -> bool:
        """The daemon was heard within the last second."""
        return self._last_heard is not None and time.monotonic() - self._last_heard < LINK_LOST_AFTER_S

    def receive(self, timeout_s: float | None = None) -> Received | Event | None:
        """Wait for the next message.

        :param timeout_s: None waits for ever.
        :return: an analysis or an event, or None when the time is up.
        :raises WireError: if something else than a sonostream daemon answers at the address.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._waiting:
                parts = self._waiting.pop(next(iter(self._waiting)))
                return decode(parts, received_monotonic=time.monotonic_ns())
            wait_ms = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000))
            if not self._socket.poll(wait_ms):
                return None
            self._fill()

    def _fill(self) -> None:
        """Move what has arrived into `_waiting`: one message, or all of them where only the newest counts."""
        while True:
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._last_heard = time.monotonic()
            # A subscription is a prefix: following `left` also brings `left-2`.
            if self._sources and parts[0].rpartition(b"/")[2].decode(errors="replace") not in self._sources:
                continue
            self._waiting[parts[0]] = parts
            if not self._newest_only:
                return

    def __iter__(self) -> Iterator[Received]:
        """Yield analyses for ever."""
        while True:
            message = self.receive()
            if isinstance(message, Received):
                yield message

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def subscribe(
    address: str, *, sources: Sequence[str] = (), pictures: bool = False, keys: Path | None = None
) -> Iterator[Received]:
    """Yield every analysis a daemon publishes, from now on and for ever.

    :param address: of the daemon's results, such as `tcp://127.0.0.1:7070`.
    :param sources: names of the sources to follow; all of them if empty.
    :param pictures: yield the preview channel, whose results carry a JPEG of the frame.
    :param keys: the client's key file, for a daemon that asks for keys.
    """
    with Subscriber(
        address, sources=sources, channels=("preview",) if pictures else ("analysis",), keys=keys
    ) as subscriber:
        yield from subscriber

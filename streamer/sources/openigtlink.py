"""Pictures from an OpenIGTLink server: PLUS, 3D Slicer, or a bridge of a scanner's maker."""

import socket
import time
from contextlib import suppress
from threading import Event
from urllib.parse import parse_qs, urlsplit

import numpy as np

from streamer.frame import Clock
from streamer.openigtlink_messages import (
    DEFAULT_PORT,
    HEADER_BYTES,
    Header,
    MessageError,
    check_body,
    image_head_bytes,
    parse_header,
    parse_image,
    take_pixels,
)
from streamer.sources.base import (
    Captured,
    Source,
    SourceInvalidFrame,
    SourceLost,
    SourceOptions,
    SourceUnavailable,
)

# How far a sender's clock may be from ours before its stamps are not believed.
_OLDEST_STAMP_NS = 10_000_000_000
_NEWEST_STAMP_NS = 50_000_000
_DISCARD_BYTES = 1 << 16


def open_openigtlink(uri: str, options: SourceOptions) -> Source:
    """Connect to a server: `igtl://host:18944`, or `igtl://host?device=NAME` for one device's pictures.

    Without a device, the first one that sends a picture is taken.

    :raises SourceUnavailable: if the address is wrong or nobody answers.
    """
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        host, port = None, 0
    settings = parse_qs(parts.query) if host else {}
    if not host or settings.keys() - {"device"}:
        raise SourceUnavailable(f"{uri}: expected igtl://host:port or igtl://host:port?device=NAME")
    try:
        connection = socket.create_connection((host, port), timeout=options.timeout_s)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceUnavailable(
            f"no OpenIGTLink server at {host}:{port}: {reason.lower()}; is PLUS or Slicer running as server?"
        ) from None
    return OpenIGTLinkSource(connection, settings.get("device", [""])[0])


class OpenIGTLinkSource(Source):
    """A connection to a server, one message after the other."""

    policy = "newest"

    def __init__(self, connection: socket.socket, device: str) -> None:
        self._socket = connection
        self._device = device
        self._closed = Event()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self) -> Captured | None:
        """Wait for the next picture; other messages are passed over. See `Source.read`."""
        while not self._closed.is_set():
            try:
                header = parse_header(self._receive(HEADER_BYTES))
                received = time.monotonic_ns()
                if header.kind == "IMAGE" and self._device in ("", header.device):
                    return self._take(header, received)
                self._pass_over(header.body_bytes)
            except MessageError as error:
                # What follows cannot be told from this message's own bytes.
                raise SourceLost(str(error)) from None
            except TimeoutError:
                raise SourceLost(f"no message for {self._socket.gettimeout():g} s") from None
            except OSError as error:
                if self._closed.is_set():
                    return None
                raise SourceLost(error.strerror or str(error)) from None
        return None

    def close(self) -> None:
        """Hang up; a waiting `read` returns."""
        if not self._closed.is_set():
            self._closed.set()
            with suppress(OSError):  # the other side may have been quicker
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _take(self, header: Header, received: int) -> Captured:
        head = self._receive(min(image_head_bytes(header), header.body_bytes))
        try:
            layout = parse_image(header, head)
        except MessageError as error:
            self._pass_over(header.body_bytes - len(head))
            raise SourceInvalidFrame(str(error)) from None
        # Not zeroed: what is claimed takes no memory before it comes.
        body = np.empty(header.body_bytes, np.uint8).data
        body[: len(head)] = head
        self._fill(body[len(head) :])
        try:
            check_body(header, body)
        except MessageError as error:
            raise SourceInvalidFrame(str(error)) from None
        # A server may send several devices' pictures: they are different feeds.
        self._device = self._device or header.device
        monotonic, clock = _map_stamp(header.stamp_ns, received)
        return Captured(
            take_pixels(layout, body),
            monotonic,
            clock,
            spacing_mm=layout.spacing_mm,
            placement=layout.placement,
        )

    def _receive(self, count: int) -> bytearray:
        data = bytearray(count)
        self._fill(memoryview(data))
        return data

    def _fill(self, view: memoryview) -> None:
        while view:
            count = self._socket.recv_into(view)
            if not count:
                raise ConnectionResetError("the server closed the connection")
            view = view[count:]

    def _pass_over(self, count: int) -> None:
        scratch = memoryview(bytearray(min(count, _DISCARD_BYTES)))
        while count:
            part = scratch[:count]
            self._fill(part)
            count -= len(part)


def _map_stamp(stamp_ns: int, received: int) -> tuple[int, Clock]:
    """Bring a sender's wall-clock stamp to our monotonic clock, if it is believable."""
    age = time.time_ns() - (time.monotonic_ns() - received) - stamp_ns
    if -_NEWEST_STAMP_NS <= age <= _OLDEST_STAMP_NS:
        return received - max(0, age), Clock.DEVICE
    return received, Clock.RECEIVE

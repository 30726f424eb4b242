"""Frames that others send us over ZeroMQ: in our own format, or from an unmodified imagezmq sender."""

import math
import time
from pathlib import Path
from threading import Event, Lock
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

import cv2
import msgspec
import numpy as np
import zmq

from streamer.frame import Clock, Pixels
from streamer.keys import ClientKeys, KeysError, ServerKeys, use_client_keys
from streamer.keys.gate import Gate
from streamer.keys.gate import bind as bind_socket
from streamer.loopback import is_loopback
from streamer.sources.base import (
    Captured,
    Source,
    SourceInvalidFrame,
    SourceLost,
    SourceOptions,
    SourceUnavailable,
)
from streamer.sources.libav_pixels import MAX_PIXELS, MAX_SIDE, fits, too_large
from streamer.sources.pictures import decode_gray

_MAX_HEADER_BYTES = 64 << 10
# How far a sender's clock may be from ours before its stamps are not believed.
_OLDEST_STAMP_NS = 10_000_000_000
_NEWEST_STAMP_NS = 50_000_000
# Messages kept by ZeroMQ while one is decoded: more would only be old.
_WAITING_MESSAGES = 4
_WAKE_MS = 100

Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE)]
Millimetres = Annotated[float, msgspec.Meta(gt=0, le=100)]


class FrameHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Second part of `[source id, header, payload]`."""

    frame_id: Annotated[int, msgspec.Meta(ge=0)]
    """The sender's own count."""
    captured_at: int
    """Wall clock of the sender, ns since the epoch."""
    shape: Annotated[list[Side], msgspec.Meta(min_length=2, max_length=3)]
    """(height, width) gray, or (height, width, 3) RGB."""
    dtype: Literal["uint8"] = "uint8"
    encoding: Literal["raw", "jpeg", "png"] = "raw"
    pixel_spacing_mm: tuple[Millimetres, Millimetres] | None = None
    """(row, column)."""


class _ImagezmqHeader(msgspec.Struct, frozen=True):
    """First of imagezmq's two parts; a JPEG comes without type and shape."""

    msg: Any
    dtype: str | None = None
    shape: list[int] | None = None


_decode_header = msgspec.json.Decoder(FrameHeader).decode
_decode_imagezmq_header = msgspec.json.Decoder(_ImagezmqHeader).decode


def open_zeromq(uri: str, options: SourceOptions) -> Source:
    """Open an endpoint for frames: `zmq+tcp://127.0.0.1:5555?mode=pull`.

    `mode` is `pull` (default) or `rep`, which bind, or `sub`, which connects; `bind=0` and `bind=1` say
    otherwise. `topic` is the source id to take; without it the first one heard is.

    :raises SourceUnavailable: if the address is wrong, in use, or open to the network.
    """
    parts = urlsplit(uri)
    settings = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    unknown = settings.keys() - {"mode", "bind", "topic"}
    mode = settings.get("mode", "pull")
    bind = settings.get("bind", "0" if mode == "sub" else "1")
    if unknown or mode not in _SOCKETS or bind not in ("0", "1"):
        raise SourceUnavailable(
            f"{uri}: the options are mode=pull|sub|rep, bind=0|1 and topic=NAME, not "
            f"{', '.join(sorted(unknown)) or parts.query}"
        )
    transport = parts.scheme.removeprefix("zmq+")
    endpoint = f"{transport}://{parts.netloc}{parts.path}"
    if transport == "tcp" and not is_loopback(parts.hostname or "") and options.keys is None:
        if bind == "1":
            raise SourceUnavailable(
                f"{endpoint} would take frames from anyone on the network: give --source.keys FOLDER "
                f"(`sonostream keys new` makes one), or bind to tcp://127.0.0.1:{_port(uri)} and forward the "
                "port over ssh"
            )
        raise SourceUnavailable(
            f"{endpoint} is beyond this machine, and anyone could pose as the sender: give --source.keys FILE"
            " with a client's keys, or connect through a tunnel (ssh -L)"
        )
    if endpoint.startswith("ipc://@") and options.keys is None:
        raise SourceUnavailable(f"{endpoint} is open to every user of this machine: use ipc:///PATH")
    return ZeromqSource(
        endpoint, mode, bind=bind == "1", topic=settings.get("topic") or None, keys=options.keys
    )


class ZeromqSource(Source):
    """A socket that frames arrive on. Silence is not a loss: a sender may pause, or come later."""

    policy = "newest"

    def __init__(
        self, endpoint: str, mode: str, *, bind: bool, topic: str | None = None, keys: Path | None = None
    ) -> None:
        """Bind or connect.

        :param keys: the server's folder to bind with, or a client's file to connect with.
        :raises SourceUnavailable: if that is not possible.
        """
        try:
            server_keys = ServerKeys(keys) if keys is not None and bind else None
            client_keys = ClientKeys.load(keys) if keys is not None and not bind else None
        except KeysError as error:
            raise SourceUnavailable(f"cannot open {endpoint}: {error}") from None
        self._endpoint = endpoint
        self._topic = None if topic is None else topic.encode()
        self._closed = Event()
        self._in_use = Lock()
        self._context = zmq.Context()
        self._socket = self._context.socket(_SOCKETS[mode])
        self._replies = mode == "rep"
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, _WAITING_MESSAGES)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_PIXELS * 3)
        if mode == "sub":
            self._socket.setsockopt(zmq.SUBSCRIBE, self._topic or b"")
        self._gate = None if server_keys is None else Gate(self._socket, server_keys, name=endpoint)
        if client_keys is not None:
            use_client_keys(self._socket, client_keys)
        try:
            if bind:
                bind_socket(self._socket, endpoint)
            else:
                self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            if error.errno == zmq.EADDRINUSE:
                why = "the address is in use: stop the program that has it, or choose another port"
            else:
                why = f"{error.strerror.lower()}; expected zmq+tcp://HOST:PORT or zmq+ipc:///PATH"
            raise SourceUnavailable(f"cannot open {endpoint}: {why}") from None

    def read(self) -> Captured | None:
        """Wait for the next message, however long that takes; see `Source.read`."""
        while not self._closed.is_set():
            with self._in_use:
                if self._closed.is_set():
                    continue
                if self._gate is not None and self._gate.revoked.is_set():
                    # ZeroMQ cannot part with one sender alone; who opens it again lets the others in.
                    raise SourceLost(f"{self._endpoint}: a sender was taken off the list of allowed clients")
                if not self._socket.poll(_WAKE_MS):
                    continue
                parts = self._socket.recv_multipart(copy=False)
                received = time.monotonic_ns()
                if self._replies:
                    self._socket.send(b"OK")
            return self.parse(parts, received)
        return None

    def parse(self, parts: list[zmq.Frame], received: int) -> Captured:
        """Take a message apart.

        :param received: when it came, ns on CLOCK_MONOTONIC.
        :raises SourceInvalidFrame: if it is not a frame.
        """
        try:
            return self._capture(parts, received)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise SourceInvalidFrame(f"{self._endpoint}: bad header: {error}") from None
        except SourceInvalidFrame as error:
            raise SourceInvalidFrame(f"{self._endpoint}: {error}") from None

    def close(self) -> None:
        """Close the socket, as soon as a waiting `read` lets go of it."""
        self._closed.set()
        with self._in_use:
            if self._socket.closed:
                return
            if self._gate is not None:
                self._gate.close()
            self._socket.close()
            # Once only: libzmq aborts the process where two threads end one context.
            self._context.term()

    @property
    def refused(self) -> int:
        """Connections that failed for want of an allowed key."""
        return 0 if self._gate is None else self._gate.refused

    def _capture(self, parts: list[zmq.Frame], received: int) -> Captured:
        if len(parts) == 2:
            return Captured(_imagezmq_pixels(_bounded(parts[0]), parts[1].buffer), received, Clock.RECEIVE)
        if len(parts) != 3:
            raise SourceInvalidFrame(
                f"a message of {len(parts)} parts: expected [source id, header, payload] or imagezmq's two"
            )
        self._check_sender(_bounded(parts[0]))
        header = _decode_header(_bounded(parts[1]))
        pixels = _pixels(header, parts[2].buffer)
        monotonic, clock = _map_stamp(header.captured_at, received)
        spacing = header.pixel_spacing_mm
        return Captured(pixels, monotonic, clock, spacing_mm=spacing, upstream_id=header.frame_id)

    def _check_sender(self, sender: bytes) -> None:
        # Two scanners' pictures in one feed would be smoothed into each other.
        if self._topic is None:
            self._topic = sender
        if sender != self._topic:
            raise SourceInvalidFrame(
                f"frame of source {sender[:80].decode(errors='replace')!r} refused: this feed takes "
                f"{self._topic[:80].decode(errors='replace')!r}; give each sender its own address"
            )


_SOCKETS = {"pull": zmq.PULL, "sub": zmq.SUB, "rep": zmq.REP}


def _port(uri: str) -> str:
    return uri.partition("://")[2].partition("?")[0].rpartition(":")[2]


def _bounded(part: zmq.Frame) -> bytes:
    if len(part) > _MAX_HEADER_BYTES:
        raise SourceInvalidFrame(f"a header of {len(part)} bytes: at most {_MAX_HEADER_BYTES} are accepted")
    return part.bytes


def _pixels(header: FrameHeader, payload: memoryview) -> Pixels:
    shape = tuple(header.shape)
    if header.encoding == "raw":
        return _raw_pixels(shape, payload, cv2.COLOR_RGB2GRAY)
    pixels = decode_gray(payload)
    if pixels.shape != shape[:2]:
        raise SourceInvalidFrame(f"the header says {_by(shape)}, the picture is {_by(pixels.shape)}")
    return pixels


def _imagezmq_pixels(header: bytes, payload: memoryview) -> Pixels:
    described = _decode_imagezmq_header(header)
    if described.shape is None:
        return decode_gray(payload)
    if described.dtype != "uint8":
        raise SourceInvalidFrame(f"pixels of type {described.dtype}: send uint8")
    return _raw_pixels(tuple(described.shape), payload, cv2.COLOR_BGR2GRAY)


def _raw_pixels(shape: tuple[int, ...], payload: memoryview, to_gray: int) -> Pixels:
    """View the payload as gray pixels; colour is converted."""
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise SourceInvalidFrame(
            f"pixels of shape {_by(shape)}: expected height x width, or height x width x 3"
        )
    if not fits(shape[1], shape[0]):
        raise SourceInvalidFrame(too_large(shape[1], shape[0]))
    if len(payload) != math.prod(shape):
        raise SourceInvalidFrame(f"{len(payload)} bytes for {_by(shape)}: expected {math.prod(shape)}")
    pixels: Pixels = np.frombuffer(payload, np.uint8).reshape(shape)
    if len(shape) == 2:
        return pixels
    return pixels[..., 0] if shape[2] == 1 else np.asarray(cv2.cvtColor(pixels, to_gray), np.uint8)


def _map_stamp(captured_at: int, received: int) -> tuple[int, Clock]:
    """Bring a sender's wall-clock stamp to our monotonic clock, if it is believable."""
    age = time.time_ns() - (time.monotonic_ns() - received) - captured_at
    if -_NEWEST_STAMP_NS <= age <= _OLDEST_STAMP_NS:
        return received - max(0, age), Clock.DEVICE
    return received, Clock.RECEIVE


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))

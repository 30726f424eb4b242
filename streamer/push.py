"""Send frames to a running `sonostream` from your own program.

    with FramePusher("tcp://127.0.0.1:5555", "scanner") as pusher:
        pusher.push(pixels)

goes with `sonostream run "zmq+tcp://127.0.0.1:5555"`.
"""

import time
from pathlib import Path
from typing import Literal, Self

import cv2
import msgspec
import numpy as np
import zmq

from streamer.frame import Pixels
from streamer.keys import ClientKeys, ServerKeys, use_client_keys
from streamer.keys.gate import Gate
from streamer.keys.gate import bind as bind_socket
from streamer.sources.zeromq import FrameHeader

# More would only make the receiver's picture older.
_WAITING_MESSAGES = 2


class FramePusher:
    """Sends frames over ZeroMQ; never waits for the receiver."""

    def __init__(
        self,
        endpoint: str,
        source: str,
        *,
        mode: Literal["push", "pub"] = "push",
        bind: bool | None = None,
        encoding: Literal["raw", "jpeg", "png"] = "raw",
        spacing_mm: tuple[float, float] | None = None,
        keys: Path | None = None,
    ) -> None:
        """Connect, or bind.

        :param endpoint: ZeroMQ address, such as `tcp://127.0.0.1:5555`.
        :param source: name of the feed; the receiver takes one per address.
        :param mode: `push` to one receiver, which binds; `pub` to any number, which connect.
        :param bind: None for the rule of the mode.
        :param encoding: `raw` is fastest on one machine; `jpeg` (quality 95) and `png` save network.
        :param spacing_mm: size of a pixel as (row, column).
        :param keys: the client's key file, or, to bind, the server's folder.
        :raises KeysError: if the keys won't do.
        :raises zmq.ZMQError: if the address is wrong or in use.
        """
        self._source = source.encode()
        self._encoding: Literal["raw", "jpeg", "png"] = encoding
        self._spacing_mm = spacing_mm
        self._next_id = 0
        self._endpoint, self._mode, self._keys = endpoint, mode, keys
        self._binds = mode == "pub" if bind is None else bind
        self._open()

    def _open(self) -> None:
        keys, binds = self._keys, self._binds
        server_keys = ServerKeys(keys) if keys is not None and binds else None
        client_keys = ClientKeys.load(keys) if keys is not None and not binds else None
        self._own_context = None if server_keys is None else zmq.Context()
        self._socket: zmq.Socket[bytes] = (self._own_context or zmq.Context.instance()).socket(
            zmq.PUSH if self._mode == "push" else zmq.PUB
        )
        self._gate = None if server_keys is None else Gate(self._socket, server_keys, name="frames")
        if client_keys is not None:
            use_client_keys(self._socket, client_keys)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.SNDHWM, _WAITING_MESSAGES)
        try:
            if binds:
                bind_socket(self._socket, self._endpoint)
                self._endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
            else:
                self._socket.connect(self._endpoint)
        except zmq.ZMQError:
            self.close()
            raise

    def push(self, pixels: Pixels, *, captured_at: int | None = None) -> bool:
        """Send one frame.

        :param pixels: H x W gray or H x W x 3 RGB, uint8.
        :param captured_at: when it was captured, ns since the epoch (`time.time_ns()`); None: now.
        :return: False if it was dropped because the receiver is not there or behind; its number is skipped.
        :raises ValueError: if the pixels have another type or shape.
        """
        if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}: expected uint8, H x W or H x W x 3")
        header = FrameHeader(
            frame_id=self._next_id,
            captured_at=time.time_ns() if captured_at is None else captured_at,
            shape=list(pixels.shape),
            encoding=self._encoding,
            pixel_spacing_mm=self._spacing_mm,
        )
        self._next_id += 1
        if self._gate is not None and self._gate.revoked.is_set():
            # ZeroMQ cannot part with one receiver alone: all are, and those still allowed connect again.
            self._socket.setsockopt(zmq.LINGER, 0)
            self.close()
            self._open()
        # Not a send that fails: while sending, ZeroMQ looks only now and then for what the receiver took.
        if not self._socket.poll(0, zmq.POLLOUT):
            return False
        self._socket.send_multipart([self._source, msgspec.json.encode(header), self._encode(pixels)])
        return True

    def close(self) -> None:
        """Send what is waiting, for half a second at most, and close."""
        if self._gate is not None:
            self._gate.close()
        self._socket.close()
        if self._own_context is not None:
            self._own_context.term()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _encode(self, pixels: Pixels) -> bytes | memoryview:
        if self._encoding == "raw":
            return np.ascontiguousarray(pixels).data
        if pixels.ndim == 3:
            pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), np.uint8)
        suffix = ".jpg" if self._encoding == "jpeg" else ".png"
        return cv2.imencode(suffix, pixels)[1].tobytes()

"""Sends lesions and findings to 3D Slicer and other OpenIGTLink programs that connect to us."""

import logging
import socket
import threading
from contextlib import suppress

import cv2
import numpy as np

from streamer.analysis import Analysis
from streamer.frame import Frame, Pixels, Placement
from streamer.mailbox import Mailbox
from streamer.openigtlink_messages import pack_image, pack_string
from streamer.sinks import Result, Sink

log = logging.getLogger(__name__)

MAX_CLIENTS = 8
LESION_ABOVE = 127
"""A mask's cell is lesion above this, of 255."""
# A client that takes nothing for so long is gone.
_SEND_TIMEOUT_S = 5.0


class OpenIGTLinkError(Exception):
    """Results cannot be offered over OpenIGTLink; says where and why."""


class OpenIGTLinkSink(Sink):
    """A server for label maps (IMAGE `<source>_lesion`) and findings (STRING `<source>_findings`).

    A label map covers the analysed region, 1 where there is lesion, and lies in the room where the picture
    does; its stamp is the picture's. A feed that is not live has an empty one: no old lesion stays in view.
    """

    def __init__(self, host: str, port: int, *, sources: int) -> None:
        """Listen.

        :raises OpenIGTLinkError: if the address cannot be had.
        """
        super().__init__("openigtlink", capacity=max(1, sources))
        try:
            self._listener = socket.create_server((host, port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OpenIGTLinkError(f"cannot listen for OpenIGTLink on {host}:{port}: {reason}") from None
        self.port: int = self._listener.getsockname()[1]
        self._clients: tuple[_Client, ...] = ()
        self._lock = threading.Lock()
        self._accepting = threading.Thread(target=self._accept, name="openigtlink", daemon=True)

    def start(self) -> None:
        """Begin to take clients and results."""
        super().start()
        self._accepting.start()

    def handle(self, result: Result) -> None:
        """Send one result to whoever is connected."""
        with self._lock:
            self._clients = clients = tuple(each for each in self._clients if each.alive)
        if clients:
            messages = encode(result)
            for client in clients:
                self.dropped += client.offer(result.analysis.source, messages)

    def _accept(self) -> None:
        while True:
            try:
                connection, address = self._listener.accept()
            except OSError:
                return  # closed
            with self._lock:
                alive = tuple(each for each in self._clients if each.alive)
                if len(alive) >= MAX_CLIENTS:
                    log.warning("refused a ninth OpenIGTLink client from %s", address[0])
                    connection.close()
                    continue
                log.info("an OpenIGTLink client connected from %s", address[0])
                self._clients = (*alive, _Client(connection))

    def stop(self, timeout_s: float = 2.0) -> None:
        """Hang up."""
        super().stop(timeout_s)
        # A thread that waits in accept is only woken by a shutdown.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._clients:
            client.close()


class _Client:
    """One connection: a thread that sends the newest there is, and one that reads what nobody wants."""

    def __init__(self, connection: socket.socket) -> None:
        self.alive = True
        self._socket = connection
        self._waiting: dict[str, bytes] = {}
        self._bell: Mailbox[None] = Mailbox()
        self._lock = threading.Lock()
        connection.settimeout(_SEND_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for work in (self._send, self._discard):
            threading.Thread(target=work, name="openigtlink-client", daemon=True).start()

    def offer(self, source: str, messages: bytes) -> bool:
        """Leave messages to be sent; True if they replaced some of the same source."""
        with self._lock:
            replaced = source in self._waiting
            self._waiting[source] = messages
        self._bell.put(None)
        return replaced

    def _send(self) -> None:
        while self.alive:
            self._bell.take(1.0)
            with self._lock:
                batch, self._waiting = b"".join(self._waiting.values()), {}
            try:
                self._socket.sendall(batch)
            except OSError:
                self.close()

    def _discard(self) -> None:
        # A client that talks to a deaf server would sooner or later wait for it.
        while self.alive:
            try:
                if not self._socket.recv(4096):
                    self.close()
            except TimeoutError:
                continue
            except OSError:
                self.close()

    def close(self) -> None:
        self.alive = False
        self._bell.close()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def encode(result: Result) -> bytes:
    """Make the messages of a result, to be sent in one go."""
    analysis = result.analysis
    placement = place_region(result.frame, analysis)
    image = pack_image(f"{analysis.source[:13]}_lesion", analysis.captured_at, label_map(result), placement)
    return image + pack_string(
        f"{analysis.source[:11]}_findings", analysis.captured_at, describe_findings(analysis)
    )


def label_map(result: Result) -> Pixels:
    """Return the region's label map, H x W: 1 where the smoothed probability says lesion."""
    region, layout = result.analysis.region, result.analysis.mask
    if layout is None:
        return np.zeros((region.height, region.width), np.uint8)
    mask = np.frombuffer(result.mask, np.uint8).reshape(layout.height, layout.width)
    fitted = cv2.resize(mask, (region.width, region.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(fitted > LESION_ABOVE, np.uint8)


def place_region(frame: Frame, analysis: Analysis) -> Placement:
    """Return where the region lies: in the room with a tracked source, else flat, in mm if they are known."""
    region = analysis.region
    placement = frame.placement
    if placement is None:
        row, column = frame.spacing_mm or (1.0, 1.0)
        middle = (frame.width - 1) / 2 * column, (frame.height - 1) / 2 * row, 0.0
        placement = Placement((column, 0.0, 0.0, 0.0, row, 0.0, 0.0, 0.0, 1.0, *middle), "LPS")
    axes = np.array(placement.axes).reshape(4, 3)
    # From the frame's middle to the region's, in columns and rows.
    across = region.x + (region.width - 1) / 2 - (frame.width - 1) / 2
    down = region.y + (region.height - 1) / 2 - (frame.height - 1) / 2
    axes[3] += across * axes[0] + down * axes[1]
    return Placement(tuple(axes.ravel().tolist()), placement.coordinates)


def describe_findings(analysis: Analysis) -> str:
    """Say in one line what was found, as the other displays do."""
    classes = analysis.classes
    if classes is None:
        return f"no answer: feed {analysis.state}; {analysis.intended_use}"
    steady = "uncertain" if classes.uncertain else "stable" if classes.stable else "settling"
    parts = [f"{classes.label} ({steady}), malignancy {classes.malignancy:.2f}"]
    for lesion in analysis.lesions:
        if lesion.longest_mm is not None and lesion.perpendicular_mm is not None:
            size = f"{lesion.longest_mm:.1f} x {lesion.perpendicular_mm:.1f} mm"
        else:
            size = f"{lesion.longest_px:.0f} x {lesion.perpendicular_px:.0f} px"
        parts.append(f"lesion {lesion.track}: {size}")
    return "; ".join([*parts, analysis.intended_use])

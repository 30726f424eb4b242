"""The gate of a socket that binds: lets in the clients of a list, and counts everybody else."""

import logging
import os
import socket as unix
import threading

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from streamer.keys.files import HANDSHAKE_MS, ServerKeys
from streamer.logs import Complaints

log = logging.getLogger(__name__)

_DOMAIN = b"sonostream"
_ZAP = "inproc://zeromq.zap.01"  # fixed by ZeroMQ's RFC 27
_VERSION = b"1.0"
_WAKE_MS = 100
_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_WATCHED = _FAILED | zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


class Gate:
    """Answers ZeroMQ's question whether a client may connect (ZAP, RFC 27), on a thread of its own.

    ZeroMQ asks one gate for all sockets of a context, so the socket's context must be its own.
    """

    def __init__(self, socket: "zmq.Socket[bytes]", keys: ServerKeys, *, name: str) -> None:
        """Guard a socket that is not bound yet.

        :param name: of the socket, for the log.
        """
        self.refused = 0
        """Connections that failed: no key, a key that is not allowed, or another protocol."""
        self.revoked = threading.Event()
        """Set once a client that was let in is no longer allowed. ZeroMQ cannot part with one client alone:
        whoever owns the socket closes it and binds anew."""
        self._let_in: set[bytes] = set()
        self._keys = keys
        self._name = name
        self._guarded = socket
        self._complaints = Complaints(log)
        self._stopping = threading.Event()
        self._succeeded = 0
        self._succeeded_before: dict[int, int] = {}
        self._failing = 0
        self._zap: zmq.Socket[bytes] = socket.context.socket(zmq.REP)
        self._zap.setsockopt(zmq.LINGER, 0)
        self._zap.bind(_ZAP)
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
        # Without this, ZeroMQ lets every key in while nobody answers.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._monitor: zmq.Socket[bytes] = socket.get_monitor_socket(_WATCHED)
        self._thread = threading.Thread(target=self._run, name=f"gate-{name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._zap, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        while not self._stopping.is_set():
            ready = dict(poller.poll(_WAKE_MS))
            if not all(map(self._keys.allows, self._let_in)):
                self.revoked.set()
            if self._zap in ready:
                self._answer(self._zap.recv_multipart())
            if self._monitor in ready:
                event = recv_monitor_message(self._monitor)
                self._note(zmq.Event(event["event"]), event["value"])

    def _note(self, event: zmq.Event, value: int) -> None:
        if event is zmq.Event.ACCEPTED:
            self._succeeded_before[value] = self._succeeded
        elif event is zmq.Event.HANDSHAKE_SUCCEEDED:
            self._succeeded += 1
        elif event is not zmq.Event.DISCONNECTED:
            self._refuse()
            self._failing += 1  # its own disconnection follows, at once or when the handshake times out
        else:
            # Peers so foreign that there is no handshake are only seen to come and go.
            unknown = self._succeeded_before.pop(value, None) == self._succeeded
            if unknown and not self._failing:
                self._refuse()
            elif unknown:
                self._failing -= 1

    def _refuse(self) -> None:
        self.refused += 1
        self._complaints.say(
            "refused", "%s: refused a connection: no key, or one that is not allowed", self._name
        )

    def _answer(self, request: list[bytes]) -> None:
        allowed = (
            len(request) == 7
            and request[0] == _VERSION
            and request[5] == b"CURVE"
            and len(request[6]) == 32
            and self._keys.allows(z85.encode(request[6]))
        )
        if allowed:
            self._let_in.add(z85.encode(request[6]))
        # Not 400, after which a client gives up for ever: it may be allowed later. After 300 nothing is said
        # to it any more, and both sides part when the handshake times out.
        code, text = (b"200", b"OK") if allowed else (b"300", b"not allowed")
        number = request[1] if len(request) > 1 else b""
        self._zap.send_multipart([_VERSION, number, code, text, b"", b""])

    def close(self) -> None:
        """Stop; before the guarded socket is closed. Nobody is let in any more."""
        self._stopping.set()
        self._thread.join()
        self._guarded.disable_monitor()
        self._monitor.close(0)
        self._zap.close()


def bind(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    """Bind; a socket file (ipc) is made for its owner and group only.

    A file that a killed process left behind is replaced, one that somebody listens on is not.

    :raises zmq.ZMQError: if it cannot be bound.
    """
    if not endpoint.startswith("ipc://"):
        socket.bind(endpoint)
        return
    # ZeroMQ takes the file from whoever has it, who would go on publishing to nobody.
    if _is_listened_on(endpoint.removeprefix("ipc://")):
        raise zmq.ZMQError(zmq.EADDRINUSE)
    # Not chmod afterwards: others could connect in between.
    before = os.umask(0o117)
    try:
        socket.bind(endpoint)
    finally:
        os.umask(before)


def _is_listened_on(path: str) -> bool:
    with unix.socket(unix.AF_UNIX, unix.SOCK_STREAM) as knock:
        knock.settimeout(1)
        try:
            knock.connect("\0" + path[1:] if path.startswith("@") else path)
        except BlockingIOError:  # more knock than it answers
            return True
        except OSError:
            return False
    return True

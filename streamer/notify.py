"""What a service tells systemd: that it is ready, alive, and stopping (the protocol of sd_notify)."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Supervisor:
    """Speaks to systemd if that started us; otherwise does nothing."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for Linux's abstract sockets.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        interval = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(interval) * 1e-6 if interval.isdecimal() and ours else None
        """How long systemd waits for a sign of life before it restarts the service; None: it doesn't."""
        self._next_beat = 0.0

    def ready(self) -> None:
        """Say that the model is warm and sources are read."""
        self._tell("READY=1")

    def beat(self) -> None:
        """Give a sign of life, four times in the interval; call it as often as you like."""
        now = time.monotonic()
        if self.watchdog_s is not None and now >= self._next_beat:
            self._next_beat = now + self.watchdog_s / 4
            self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._tell(f"STATUS={text}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        # A supervisor that does not listen is no reason to stop analysing.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(message.encode(), self._address)

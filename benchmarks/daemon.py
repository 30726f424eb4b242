"""The real daemon as a process of its own, and what Linux tells about it."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from streamer.client import Subscriber
from streamer.wire import Received

_START_WITHIN_S = 60.0


class BenchError(Exception):
    """The benchmark cannot run, or the daemon died; says why."""


class RunningDaemon:
    """A daemon that delivers."""

    def __init__(self, pid: int, address: str, http_port: int, first_result_s: float) -> None:
        self.pid, self.address, self._http_port = pid, address, http_port
        self.first_result_s = first_result_s
        """From the command to the first result received here."""

    def status(self) -> dict[str, Any]:
        """Ask `/status`."""
        with urlopen(f"http://127.0.0.1:{self._http_port}/status", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def resident_mib(self) -> float:
        """Memory it holds now, in MiB."""
        return resident_mib(self.pid)

    def cpu_s(self) -> float:
        """Processor time that all its threads have used, in seconds, to the hundredth."""
        return cpu_s(self.pid)


class Usage:
    """What a daemon uses from one instant to another; looked at now and then."""

    def __init__(self, daemon: RunningDaemon, begin: float, end: float) -> None:
        self._daemon, self._begin, self._end = daemon, begin, end
        self._cpu: list[tuple[float, float]] = []
        self.memory_mib: list[float] = []

    def look(self) -> None:
        """Note what it has used so far."""
        now = time.monotonic()
        if now >= self._begin:
            self._cpu.append((now, self._daemon.cpu_s()))
            self.memory_mib.append(self._daemon.resident_mib())

    def cpu_s(self) -> float:
        """Processor time within the window."""
        (begin, before), (end, after) = self._cpu[0], self._cpu[-1]
        return (after - before) * (self._end - self._begin) / (end - begin)


def resident_mib(pid: int) -> float:
    """Memory that a process holds now, in MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def cpu_s(pid: int) -> float:
    """Processor time that a process has used in user and system mode, in seconds, to the hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running_daemon(uris: Sequence[str], flags: Mapping[str, object]) -> Iterator[RunningDaemon]:
    """Run `sonostream run`; yields once its first result is here, and stops it afterwards.

    :param uris: of the sources.
    :param flags: further flags without dashes, such as `{"model.artifact": "default"}`.
    :raises BenchError: if it does not start, or has ended by itself, with what it said.
    """
    address, port = f"tcp://127.0.0.1:{free_port()}", free_port()
    settings = {"publish.bind": address, "http.port": port, "log.level": "warning", **flags}
    command = [sys.executable, "-m", "streamer", "run", *uris]
    command += [f"--{key}={value}" for key, value in settings.items()]
    started = time.monotonic()
    # In a session of its own: Ctrl-C is the benchmark's to deal with, which then stops the daemon.
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stderr=said, start_new_session=True) as process,
    ):

        def check() -> None:
            if process.poll() is not None:
                said.seek(0)
                reason = said.read().strip().removeprefix("sonostream: ")
                raise BenchError(f"the daemon ended by itself: {reason}")

        try:
            with Subscriber(address) as subscriber:
                while not isinstance(subscriber.receive(0.2), Received):
                    check()
                    if time.monotonic() - started > _START_WITHIN_S:
                        raise BenchError(f"the daemon delivered nothing within {_START_WITHIN_S:g} s")
                first_result_s = time.monotonic() - started
            yield RunningDaemon(process.pid, address, port, first_result_s)
            check()
        finally:
            process.terminate()


def free_port() -> int:
    """Find a TCP port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port

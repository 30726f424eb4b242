"""A daemon in a process of its own, as a user starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen


def free_port() -> int:
    """Name a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def sonostream(*arguments: str) -> list[str]:
    """The command line of the program under test, whatever is on the PATH."""
    return [sys.executable, "-m", "streamer", *arguments]


@dataclass
class Daemon:
    """A running daemon and where it answers."""

    process: subprocess.Popen[str]
    address: str
    port: int

    def get(self, path: str) -> tuple[int, str]:
        """Status code and text of a page of its port."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def status(self) -> dict[str, Any]:
        """What `/status` says."""
        status: dict[str, Any] = json.loads(self.get("/status")[1])
        return status

    def wait_for(self, claim: Callable[[], bool], within_s: float = 30.0) -> None:
        """Ask again and again until the claim holds; a daemon that died fails the test with what it said."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                assert self.process.stderr is not None
                raise AssertionError(
                    f"the daemon ended with {self.process.returncode}: {self.process.stderr.read()}"
                )
            try:
                if claim():
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"not within {within_s:g} s; status: {self.get('/status')[1]}")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to stop; its exit code and what it logged."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=15)
        return self.process.returncode, said


@contextmanager
def running(
    model: Path | str,
    *arguments: str,
    program: Callable[..., list[str]] = sonostream,
    address: str = "",
    port: int = 0,
    **environment: str,
) -> Iterator[Daemon]:
    """Start a daemon with these sources and flags, on free ports unless some are given.

    :param program: makes the command line; another one than `sonostream` may break parts on purpose.
    """
    address, port = address or f"tcp://127.0.0.1:{free_port()}", port or free_port()
    fixed = [f"--model.artifact={model}", f"--publish.bind={address}", f"--http.port={port}"]
    process = subprocess.Popen(
        program("run", *arguments, *fixed),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield Daemon(process, address, port)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()

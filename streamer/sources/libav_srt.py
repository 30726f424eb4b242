"""SRT where PyAV was built without it: the system's `ffmpeg` receives, its bytes reach us unchanged."""

import ctypes
import shutil
import signal
import subprocess
import sys
from threading import Timer
from typing import IO

from streamer.sources.base import SourceUnavailable
from streamer.sources.libav_errors import shown_url

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
# Looked up here: between fork and exec as little as possible should happen.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """Have the kernel kill this child when its parent is gone: else it would keep the port for ever."""
    assert _prctl is not None
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class SrtRelay:
    """A child process that writes what an SRT sender sends to a pipe."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Start receiving.

        :raises SourceUnavailable: if there is no ffmpeg that could.
        """
        ffmpeg = shutil.which("ffmpeg")
        if ffmpeg is None:
            raise SourceUnavailable(
                f"cannot open {shown_url(url)}: SRT needs the ffmpeg program (Debian: apt install ffmpeg)"
            )
        # `data` in and out: bytes pass as they are, without a demuxer that would hold a frame back.
        command = [ffmpeg, "-v", "error", "-nostdin", "-f", "data", "-i", url, "-map", "0", "-c", "copy"]
        self._process = subprocess.Popen(
            [*command, "-f", "data", "-flush_packets", "1", "pipe:1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            preexec_fn=None if _prctl is None else _end_with_parent,
        )
        assert self._process.stdout is not None
        # A pipe has no timeout of its own: a sender that never comes must not hold `open` for ever.
        self._silent = False
        self._watchdog = Timer(timeout_s, self._give_up)
        self._watchdog.daemon = True
        self._watchdog.start()
        self.output = _Output(self._process.stdout, self._watchdog)

    def interrupt(self) -> None:
        """End a read that waits for the sender."""
        self._process.kill()

    def _give_up(self) -> None:
        self._silent = True
        self._process.kill()

    def close(self) -> str:
        """Stop the process.

        :return: the last thing it complained about, without the URL; empty if nothing.
        """
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        assert self._process.stdout is not None
        said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        self._process.stderr.close()
        self._process.stdout.close()
        if self._silent:
            return "nothing came in time"
        return said[-1].rpartition(": ")[2].lower() if said else ""


class _Output:
    """The pipe's reading end; the first byte calls the watchdog off."""

    def __init__(self, pipe: IO[bytes], watchdog: Timer) -> None:
        self._pipe = pipe
        self._watchdog = watchdog

    def read(self, size: int) -> bytes:
        """Give up to so many bytes, as soon as there are any."""
        data = self._pipe.read(size)
        if data:
            self._watchdog.cancel()
        return data

"""When the frames of a recording are due."""

import time
from threading import Event

from streamer.sources.base import SourceOptions


class Pacer:
    """Gives every frame of a recording its capture instant, and waits for it where the pace is real time.

    At full speed the stamps still have the recording's own distances, because the answers depend on the time
    between frames: the same recording must give the same answers on a slow machine and on a fast one. They
    count back from the start, so that no frame is captured in the future.
    """

    def __init__(self, options: SourceOptions, *, length_s: float) -> None:
        """Prepare; time starts at the first frame.

        :param length_s: how long the recording lasts.
        """
        self._realtime = options.pace == "realtime"
        # Without an end there is nothing to count back from: a fast loop is stamped on arrival.
        self._on_arrival = not self._realtime and options.loop
        self._length_ns = int(length_s * 1e9)
        self._start: int | None = None
        self._closed = Event()

    @property
    def closed(self) -> bool:
        """`close` has been called."""
        return self._closed.is_set()

    def wait(self, media_ns: int) -> int | None:
        """Wait until a frame is due.

        :param media_ns: since the first frame, over all laps.
        :return: its capture instant, ns on CLOCK_MONOTONIC; None after `close`.
        """
        now = time.monotonic_ns()
        if self._start is None:
            self._start = now - media_ns - (0 if self._realtime else self._length_ns)
        due = now if self._on_arrival else self._start + media_ns
        if self._realtime and self._closed.wait(max(0.0, (due - now) / 1e9)):
            return None
        return None if self.closed else due

    def close(self) -> None:
        """Make a waiting `wait` return."""
        self._closed.set()

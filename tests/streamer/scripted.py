"""A source that plays a script, for tests that need to force an order of events."""

import queue
import threading
import time
from collections.abc import Callable

import numpy as np

from streamer.frame import Clock, Pixels
from streamer.sources import Captured, Source, SourceOptions


def picture(seed: int = 0, *, height: int = 120, width: int = 160) -> Pixels:
    """Noise that differs from seed to seed."""
    return np.random.default_rng(seed).integers(0, 255, (height, width), dtype=np.uint8)


def captured(pixels: Pixels, *, monotonic: int | None = None) -> Captured:
    """A frame of these pixels, captured now."""
    return Captured(pixels, time.monotonic_ns() if monotonic is None else monotonic, Clock.DEVICE)


class ScriptedSource(Source):
    """Hands out what the test puts in `script`: a frame, an exception to raise, or None for the end."""

    def __init__(self, policy: str = "newest") -> None:
        self.script: queue.Queue[Captured | Exception | None] = queue.Queue()
        self.policy = policy  # type: ignore[assignment]
        self.closed = threading.Event()

    def read(self) -> Captured | None:
        while not self.closed.is_set():
            try:
                step = self.script.get(timeout=0.02)
            except queue.Empty:
                continue
            if isinstance(step, Exception):
                raise step
            return step
        return None

    def close(self) -> None:
        self.closed.set()


def opener(*outcomes: Source | Exception) -> Callable[[str, SourceOptions], Source]:
    """Return an `open_source` with these outcomes, one for each call."""
    left = list(outcomes)

    def open_it(_uri: str, _options: SourceOptions) -> Source:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return open_it

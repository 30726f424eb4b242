"""Where analyses go. Each sink has its own thread and its own bounded queue: a slow one delays nobody."""

import logging
import threading
from abc import ABC, abstractmethod
from typing import NamedTuple

from streamer.analysis import Analysis
from streamer.frame import Frame
from streamer.logs import Complaints
from streamer.mailbox import Mailbox

log = logging.getLogger(__name__)


class Result(NamedTuple):
    """An analysis on its way out, with what belongs to it."""

    analysis: Analysis
    mask: bytes
    """As `analysis.mask` lays it out; empty where that is None."""
    frame: Frame
    """The very frame that was analysed."""


class Sink(ABC):
    """Takes every result and does something slow with it."""

    def __init__(self, name: str, *, capacity: int) -> None:
        """Prepare; `start` begins to work.

        :param capacity: results that may wait; when more come, the oldest is dropped and counted.
        """
        self.name = name
        self.dropped = 0
        """Results that this sink was too slow for."""
        self._mailbox: Mailbox[Result] = Mailbox(capacity=capacity)
        self._complaints = Complaints(log)
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)

    def start(self) -> None:
        """Begin to take results."""
        self._thread.start()

    def offer(self, result: Result, *, wait: bool = False) -> None:
        """Hand over a result; unless told to wait, the oldest makes room and is counted."""
        if wait:
            self._mailbox.put_waiting(result)
        elif self._mailbox.put(result) is not None:
            self.dropped += 1

    @abstractmethod
    def handle(self, result: Result) -> None:
        """Do the work, on the sink's own thread."""

    def _run(self) -> None:
        while (result := self._mailbox.take()) is not None:
            try:
                self.handle(result)
            except Exception as error:
                self.dropped += 1
                self._complaints.say(type(error).__name__, "sink %s failed on a result: %s", self.name, error)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stop, leaving out what still waits."""
        self.dropped += len(self._mailbox.close())
        if self._thread.is_alive():
            self._thread.join(timeout_s)

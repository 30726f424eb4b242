"""Where every captured frame went: captured = analyzed + dropped + in flight, at every instant."""

import threading
from enum import StrEnum
from typing import NamedTuple


class DropReason(StrEnum):
    """Why a captured frame was not analysed."""

    SUPERSEDED = "superseded"
    """A newer frame of the same source replaced it before the analyzer was free."""
    INVALID = "invalid"
    """The source refused it: malformed, unreadable or too large."""
    FAILED = "failed"
    """A stage or the engine failed on it."""
    FROZEN = "frozen"
    """It repeats the picture before; a frozen feed is not analysed as if it were live."""
    NO_SIGNAL = "no_signal"
    """It is black or uniform."""
    STOPPED = "stopped"
    """It was waiting when the daemon stopped."""


class Accounts(NamedTuple):
    """A consistent snapshot of one source's ledger."""

    captured: int
    analyzed: int
    dropped: dict[str, int]
    """By reason; every reason is present."""
    in_flight: int
    """Waiting in a mailbox or being analysed."""


class Ledger:
    """Counts the frames of one source; every frame is entered once and leaves once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captured = 0
        self._analyzed = 0
        self._dropped = dict.fromkeys((str(reason) for reason in DropReason), 0)
        self._reported = dict(self._dropped)

    def capture(self) -> int:
        """Enter a frame and return its number, counted from 0."""
        with self._lock:
            self._captured += 1
            return self._captured - 1

    def analyze(self) -> None:
        """Close the account of a frame that was analysed."""
        with self._lock:
            self._analyzed += 1

    def drop(self, reason: DropReason) -> None:
        """Close the account of a frame that was not."""
        with self._lock:
            self._dropped[reason] += 1

    def newly_dropped(self) -> dict[str, int]:
        """Return the drops since the last call, by reason, leaving out reasons without any."""
        with self._lock:
            fresh = {
                reason: count - self._reported[reason]
                for reason, count in self._dropped.items()
                if count != self._reported[reason]
            }
            self._reported.update(self._dropped)
            return fresh

    @property
    def accounts(self) -> Accounts:
        """The counts at this instant."""
        with self._lock:
            in_flight = self._captured - self._analyzed - sum(self._dropped.values())
            return Accounts(self._captured, self._analyzed, dict(self._dropped), in_flight)

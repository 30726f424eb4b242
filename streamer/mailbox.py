"""Bounded hand-over between two threads.

Why one slot: on a live feed the only frame worth analysing is the newest, and every frame that waits in a
queue is a frame interval of age on whatever is shown. So a mailbox of capacity 1 with `put` replaces what
was not taken in time and hands the replaced item back, for the caller to count. Files are read with
`put_waiting` instead: the reader is held back and nothing is replaced.
"""

import threading
import time
from collections import deque
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class MailboxStatistics(NamedTuple):
    """A consistent snapshot of a mailbox."""

    put: int
    """Items accepted so far."""
    taken: int
    """Items handed to the reader."""
    replaced: int
    """Items that a newer one pushed out before they were taken."""
    waiting: int
    """Items in it now; put = taken + replaced + waiting."""
    capacity: int


class Mailbox(Generic[T]):
    """A queue for one reader that never holds more than `capacity` items."""

    def __init__(self, *, capacity: int = 1, bell: threading.Condition | None = None) -> None:
        """Make an empty mailbox.

        :param bell: rung at every change; mailboxes that one reader watches together share one.
        """
        if capacity < 1:
            raise ValueError(f"a mailbox holds at least one item, not {capacity}")
        self._bell = bell or threading.Condition()
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._closed = False
        self._put = self._taken = self._replaced = 0

    def put(self, item: T) -> T | None:
        """Leave an item without ever waiting.

        :return: the oldest item if it had to make room, or `item` itself if the mailbox is closed.
        """
        with self._bell:
            if self._closed:
                return item
            replaced = None
            if len(self._items) >= self._capacity:
                replaced = self._items.popleft()
                self._replaced += 1
            self._items.append(item)
            self._put += 1
            self._bell.notify_all()
            return replaced

    def put_waiting(self, item: T) -> bool:
        """Leave an item, waiting for room.

        :return: False if the mailbox was closed before there was room.
        """
        with self._bell:
            self._bell.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            if self._closed:
                return False
            self._items.append(item)
            self._put += 1
            self._bell.notify_all()
            return True

    def take(self, timeout_s: float | None = None) -> T | None:
        """Take the oldest item, waiting for one; None when the time is up or the mailbox closed and empty."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._bell:
            while not self._items:
                remaining = None if deadline is None else deadline - time.monotonic()
                if self._closed or (remaining is not None and remaining <= 0):
                    return None
                self._bell.wait(remaining)
            return self._pop()

    def take_now(self) -> T | None:
        """Take the oldest item if there is one."""
        with self._bell:
            return self._pop() if self._items else None

    def _pop(self) -> T:
        self._taken += 1
        self._bell.notify_all()
        return self._items.popleft()

    def resize(self, capacity: int) -> None:
        """Change how many items fit; items already in it stay."""
        with self._bell:
            self._capacity = capacity
            self._bell.notify_all()

    def close(self) -> list[T]:
        """Refuse further items and wake everyone; safe to call twice.

        :return: what had not been taken, for the caller to count.
        """
        with self._bell:
            self._closed = True
            left = list(self._items)
            self._items.clear()
            self._replaced += len(left)
            self._bell.notify_all()
            return left

    @property
    def statistics(self) -> MailboxStatistics:
        """Counts since the start, consistent with one another."""
        with self._bell:
            return MailboxStatistics(self._put, self._taken, self._replaced, len(self._items), self._capacity)

"""What comes after the engine, on a thread of its own: so the engine has the next frame meanwhile.

For recorded studies only, where a frame may wait for its turn. On a live feed the next frame is not there yet
when this one's answer is, and handing it to another thread would only make it later.
"""

import threading
from collections import deque
from collections.abc import Callable

# One being worked on and one waiting: more would not make it faster, only older.
_CAPACITY = 2


class Finisher:
    """Does what it is given, in order; who gives waits while there is enough to do."""

    def __init__(self) -> None:
        """Prepare; the thread starts with the first piece of work."""
        self._changed = threading.Condition()
        self._work: deque[Callable[[], object]] = deque()
        self._pending = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[[], object]) -> None:
        """Hand over a piece of work, which must not raise."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending < _CAPACITY)
            self._pending += 1
            self._work.append(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="finisher", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until everything that was handed over is done."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending)

    def close(self) -> None:
        """Do what is left and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work or self._closed)
                if not self._work:
                    return
                work = self._work.popleft()
            try:
                work()
            finally:
                with self._changed:
                    self._pending -= 1
                    self._changed.notify_all()

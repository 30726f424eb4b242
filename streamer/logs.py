"""Logging: one line an event, to standard error, without pixels, credentials or names of patients."""

import logging
import time

from rich.console import Console
from rich.logging import RichHandler

COMPLAIN_EVERY_S = 60.0
"""The same complaint is made at most so often."""


def set_up(level: str) -> None:
    """Send the log of the whole process to standard error: in colour on a terminal, plain elsewhere."""
    console = Console(stderr=True)
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class Complaints:
    """Says the same thing once a minute, with the number of times it happened in between."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def say(self, kind: str, message: str, *arguments: object) -> None:
        """Log a warning unless this kind was logged less than a minute ago."""
        now = time.monotonic()
        if now - self._said.get(kind, -COMPLAIN_EVERY_S) < COMPLAIN_EVERY_S:
            self._silent[kind] = self._silent.get(kind, 0) + 1
            return
        self._said[kind] = now
        again = self._silent.pop(kind, 0)
        self._log.warning(message + (f" ({again} more since the last report)" if again else ""), *arguments)

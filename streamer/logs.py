"""Logging: one line an event, to standard error, without pixels, credentials or names of patients."""

import json
import logging
import os
import re
import sys
import time
from datetime import UTC, datetime

from rich.console import Console
from rich.logging import RichHandler

COMPLAIN_EVERY_S = 60.0
"""The same complaint is made at most so often."""
_MOST_KINDS, _OTHER = 16, "other"
_VALUES = re.compile(r"""'[^']*'|"[^"]*"|[0-9]+""")

# Of syslog, which the journal reads at the start of a line: "<3>" is an error.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def set_up(level: str, *, json_lines: bool = False) -> None:
    """Send the log of the whole process to standard error.

    In colour on a terminal, with priorities for systemd's journal, plain elsewhere.

    :param json_lines: one JSON object a line, wherever it goes.
    """
    console = Console(stderr=True)
    handler: logging.Handler
    if json_lines:
        handler = logging.StreamHandler()
        handler.setFormatter(_JsonLines())
    elif console.is_terminal:
        handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
        handler.setFormatter(logging.Formatter("%(message)s"))
    elif _is_journal():
        handler = logging.StreamHandler()
        handler.setFormatter(_JournalLines("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _is_journal() -> bool:
    """Whether standard error is what systemd connected to its journal, as systemd.exec(5) tells."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _JournalLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def kind_of(error: Exception) -> str:
    """Name the kind of an error: what it says, without the values in it."""
    return _VALUES.sub("", f"{type(error).__name__} {error}")


class Complaints:
    """Says the same thing once a minute, with the number of times it happened in between.

    A peer that thinks up ever new faults gets no more lines than there are kinds.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def say(self, kind: str, message: str, *arguments: object) -> None:
        """Log a warning unless this kind was logged less than a minute ago."""
        if kind not in self._said and len(self._said) >= _MOST_KINDS:
            kind = _OTHER
        now = time.monotonic()
        if now - self._said.get(kind, -COMPLAIN_EVERY_S) < COMPLAIN_EVERY_S:
            self._silent[kind] = self._silent.get(kind, 0) + 1
            return
        self._said[kind] = now
        again = self._silent.pop(kind, 0)
        self._log.warning(message + (f" ({again} more since the last report)" if again else ""), *arguments)

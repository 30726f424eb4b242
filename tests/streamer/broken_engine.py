"""`sonostream`, with an engine that breaks once a file says how.

Started as a program of its own. The file named by BROKEN_WHEN holds `load` (hang while loading), `hang`,
`shape` (one class too few) or `nan` (not a number for frames with a pixel above 240).
"""

import os
import sys
import threading
from pathlib import Path
from typing import Any

import streamer.daemon
from models.runtimes import EngineFailed, Session
from streamer.cli import main

_load = streamer.daemon.load


def _load_breakable(*arguments: Any, **options: Any) -> Session:
    when = Path(os.environ["BROKEN_WHEN"])
    if when.exists() and when.read_text() == "load":
        threading.Event().wait()
    session = _load(*arguments, **options)
    run = session._run

    def run_or_break(n: int) -> None:
        how = when.read_text() if when.exists() else ""
        if how == "hang":
            threading.Event().wait()
        if how == "shape":
            try:
                session._predictions[n - 1].classes[:] = [[0.5, 0.5]]
            except ValueError as error:
                raise EngineFailed(str(error)) from None
        run(n)
        if how == "nan":
            frames = session.input(n)
            session._predictions[n - 1].classes[frames.max(axis=(1, 2, 3)) > 240] = float("nan")

    session._run = run_or_break  # type: ignore[method-assign]
    return session


def command(*arguments: str) -> list[str]:
    """The command line of this program."""
    return [sys.executable, "-m", "tests.streamer.broken_engine", *arguments]


if __name__ == "__main__":
    streamer.daemon.load = _load_breakable
    main()

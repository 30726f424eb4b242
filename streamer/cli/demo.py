"""`sonostream demo`: a synthetic feed, the daemon and the viewer, in one go."""

import subprocess
import sys
import threading
import time
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from streamer.analysis import INTENDED_USE
from streamer.client import Subscriber
from streamer.wire import Received

_START_WITHIN_S = 60.0


def demo(
    source: Annotated[str, typer.Argument(help="What to analyse.")] = "phantom:",
    port: Annotated[int, typer.Option(help="Port of the page.")] = 7080,
    publish: Annotated[str, typer.Option(help="Address of the results.")] = "tcp://127.0.0.1:7070",
    http_port: Annotated[int, typer.Option(help="Port of the daemon's status page.")] = 7071,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Show a live feed analysed in a browser page, until Ctrl-C. Research use only.

    Runs `sonostream run phantom:` and `sonostream view` as two processes, as you would for a scanner.
    """
    console = Console(stderr=True)
    run = ["run", source, "--publish.bind", publish, "--http.port", str(http_port), "--log.level", "warning"]
    daemon = subprocess.Popen([sys.executable, "-m", "streamer", *run])
    view = ["view", publish, "--port", str(port), *([] if browser else ["--no-browser"])]
    viewer = subprocess.Popen([sys.executable, "-m", "streamer", *view])
    ages: list[float] = []
    threading.Thread(target=_collect, args=(publish, ages), daemon=True).start()
    try:
        console.print(
            f"Analysing {source}; the page is at http://127.0.0.1:{port} (Ctrl-C stops). "
            f"{INTENDED_USE.capitalize()}."
        )
        while daemon.poll() is None and viewer.poll() is None:
            time.sleep(0.1)
    except KeyboardInterrupt:
        pass
    finally:
        for process in (viewer, daemon):
            process.terminate()
        codes = [process.wait(10) for process in (viewer, daemon)]
    _summarise(console, ages)
    raise typer.Exit(max(0, *codes))


def _collect(address: str, ages: list[float]) -> None:
    """Gather the age of every result on arrival, in ms."""
    with Subscriber(address) as subscriber:
        for message in subscriber:
            _note(message, ages)


def _note(message: Received, ages: list[float]) -> None:
    if message.analysis.classes is not None:
        ages.append((message.received_monotonic - message.analysis.captured_monotonic) * 1e-6)


def _summarise(console: Console, ages: list[float]) -> None:
    if ages:
        p50, p95, p99 = np.percentile(ages, [50, 95, 99])
        console.print(
            f"{len(ages)} frames analysed; capture to result received: "
            f"median {p50:.1f} ms, 95 % within {p95:.1f} ms, 99 % within {p99:.1f} ms"
        )

"""`sonostream record`: a daemon's results in a file, recorded by a process of its own."""

import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import cv2
import typer
from rich.console import Console

from streamer.analysis import Event
from streamer.cli.run import fail
from streamer.client import Subscriber
from streamer.no_dumps import forbid_dumps
from streamer.sources import SourceUnavailable
from streamer.wire import Received, WireError


def record(
    address: Annotated[str, typer.Argument(help="Address of a daemon's results.")],
    path: Annotated[Path, typer.Argument(help="File to create, such as study.mcap; never overwritten.")],
    source: Annotated[list[str] | None, typer.Option(help="Record this source only; repeatable.")] = None,
    pictures: Annotated[bool, typer.Option(help="Record pictures (JPEG, as the daemon sends them).")] = True,
    keys: Annotated[
        Path | None, typer.Option(help="The client's key file, if the daemon asks for keys.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.", min=0)] = None,
) -> None:
    """Record what a daemon publishes, until Ctrl-C. Research use only.

    The pictures are the preview's JPEGs; for lossless ones, record in the daemon with --record.path.
    Example: sonostream record tcp://127.0.0.1:7070 study.mcap --seconds 60
    """
    try:
        from streamer.recording import Picture, RecordingError, RecordingWriter
    except SourceUnavailable as error:
        fail(str(error))
    try:
        subscriber = Subscriber(
            address, sources=source or (), channels=("preview",) if pictures else ("analysis",), keys=keys
        )
    except ValueError as error:
        fail(str(error))
    try:
        writer = RecordingWriter(path)
    except RecordingError as error:
        fail(str(error))
    forbid_dumps()
    console = Console(stderr=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    started = synced = time.monotonic()
    frames = missed = failed = 0
    last: dict[str, int] = {}
    silent = False
    with subscriber:
        while not stop.is_set() and (seconds is None or time.monotonic() - started < seconds):
            try:
                message = subscriber.receive(0.2)
            except WireError as error:
                console.print(f"refused a message: {error}", markup=False)
                continue
            if subscriber.connected is silent and time.monotonic() - started > 1:
                silent = not silent
                console.print(f"{address}: {'no daemon is heard' if silent else 'connected'}", markup=False)
            try:
                if isinstance(message, Received):
                    analysis = message.analysis
                    missed += max(0, analysis.seq - last.get(analysis.source, analysis.seq - 1) - 1)
                    last[analysis.source] = analysis.seq
                    picture = None if message.picture is None else Picture(message.picture, "jpeg")
                    writer.add(analysis, _mask(message), picture)
                    frames += 1
                elif isinstance(message, Event) and message.kind != "heartbeat":
                    writer.add_event(message)
                if time.monotonic() - synced > 0.5:
                    synced = time.monotonic()
                    writer.sync()
            except OSError as error:
                if not failed:
                    console.print(f"cannot write to {path}: {error.strerror}; will try on", markup=False)
                failed += 1
    try:
        writer.close()
    except OSError as error:
        console.print(f"the end of {path} could not be written: {error.strerror}", markup=False)
        failed += 1
    console.print(
        f"{path}: {frames} frames recorded, {missed} missed, {failed} not written",
        markup=False,
        highlight=False,
    )
    raise typer.Exit(1 if failed else 0)


def _mask(message: Received) -> bytes | None:
    if message.mask is None:
        return None
    return cv2.imencode(".png", message.mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()

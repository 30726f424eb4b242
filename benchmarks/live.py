"""`sonostream bench live`: what a subscriber in another process sees of a live feed, against the floor.

The feed is open-loop: frame n is due at start + n / fps whatever the program does, and latency counts from
then to the arrival of its result here. The daemon is the real one, a process of its own. The floor is timed
in this process between two frames, while the daemon waits for the next one, so both meet the same machine.
"""

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.request import urlopen

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.coded_feed import encode, render
from benchmarks.figures import machine, percentiles, versions
from benchmarks.floor import CodedFrames, Floor, FloorFeed, FloorSample, RawFrames
from models.artifact import load_artifact
from streamer.analysis import Analysis
from streamer.client import Subscriber
from streamer.wire import Received

FeedKind = Literal["phantom", "h264"]
Due = Callable[[Analysis], int]
"""When a frame was due, in ns on CLOCK_MONOTONIC, which all processes of a machine share."""

SCHEMA = "sonostream.bench.live/1"

_PRERENDERED = 240
_START_WITHIN_S = 60.0
_FLOOR_EVERY = 3
"""The floor is timed after every so many results: often enough to pair, seldom enough not to be the load."""


class BenchError(Exception):
    """The benchmark cannot run, or the daemon died; says why."""


@dataclass(frozen=True)
class LiveSettings:
    """What is run."""

    feed: FeedKind = "phantom"
    fps: float = 30.0
    width: int = 800
    height: int = 600
    seconds: float = 60.0
    warm_up_s: float = 3.0
    artifact: str = "default"
    runtime: str = "auto"
    precision: str = "auto"
    seed: int = 0


@dataclass
class _Measured:
    first_result_s: float
    memory_mib: list[float] = field(default_factory=list)
    end_to_end: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    floor: list[FloorSample] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    analysis: Analysis | None = None


def run_live(settings: LiveSettings, progress: Progress) -> dict[str, Any]:
    """Run the benchmark.

    :return: the result in the form that `--json` writes; durations in ms.
    :raises BenchError: if the daemon does not start, or dies.
    """
    task = progress.add_task("preparing feed and daemon", total=None)
    with _feed(settings) as (uri, floor_feed, due), _daemon(settings, uri) as daemon:
        floor = Floor(
            load_artifact(settings.artifact),
            floor_feed,
            runtime=daemon.status["model"]["runtime"],
            precision=daemon.status["model"]["precision"],
            threads=machine()["cores"],
        )
        progress.update(task, description=f"{settings.feed} at {settings.fps:g} fps", total=settings.seconds)
        measured = _measure(settings, daemon, due, floor, lambda done: progress.update(task, completed=done))
    progress.update(task, completed=settings.seconds)
    return _report(settings, measured)


@contextmanager
def _feed(settings: LiveSettings) -> "Iterator[tuple[str, FloorFeed, Due]]":
    """Yield the source's URI, the same frames for the floor, and when each frame is due."""
    size = {"width": settings.width, "height": settings.height}
    pictures = render(frames=_PRERENDERED, fps=settings.fps, seed=settings.seed, **size)
    if settings.feed == "phantom":
        query = f"seed={settings.seed}&fps={settings.fps:g}&width={settings.width}&height={settings.height}"
        uri = f"phantom:?{query}&lift=false&cut=false&prerender={_PRERENDERED}"
        yield uri, RawFrames(pictures), _captured
        return
    clip = encode(pictures, fps=settings.fps)
    port = _free_port()
    sender = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.coded_feed", f"--port={port}", f"--fps={settings.fps}"]
        + [f"--{name}={value}" for name, value in size.items()]
        + [f"--frames={_PRERENDERED}", f"--seed={settings.seed}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert sender.stdout is not None
        if sender.stdout.readline().strip() != "ready":
            raise BenchError("the sender of the H.264 feed did not start")
        started: list[int] = []
        output = sender.stdout
        threading.Thread(target=lambda: started.append(int(output.readline() or 0)), daemon=True).start()

        def due(analysis: Analysis) -> int:
            assert analysis.media_time is not None
            return started[0] + round(analysis.media_time * 1e9)

        yield f"tcp://127.0.0.1:{port}", CodedFrames("h264", clip.packets), due
    finally:
        sender.kill()
        sender.wait()


def _captured(analysis: Analysis) -> int:
    # A phantom's capture stamp is the instant at which the frame was due.
    return analysis.captured_monotonic


class _Running(NamedTuple):
    """A daemon that delivers."""

    address: str
    status: dict[str, Any]
    first_result_s: float
    """From the command to the first result received here."""
    memory: Path
    """Where Linux tells how much memory it holds."""

    def resident_mib(self) -> float:
        """Memory it holds now."""
        (line,) = (line for line in self.memory.read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@contextmanager
def _daemon(settings: LiveSettings, uri: str) -> Iterator[_Running]:
    """Run a daemon; yields once its first result is here."""
    address, port = f"tcp://127.0.0.1:{_free_port()}", _free_port()
    flags = {
        "publish.bind": address,
        "http.port": port,
        "model.artifact": settings.artifact,
        "model.runtime": settings.runtime,
        "model.precision": settings.precision,
        "log.level": "warning",
    }
    command = [sys.executable, "-m", "streamer", "run", uri]
    command += [f"--{key}={value}" for key, value in flags.items()]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stderr=said) as process:

        def check() -> None:
            if process.poll() is not None:
                said.seek(0)
                raise BenchError(f"the daemon ended by itself: {said.read().strip()}")

        try:
            with Subscriber(address) as subscriber:
                while not isinstance(subscriber.receive(0.2), Received):
                    check()
                    if time.monotonic() - started > _START_WITHIN_S:
                        raise BenchError(f"the daemon delivered nothing within {_START_WITHIN_S:g} s")
                first_result_s = time.monotonic() - started
            with urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
                status = json.load(answer)
            yield _Running(address, status, first_result_s, Path(f"/proc/{process.pid}/status"))
            check()
        finally:
            process.terminate()


def _measure(
    settings: LiveSettings, daemon: _Running, due: Due, floor: Floor, tell: Callable[[float], None]
) -> _Measured:
    measured = _Measured(first_result_s=daemon.first_result_s)
    begin = time.monotonic() + settings.warm_up_s
    end = begin + settings.seconds
    arrived = threading.Semaphore(0)

    def receive() -> None:
        with Subscriber(daemon.address) as subscriber:
            while time.monotonic() < end:
                message = subscriber.receive(0.1)
                if isinstance(message, Received) and time.monotonic() >= begin:
                    _note(measured, message, due)
                    arrived.release()

    # A thread of its own: a result that comes while the floor is timed is still stamped when it comes.
    receiver = threading.Thread(target=receive)
    receiver.start()
    while receiver.is_alive():
        for _ in range(_FLOOR_EVERY):
            arrived.acquire(timeout=0.5)
        if measured.end_to_end:
            measured.floor.append(floor.sample())
            measured.memory_mib.append(daemon.resident_mib())
        tell(max(0.0, time.monotonic() - begin))
    receiver.join()
    if len(measured.end_to_end) < settings.fps or not measured.floor:
        raise BenchError(f"only {len(measured.end_to_end)} results arrived in {settings.seconds:g} s")
    return measured


def _note(measured: _Measured, message: Received, due: Due) -> None:
    analysis, before = message.analysis, measured.analysis
    measured.analysis = analysis
    if before is not None:
        measured.lost += analysis.seq - before.seq - 1
        for reason, count in analysis.dropped.items():
            measured.dropped[reason] = measured.dropped.get(reason, 0) + count
    if analysis.classes is None:
        return
    measured.end_to_end.append((message.received_monotonic - due(analysis)) * 1e-6)
    stages = {
        **{name: seconds * 1e3 for name, seconds in analysis.latency.stages.items()},
        "publish": (analysis.age - analysis.latency.total) * 1e3,
        "transport": (message.received_monotonic - analysis.published_monotonic) * 1e-6,
    }
    for name, milliseconds in stages.items():
        measured.stages.setdefault(name, []).append(milliseconds)


def _report(settings: LiveSettings, measured: _Measured) -> dict[str, Any]:
    assert measured.analysis is not None
    floor = percentiles([sample.total for sample in measured.floor])
    end_to_end = percentiles(measured.end_to_end)
    model = measured.analysis.model
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "versions": versions(),
        "settings": asdict(settings),
        "model": {
            "name": model.name,
            "version": model.version,
            "runtime": model.runtime,
            "precision": model.precision,
            "sha256": model.sha256,
        },
        "frames": len(measured.end_to_end),
        "dropped": measured.dropped,
        "lost_by_subscriber": measured.lost,
        "floor_ms": floor,
        "floor_parts_ms": {
            part: percentiles([getattr(sample, part) for sample in measured.floor])
            for part in ("decode", "resize", "engine")
        },
        "floor_samples": len(measured.floor),
        "end_to_end_ms": end_to_end,
        # A phantom renders its whole feed before it starts: that would be timed, not the daemon.
        "first_result_s": round(measured.first_result_s, 3) if settings.feed == "h264" else None,
        "memory_mib": {
            "start": round(measured.memory_mib[0], 1),
            "end": round(measured.memory_mib[-1], 1),
            "max": round(max(measured.memory_mib), 1),
        },
        "overhead_ratio": {name: round(end_to_end[name] / floor[name], 4) for name in ("p50", "p99")},
        "stages_ms": {name: percentiles(values) for name, values in measured.stages.items()},
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report as one table."""
    settings, model = report["settings"], report["model"]
    feed = f"{settings['feed']} {settings['width']} x {settings['height']} at {settings['fps']:g} fps"
    engine = f"{model['name']} {model['version']} on {model['runtime']} {model['precision']}"
    table = Table(title=f"{feed}; {engine}; {report['machine']['cpu']}")
    table.add_column("ms")
    names = list(report["floor_ms"])
    for name in names:
        table.add_column(name, justify="right")

    def row(title: str, values: dict[str, float], style: str = "") -> None:
        cells = (f"{values[name]:.2f}" if name in values else "" for name in names)
        table.add_row(title, *cells, style=style)

    row("end to end", report["end_to_end_ms"], "bold")
    row("floor", report["floor_ms"], "bold")
    row("ratio", report["overhead_ratio"], "bold")
    table.add_section()
    for name, values in report["stages_ms"].items():
        row(name, values)
    table.add_section()
    for name, values in report["floor_parts_ms"].items():
        row(f"floor: {name}", values)
    console.print(table)
    drops = ", ".join(f"{count} {reason}" for reason, count in report["dropped"].items()) or "none"
    lost = report["lost_by_subscriber"]
    memory, first = report["memory_mib"], report["first_result_s"]
    console.print(
        f"{report['frames']} frames analysed; dropped: {drops}; lost on the way: {lost}\n"
        f"memory {memory['start']:.0f} MiB at the start, {memory['end']:.0f} at the end"
        + (f"; first result {first:.2f} s after the command" if first else "")
    )


def progress_bar(console: Console) -> Progress:
    """Make the progress display of a run."""
    return Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port

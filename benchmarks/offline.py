"""`sonostream bench offline`: a recorded study as fast as possible, against what the engine alone can do.

The daemon is the real one, a process of its own; it plays the study over and over and analyses every frame.
Engine and daemon take turns: while one is timed the other is stopped, so both meet the same machine. What the
engine does alone is its session called back to back on the same frames, already resized.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, cast

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import plot
from benchmarks.coded_feed import render
from benchmarks.daemon import BenchError, RunningDaemon, running_daemon
from benchmarks.figures import machine, percentiles, versions
from benchmarks.studies import write_recording, write_video
from models.artifact import load_artifact
from models.fit import Fitter
from models.runtimes import Precision, Session, load
from streamer.client import Subscriber
from streamer.frame import Pixels
from streamer.sources import Source, SourceOptions, open_source
from streamer.wire import Received

if TYPE_CHECKING:
    from matplotlib.figure import Figure

StudyKind = Literal["h264", "mcap"]

SCHEMA = "sonostream.bench.offline/1"
TARGET = 0.95
"""Of the engine's own throughput."""

_SETTLE_S = 0.3
# Stamps of a video are whole ticks of its container.
_TICK_S = 2e-3


@dataclass(frozen=True)
class OfflineSettings:
    """What is run."""

    study: StudyKind = "h264"
    frames: int = 240
    fps: int = 30
    width: int = 800
    height: int = 600
    rounds: int = 5
    round_s: float = 3.0
    artifact: str = "default"
    runtime: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    seed: int = 0


class _Arrival(NamedTuple):
    """What is kept of a result."""

    published_s: float
    seq: int
    frame_id: int
    media_time: float
    analysed: bool
    stages: dict[str, float]


@dataclass
class _Round:
    frames_per_s: float
    daemon_cpu_ms: float
    """Of all the daemon's threads, for one frame."""
    engine_per_s: float
    engine_cpu_ms: float
    decode_cpu_ms: float


@dataclass
class _Inbox:
    """Every result since the first, by a thread of its own."""

    daemon: RunningDaemon
    arrivals: list[_Arrival] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    model: dict[str, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _receive(self) -> None:
        with Subscriber(self.daemon.address) as subscriber:
            while not self._stop.is_set():
                message = subscriber.receive(0.1)
                if not isinstance(message, Received):
                    continue
                analysis = message.analysis
                if self.arrivals:
                    for reason, count in analysis.dropped.items():
                        self.dropped[reason] = self.dropped.get(reason, 0) + count
                self.model = {"name": analysis.model.name, "version": analysis.model.version}
                self.model |= {"runtime": analysis.model.runtime, "precision": analysis.model.precision}
                self.arrivals.append(
                    _Arrival(
                        analysis.published_monotonic * 1e-9,
                        analysis.seq,
                        analysis.frame_id,
                        -1.0 if analysis.media_time is None else analysis.media_time,
                        analysis.classes is not None,
                        dict(analysis.latency.stages),
                    )
                )

    def between(self, begin: float, end: float) -> list[_Arrival]:
        """Those published within an interval of CLOCK_MONOTONIC, in seconds."""
        return [each for each in list(self.arrivals) if begin <= each.published_s <= end]


def run_offline(settings: OfflineSettings, progress: Progress) -> dict[str, Any]:
    """Run the benchmark.

    :return: the result in the form that `--json` writes.
    :raises BenchError: if the daemon fails, or a frame was lost, repeated or taken for another.
    """
    task = progress.add_task("preparing the study", total=settings.rounds)
    pictures = render(
        frames=settings.frames,
        width=settings.width,
        height=settings.height,
        fps=settings.fps,
        seed=settings.seed,
    )
    with TemporaryDirectory() as folder:
        study = Path(folder) / "study.mp4"
        write_video(pictures, study, fps=settings.fps)
        if settings.study == "mcap":
            video, study = study, Path(folder) / "study.mcap"
            write_recording(video, study, artifact=settings.artifact)
        flags: dict[str, object] = {
            "source.pace": "fast",
            "source.loop": "true",
            "model.artifact": settings.artifact,
            "model.runtime": settings.runtime,
            "model.precision": settings.precision,
        }
        if settings.threads is not None:
            flags["model.threads"] = settings.threads
        with running_daemon([str(study)], flags) as daemon, _Inbox(daemon) as inbox:
            _wait_for(lambda: len(inbox.arrivals) > settings.fps, "results of the study")
            options = SourceOptions(pace="fast", loop=True)
            with _bare(settings, inbox.model) as session, open_source(str(study), options) as source:
                frames = _fitted(pictures, session)
                _engine_round(session, frames, 0.5)
                rounds = []
                for number in range(settings.rounds):
                    progress.update(task, description=f"round {number + 1} of {settings.rounds}")
                    rounds.append(_round(settings, daemon, inbox, session, frames, source))
                    progress.advance(task)
            memory = daemon.resident_mib()
            account = daemon.status()["sources"][0]
    return _report(settings, rounds, inbox, account, memory)


def _bare(settings: OfflineSettings, model: dict[str, str]) -> Session:
    return load(
        load_artifact(settings.artifact),
        runtime=model["runtime"],
        precision=cast(Precision, model["precision"] if model["precision"] != "int8" else "auto"),
        threads=settings.threads,
    )


def _fitted(pictures: list[Pixels], session: Session) -> list[Pixels]:
    size = session.card.input
    fitter = Fitter(size.width, size.height)
    frames = []
    for picture in pictures:
        frame = np.zeros((size.height, size.width, size.channels), np.uint8)
        fitter.fit(picture, frame)
        frames.append(frame)
    return frames


def _round(
    settings: OfflineSettings,
    daemon: RunningDaemon,
    inbox: _Inbox,
    session: Session,
    frames: list[Pixels],
    source: Source,
) -> _Round:
    """Time the daemon, then, while it is stopped, the engine, and the decoding for what it takes."""
    time.sleep(_SETTLE_S)
    begin, cpu = time.monotonic(), daemon.cpu_s()
    time.sleep(settings.round_s)
    end, used = time.monotonic(), daemon.cpu_s() - cpu
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        time.sleep(_SETTLE_S)
        engine_per_s, engine_cpu_ms = _engine_round(session, frames, settings.round_s)
        decode_cpu_ms = _decode_round(source, settings.frames)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    done = inbox.between(begin, end)
    if len(done) < 3:
        raise BenchError(f"only {len(done)} frames were analysed in {settings.round_s:g} s")
    rate = (len(done) - 1) / (done[-1].published_s - done[0].published_s)
    return _Round(rate, used / len(done) * 1e3, engine_per_s, engine_cpu_ms, decode_cpu_ms)


def _engine_round(session: Session, frames: list[Pixels], seconds: float) -> tuple[float, float]:
    """Call the engine back to back; frames per second, and processor time of one in ms."""
    slot, count = session.input(1)[0], 0
    begin, cpu = time.perf_counter(), time.process_time()
    while (now := time.perf_counter()) < begin + seconds:
        np.copyto(slot, frames[count % len(frames)])
        session.infer(1)
        count += 1
    return count / (now - begin), (time.process_time() - cpu) / count * 1e3


def _decode_round(source: Source, frames: int) -> float:
    """Read so many frames of the study; processor time of one in ms."""
    cpu = time.process_time()
    for _ in range(frames):
        source.read()
    return (time.process_time() - cpu) / frames * 1e3


def check_identity(arrivals: list[tuple[int, int, float]], *, fps: float) -> dict[str, int]:
    """Hold results to the study: every frame once, in order, each with its own time.

    :param arrivals: seq, frame number and media time in s of every result, in the order of arrival.
    :return: how many were checked, the first and the last frame's number, and results lost on their way.
    :raises BenchError: if a frame was left out, repeated or taken for another.
    """
    lost = 0
    for (seq, frame, media), (next_seq, next_frame, next_media) in pairwise(arrivals):
        missing = next_seq - seq - 1
        lost += missing
        if next_seq <= seq or next_frame - frame != next_seq - seq:
            raise BenchError(
                f"after frame {frame} (result {seq}) came frame {next_frame} (result {next_seq})"
            )
        if abs(next_media - media - (next_frame - frame) / fps) > _TICK_S:
            raise BenchError(
                f"frame {next_frame} is of {next_media:.4f} s, frame {frame} was of {media:.4f} s"
            )
    return {
        "frames": len(arrivals),
        "first": arrivals[0][1],
        "last": arrivals[-1][1],
        "lost_on_the_way": lost,
    }


def _report(
    settings: OfflineSettings,
    rounds: list[_Round],
    inbox: _Inbox,
    account: dict[str, Any],
    memory_mib: float,
) -> dict[str, Any]:
    identity = check_identity(
        [(each.seq, each.frame_id, each.media_time) for each in inbox.arrivals], fps=settings.fps
    )
    drops = {reason: count for reason, count in account["dropped"].items() if count}
    if drops or not all(each.analysed for each in inbox.arrivals):
        raise BenchError(f"of a recorded study no frame may be left out, but the daemon dropped {drops}")
    cores = machine()["cores"]
    ratios = [each.frames_per_s / each.engine_per_s for each in rounds]
    # With every core busy all the time, the processor time of a frame is what bounds the rate.
    ceilings = [min(1.0, cores / (each.daemon_cpu_ms * 1e-3) / each.engine_per_s) for each in rounds]
    stages = list(inbox.arrivals[0].stages)
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "versions": versions(),
        "settings": asdict(settings),
        "model": inbox.model,
        "identity": identity
        | {name: account[name] for name in ("captured", "analyzed", "in_flight")}
        | {"dropped": drops},
        "frames_per_s": spread([each.frames_per_s for each in rounds]),
        "engine_frames_per_s": spread([each.engine_per_s for each in rounds]),
        "ratio": spread(ratios),
        "ceiling_ratio": spread(ceilings),
        "target_ratio": TARGET,
        "daemon_cpu_ms_per_frame": spread([each.daemon_cpu_ms for each in rounds]),
        "engine_cpu_ms_per_frame": spread([each.engine_cpu_ms for each in rounds]),
        # Where the engine alone fills every core, no ratio above this can be had.
        "engine_share_of_cpu": spread([each.engine_cpu_ms / each.daemon_cpu_ms for each in rounds]),
        "decode_cpu_ms_per_frame": spread([each.decode_cpu_ms for each in rounds]),
        "stages_ms": {
            name: percentiles([each.stages[name] * 1e3 for each in inbox.arrivals]) for name in stages
        },
        "rounds": [asdict(each) for each in rounds],
        "memory_mib": round(memory_mib, 1),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest of some rounds."""
    return {
        "median": round(median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def _wait_for(claim: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > deadline:
            raise BenchError(f"no {what} within {within_s:g} s")
        time.sleep(0.05)


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report as one table."""
    settings, model = report["settings"], report["model"]
    size = f"{settings['width']} x {settings['height']}"
    study = f"{settings['study']} study of {settings['frames']} frames, {size}"
    engine = f"{model['name']} {model['version']} on {model['runtime']} {model['precision']}"
    table = Table(title=f"{study}; {engine}; {report['machine']['cpu']}")
    for column in ("", "median", "least", "most"):
        table.add_column(column, justify="right" if column else "left")
    rows = {
        "frames per second": ("frames_per_s", ".1f"),
        "the engine alone": ("engine_frames_per_s", ".1f"),
        "ratio": ("ratio", ".3f"),
        "ratio with every core always busy": ("ceiling_ratio", ".3f"),
        "processor ms per frame": ("daemon_cpu_ms_per_frame", ".2f"),
        "processor ms per frame, the engine alone": ("engine_cpu_ms_per_frame", ".2f"),
        "the engine's part of the processor time": ("engine_share_of_cpu", ".3f"),
        "processor ms per frame, decoding alone": ("decode_cpu_ms_per_frame", ".2f"),
    }
    for title, (key, form) in rows.items():
        values = report[key]
        cells = (format(values[name], form) for name in ("median", "min", "max"))
        table.add_row(title, *cells, style="bold" if key == "ratio" else "")
    console.print(table)
    identity = report["identity"]
    console.print(
        f"{identity['frames']} frames, every one analysed once and in order; {settings['rounds']} rounds of "
        f"{settings['round_s']:g} s; memory {report['memory_mib']:.0f} MiB; target ratio {TARGET:g}"
    )


def draw(report: dict[str, Any]) -> "Figure":
    """Draw every round.

    :raises BenchError: if matplotlib is not installed.
    """
    figure = plot.figure(8, 4)
    axes = figure.subplots()
    numbers = np.arange(1, len(report["rounds"]) + 1)
    for offset, key, label in ((-0.2, "engine_per_s", "the engine alone"), (0.2, "frames_per_s", "daemon")):
        axes.bar(numbers + offset, [each[key] for each in report["rounds"]], 0.4, label=label)
    axes.set(xlabel="round", ylabel="frames per second", xticks=numbers)
    axes.set_title(
        f"{report['settings']['study']} study: {report['ratio']['median']:.3f} of the engine alone"
    )
    axes.legend()
    return figure

"""`sonostream bench soak`: whether anything grows while live feeds run on and are torn off again and again.

Two H.264 senders over TCP, 30 frames a second each; once a minute one of them, in turn, is killed and
started anew, so that the daemon loses a source and opens it again. Every ten seconds: latency from when each
frame was due to its result here, memory, threads, descriptors and processor time. Then the slope of each,
with its interval: a service that runs for weeks must show none.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import plot
from benchmarks.coded_feed import encode, render, write_clip
from benchmarks.daemon import BenchError, RunningDaemon, free_port, running_daemon
from benchmarks.figures import machine, percentiles, versions
from benchmarks.trend import FEWEST_POINTS, trend
from streamer.analysis import Analysis
from streamer.client import Subscriber
from streamer.wire import Received

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = "sonostream.bench.soak/1"
UNITS = {
    "latency_p50_ms": "ms",
    "latency_p99_ms": "ms",
    "memory_mib": "MiB",
    "threads": "",
    "descriptors": "",
    "cpu_cores": "",
}
"""What is looked at for a slope."""
JUDGED = ("latency_p99_ms", "memory_mib", "threads", "descriptors")
"""What must have none."""

_PRERENDERED = 240


@dataclass(frozen=True)
class SoakSettings:
    """What is run."""

    minutes: float = 30.0
    sources: int = 2
    fps: float = 30.0
    width: int = 800
    height: int = 600
    window_s: float = 10.0
    reconnect_s: float = 60.0
    """Time between two senders' deaths."""
    warm_up_s: float = 600.0
    """Left out at the start: caches fill, every sender dies a few times, and the allocator finds its size.

    Of 6.1 MiB that a run of half an hour grew, 6 came in its first ten minutes.
    """
    artifact: str = "default"
    runtime: str = "auto"
    precision: str = "auto"


class _Sender:
    """A source's sender, which can be killed and started anew on the same port."""

    def __init__(self, clip: Path) -> None:
        self._clip, self.port = clip, free_port()
        self.starts_ns: list[int] = []
        """When frame 0 of each life was due, on CLOCK_MONOTONIC."""
        self.deaths = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def uri(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def begin(self) -> None:
        """Start it; returns when it listens."""
        command = [
            sys.executable,
            "-m",
            "benchmarks.coded_feed",
            f"--port={self.port}",
            f"--clip={self._clip}",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        output = self._process.stdout
        assert output is not None
        if output.readline().strip() != "ready":
            raise BenchError("the sender of an H.264 feed did not start")

        def note() -> None:
            line = output.readline()
            if line:
                self.starts_ns.append(int(line))

        threading.Thread(target=note, daemon=True).start()

    def kill(self) -> None:
        """End it as a pulled cable would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def due_ns(self, analysis: Analysis) -> int | None:
        """When the frame of a result was due; None before the life of its sender is known."""
        before = [start for start in list(self.starts_ns) if start <= analysis.captured_monotonic]
        if not before or analysis.media_time is None:
            return None
        return before[-1] + round(analysis.media_time * 1e9)


@dataclass
class _Window:
    """What ten seconds brought."""

    at_s: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    frames: int
    memory_mib: float
    threads: int
    descriptors: int
    cpu_cores: float
    reconnects: int


@dataclass
class _Inbox:
    """Latencies since they were last asked for."""

    senders: dict[str, _Sender]
    latency_ms: list[float] = field(default_factory=list)
    everything_ms: list[float] = field(default_factory=list)
    wrong: str = ""
    """What contradicted a frame's identity."""
    _newest: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def follow(self, address: str) -> None:
        """Receive until `stop`."""
        with Subscriber(address) as subscriber:
            while not self._stop.is_set():
                message = subscriber.receive(0.1)
                if isinstance(message, Received):
                    self._take(message)

    def stop(self) -> None:
        """Make `follow` return."""
        self._stop.set()

    def _take(self, message: Received) -> None:
        analysis = message.analysis
        newest = self._newest.get(analysis.source, -1)
        if analysis.frame_id <= newest:
            self.wrong = f"{analysis.source}: frame {analysis.frame_id} came after {newest}"
        self._newest[analysis.source] = analysis.frame_id
        due = self.senders[analysis.source].due_ns(analysis)
        if analysis.classes is None or due is None:
            return
        milliseconds = (message.received_monotonic - due) * 1e-6
        with self._lock:
            self.latency_ms.append(milliseconds)
            self.everything_ms.append(milliseconds)

    def take(self) -> list[float]:
        """Return the latencies since the last call, in ms."""
        with self._lock:
            taken, self.latency_ms = self.latency_ms, []
            return taken


def run_soak(settings: SoakSettings, progress: Progress) -> dict[str, Any]:
    """Run the benchmark; Ctrl-C ends it early, with what it has.

    :return: the result in the form that `--json` writes.
    :raises BenchError: if the daemon ends, an account does not add up, or a result is of another frame.
    """
    total = settings.minutes * 60
    task = progress.add_task("preparing", total=total)
    pictures = render(
        frames=_PRERENDERED, width=settings.width, height=settings.height, fps=settings.fps, seed=0
    )
    windows: list[_Window] = []
    interrupted = False
    with TemporaryDirectory() as folder, ExitStack() as stack:
        clip = Path(folder) / "clip.bin"
        write_clip(encode(pictures, fps=settings.fps), clip)
        senders = [_Sender(clip) for _ in range(settings.sources)]
        for sender in senders:
            stack.callback(sender.kill)
            sender.begin()
        flags = {
            "model.artifact": settings.artifact,
            "model.runtime": settings.runtime,
            "model.precision": settings.precision,
            "log.level": "error",  # every death of a sender is a warning
        }
        daemon = stack.enter_context(running_daemon([sender.uri for sender in senders], flags))
        status = daemon.status()
        names = [source["name"] for source in status["sources"]]
        inbox = _Inbox(dict(zip(names, senders, strict=True)))
        receiver = threading.Thread(target=inbox.follow, args=(daemon.address,), daemon=True)
        receiver.start()
        stack.callback(receiver.join)
        stack.callback(inbox.stop)
        progress.update(task, description=f"{settings.sources} sources at {settings.fps:g} fps")
        try:
            for window in _windows(settings, daemon, senders, inbox):
                windows.append(window)
                progress.update(task, completed=window.at_s)
        except KeyboardInterrupt:
            interrupted = True
        accounts = daemon.status()["sources"]
    for account in accounts:
        gone = account["analyzed"] + sum(account["dropped"].values()) + account["in_flight"]
        if account["captured"] != gone:
            raise BenchError(
                f"{account['name']}: {account['captured']} frames captured, {gone} accounted for"
            )
    if inbox.wrong:
        raise BenchError(inbox.wrong)
    if not windows:
        raise BenchError(f"ended before the first {settings.window_s:g} s were over")
    return _report(settings, windows, inbox, senders, accounts, status["model"], interrupted=interrupted)


def _windows(
    settings: SoakSettings, daemon: RunningDaemon, senders: list[_Sender], inbox: _Inbox
) -> Iterator[_Window]:
    """Kill senders in turn, and look at the daemon at the end of every window."""
    begin = time.monotonic()
    # In the middle of a window, so that no two things are due at once.
    reconnect_at, window_at = begin + settings.reconnect_s - settings.window_s / 2, begin + settings.window_s
    turn = 0
    end = begin + settings.minutes * 60
    looked, cpu, reconnects = begin, daemon.cpu_s(), 0
    inbox.take()
    while window_at <= end + 1e-6:
        now = time.monotonic()
        if now >= reconnect_at:
            sender = senders[turn % len(senders)]
            sender.kill()
            sender.begin()
            sender.deaths += 1
            turn += 1
            reconnect_at += settings.reconnect_s
            continue
        if now < window_at:
            time.sleep(max(0.0, min(window_at, reconnect_at) - now))
            continue
        used, reconnected = daemon.cpu_s(), sum(source["reconnects"] for source in daemon.status()["sources"])
        latency = inbox.take()
        summary = percentiles(latency) if latency else None
        yield _Window(
            at_s=round(now - begin, 3),
            latency_p50_ms=None if summary is None else summary["p50"],
            latency_p99_ms=None if summary is None else summary["p99"],
            frames=len(latency),
            memory_mib=round(daemon.resident_mib(), 3),
            threads=_entries(daemon.pid, "task"),
            descriptors=_entries(daemon.pid, "fd"),
            cpu_cores=round((used - cpu) / (now - looked), 4),
            reconnects=reconnected - reconnects,
        )
        looked, cpu, reconnects = now, used, reconnected
        window_at += settings.window_s


def _entries(pid: int, folder: str) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/{folder}").iterdir())


def _report(
    settings: SoakSettings,
    windows: list[_Window],
    inbox: _Inbox,
    senders: list[_Sender],
    accounts: list[dict[str, Any]],
    model: dict[str, str],
    *,
    interrupted: bool,
) -> dict[str, Any]:
    steady = [window for window in windows if window.at_s > settings.warm_up_s]
    trends: dict[str, Any] = {}
    block = max(1, round(settings.sources * settings.reconnect_s / settings.window_s))
    for name in UNITS:
        points = [
            (window.at_s, getattr(window, name)) for window in steady if getattr(window, name) is not None
        ]
        if len(points) < FEWEST_POINTS:
            continue
        found = trend([at for at, _ in points], [value for _, value in points], block=block)
        trends[name] = {
            **{key: round(value, 5) for key, value in found._asdict().items()},
            "flat": found.flat,
        }
    judged = [name for name in JUDGED if name in trends]
    growing = [name for name in judged if trends[name]["low"] > 0]
    verdict = "too short to say" if len(judged) < len(JUDGED) else "growing" if growing else "steady"
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "versions": versions(),
        "settings": asdict(settings),
        "model": model,
        "interrupted": interrupted,
        "minutes": round(windows[-1].at_s / 60, 2),
        "senders_killed": sum(sender.deaths for sender in senders),
        "reconnects": sum(account["reconnects"] for account in accounts),
        "accounts": [
            {name: account[name] for name in ("name", "captured", "analyzed", "dropped", "in_flight")}
            for account in accounts
        ],
        "latency_ms": percentiles(inbox.everything_ms),
        "trends_per_hour": trends,
        "verdict": verdict,
        "growing": growing,
        "windows": [asdict(window) for window in windows],
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report as one table."""
    settings, model = report["settings"], report["model"]
    size = f"{settings['width']} x {settings['height']}"
    table = Table(
        title=f"{settings['sources']} sources, H.264 {size} at {settings['fps']:g} fps, "
        f"{report['minutes']:.1f} min; {model['name']} {model['version']} on {model['runtime']} "
        f"{model['precision']}; {report['machine']['cpu']}"
    )
    for column in ("", "median", "per hour", "95 % interval", ""):
        table.add_column(column, justify="right" if column else "left")
    for name, unit in UNITS.items():
        title = _title(name, unit)
        found = report["trends_per_hour"].get(name)
        if found is None:
            table.add_row(title, "", "", "", "too short")
            continue
        judged = "no slope" if found["flat"] else "grows" if found["low"] > 0 else "falls"
        table.add_row(
            title,
            f"{found['level']:.3g}",
            f"{found['slope']:+.3g}",
            f"{found['low']:+.3g} to {found['high']:+.3g}",
            judged,
        )
    console.print(table)
    latency = report["latency_ms"]
    frames = sum(account["captured"] for account in report["accounts"])
    drops: dict[str, int] = {}
    for account in report["accounts"]:
        for reason, count in account["dropped"].items():
            drops[reason] = drops.get(reason, 0) + count
    dropped = ", ".join(f"{count} {reason}" for reason, count in drops.items() if count) or "none"
    console.print(
        f"{'interrupted; ' if report['interrupted'] else ''}{frames} frames captured, all accounted for, "
        f"dropped: {dropped}; {report['senders_killed']} senders killed, {report['reconnects']} reconnects; "
        f"latency p50 {latency['p50']:.1f}, p99 {latency['p99']:.1f}, max {latency['max']:.1f} ms; "
        f"verdict: {report['verdict']}"
    )


def _title(name: str, unit: str) -> str:
    words = name.removesuffix(f"_{unit.lower()}").replace("_", " ")
    return f"{words}, {unit}" if unit else words


def draw(report: dict[str, Any]) -> "Figure":
    """Draw every figure over time, with its slope, and where sources came back.

    :raises BenchError: if matplotlib is not installed.
    """
    figure = plot.figure(10, 10)
    windows = report["windows"]
    minutes = np.array([window["at_s"] / 60 for window in windows])
    steady = minutes > report["settings"]["warm_up_s"] / 60
    all_axes = figure.subplots(len(UNITS), 1, sharex=True)
    for axes, (name, unit) in zip(all_axes, UNITS.items(), strict=True):
        values = np.array([np.nan if window[name] is None else window[name] for window in windows], float)
        axes.plot(minutes, values, linewidth=1)
        found = report["trends_per_hour"].get(name)
        if found is not None:
            line = found["slope"] / 60 * minutes[steady]
            axes.plot(minutes[steady], line + np.nanmedian(values[steady] - line), color="tab:red")
        for window in windows:
            if window["reconnects"]:
                axes.axvline(window["at_s"] / 60, color="0.85", linewidth=0.8, zorder=0)
        axes.set_ylabel(_title(name, unit))
    all_axes[-1].set_xlabel("minutes; gray: a source came back")
    return figure

"""`sonostream bench startup`: from the command to ready and to the first result, and the memory held by then.

Ready is what a service manager is told (READY=1 of sd_notify): the model is warm and the sources are open.
A cold start finds none of the program's own caches, so engines are measured and the model is compiled; a warm
one finds them. The system's page cache is left alone: files read lately come from memory in both.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import zmq
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import plot
from benchmarks.coded_feed import render
from benchmarks.daemon import BenchError, cpu_s, free_port
from benchmarks.figures import machine, versions
from benchmarks.studies import write_video
from streamer.wire import Received, decode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = "sonostream.bench.startup/1"
TARGET_READY_S = 1.5
"""Of a warm start."""
TARGET_MIB = 238.0
"""250 MB."""

_WITHIN_S = 60.0
_IMPORTS = "import streamer.cli.run, streamer.daemon, models.runtimes.openvino"


@dataclass(frozen=True)
class StartupSettings:
    """What is run."""

    repeats: int = 7
    """Warm starts."""
    cold_repeats: int = 3
    width: int = 800
    height: int = 600
    artifact: str = "default"
    runtime: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True)
class Start:
    """One start."""

    ready_s: float
    first_result_s: float
    """To the first result received in this process."""
    ready_mib: float
    """Resident when it is ready."""
    peak_mib: float
    """Most it ever held until the first result."""
    cpu_s: float
    """Processor time of all its threads until then."""
    torch: bool
    """Whether PyTorch is in its memory."""


def run_startup(settings: StartupSettings, progress: Progress) -> dict[str, Any]:
    """Run the benchmark.

    :return: the result in the form that `--json` writes.
    :raises BenchError: if a daemon does not start.
    """
    task = progress.add_task("preparing", total=settings.repeats + settings.cold_repeats)
    with TemporaryDirectory() as folder:
        place = Path(folder)
        video = place / "study.mp4"
        pictures = render(frames=60, width=settings.width, height=settings.height, fps=30, seed=0)
        write_video(pictures, video, fps=30)
        cold = []
        for number in range(settings.cold_repeats):
            progress.update(task, description=f"cold start {number + 1} of {settings.cold_repeats}")
            cold.append(_start(settings, video, place / f"cold-{number}"))
            progress.advance(task)
        _start(settings, video, place / "warm")
        warm, imports = [], []
        for number in range(settings.repeats):
            progress.update(task, description=f"warm start {number + 1} of {settings.repeats}")
            warm.append(_start(settings, video, place / "warm"))
            imports.append(_import_s())
            progress.advance(task)
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "versions": versions(),
        "settings": asdict(settings),
        "page_cache": "not dropped: files read lately come from memory, in cold starts too",
        "target": {"warm_ready_s": TARGET_READY_S, "ready_mib": TARGET_MIB},
        "cold": _summary(cold),
        "warm": _summary(warm),
        "python_and_imports_s": _spread(imports),
    }


def _start(settings: StartupSettings, video: Path, cache: Path) -> Start:
    """Start a daemon with this folder for its caches, wait for its first result, and stop it."""
    cache.mkdir(exist_ok=True)
    address = f"tcp://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "streamer", "run", str(video), "--source.loop=true", "--http.port=0"]
    command += [f"--publish.bind={address}", "--log.level=warning", f"--model.artifact={settings.artifact}"]
    command += [f"--model.runtime={settings.runtime}", f"--model.precision={settings.precision}"]
    with (
        zmq.Context() as context,
        context.socket(zmq.SUB) as results,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices,
    ):
        # There before the daemon, and asks for it often: what the subscriber waits is not the daemon's.
        results.setsockopt(zmq.RECONNECT_IVL, 2)
        results.setsockopt(zmq.LINGER, 0)
        results.subscribe("sonostream/analysis/")
        results.connect(address)
        notify = cache / "notify"
        notify.unlink(missing_ok=True)
        notices.bind(str(notify))
        notices.settimeout(_WITHIN_S)
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "NOTIFY_SOCKET": str(notify)}
        environment.pop("WATCHDOG_USEC", None)
        begin = time.monotonic()
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                while b"READY=1" not in _notice(notices, process):
                    pass
                ready_s = time.monotonic() - begin
                ready_mib = _status_mib(process.pid, "VmRSS")
                if not results.poll(int(_WITHIN_S * 1e3)):
                    raise BenchError(f"no result within {_WITHIN_S:g} s of being ready")
                first_result_s = time.monotonic() - begin
                message = decode(results.recv_multipart(), received_monotonic=time.monotonic_ns())
                assert isinstance(message, Received)
                return Start(
                    round(ready_s, 4),
                    round(first_result_s, 4),
                    round(ready_mib, 1),
                    round(_status_mib(process.pid, "VmHWM"), 1),
                    cpu_s(process.pid),
                    "libtorch" in Path(f"/proc/{process.pid}/maps").read_text(),
                )
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.communicate(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()


def _notice(notices: socket.socket, process: subprocess.Popen[str]) -> bytes:
    """Wait for what the daemon tells its service manager; look now and then whether it lives."""
    notices.settimeout(0.25)
    deadline = time.monotonic() + _WITHIN_S
    while time.monotonic() < deadline:
        try:
            return notices.recv(4096)
        except TimeoutError:
            if process.poll() is not None:
                said = process.stderr.read() if process.stderr is not None else ""
                raise BenchError(f"the daemon ended by itself: {said.strip()}") from None
    raise BenchError(f"the daemon was not ready within {_WITHIN_S:g} s")


def _status_mib(pid: int, field: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def _import_s() -> float:
    """Time a Python that only imports what a daemon imports."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", _IMPORTS], check=True)
    return time.monotonic() - begin


def _summary(starts: list[Start]) -> dict[str, Any]:
    if not starts:
        return {"starts": []}
    names = ("ready_s", "first_result_s", "ready_mib", "peak_mib", "cpu_s")
    return {
        **{name: _spread([getattr(each, name) for each in starts]) for name in names},
        "torch": any(each.torch for each in starts),
        "starts": [asdict(each) for each in starts],
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report as one table."""
    settings = report["settings"]
    table = Table(
        title=f"{settings['artifact']}, {settings['width']} x {settings['height']} video; "
        f"{report['machine']['cpu']}"
    )
    for column in ("", "median", "least", "most"):
        table.add_column(column, justify="right" if column else "left")

    def row(title: str, values: dict[str, float], form: str, style: str = "") -> None:
        table.add_row(title, *(format(values[name], form) for name in ("median", "min", "max")), style=style)

    for kind in ("cold", "warm"):
        if not report[kind]["starts"]:
            continue
        table.add_section()
        row(f"{kind}: ready, s", report[kind]["ready_s"], ".3f", "bold")
        row(f"{kind}: first result, s", report[kind]["first_result_s"], ".3f", "bold")
        row(f"{kind}: memory when ready, MiB", report[kind]["ready_mib"], ".0f")
        row(f"{kind}: processor time, s", report[kind]["cpu_s"], ".2f")
    table.add_section()
    row("Python and its imports alone, s", report["python_and_imports_s"], ".3f")
    console.print(table)
    torch = "PyTorch was loaded" if report["warm"]["torch"] else "PyTorch is not loaded"
    console.print(
        f"{len(report['cold']['starts'])} cold, {len(report['warm']['starts'])} warm starts; {torch}; "
        f"target: warm ready in {TARGET_READY_S:g} s, under {TARGET_MIB:g} MiB; "
        f"page cache {report['page_cache']}"
    )


def draw(report: dict[str, Any]) -> "Figure":
    """Draw every start.

    :raises BenchError: if matplotlib is not installed.
    """
    figure = plot.figure(8, 4)
    times, memory = figure.subplots(1, 2)
    for kind, colour in (("cold", "tab:blue"), ("warm", "tab:orange")):
        starts = report[kind]["starts"]
        numbers = range(1, len(starts) + 1)
        times.plot(numbers, [each["ready_s"] for each in starts], "o-", color=colour, label=f"{kind}, ready")
        first = [each["first_result_s"] for each in starts]
        times.plot(numbers, first, "x--", color=colour, label=f"{kind}, first result")
        memory.plot(numbers, [each["ready_mib"] for each in starts], "o-", color=colour, label=kind)
    times.axhline(TARGET_READY_S, color="0.6", linewidth=0.8)
    memory.axhline(TARGET_MIB, color="0.6", linewidth=0.8)
    times.set(xlabel="start", ylabel="s", ylim=(0, None))
    memory.set(xlabel="start", ylabel="MiB when ready", ylim=(0, None))
    times.legend()
    memory.legend()
    return figure

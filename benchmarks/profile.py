"""`sonostream bench profile`: how much Python is run for a frame of a live feed, and where.

py-spy looks into the running daemon from outside and notes, many times a second, which thread holds the
interpreter's lock and what it is at. Engine, decoder and OpenCV work without the lock, so what is left is
Python: the program's own, NumPy's small steps, and the wrappers around everything else. A thread that is put
off its core while it holds the lock counts as well: where cores are short the figure is an upper bound.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import plot
from benchmarks.daemon import BenchError, Usage, running_daemon
from benchmarks.feeds import Feeds, FeedSettings
from benchmarks.figures import machine, versions
from benchmarks.watch import Window, watching

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = "sonostream.bench.profile/1"

_SHOWN = 20
"""Functions in the table; the report has all of them."""
_READY_S = 2.0
"""Time for py-spy to find its way about in the daemon, before it looks."""
_END_WITHIN_S = 60.0
_NO_CALL = "(no call yet)"


@dataclass(frozen=True)
class ProfileSettings:
    """What is run."""

    feed: FeedSettings
    seconds: int = 20
    warm_up_s: float = 5.0
    looks_per_s: int = 1000
    artifact: str = "default"
    runtime: str = "auto"
    precision: str = "auto"


class Stack(NamedTuple):
    """What a thread was at, and how often it was seen there."""

    thread: str
    calls: tuple[str, ...]
    """Outermost first, `function (file:line)`; none while a thread begins or ends."""
    looks: int


def run_profile(settings: ProfileSettings, progress: Progress) -> dict[str, Any]:
    """Run the benchmark.

    :return: the result in the form that `--json` writes, durations in ms.
    :raises BenchError: if py-spy is not installed or may not look, or the daemon does not start or dies.
    """
    spy = _find_spy()
    total = settings.warm_up_s + _READY_S + settings.seconds
    task = progress.add_task("preparing", total=total)
    flags: dict[str, object] = {
        "model.artifact": settings.artifact,
        "model.runtime": settings.runtime,
        "model.precision": settings.precision,
    }
    with tempfile.TemporaryDirectory(prefix="sonostream-bench-") as folder:
        feeds, file = Feeds(settings.feed, Path(folder)), Path(folder) / "stacks.txt"
        with (
            feeds.open() as feed,
            running_daemon([feed.uri], flags | feed.flags) as daemon,
            watching(daemon.address) as watcher,
        ):
            progress.update(task, description="warming up")
            time.sleep(settings.warm_up_s)
            progress.update(task, completed=settings.warm_up_s, description="looking at every thread")
            begin = time.monotonic() + _READY_S
            window = Window(begin, begin + settings.seconds)
            watcher.begin(window)
            usage = Usage(daemon, *window)
            with _spying(spy, daemon.pid, settings, file) as check:
                while time.monotonic() < window.end:
                    check()
                    usage.look()
                    time.sleep(0.25)
                    progress.update(task, completed=total - max(0.0, window.end - time.monotonic()))
                usage.look()
                live = [result for result in watcher.finish() if result.live]
            model = watcher.introduction.model
        stacks = read_stacks(file.read_text(encoding="utf-8"))
    if not live:
        raise BenchError(f"no frame was analysed in {settings.seconds} s")
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "versions": versions(),
        "settings": asdict(settings),
        "model": msgspec.to_builtins(model),
        "frames": len(live),
        "cpu_ms_per_frame": round(usage.cpu_s() * 1e3 / len(live), 4),
        **summarise(stacks, 1e3 / settings.looks_per_s / len(live)),
    }


def summarise(stacks: Sequence[Stack], ms_per_look: float) -> dict[str, Any]:
    """Sum up what was seen, by thread and by function.

    :param ms_per_look: of a frame's time, what one look stands for.
    """
    threads: Counter[str] = Counter()
    own: Counter[str] = Counter()
    with_calls: Counter[str] = Counter()
    for stack in stacks:
        threads[stack.thread] += stack.looks
        functions = [call.rpartition(":")[0] + ")" for call in stack.calls] or [_NO_CALL]
        own[functions[-1]] += stack.looks
        with_calls.update(dict.fromkeys(functions, stack.looks))

    def ms(looks: int) -> float:
        return round(looks * ms_per_look, 4)

    return {
        "looks": threads.total(),
        "python_ms_per_frame": ms(threads.total()),
        "threads_ms": {name: ms(looks) for name, looks in threads.most_common()},
        "functions": [
            {"name": name, "own_ms": ms(looks), "with_calls_ms": ms(with_calls[name])}
            for name, looks in own.most_common()
        ],
    }


def read_stacks(text: str) -> list[Stack]:
    """Read what py-spy writes as `raw`: a line for every stack, its calls by `;`, then how often it was seen.

    :raises BenchError: if it is something else.
    """
    stacks = []
    for line in text.splitlines():
        said, _, looks = line.rpartition(" ")
        thread, *calls = said.split(";")
        if not (looks.isdecimal() and thread.startswith("thread (")):
            raise BenchError(f"py-spy wrote what this version does not read: {line!r}")
        # `thread (0x7f0c): analyzer`: the number is of no use to a reader.
        stacks.append(Stack(thread.partition("): ")[2] or "unnamed", tuple(calls), int(looks)))
    return stacks


def _find_spy() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.is_file() else shutil.which("py-spy")
    if found is None:
        raise BenchError("bench profile needs py-spy: pip install 'sonostream[dev]'")
    return found


@contextmanager
def _spying(spy: str, pid: int, settings: ProfileSettings, file: Path) -> Iterator[Callable[[], None]]:
    """Look into a process meanwhile; yields what raises if that has failed. The file is there afterwards."""
    command = [spy, "record", "--pid", str(pid), "--gil", "--threads", "--nonblocking", "--format", "raw"]
    command += ["--rate", str(settings.looks_per_s), "--duration", str(settings.seconds)]
    command += ["--output", str(file)]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as running,
    ):

        def check() -> None:
            if running.poll():
                said.seek(0)
                lines = said.read().strip().splitlines() or [f"exit code {running.returncode}"]
                raise BenchError(
                    f"py-spy cannot look into the daemon: {lines[-1]}; Linux lets only root do so, unless "
                    "kernel.yama.ptrace_scope is 0"
                )

        try:
            yield check
            running.wait(_END_WITHIN_S)
            check()
        except subprocess.TimeoutExpired:
            raise BenchError(f"py-spy did not end within {_END_WITHIN_S:g} s") from None
        finally:
            running.kill()


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report: Python by thread, then the functions that take most of it."""
    feed, model = report["settings"]["feed"], report["model"]
    what = feed["source"] if feed["kind"] == "source" else f"{feed['kind']} at {feed['fps']:g} fps"
    engine = f"{model['name']} {model['version']} on {model['runtime']} {model['precision']}"
    table = Table(title=f"{what}; {engine}; {report['machine']['cpu']}", box=box.SIMPLE_HEAD)
    for column in ("Python, ms a frame", "own", "with calls"):
        table.add_column(column, justify="left" if column.startswith("Python") else "right")
    table.add_row("all threads", f"{report['python_ms_per_frame']:.3f}", "", style="bold")
    for name, ms in report["threads_ms"].items():
        table.add_row(f"  {name}", f"{ms:.3f}", "")
    table.add_section()
    for each in report["functions"][:_SHOWN]:
        table.add_row(each["name"], f"{each['own_ms']:.3f}", f"{each['with_calls_ms']:.3f}")
    console.print(table)
    console.print(
        f"{report['frames']} frames, {report['cpu_ms_per_frame']:.1f} ms of processor time each; "
        f"{report['looks']} looks found the lock held",
        highlight=False,
    )


def draw(report: dict[str, Any]) -> "Figure":
    """Draw the functions that take most.

    :raises BenchError: if matplotlib is not installed.
    """
    figure = plot.figure(10, 6)
    axes = figure.subplots()
    shown = report["functions"][:_SHOWN]
    names = [each["name"] for each in shown]
    axes.barh(names, [each["with_calls_ms"] for each in shown], color="0.85", label="with its calls")
    axes.barh(names, [each["own_ms"] for each in shown], label="itself")
    axes.invert_yaxis()
    axes.set_xlabel(f"ms of Python a frame; all of it {report['python_ms_per_frame']:.2f}")
    axes.legend()
    return figure

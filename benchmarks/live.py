"""`sonostream bench live`: what a subscriber in another process sees of a live feed, against the floor.

The feed is open-loop: frame n is due at start + n / fps whatever the program does, and latency counts from
then to the arrival of its result at a subscriber. Daemon, subscriber and floor are processes of their own.
The floor is timed between two frames, while the daemon waits for the next one, so both meet the same machine;
at rates that leave no room for that, between the daemon's runs.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.daemon import BenchError, Usage, running_daemon
from benchmarks.feeds import FeedKind, Feeds, FeedSettings
from benchmarks.figures import machine, versions
from benchmarks.floor import is_bare
from benchmarks.measured import Block, accounts, spread, stages, timings
from benchmarks.references import LOOPS, reference
from benchmarks.watch import (
    PROCESSES,
    FloorProcess,
    FloorRun,
    Introduction,
    Seen,
    Window,
    artifact_of,
    floor_process,
    watching,
)
from models.runtimes import cpu
from streamer.frame import Clock

SCHEMA = "sonostream.bench.live/1"

OURS = "sonostream"

_FLOOR_EVERY = 3
"""The floor is timed after every so many results: often enough to pair, seldom enough not to be the load."""
_ROOM_FOR_FLOOR = 2.2
"""Frame intervals of so many floors hold a frame's analysis and the floor after it."""
_FLOOR_BY_ITSELF_S = 3.0
_LOOK_EVERY_S = 0.25

# What a capture stamp means, in words: only some are the instant at which the frame was due.
_MEANING = {
    Clock.PTS: "due by presentation time",
    Clock.DEVICE: "the instrument's stamp",
    Clock.KERNEL: "the capture driver's stamp",
    Clock.RTCP: "the sender's stamp",
    Clock.RECEIVE: "the last byte's arrival",
}


@dataclass(frozen=True)
class LiveSettings:
    """What is run."""

    feed: FeedKind = "phantom"
    source: str = ""
    fps: float = 30.0
    width: int = 800
    height: int = 600
    seconds: float = 60.0
    warm_up_s: float = 3.0
    repeats: int = 1
    references: tuple[str, ...] = ()
    artifact: str = "default"
    runtime: str = "auto"
    precision: str = "auto"
    seed: int = 0

    def feed_settings(self) -> FeedSettings:
        """Give the part that says which feed."""
        return FeedSettings(self.feed, self.source, self.fps, self.width, self.height, self.seed)


@dataclass
class LiveRun:
    """Everything that was measured; plots need more than a report holds."""

    settings: LiveSettings
    introduction: Introduction | None = None
    first_result_s: list[float] = field(default_factory=list)
    floor_between: bool = True
    blocks: dict[str, list[Block]] = field(default_factory=dict)
    """By program, ours first; one for each repeat."""


def run_live(settings: LiveSettings, progress: Progress) -> tuple[dict[str, Any], LiveRun]:
    """Run the benchmark.

    :return: the result in the form that `--json` writes, durations in ms; and the stamps behind it.
    :raises BenchError: if the daemon does not start, or dies.
    """
    with ExitStack() as stack:
        run = LiveRun(settings)
        conductor = _Conductor(run, progress, stack)
        for repeat in range(settings.repeats):
            order = [OURS, *settings.references]
            # What the machine does changes over minutes: nobody is always the first or the last.
            for name in order[repeat % len(order) :] + order[: repeat % len(order)] if repeat else order:
                block = conductor.watch_daemon() if name == OURS else conductor.watch_reference(name)
                run.blocks.setdefault(name, []).append(block)
    return _report(run), run


class _Engine(NamedTuple):
    runtime: str
    precision: str
    threads: int


class _Conductor:
    """Lets one program after the other read the feed, each with its floor."""

    def __init__(self, run: LiveRun, progress: Progress, stack: ExitStack) -> None:
        self._run, self._settings, self._progress, self._stack = run, run.settings, progress, stack
        seconds = self._settings.seconds * self._settings.repeats * (1 + len(self._settings.references))
        self._task = progress.add_task("preparing", total=seconds)
        self._before = 0.0
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sonostream-bench-")))
        self._feeds = Feeds(self._settings.feed_settings(), folder)
        self._arrived: Semaphore = PROCESSES.Semaphore(0)
        self._floor: FloorProcess | None = None
        self._engine: _Engine | None = None
        self._artifact = self._settings.artifact

    def watch_daemon(self) -> Block:
        """Watch ours."""
        settings = self._settings
        flags = {
            "model.artifact": settings.artifact,
            "model.runtime": settings.runtime,
            "model.precision": settings.precision,
        }
        self._tell("starting the daemon")
        with self._feeds.open() as feed, running_daemon([feed.uri], flags | feed.flags) as daemon:
            self._run.first_result_s.append(daemon.first_result_s)
            with watching(daemon.address, self._arrived) as watcher:
                self._run.introduction = watcher.introduction
                floor = self._prepare_floor(watcher.introduction)
                window = self._window()
                watcher.begin(window)
                if self._run.floor_between:
                    floor.between_results(window, _FLOOR_EVERY)
                usage = Usage(daemon, *window)
                self._wait(f"{OURS}, {settings.feed} at {settings.fps:g} fps", window, usage.look)
                seen = watcher.finish()
            start_ns = feed.start_ns()
            cpu_s = usage.cpu_s()
        floor_run = self._finish_floor(floor)
        live = [result for result in seen if result.live]
        if len(live) < 2:
            raise BenchError(f"only {len(live)} results arrived in {settings.seconds:g} s")
        due_ns = [_due(result, start_ns) for result in live]
        interval_ms = 1e3 / self._settings.fps
        if self._settings.feed == "source":
            # Drops are known by the frames' numbers, so the rate is, too.
            numbers = np.diff([result.frame_id for result in live])
            interval_ms = float(np.median(np.diff(due_ns) / numbers)) * 1e-6
        return Block(
            window=window,
            due_ns=due_ns,
            done_ns=[result.received_ns for result in live],
            interval_ms=interval_ms,
            cpu_s=cpu_s,
            memory_mib=usage.memory_mib,
            floor=floor_run,
            expected=round((due_ns[-1] - due_ns[0]) * 1e-6 / interval_ms) + 1,
            seen=seen,
        )

    def watch_reference(self, name: str) -> Block:
        """Watch what others write by hand; only after ours, which tells the engine."""
        engine, floor = self._engine, self._floor
        assert engine is not None
        assert floor is not None
        self._tell(f"starting {name}")
        with (
            self._feeds.open() as feed,
            reference(name, feed.uri, self._arrived, self._artifact, **engine._asdict()) as watched,
        ):
            window = self._window()
            watched.begin(window)
            if self._run.floor_between:
                floor.between_results(window, _FLOOR_EVERY)
            self._wait(f"{name}, the same feed and engine", window, lambda: None)
            answers = watched.finish()
            start_ns = feed.start_ns()
        floor_run = self._finish_floor(floor)
        if len(answers.done_ns) < 2:
            raise BenchError(f"{name} gave only {len(answers.done_ns)} answers")
        assert start_ns is not None
        due_ns = [start_ns + round(media_s * 1e9) for media_s in answers.media_time_s]
        interval_ms = 1e3 / self._settings.fps
        return Block(
            window=window,
            due_ns=due_ns,
            done_ns=answers.done_ns,
            interval_ms=interval_ms,
            cpu_s=answers.cpu_s,
            memory_mib=[answers.resident_mib],
            floor=floor_run,
            expected=round((due_ns[-1] - due_ns[0]) * 1e-6 / interval_ms) + 1,
        )

    def _prepare_floor(self, first: Introduction) -> FloorProcess:
        """Start the floor with the engine that the daemon took; see whether it fits between frames."""
        if self._floor is None:
            self._artifact = artifact_of(self._settings.artifact, first)
            self._engine = _Engine(first.model.runtime, first.model.precision, cpu.usable_cores())
            self._floor = self._stack.enter_context(
                floor_process(
                    self._artifact,
                    self._feeds.for_floor(first.width, first.height),
                    self._arrived,
                    **self._engine._asdict(),
                )
            )
            quickest = min(sample.total for sample in self._floor.by_itself(15, 0.03).samples)
            self._run.floor_between = 1e3 / self._settings.fps > _ROOM_FOR_FLOOR * quickest
        return self._floor

    def _finish_floor(self, floor: FloorProcess) -> FloorRun:
        if self._run.floor_between:
            return floor.finish()
        interval_s = 1 / self._settings.fps
        return floor.by_itself(
            round(min(_FLOOR_BY_ITSELF_S, self._settings.seconds) / interval_s), interval_s
        )

    def _window(self) -> Window:
        begin = time.monotonic() + self._settings.warm_up_s
        return Window(begin, begin + self._settings.seconds)

    def _wait(self, what: str, window: Window, look: Callable[[], object]) -> None:
        self._tell(what)
        while (now := time.monotonic()) < window.end:
            look()
            self._progress.update(self._task, completed=self._before + max(0.0, now - window.begin))
            time.sleep(min(_LOOK_EVERY_S, max(0.0, window.end - time.monotonic())))
        look()
        self._before += self._settings.seconds

    def _tell(self, what: str) -> None:
        self._progress.update(self._task, description=what)


def _due(result: Seen, start_ns: int | None) -> int:
    if start_ns is None or result.media_time_s is None:
        return result.captured_ns
    return start_ns + round(result.media_time_s * 1e9)


def _report(run: LiveRun) -> dict[str, Any]:
    settings, introduction = run.settings, run.introduction
    assert introduction is not None
    model = introduction.model
    repeats = [_figures({name: [blocks[at]] for name, blocks in run.blocks.items()}) for at in _indices(run)]
    pooled = _figures(run.blocks)
    asked = asdict(settings) | {"width": introduction.width, "height": introduction.height}
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "versions": versions(),
        "settings": asked | {"references": list(settings.references)},
        "model": msgspec.to_builtins(model),
        "latency_from": _MEANING[Clock.PTS if settings.feed != "source" else introduction.clock],
        "floor_engine": "its own API" if is_bare(model.runtime) else "our session",
        "floor_timed": "between frames" if run.floor_between else "between runs",
        "floor_decodes": settings.feed != "source" or Path(settings.source).is_file(),
        **pooled,
        # A phantom renders its whole feed before it starts: that would be timed, not the daemon.
        "first_result_s": round(min(run.first_result_s), 3) if settings.feed == "h264" else None,
        "spread": spread(repeats),
        "repeats": repeats,
    }


def _indices(run: LiveRun) -> Iterator[int]:
    return iter(range(run.settings.repeats))


def _figures(programs: dict[str, list[Block]]) -> dict[str, Any]:
    """Figures of ours over all its blocks, and of the references beside it."""
    ours = programs[OURS]
    found = timings(ours) | accounts(ours) | {"stages_ms": stages(ours)}
    references = {}
    for name in LOOPS:
        if name in programs:
            theirs = timings(programs[name])
            theirs["ours_over"] = {
                each: round(found["end_to_end_ms"][each] / theirs["end_to_end_ms"][each], 4)
                for each in ("p50", "p99")
            }
            references[name] = theirs
    return found | ({"references": references} if references else {})


def progress_bar(console: Any) -> Progress:
    """Make the progress display of a run."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=2,
    )

"""Who measures, each in a process of its own: a subscriber of the results, and the floor.

So nothing that the benchmark itself does (a progress bar, the other's Python code) delays a stamp, and the
processor time of the floor can be told from everything else's.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Semaphore
from typing import Any, NamedTuple

from benchmarks.daemon import BenchError
from benchmarks.floor import Floor, FloorFrames, FloorSample
from models.artifact import load_artifact
from streamer.analysis import Analysis, Model
from streamer.client import Subscriber
from streamer.frame import Clock
from streamer.wire import Received

PROCESSES = multiprocessing.get_context("spawn")
"""Forking would take the engine's and ZeroMQ's threads' locks along."""

_ANSWER_WITHIN_S = 60.0


class Window(NamedTuple):
    """From when to when is measured, in s on CLOCK_MONOTONIC."""

    begin: float
    end: float


class Introduction(NamedTuple):
    """What the first result says of the feed and the model."""

    width: int
    height: int
    clock: Clock
    model: Model


def artifact_of(asked: str, first: Introduction) -> str:
    """Name the model that answers, where the daemon was left to choose it."""
    return first.model.name if asked == "auto" else asked


class Seen(NamedTuple):
    """What is kept of one result."""

    source: str
    seq: int
    frame_id: int
    live: bool
    captured_ns: int
    media_time_s: float | None
    received_ns: int
    stages_ms: dict[str, float]
    dropped: dict[str, int]
    """Since the result before, by reason."""


class FloorRun(NamedTuple):
    """What the floor's process measured."""

    samples: list[FloorSample]
    cpu_s: float
    """Processor time of its whole process, for all samples."""


class Watcher:
    """A subscriber in another process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.introduction: Introduction = ask(pipe)

    def begin(self, window: Window) -> None:
        """Note the results that come within the window."""
        self._pipe.send(window)

    def finish(self) -> list[Seen]:
        """Wait for the window's end."""
        seen: list[Seen] = ask(self._pipe)
        return seen


@contextmanager
def watching(address: str, arrived: Semaphore | None = None) -> Iterator[Watcher]:
    """Subscribe in another process; yields when the first result is there.

    :param arrived: released for every result that is noted.
    """
    with process(_watch, address, arrived) as pipe:
        yield Watcher(pipe)


def _watch(pipe: Connection, address: str, arrived: Semaphore | None) -> None:
    with Subscriber(address) as subscriber:
        first = next(iter(subscriber)).analysis
        pipe.send(Introduction(first.frame.width, first.frame.height, first.clock, first.model))
        window: Window | None = None
        seen: list[Seen] = []
        while window is None or time.monotonic() < window.end:
            message = subscriber.receive(0.05)
            if window is None:
                window = pipe.recv() if pipe.poll() else None
            elif isinstance(message, Received) and time.monotonic() >= window.begin:
                seen.append(_note(message))
                if arrived is not None:
                    arrived.release()
        pipe.send(seen)


def _note(message: Received) -> Seen:
    analysis: Analysis = message.analysis
    return Seen(
        analysis.source,
        analysis.seq,
        analysis.frame_id,
        analysis.classes is not None,
        analysis.captured_monotonic,
        analysis.media_time,
        message.received_monotonic,
        {
            **{name: seconds * 1e3 for name, seconds in analysis.latency.stages.items()},
            "publish": (analysis.age - analysis.latency.total) * 1e3,
            "transport": (message.received_monotonic - analysis.published_monotonic) * 1e-6,
        },
        analysis.dropped,
    )


class FloorProcess:
    """The floor in another process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        ask(pipe)

    def between_results(self, window: Window, every: int) -> None:
        """Begin to time one frame after every so many results."""
        self._pipe.send((window, every))

    def by_itself(self, samples: int, interval_s: float) -> FloorRun:
        """Time so many frames, one an interval, while nothing else runs."""
        self._pipe.send((samples, interval_s))
        return self.finish()

    def finish(self) -> FloorRun:
        """Wait for what was begun."""
        run: FloorRun = ask(self._pipe)
        return run


@contextmanager
def floor_process(
    artifact: str, frames: FloorFrames, arrived: Semaphore, *, runtime: str, precision: str, threads: int
) -> Iterator[FloorProcess]:
    """Prepare the floor in another process; yields when it is warm."""
    with process(_time_floor, artifact, frames, arrived, runtime, precision, threads) as pipe:
        yield FloorProcess(pipe)


def _time_floor(
    pipe: Connection,
    artifact: str,
    frames: FloorFrames,
    arrived: Semaphore,
    runtime: str,
    precision: str,
    threads: int,
) -> None:
    floor = Floor(
        load_artifact(artifact), frames.open(), runtime=runtime, precision=precision, threads=threads
    )
    pipe.send(None)
    while True:
        how, often = pipe.recv()
        samples: list[FloorSample] = []
        cpu = time.process_time()
        if isinstance(how, Window):
            while time.monotonic() < how.end:
                if all(arrived.acquire(timeout=0.5) for _ in range(often)):
                    samples.append(floor.sample())
                    while arrived.acquire(block=False):  # came meanwhile: a frame is being analysed now
                        pass
        else:
            due = time.monotonic()
            for _ in range(how):
                due += often
                time.sleep(max(0.0, due - time.monotonic()))
                samples.append(floor.sample())
        pipe.send(FloorRun(samples, time.process_time() - cpu))


@contextmanager
def process(work: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """Run a function of this package in a process of its own; yields its pipe, and kills it afterwards.

    :param work: called with the other end of the pipe and the arguments.
    """
    ours, theirs = PROCESSES.Pipe()
    running = PROCESSES.Process(target=_run, args=(work, theirs, *arguments), daemon=True)
    running.start()
    theirs.close()
    try:
        yield ours
    finally:
        running.kill()
        running.join()
        ours.close()


class _Failure(NamedTuple):
    message: str


def _run(work: Callable[..., None], pipe: Connection, *arguments: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started it
    try:
        work(pipe, *arguments)
    except Exception as error:
        pipe.send(_Failure(f"{type(error).__name__}: {error}"))


def ask(pipe: Connection) -> Any:
    """Wait for what the process at the other end says.

    :raises BenchError: if it failed, died, or says nothing.
    """
    if not pipe.poll(_ANSWER_WITHIN_S):
        raise BenchError(f"a measuring process has said nothing for {_ANSWER_WITHIN_S:g} s")
    try:
        answer = pipe.recv()
    except EOFError:
        raise BenchError("a measuring process has died") from None
    if isinstance(answer, _Failure):
        raise BenchError(f"a measuring process failed: {answer.message}")
    return answer

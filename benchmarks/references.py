"""What others write by hand for the same job, with the same engine: three loops, each a process of its own.

They read the same live H.264 feed and do decoding, one resize and the engine's bare call: no smoothing, no
outlines, no accounts, and the answer goes nowhere. Their latency ends in their own process; ours ends at a
subscriber in another one.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Semaphore
from typing import NamedTuple

import av
import av.error
import cv2
import numpy as np

from benchmarks.daemon import resident_mib
from benchmarks.floor import bare_engine
from benchmarks.watch import Window, ask, process
from models.artifact import load_artifact
from streamer.frame import Pixels


class ReferenceRun(NamedTuple):
    """What a loop measured of itself."""

    media_time_s: list[float]
    """Of each answer within the window, in order."""
    done_ns: list[int]
    """When each answer was there, on CLOCK_MONOTONIC."""
    cpu_s: float
    """Processor time of the whole process within the window."""
    resident_mib: float


class Reference:
    """A loop in another process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        ask(pipe)

    def begin(self, window: Window) -> None:
        """Note the answers that are given within the window."""
        self._pipe.send(window)

    def finish(self) -> ReferenceRun:
        """Wait for the window's end."""
        run: ReferenceRun = ask(self._pipe)
        return run


@contextmanager
def reference(
    name: str, url: str, arrived: Semaphore, artifact: str, *, runtime: str, precision: str, threads: int
) -> Iterator[Reference]:
    """Run a loop in another process; yields when it has given its first answer.

    :param name: of `LOOPS`.
    :param arrived: released for every answer that is noted.
    """
    with process(_serve, name, url, arrived, artifact, runtime, precision, threads) as pipe:
        yield Reference(pipe)


Frames = Iterator[tuple[Pixels, float]]
"""Gray pixels, H x W, and the media time in s."""


def _opencv(url: str) -> Frames:
    capture = cv2.VideoCapture(url)
    while True:
        good, picture = capture.read()
        if not good:
            return
        yield _gray(picture), capture.get(cv2.CAP_PROP_POS_MSEC) * 1e-3


def _threaded(url: str) -> Frames:
    capture = cv2.VideoCapture(url)
    changed = threading.Condition()
    newest: list[tuple[Pixels, float]] = []

    def read() -> None:
        while True:
            good, picture = capture.read()
            if not good:
                return
            with changed:
                newest[:] = [(np.asarray(picture, np.uint8), capture.get(cv2.CAP_PROP_POS_MSEC) * 1e-3)]
                changed.notify()

    threading.Thread(target=read, daemon=True).start()
    while True:
        with changed:
            changed.wait_for(lambda: newest)
            picture, media_s = newest.pop()
        yield _gray(picture), media_s


def _pyav(url: str) -> Frames:
    # All that is known to matter: little probing, one decoder thread, luma viewed in place.
    settings = {"probesize": "32768", "analyzeduration": "200000", "fflags": "+noparse+nofillin"}
    with av.open(url, options=settings) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.low_delay
        for frame in container.decode(stream):
            plane = frame.planes[0]
            luma: Pixels = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            yield luma[: frame.height, : frame.width], float(frame.time or 0)


def _gray(picture: object) -> Pixels:
    gray: Pixels = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)  # type: ignore[call-overload]
    return gray


LOOPS: dict[str, Callable[[str], Frames]] = {"opencv": _opencv, "threaded": _threaded, "pyav": _pyav}
"""A plain VideoCapture loop; one whose thread keeps the newest frame; PyAV with one decoder thread."""


def _serve(
    pipe: Connection,
    name: str,
    url: str,
    arrived: Semaphore,
    artifact_path: str,
    runtime: str,
    precision: str,
    threads: int,
) -> None:
    artifact = load_artifact(artifact_path)
    size = artifact.card.input
    frame, engine = bare_engine(artifact, runtime, precision, threads)
    engine()
    window: Window | None = None
    run = ReferenceRun([], [], 0.0, 0.0)
    cpu = 0.0
    for index, (gray, media_s) in enumerate(LOOPS[name](url)):
        small = cv2.resize(gray, (size.width, size.height))
        frame[0] = small[:, :, None]
        engine()
        done = time.monotonic_ns()
        if index == 0:
            pipe.send(None)
        if window is None:
            window = pipe.recv() if pipe.poll() else None
            continue
        if done * 1e-9 < window.begin:
            cpu = time.process_time()
            continue
        if done * 1e-9 >= window.end:
            break
        run.media_time_s.append(media_s)
        run.done_ns.append(done)
        arrived.release()
    pipe.send(run._replace(cpu_s=time.process_time() - cpu, resident_mib=resident_mib(os.getpid())))
    ask(pipe)  # killed here: the sender must not find its receiver gone

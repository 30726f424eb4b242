"""Sources that come and go, or give nothing, beside others that must not notice."""

import ctypes
import gc
import io
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
import pytest

from streamer.frame import FeedState
from streamer.sources import Source, SourceLost, open_source
from tests.streamer.scripted import ScriptedSource, captured
from tests.streamer.test_frame_identity import Line, assert_nothing_left, line, marked, resources, until

TIMES = 50
FRAMES = 4


def clip() -> bytes:
    """A stream of a few pictures, cut off in the middle of the last one."""
    file = io.BytesIO()
    with av.open(file, "w", format="nut") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuvj420p"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(marked(number), format="gray").reformat(format="yuvj420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()[:-3000]


class Device:
    """Listens where a grabber would: each time it is opened it gives a few pictures, and is unplugged."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._clip = clip()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(self._clip)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@contextmanager
def plugged() -> Iterator[Device]:
    device = Device()
    try:
        yield device
    finally:
        device.close()


@contextmanager
def beside() -> Iterator[Line]:
    """Another feed, at 50 frames a second; none of its frames may be lost in any way but by a newer one."""
    source, done = ScriptedSource(), threading.Event()

    def play() -> None:
        number = 0
        while not done.wait(0.02):
            number += 1
            source.script.put(captured(marked(number)))

    player = threading.Thread(target=play)
    with line(lambda *_: source) as made:
        player.start()
        try:
            yield made
        finally:
            done.set()
            player.join(5)
    drops = {reason for reason, count in made.feed.ledger.accounts.dropped.items() if count}
    assert drops <= {"superseded", "stopped"}


def test_a_device_that_disappears_and_returns_fifty_times_leaves_nothing_and_disturbs_nobody() -> None:
    before = resources()
    with plugged() as device, beside() as other:
        with line(lambda *_: open_source(device.uri)) as made:
            until(lambda: made.feed.reconnects >= TIMES, "the device returns")
            steady = other.feed.ledger.accounts.analyzed
            until(lambda: other.feed.ledger.accounts.analyzed > steady + 3)
        accounts = made.feed.ledger.accounts
        assert other.feed.reconnects == 0
    gc.collect()

    assert accounts.captured >= TIMES
    assert_nothing_left(before)


class _HeapFigures(ctypes.Structure):
    """`struct mallinfo2` of glibc's <malloc.h>."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    )


def live_heap() -> int:
    """Bytes that are allocated outside of Python's own pools, where libav takes its memory from."""
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("only glibc tells how much of the heap is alive")
    libc.mallinfo2.restype = _HeapFigures
    figures = libc.mallinfo2()
    return int(figures.uordblks) + int(figures.hblkhd)


def test_a_connection_that_breaks_off_leaves_no_memory_behind() -> None:
    def read_all(source: Source) -> None:
        while source.read() is not None:
            pass

    def connect(uri: str, times: int) -> None:
        for _ in range(times):
            with open_source(uri) as source, pytest.raises(SourceLost):
                read_all(source)

    with plugged() as device:
        connect(device.uri, 40)  # caches and free lists fill
        gc.collect()
        before = live_heap()
        connect(device.uri, 200)
        gc.collect()
        grown = live_heap() - before

    assert grown / 200 < 1024


def test_a_feed_without_any_frame_is_no_signal_and_stops_at_once() -> None:
    with beside() as other, line(lambda *_: ScriptedSource()) as silent:
        until(lambda: other.feed.ledger.accounts.analyzed > 20)
        assert silent.feed.opened.is_set()
        assert silent.feed.state is FeedState.NO_SIGNAL
        assert other.feed.state is FeedState.LIVE

    assert silent.feed.ledger.accounts.captured == 0
    assert silent.outlet.ids == []


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_wall_clock_that_is_set_costs_no_frame(step_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    source = ScriptedSource("every")
    real, offset = time.time_ns, 0
    monkeypatch.setattr("time.time_ns", lambda: real() + offset)
    with line(lambda *_: source) as made:
        for number in range(20):
            source.script.put(captured(np.asarray(marked(number))))
            if number == 10:
                until(lambda: made.settled(11))
                offset = step_s * 10**9
        until(lambda: made.settled(20))

    assert made.feed.ledger.accounts.analyzed == 20
    assert made.feed.state is FeedState.LIVE

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from threading import Event

import av
import numpy as np
import pytest

from streamer.frame import Clock
from streamer.sources import SourceOptions, SourceUnavailable, open_source
from streamer.sources.libav import DeviceStamp, Pace
from tests.programs import require_program


@contextlib.contextmanager
def virtual_screen(width: int, height: int, background: str = "-br") -> Iterator[str]:
    """Run a real X server without a screen, black or white (`-wr`); yields its display."""
    xvfb = require_program("Xvfb", package="xvfb")
    command = [
        xvfb,
        "-displayfd",
        "1",
        "-screen",
        "0",
        f"{width}x{height}x24",
        "-nolisten",
        "tcp",
        background,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        number = process.stdout.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def test_a_screen_is_grabbed_live_with_the_instant_of_the_grab() -> None:
    options = SourceOptions(fps=50, size=(160, 120))
    with virtual_screen(320, 240) as display, open_source(f"x11grab:{display}.0", options) as source:
        assert source.policy == "newest"
        frames = [source.read() for _ in range(5)]
        now = time.monotonic_ns()

    assert all(frame is not None for frame in frames)
    shown = [frame for frame in frames if frame is not None]
    assert {frame.pixels.shape for frame in shown} == {(120, 160)}
    assert {frame.clock for frame in shown} == {Clock.PTS}
    assert all(frame.full_range for frame in shown)
    stamps = [frame.monotonic for frame in shown]
    assert (np.diff(stamps) > 0).all()
    assert stamps[-1] <= now


@pytest.mark.parametrize(("background", "level"), [("-br", 0), ("-wr", 255)])
def test_what_is_on_the_screen_is_what_is_read(background: str, level: int) -> None:
    with virtual_screen(320, 240, background) as display, open_source(f"x11grab:{display}") as source:
        frame = source.read()

    assert frame is not None
    assert frame.pixels.shape == (240, 320)
    assert np.unique(frame.pixels[:100]).tolist() == [level]


def test_a_program_whose_screen_grab_would_crash_is_told_why() -> None:
    code = (
        "import cv2\nfrom streamer.sources import SourceUnavailable, open_source\n"
        "try: open_source('x11grab::0')\nexcept SourceUnavailable as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )

    assert "import streamer first" in said.stdout


def test_a_generator_runs_in_real_time_as_a_camera_would() -> None:
    with open_source("lavfi:testsrc=size=160x120:rate=100") as source:
        assert source.policy == "newest"
        frames = [source.read() for _ in range(10)]
        now = time.monotonic_ns()

    shown = [frame for frame in frames if frame is not None]
    assert np.diff([frame.monotonic for frame in shown]) == pytest.approx(10_000_000, abs=1000)
    assert shown[-1].monotonic <= now
    assert shown[-1].media_time_s == pytest.approx(0.09)


def test_a_generator_that_ends_is_the_end_and_no_loss() -> None:
    with open_source("lavfi:testsrc=size=160x120:rate=100:duration=0.05") as source:
        frames = [source.read() for _ in range(6)]

    assert [frame is not None for frame in frames] == [True] * 5 + [False]


def test_close_ends_a_read_that_waits_for_a_slow_generator() -> None:
    source = open_source("lavfi:testsrc=size=160x120:rate=1/60")
    source.read()
    ended = Event()
    reader = threading.Thread(target=lambda: (source.read(), ended.set()))
    reader.start()

    source.close()

    assert ended.wait(timeout=10)
    reader.join()


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("v4l2:///dev/video99", "no such file or directory; `sonostream doctor` lists capture devices"),
        ("/dev/video99", "no such device: /dev/video99"),
        ("/dev/null", "this is not a capture device"),
        ("x11grab::987", "no such display"),
        ("lavfi:nosuchfilter=1", "check the filter graph"),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_one_line(uri: str, says: str) -> None:
    with pytest.raises(SourceUnavailable, match=says) as error:
        open_source(uri)

    assert "\n" not in str(error.value)


def test_a_generator_takes_its_size_and_rate_in_the_graph() -> None:
    with pytest.raises(SourceUnavailable, match="lavfi takes size and rate in the graph"):
        open_source("lavfi:testsrc", SourceOptions(fps=30))


def packet_at(ns: int) -> av.Packet:  # type: ignore[type-arg]
    packet = av.Packet(b"x")
    packet.pts, packet.time_base = ns // 1000, Fraction(1, 1_000_000)
    return packet


@pytest.mark.parametrize("clock", [time.monotonic_ns, time.time_ns])
def test_a_driver_stamp_on_either_clock_is_brought_to_the_monotonic_one(clock) -> None:  # type: ignore[no-untyped-def]
    before = time.monotonic_ns()
    stamp = DeviceStamp(Clock.KERNEL)(packet_at(clock() - 20_000_000), Event())
    after = time.monotonic_ns()

    assert stamp.clock == Clock.KERNEL
    assert before - 20_002_000 <= stamp.monotonic <= after - 19_998_000


@pytest.mark.parametrize("wrong_by_s", [-3600, -11, 1, 3600])
def test_a_wild_driver_stamp_gives_way_to_the_instant_of_receipt(wrong_by_s: int) -> None:
    before = time.monotonic_ns()
    stamp = DeviceStamp(Clock.KERNEL)(packet_at(time.time_ns() + wrong_by_s * 1_000_000_000), Event())

    assert stamp.clock == Clock.RECEIVE
    assert before <= stamp.monotonic <= time.monotonic_ns()


def test_a_generator_that_cannot_keep_its_rate_goes_on_from_where_it_is() -> None:
    pace, closed = Pace(), Event()
    closed.set()
    first = pace(packet_at(0), closed)
    early = packet_at(0)
    early.pts = -10_000_000  # due ten seconds before the first

    late = pace(early, closed)

    assert late.monotonic >= first.monotonic


def test_streams_and_devices_are_found_by_path(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="no such file or folder"):
        open_source(str(tmp_path / "nothing.mp4"))

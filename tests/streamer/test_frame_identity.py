"""Every frame has one account and its own answer, whatever happens to the source.

Each test counts on its own what it handed in, and looks at the ledger all the while.
"""

import gc
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.analyzer import Analyzer
from streamer.config import FeedConfig, SourceConfig
from streamer.feed import Feed
from streamer.frame import Clock, FeedState, Pixels
from streamer.keys import ServerKeys
from streamer.lane import Lane
from streamer.metrics import Metrics
from streamer.sinks import Result
from streamer.smoothing import SmoothingSettings
from streamer.sources import (
    Captured,
    Source,
    SourceInvalidFrame,
    SourceLost,
    SourceOptions,
    SourceUnavailable,
    open_source,
)
from tests.streamer.results import MODEL
from tests.streamer.running import free_port
from tests.streamer.scripted import ScriptedSource, captured
from tests.streamer.test_analyzer import ScriptedSession

QUICK = FeedConfig(reconnect_first_s=0.001, reconnect_max_s=0.002)
# One is read, two wait, one is in the engine, and two are finished (of a feed that drops nothing).
MOST_IN_FLIGHT = 6


def marked(number: int, *, height: int = 120, width: int = 160) -> Pixels:
    """A picture whose mean tells its number, and that differs from the one before."""
    noise = np.random.default_rng(number).integers(-20, 21, (height, width))
    return np.asarray(mark_of(number) + noise, np.uint8)


def mark_of(number: int) -> int:
    return 60 + number * 37 % 127


class Outlet:
    """Checks every result as it comes."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.wrong: list[str] = []

    def offer(self, result: Result, *, wait: bool = False) -> None:  # noqa: ARG002
        analysis = result.analysis
        self.ids.append(analysis.frame_id)
        if analysis.state != FeedState.LIVE:
            return
        # The scripted engine answers with the negative of what it sees.
        seen, shown = 255 - np.frombuffer(result.mask, np.uint8).mean(), result.frame.pixels.mean()
        if abs(seen - shown) > 3:
            self.wrong.append(f"frame {analysis.frame_id} of mean {shown:.0f} has a mask of {seen:.0f}")
        if analysis.seq != len(self.ids) - 1:
            self.wrong.append(f"result {len(self.ids) - 1} is numbered {analysis.seq}")


class Line:
    """A feed, an analyzer and an auditor that looks at the ledger without pause."""

    def __init__(self, open_it: Callable[[str, SourceOptions], Source], **source: Any) -> None:
        self.outlet, bell = Outlet(), threading.Condition()
        config = SourceConfig(uri="phantom:", name="probe", **source)
        self.feed = Feed(config, QUICK, bell=bell, tell=lambda *_: None, open_it=open_it)
        session, metrics = ScriptedSession(), Metrics()
        answer = session.infer
        session.infer = lambda count: (time.sleep(self.engine_s), answer(count))[1]  # type: ignore[method-assign]
        metrics.add_source("probe")
        lane = Lane(self.feed, session.card, MODEL, SmoothingSettings(enabled=False), publisher="test")
        self.analyzer = Analyzer(session, [lane], [self.outlet], metrics, bell=bell)
        self.engine_s = 0.0
        """How long the engine takes beyond its work."""
        self.looks = 0
        self.unbalanced: list[str] = []
        self._ending = threading.Event()
        self.threads = [threading.Thread(target=self.analyzer.run), threading.Thread(target=self._audit)]

    def _audit(self) -> None:
        captured_before = 0
        while not self._ending.wait(0.0005):
            self.looks += 1
            accounts = self.feed.ledger.accounts
            if not 0 <= accounts.in_flight <= MOST_IN_FLIGHT or accounts.captured < captured_before:
                self.unbalanced.append(str(accounts))
            captured_before = accounts.captured

    def settled(self, count: int) -> bool:
        """Whether as many frames were taken in and all are accounted for."""
        accounts = self.feed.ledger.accounts
        return accounts.captured >= count and accounts.in_flight == 0

    def close(self) -> None:
        self.feed.stop()
        self.analyzer.stop()
        self._ending.set()
        for thread in self.threads:
            thread.join(5)


def until(claim: Callable[[], bool], what: str = "") -> None:
    tick = threading.Event()
    for _ in range(2000):
        if claim():
            return
        tick.wait(0.005)
    raise AssertionError(f"not within ten seconds: {what}")


@contextmanager
def line(open_it: Callable[[str, SourceOptions], Source], **source: Any) -> Iterator[Line]:
    made = Line(open_it, **source)
    for thread in made.threads:
        thread.start()
    made.feed.start()
    try:
        yield made
    finally:
        made.close()
    accounts = made.feed.ledger.accounts
    assert made.looks > 0
    assert made.unbalanced == []
    assert made.outlet.wrong == []
    assert accounts.in_flight == 0
    assert accounts.captured == accounts.analyzed + sum(accounts.dropped.values())
    # Results of feeds that are not live are reported, but count as dropped.
    not_live = accounts.dropped["frozen"] + accounts.dropped["no_signal"]
    assert accounts.analyzed <= len(made.outlet.ids) <= accounts.analyzed + not_live
    assert all(later > earlier for earlier, later in itertools.pairwise(made.outlet.ids))


def play(
    script: list[Captured | Exception], *, every: bool = False, pace_s: float = 0.0, engine_s: float = 0.0
) -> Line:
    """Run a script through the line; the line after all of it is accounted for."""
    source = ScriptedSource("every" if every else "newest")
    frames = sum(isinstance(step, Captured | SourceInvalidFrame) for step in script)
    with line(lambda *_: source) as made:
        made.engine_s = engine_s
        tick = threading.Event()
        for step in script:
            source.script.put(step)
            if pace_s:
                tick.wait(pace_s)
        until(lambda: made.settled(frames), str(made.feed.ledger.accounts))
    assert made.feed.ledger.accounts.captured == frames
    return made


def test_changes_of_resolution_and_format_keep_every_answer_with_its_frame() -> None:
    sizes = [(120, 160), (240, 320), (48, 33), (121, 161), (480, 640)]
    script: list[Captured | Exception] = []
    for number in range(60):
        height, width = sizes[number // 4 % len(sizes)]
        frame = captured(marked(number, height=height, width=width))
        script.append(frame._replace(full_range=True))
        if number % 10 == 9:
            script.append(SourceInvalidFrame("a frame in the format before"))

    line = play(script, every=True)

    assert line.feed.ledger.accounts.dropped["invalid"] == 6
    assert line.feed.ledger.accounts.analyzed == 60


@pytest.mark.parametrize("every", [True, False])
def test_clocks_that_jump_back_and_forth_lose_no_account(every: bool) -> None:
    hour, now = 3_600_000_000_000, time.monotonic_ns()
    jumps = [0, 33_000_000, hour, -hour, 0, 0, 5, -5, 2**62 - now, 1 - now, 66_000_000, 99_000_000]
    script: list[Captured | Exception] = [
        captured(marked(number), monotonic=now + jumps[number % len(jumps)]) for number in range(60)
    ]

    line = play(script, every=every, pace_s=0.0 if every else 0.002)

    assert line.feed.ledger.accounts.analyzed > 0


def test_at_240_frames_a_second_the_newest_are_analysed_and_the_others_counted() -> None:
    frames: list[Captured | Exception] = [captured(marked(number)) for number in range(240)]

    line = play(frames, pace_s=1 / 240, engine_s=0.02)

    accounts = line.feed.ledger.accounts
    assert accounts.dropped["superseded"] > 0
    assert accounts.analyzed + accounts.dropped["superseded"] == 240
    assert line.outlet.ids[-1] == 239


def test_a_burst_faster_than_any_engine_ends_with_its_newest_frame() -> None:
    line = play([captured(marked(number)) for number in range(500)])

    assert line.outlet.ids[-1] == 499


def resources() -> tuple[int, int]:
    """Threads and open descriptors of this process."""
    return threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def assert_nothing_left(before: tuple[int, int]) -> None:
    # Fewer than before is what a test before this one was still closing.
    threads, descriptors = resources()
    assert threads <= before[0]
    assert descriptors <= before[1]


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_two_hundred_reconnects_keep_the_accounts_and_leave_nothing_behind() -> None:
    opened: list[ScriptedSource] = []

    def open_it(_uri: str, _options: SourceOptions) -> Source:
        if len(opened) % 5 == 4 and opened[-1].closed.is_set() and not open_it_failed.is_set():
            open_it_failed.set()
            raise SourceUnavailable("not back yet")
        open_it_failed.clear()
        source = ScriptedSource()
        for number in range(3):
            source.script.put(captured(marked(len(opened) * 3 + number)))
        if len(opened) < 200:
            source.script.put(SourceLost("unplugged"))
        opened.append(source)
        return source

    open_it_failed = threading.Event()
    before = resources()
    with line(open_it) as made:
        until(lambda: made.feed.reconnects >= 20)
        early = resident_mib()
        until(lambda: made.feed.reconnects >= 200 and made.settled(603), str(made.feed.ledger.accounts))
        grown = resident_mib() - early
    gc.collect()

    assert made.feed.ledger.accounts.captured == 603
    assert all(source.closed.is_set() for source in opened)
    assert_nothing_left(before)
    assert grown < 16


def test_sockets_for_frames_opened_again_and_again_leave_nothing_behind(tmp_path: Path) -> None:
    keys = ServerKeys.create(tmp_path / "keys").folder
    uri = f"zmq+tcp://127.0.0.1:{free_port()}"
    open_source(uri).close()
    before = resources()

    for number in range(60):
        open_source(uri, SourceOptions(keys=keys if number % 10 == 0 else None)).close()

    assert_nothing_left(before)


SENDER = """
import sys, numpy as np
from streamer.push import FramePusher
from tests.streamer.test_frame_identity import marked
with FramePusher(sys.argv[1], "probe") as pusher:
    for number in range(10**9):
        pusher.push(marked(number, height=1080, width=1920))
"""


def test_a_sender_killed_in_the_middle_of_a_frame_costs_no_other_and_no_half_frame_is_shown() -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with line(lambda *_: open_source(f"zmq+{address}")) as made:
        for _ in range(2):
            done = made.feed.ledger.accounts.analyzed
            sender = subprocess.Popen([sys.executable, "-c", SENDER, address])
            try:
                until(lambda done=done: made.feed.ledger.accounts.analyzed >= done + 5)  # type: ignore[misc]
            finally:
                sender.kill()
                sender.wait()
            until(lambda: made.settled(0))

    assert made.feed.ledger.accounts.dropped["invalid"] == 0
    assert made.feed.reconnects == 0


def test_stamps_that_are_missing_or_wild_are_replaced_by_the_time_of_arrival() -> None:
    from streamer.push import FramePusher

    address = f"tcp://127.0.0.1:{free_port()}"
    with open_source(f"zmq+{address}") as source, FramePusher(address, "probe") as pusher:
        for stamp in (0, -1, 2**63 - 1, -(2**63), time.time_ns() + 10**12):
            before = time.monotonic_ns()
            assert pusher.push(marked(1), captured_at=stamp)
            frame = source.read()
            assert frame is not None
            assert frame.clock is Clock.RECEIVE
            assert before <= frame.monotonic <= time.monotonic_ns()

"""A feed's thread: accounts, states, loss and return."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from streamer.config import FeedConfig, SourceConfig
from streamer.feed import Feed
from streamer.frame import FeedState
from streamer.sources import SourceInvalidFrame, SourceLost, SourceUnavailable
from tests.streamer.scripted import ScriptedSource, captured, opener, picture

QUICK = FeedConfig(reconnect_first_s=0.01, reconnect_max_s=0.02)


class Events:
    """Collects what a feed tells, and lets a test wait for it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, _feed: Feed, kind: str, _detail: str) -> None:
        with self._changed:
            self.told.append(kind)
            self._changed.notify_all()

    def wait_for(self, kind: str) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: kind in self.told, 5)


@contextmanager
def running(*outcomes: Any, **source: Any) -> Iterator[tuple[Feed, Events, threading.Condition]]:
    bell, events = threading.Condition(), Events()
    config = SourceConfig(uri="phantom:", name="probe", **source)
    feed = Feed(config, QUICK, bell=bell, tell=events, open_it=opener(*outcomes))
    feed.start()
    try:
        yield feed, events, bell
    finally:
        feed.stop()


def eventually(bell: threading.Condition, claim: Callable[[], bool]) -> bool:
    with bell:
        return bell.wait_for(claim, 5)


def test_frames_that_are_not_taken_in_time_are_counted_as_superseded() -> None:
    source = ScriptedSource()
    with running(source) as (feed, _, bell):
        for seed in range(4):
            source.script.put(captured(picture(seed)))
        assert eventually(bell, lambda: feed.mailbox.statistics.put == 4)
        arrival = feed.mailbox.take_now()

        assert arrival is not None
        assert arrival.frame.frame_id == 3
        assert feed.ledger.accounts.dropped["superseded"] == 3
        assert feed.ledger.accounts.in_flight == 1


def test_a_feed_of_policy_every_holds_its_reader_back_and_loses_nothing() -> None:
    source = ScriptedSource("every")
    with running(source) as (feed, _, _):
        for seed in range(10):
            source.script.put(captured(picture(seed)))
        taken = [feed.mailbox.take(5) for _ in range(10)]

        assert [arrival.frame.frame_id for arrival in taken if arrival] == list(range(10))
        assert feed.ledger.accounts.dropped["superseded"] == 0


def test_a_refused_frame_is_counted_and_the_feed_goes_on() -> None:
    source = ScriptedSource()
    with running(source) as (feed, _, _):
        source.script.put(SourceInvalidFrame("half a frame"))
        source.script.put(captured(picture()))
        arrival = feed.mailbox.take(5)

        assert arrival is not None
        assert arrival.frame.frame_id == 1
        assert feed.ledger.accounts.dropped["invalid"] == 1


def test_each_kind_of_fault_in_a_frame_is_told(caplog: pytest.LogCaptureFixture) -> None:
    source = ScriptedSource()
    with running(source) as (feed, _, _):
        for fault in ("half a frame", "half a frame", "no header"):
            source.script.put(SourceInvalidFrame(fault))
        source.script.put(captured(picture()))
        feed.mailbox.take(5)

    said = [line for line in caplog.messages if "refused a frame" in line]
    assert [line.partition("a frame: ")[2] for line in said] == ["half a frame", "no header"]


def test_a_lost_source_is_opened_again_and_frame_numbers_go_on() -> None:
    first, second = ScriptedSource(), ScriptedSource()
    with running(first, SourceUnavailable("not yet"), second) as (feed, events, _):
        first.script.put(captured(picture(0)))
        assert feed.mailbox.take(5) is not None
        first.script.put(SourceLost("unplugged"))
        assert events.wait_for("reconnected")
        second.script.put(captured(picture(1)))
        arrival = feed.mailbox.take(5)

        assert arrival is not None
        assert arrival.frame.frame_id == 1
        assert feed.reconnects == 1
        assert first.closed.is_set()


def test_a_lost_source_shows_no_signal() -> None:
    first = ScriptedSource()
    with running(first, *[SourceUnavailable("gone")] * 1000) as (feed, events, _):
        first.script.put(captured(picture(0)))
        feed.mailbox.take(5)
        first.script.put(SourceLost("unplugged"))
        assert events.wait_for("lost")

        assert feed.state is FeedState.NO_SIGNAL


def test_a_silent_source_turns_stale() -> None:
    source = ScriptedSource()
    with running(source) as (feed, _, _):
        source.script.put(captured(picture(0)))
        assert feed.mailbox.take(5) is not None
        assert feed.state is FeedState.LIVE
        waiting = threading.Event()
        waiting.wait(0.35)  # the limit is a quarter of a second; only time itself makes a feed stale

        assert feed.state is FeedState.STALE


def test_a_required_source_that_cannot_be_opened_is_a_failure() -> None:
    with running(SourceUnavailable("no such device")) as (feed, _, _):
        assert feed.opened.wait(5)

        assert str(feed.failure) == "no such device"


def test_a_source_that_is_not_required_is_tried_again() -> None:
    source = ScriptedSource()
    with running(SourceUnavailable("no such device"), source, required=False) as (feed, _, _):
        assert feed.opened.wait(5)

        assert feed.failure is None


class Waits:
    """Stands in for a feed's event: notes how long it would have waited, and ends after so many waits."""

    def __init__(self, most: int) -> None:
        self.lengths: list[float] = []
        self._most = most
        self.done = threading.Event()

    def wait(self, length_s: float) -> bool:
        self.lengths.append(length_s)
        if len(self.lengths) >= self._most:
            self.done.set()
        return self.done.is_set()

    def is_set(self) -> bool:
        return self.done.is_set()

    def set(self) -> None:
        self.done.set()


def test_waits_between_attempts_double_up_to_the_limit_with_jitter_for_as_long_as_it_takes() -> None:
    waits = Waits(3000)
    limits = FeedConfig(reconnect_first_s=0.5, reconnect_max_s=10)
    opened = opener(*[SourceUnavailable("switched off")] * 3000)
    config = SourceConfig(uri="phantom:", name="probe", required=False)
    feed = Feed(config, limits, bell=threading.Condition(), tell=Events(), open_it=opened)
    feed._stopping = waits  # type: ignore[assignment]
    feed.start()

    assert waits.done.wait(20), f"gave up after {len(waits.lengths)} attempts"

    feed.stop()
    longest = [min(10.0, 0.5 * 2.0 ** min(number, 10)) for number in range(3000)]
    assert all(half / 2 <= wait <= half for wait, half in zip(waits.lengths, longest, strict=True))
    # Several that lost one switch don't all come back at one instant.
    assert len({round(wait, 3) for wait in waits.lengths[10:]}) > 1000


def test_the_end_of_a_file_is_told() -> None:
    source = ScriptedSource("every")
    with running(source) as (feed, events, _):
        source.script.put(None)

        assert events.wait_for("ended")
        assert feed.ended.is_set()


def test_frames_of_another_size_are_followed_and_a_region_that_no_longer_fits_refuses_them() -> None:
    source = ScriptedSource()
    with running(source, region="0,0,160,120") as (feed, _, bell):
        source.script.put(captured(picture(0)))
        assert feed.mailbox.take(5) is not None
        source.script.put(captured(picture(1, height=240, width=320)))
        larger = feed.mailbox.take(5)
        source.script.put(captured(picture(2, height=60, width=80)))
        source.script.put(captured(picture(3)))
        back = feed.mailbox.take(5)

        assert larger is not None
        assert larger.frame.height == 240
        assert back is not None
        assert back.frame.frame_id == 3
        assert feed.ledger.accounts.dropped["invalid"] == 1
        assert bell is not None


def test_a_capture_delay_makes_every_frame_that_much_older() -> None:
    source = ScriptedSource()
    with running(source, capture_delay_ms=40) as (feed, _, _):
        source.script.put(captured(picture(0), monotonic=1_000_000_000))
        arrival = feed.mailbox.take(5)

        assert arrival is not None
        assert arrival.frame.captured_monotonic == 960_000_000


@pytest.mark.parametrize(("content", "state"), [("black", FeedState.NO_SIGNAL), ("still", FeedState.FROZEN)])
def test_what_does_not_move_is_marked(content: str, state: FeedState) -> None:
    still = picture(0) if content == "still" else np.zeros((120, 160), np.uint8)
    source = ScriptedSource("every")
    with running(source) as (feed, _, _):
        for number in range(30):
            source.script.put(captured(still, monotonic=(number + 1) * 33_000_000))
        states = [arrival.state for arrival in (feed.mailbox.take(5) for _ in range(30)) if arrival]

    assert states[0] is FeedState.LIVE
    assert states[-1] is state


def test_a_region_that_was_found_on_a_menu_is_found_again_once_the_picture_is_there() -> None:
    menu = np.zeros((240, 320), np.uint8)
    menu[:110, :110] = picture(0, height=110, width=110)
    source = ScriptedSource("every")
    with running(source, region="auto") as (feed, _, _):
        for number in range(70):
            screen = menu.copy()
            if number >= 5:
                screen[:, 120:] = picture(number, height=240, width=200)
            source.script.put(captured(screen, monotonic=(number + 1) * 33_000_000))
        regions = [arrival.region for arrival in (feed.mailbox.take(5) for _ in range(70)) if arrival]

    assert regions[0].width < 130
    assert regions[-1].width > 180
    assert feed.state is FeedState.LIVE


def test_a_lost_source_is_gone_before_anybody_is_told_and_before_it_is_opened_again() -> None:
    """Else a decoder and its pictures wait all night for a scanner, and for a moment there are two."""
    source = ScriptedSource()
    source.script.put(SourceLost("unplugged"))
    lost, left = weakref.ref(source), [source]
    del source
    seen: list[object] = []
    enough = threading.Event()

    def open_it(*_: Any) -> ScriptedSource:
        if left:
            return left.pop()
        seen.append(lost())
        enough.set()
        raise SourceUnavailable("switched off")

    config = SourceConfig(uri="phantom:", name="probe")
    feed = Feed(
        config,
        QUICK,
        bell=threading.Condition(),
        tell=lambda *_: seen.append(lost()),
        open_it=open_it,
    )
    gc.disable()
    try:
        feed.start()
        assert enough.wait(5)
        assert seen[:2] == [None, None]
    finally:
        gc.enable()
        feed.stop()


def test_a_lost_source_is_let_go_of_at_once_with_all_its_pictures() -> None:
    """Without waiting for the collector of cycles, which comes when it likes."""
    opened: list[weakref.ref[ScriptedSource]] = []

    def open_it(*_: Any) -> ScriptedSource:
        source = ScriptedSource()
        source.script.put(captured(picture(len(opened))))
        if len(opened) < 5:
            source.script.put(SourceLost("unplugged"))
        opened.append(weakref.ref(source))
        return source

    bell = threading.Condition()
    config = SourceConfig(uri="phantom:", name="probe")
    feed = Feed(config, QUICK, bell=bell, tell=lambda *_: None, open_it=open_it)
    gc.disable()
    try:
        feed.start()
        assert eventually(bell, lambda: feed.mailbox.statistics.put == 6)
        assert [source() is None for source in opened] == [True] * 5 + [False]
    finally:
        gc.enable()
        feed.stop()

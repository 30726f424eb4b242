"""The loop at the heart, with an engine that a test can break."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from models.runtimes import EngineFailed, Prediction, RuntimeDescription, Session
from streamer.analysis import Region
from streamer.analyzer import GIVE_UP_AFTER, Analyzer, EngineGaveUp
from streamer.config import FeedConfig, SourceConfig
from streamer.feed import Arrival, Feed
from streamer.frame import Clock, FeedState, Frame, Pixels
from streamer.lane import Lane
from streamer.ledger import DropReason
from streamer.metrics import Metrics
from streamer.sinks import Result
from streamer.smoothing import SmoothingSettings
from tests.models.tiny import tiny_card
from tests.streamer.results import MODEL
from tests.streamer.scripted import opener, picture


class ScriptedSession(Session):
    """Answers with the negative of what it sees; fails while `broken`; notes the size of every batch."""

    def __init__(self, max_batch: int = 4) -> None:
        described = RuntimeDescription("scripted", "1", "fp32", "test", 1)
        super().__init__(tiny_card(), described, max_batch=max_batch)
        self.broken = False
        self.says = (0.7, 0.2, 0.1)
        self.batches: list[int] = []

    def _run(self, n: int) -> None:
        if self.broken:
            raise EngineFailed("the engine is on fire")
        self.batches.append(n)
        prediction: Prediction = self._predictions[n - 1]
        np.subtract(255, self._inputs[n - 1][..., 0], out=prediction.lesion)
        prediction.classes[:] = self.says

    def _release(self) -> None: ...


class Outlet:
    """Keeps what comes out."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self._came = threading.Condition()

    def offer(self, result: Result, *, wait: bool = False) -> None:  # noqa: ARG002
        with self._came:
            self.results.append(result)
            self._came.notify_all()

    def wait_for(self, count: int) -> list[Result]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.results) >= count, 5)
            return list(self.results)


class Bench:
    """An analyzer with feeds that a test fills by hand."""

    def __init__(self, *names: str) -> None:
        self.bell = threading.Condition()
        self.feeds = {
            name: Feed(
                SourceConfig(uri="phantom:", name=name),
                FeedConfig(),
                bell=self.bell,
                tell=lambda *_: None,
                open_it=opener(),
            )
            for name in names
        }
        self.session, self.outlet = ScriptedSession(), Outlet()
        metrics = Metrics()
        lanes = []
        for feed in self.feeds.values():
            metrics.add_source(feed.name)
            lanes.append(Lane(feed, self.session.card, MODEL, SmoothingSettings(), publisher="test"))
        self.analyzer = Analyzer(self.session, lanes, [self.outlet], metrics, bell=self.bell)
        self.raised: list[BaseException] = []
        self.thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        try:
            self.analyzer.run()
        except EngineGaveUp as error:
            self.raised.append(error)

    def deliver(
        self, name: str, pixels: Pixels, *, state: FeedState = FeedState.LIVE, full_range: bool = True
    ) -> None:
        feed = self.feeds[name]
        now = 1_000_000_000 + feed.ledger.accounts.captured * 33_000_000
        frame = Frame(pixels, name, feed.ledger.capture(), now, 0, Clock.DEVICE, full_range=full_range)
        region = Region(0, 0, frame.width, frame.height)
        if feed.mailbox.put(Arrival(frame, region, state, now)) is not None:
            feed.ledger.drop(DropReason.SUPERSEDED)


@contextmanager
def bench(*names: str) -> Iterator[Bench]:
    made = Bench(*(names or ("probe",)))
    made.thread.start()
    try:
        yield made
    finally:
        made.analyzer.stop()
        made.thread.join(5)


def test_frames_of_several_sources_go_through_the_engine_together() -> None:
    with bench("left", "right") as b:
        with b.bell:  # both are there before the analyzer can look
            b.deliver("left", picture(0))
            b.deliver("right", picture(1))
        results = b.outlet.wait_for(2)

    assert b.session.batches == [2]
    assert [r.analysis.source for r in results] == ["left", "right"]


def test_where_a_batch_does_not_pay_a_result_is_out_before_the_next_frame_goes_in() -> None:
    order: list[str] = []
    with bench("left", "right", "third") as b:
        b.session.batch_pays = False
        run, offer = b.session._run, b.outlet.offer

        def running(n: int) -> None:
            order.append("engine")
            run(n)

        def offering(result: Result, *, wait: bool = False) -> None:
            order.append(result.analysis.source)
            offer(result, wait=wait)

        b.session._run, b.outlet.offer = running, offering  # type: ignore[method-assign]
        with b.bell:
            for seed, name in enumerate(b.feeds):
                b.deliver(name, picture(seed))
        b.outlet.wait_for(3)

    assert order == ["engine", "left", "engine", "right", "engine", "third"]


def test_sources_that_take_turns_are_served_alike_though_one_always_has_a_frame() -> None:
    with bench("left", "right") as b:
        b.session.batch_pays = False
        offer = b.outlet.offer

        def offering(result: Result, *, wait: bool = False) -> None:
            # Its next frame is there before the analyzer looks again.
            if len(b.outlet.results) < 10:
                b.deliver("left", picture(len(b.outlet.results)))
            offer(result, wait=wait)

        b.outlet.offer = offering  # type: ignore[method-assign]
        with b.bell:
            b.deliver("left", picture(0))
            b.deliver("right", picture(1))
        first, second, third = b.outlet.wait_for(3)[:3]

    assert [each.analysis.source for each in (first, second, third)] == ["left", "right", "left"]


def test_a_batch_is_never_larger_than_the_engine_takes_and_nobody_is_left_out() -> None:
    names = [f"feed-{number}" for number in range(6)]
    with bench(*names) as b:  # the engine takes four
        with b.bell:
            for seed, name in enumerate(names):
                b.deliver(name, picture(seed))
        results = b.outlet.wait_for(6)

    assert b.session.batches == [4, 2]
    assert [each.analysis.source for each in results] == names


def test_what_the_model_said_of_the_frame_stands_beside_the_steadied_answer() -> None:
    # The same view with other noise: nothing that would start afresh.
    view = np.repeat(np.repeat(picture(0, height=15, width=20), 8, axis=0), 8, axis=1) // 2 + 60
    noise = np.random.default_rng(1)
    with bench() as b:
        for number in range(6):
            if number == 5:
                b.session.says = (0.1, 0.8, 0.1)
            b.deliver("probe", view + noise.integers(0, 4, view.shape, dtype=np.uint8))
            b.outlet.wait_for(number + 1)
        *_, before, after = (result.analysis for result in b.outlet.results)

    assert after.view_change is None
    assert before.classes is not None
    assert after.classes is not None
    assert after.classes.raw == pytest.approx([0.1, 0.8, 0.1])
    assert after.classes.raw[0] + 0.1 < after.classes.smoothed[0] < before.classes.smoothed[0]
    assert after.classes.label == before.classes.label


def test_it_never_waits_to_fill_a_batch() -> None:
    with bench("left", "right") as b:
        b.deliver("left", picture(0))
        b.outlet.wait_for(1)

    assert b.session.batches == [1]


@pytest.mark.parametrize(
    ("state", "reason", "change"),
    [(FeedState.FROZEN, "frozen", "freeze"), (FeedState.NO_SIGNAL, "no_signal", "state")],
)
def test_a_feed_that_is_not_live_is_reported_and_not_analysed(
    state: FeedState, reason: str, change: str
) -> None:
    with bench() as b:
        b.deliver("probe", picture(0), state=state)
        (result,) = b.outlet.wait_for(1)
        b.deliver("probe", picture(1))
        live = b.outlet.wait_for(2)[1]

    assert b.session.batches == [1]
    assert (result.analysis.state, result.analysis.classes, result.mask) == (state, None, b"")
    assert result.analysis.lesions == []
    assert b.feeds["probe"].ledger.accounts.dropped[reason] == 1
    assert live.analysis.view_change == change
    assert live.analysis.dropped == {reason: 1}


def test_a_frame_that_cannot_be_fitted_costs_itself_and_not_its_neighbour() -> None:
    with bench("left", "right") as b:
        with b.bell:
            b.deliver("left", np.zeros((48, 32, 5), np.uint8))  # no such picture exists
            b.deliver("right", picture(1))
        (result,) = b.outlet.wait_for(1)
        b.deliver("left", picture(2))
        b.outlet.wait_for(2)

    assert result.analysis.source == "right"
    assert b.feeds["left"].ledger.accounts.dropped["failed"] == 1
    assert b.feeds["left"].ledger.accounts.analyzed == 1


def test_a_failing_engine_costs_its_frames_and_recovers() -> None:
    with bench() as b:
        b.session.broken = True
        b.deliver("probe", picture(0))
        while b.feeds["probe"].ledger.accounts.in_flight:
            pass
        b.session.broken = False
        b.deliver("probe", picture(1))
        (result,) = b.outlet.wait_for(1)

    assert result.analysis.frame_id == 1
    assert b.feeds["probe"].ledger.accounts.dropped["failed"] == 1
    assert b.raised == []


def test_an_engine_that_keeps_failing_ends_the_service() -> None:
    with bench() as b:
        b.session.broken = True
        for seed in range(GIVE_UP_AFTER):
            b.deliver("probe", picture(seed))
            while b.feeds["probe"].ledger.accounts.in_flight:
                pass
        b.thread.join(5)

    assert "5 times in a row, last: the engine is on fire" in str(b.raised[0])


def test_video_range_luma_is_seen_as_full_range() -> None:
    with bench() as b:
        b.deliver("probe", np.full((48, 32), 16, np.uint8), full_range=False)
        black = b.outlet.wait_for(1)[0]
        b.deliver("probe", np.full((48, 32), 235, np.uint8), full_range=False)
        b.outlet.wait_for(2)

        assert b.session.input(1)[0].max() == 255
    assert black.mask == b"\xff" * len(black.mask)


def test_stages_add_up_to_the_total() -> None:
    with bench() as b:
        b.deliver("probe", picture(0))
        (result,) = b.outlet.wait_for(1)

    latency = result.analysis.latency
    assert sum(latency.stages.values()) == pytest.approx(latency.total)


class Recorded(Bench):
    """The feeds are recorded studies, of which every frame is analysed."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        for feed in self.feeds.values():
            feed.policy = "every"
            feed.mailbox.resize(8)


def test_of_a_recorded_study_the_engine_has_the_next_frame_while_the_last_is_finished() -> None:
    b = Recorded("probe")
    second_is_in = threading.Event()
    run, offer = b.session._run, b.outlet.offer

    def running(n: int) -> None:
        run(n)
        if len(b.session.batches) == 2:
            second_is_in.set()

    def offering(result: Result, *, wait: bool = False) -> None:
        if result.analysis.seq == 0:
            assert second_is_in.wait(5)
        offer(result, wait=wait)

    b.session._run, b.outlet.offer = running, offering  # type: ignore[method-assign]
    for seed in range(4):
        b.deliver("probe", picture(seed))
    b.thread.start()
    results = b.outlet.wait_for(4)
    b.analyzer.stop()
    b.thread.join(5)

    assert [each.analysis.frame_id for each in results] == [0, 1, 2, 3]
    assert [each.analysis.seq for each in results] == [0, 1, 2, 3]


def test_answers_finished_beside_the_engine_are_their_own_frames() -> None:
    b = Recorded("left", "right")
    levels = [20, 60, 100, 140, 180, 220]
    with b.bell:
        for level in levels:
            b.deliver("left", np.full((48, 32), level, np.uint8))
            b.deliver("right", np.full((48, 32), 255 - level, np.uint8))
    b.thread.start()
    results = b.outlet.wait_for(12)
    b.analyzer.stop()
    b.thread.join(5)

    for result in results:
        shown = result.frame.pixels[0, 0]
        raw = 1 if 255 - int(shown) > 127 else 0
        assert bool(result.analysis.raw_contours) == bool(raw), (result.analysis.source, shown)
    assert all(feed.ledger.accounts.analyzed == len(levels) for feed in b.feeds.values())


def test_frames_that_are_not_live_keep_their_place_in_a_recorded_study() -> None:
    b = Recorded("probe")
    states = [FeedState.LIVE, FeedState.FROZEN, FeedState.LIVE, FeedState.NO_SIGNAL, FeedState.LIVE]
    for seed, state in enumerate(states):
        b.deliver("probe", picture(seed), state=state)
    b.thread.start()
    results = b.outlet.wait_for(5)
    b.analyzer.stop()
    b.thread.join(5)

    assert [each.analysis.state for each in results] == states
    assert [each.analysis.seq for each in results] == list(range(5))


def test_a_model_is_switched_only_when_the_last_one_s_answers_are_out() -> None:
    b = Recorded("probe")
    offer, held = b.outlet.offer, threading.Event()

    def offering(result: Result, *, wait: bool = False) -> None:
        assert held.wait(5)
        offer(result, wait=wait)

    b.outlet.offer = offering  # type: ignore[method-assign]
    b.thread.start()
    b.deliver("probe", picture(0))
    while not b.session.batches:
        pass
    newer = ScriptedSession()
    lanes = [
        Lane(feed, newer.card, MODEL, SmoothingSettings(), publisher="test") for feed in b.feeds.values()
    ]
    threading.Timer(0.2, held.set).start()
    assert b.analyzer.switch(newer, lanes)
    assert len(b.outlet.results) == 1
    b.deliver("probe", picture(1))
    results = b.outlet.wait_for(2)
    b.analyzer.stop()
    b.thread.join(5)

    assert [each.analysis.seq for each in results] == [0, 1]
    assert newer.batches == [1]

"""The synthetic feed as a live source: URIs, pacing and closing."""

import threading

import numpy as np
import pytest

from streamer.frame import Clock
from streamer.sources import SourceOptions, SourceUnavailable, open_source
from streamer.sources.phantom import Phantom, PhantomSource, open_phantom

SMALL = "width=64&height=64"


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000_000
        self.slept_s: list[float] = []

    def now_ns(self) -> int:
        return self.ns

    def sleep(self, closed: threading.Event, seconds: float) -> None:
        assert not closed.is_set()
        self.slept_s.append(seconds)
        self.ns += round(seconds * 1e9)


def played(time: FakeTime, **options: int) -> PhantomSource:
    phantom = Phantom(width=64, height=64, fps=30)
    return PhantomSource(phantom, now_ns=time.now_ns, sleep=time.sleep, **options)


def test_frames_are_due_at_multiples_of_the_frame_period_without_drift() -> None:
    time = FakeTime()
    source = played(time)
    t0 = time.ns
    for number in range(50):
        captured = source.read()
        assert captured is not None
        assert captured.monotonic == t0 + round(number * 1e9 / 30)
        assert time.ns >= captured.monotonic
        assert captured.clock is Clock.PTS
        assert captured.upstream_id == number
        assert captured.media_time_s == pytest.approx(number / 30)
        # Work between two reads eats into the wait; it does not move the next deadline.
        time.ns += 7_000_000


def test_a_reader_that_falls_behind_gets_the_present_and_not_a_backlog() -> None:
    time = FakeTime()
    source = played(time)
    source.read()
    time.ns += 1_010_000_000
    captured = source.read()
    assert captured is not None
    assert captured.upstream_id == 30
    assert np.array_equal(captured.pixels, Phantom(width=64, height=64, fps=30).frame(30).pixels)
    assert time.slept_s == []
    captured = source.read()
    assert captured is not None
    assert captured.upstream_id == 31


def test_a_feed_with_a_number_of_frames_ends_after_them() -> None:
    source = played(FakeTime(), frames=3, start=100)
    read = [source.read() for _ in range(4)]
    assert [captured and captured.upstream_id for captured in read] == [100, 101, 102, None]


def test_prerendered_frames_are_played_forth_and_back() -> None:
    source = played(FakeTime(), prerender=4)
    captured = [source.read() for _ in range(8)]
    rendered = [Phantom(width=64, height=64, fps=30).frame(n).pixels for n in range(4)]
    for one, place in zip(captured, (0, 1, 2, 3, 2, 1, 0, 1), strict=True):
        assert one is not None
        assert np.array_equal(one.pixels, rendered[place])
    assert captured[-1] is not None
    assert captured[-1].upstream_id == 7


def test_closing_wakes_a_waiting_read() -> None:
    waiting = threading.Event()

    def sleep(closed: threading.Event, seconds: float) -> None:
        waiting.set()
        closed.wait(seconds)

    # One frame in 1000 s: the second read would wait that long.
    source = PhantomSource(Phantom(width=64, height=64, fps=0.001), sleep=sleep)
    assert source.read() is not None
    read: list[object] = []
    reader = threading.Thread(target=lambda: read.append(source.read()), daemon=True)
    reader.start()
    assert waiting.wait(30)
    source.close()
    source.close()
    reader.join(30)
    assert not reader.is_alive()
    assert read == [None]
    assert source.read() is None


def test_a_uri_says_everything() -> None:
    uri = f"phantom:?seed=3&lesion=malignant&fps=25&{SMALL}&frames=7&prerender=0&start=5&lift=false&cut=false"
    with open_source(uri) as source:
        assert source.policy == "newest"
        captured = source.read()
    assert captured is not None
    expected = Phantom(seed=3, lesion="malignant", fps=25, width=64, height=64, lift=False, cut=False).frame(
        5
    )
    assert np.array_equal(captured.pixels, expected.pixels)
    assert captured.spacing_mm == expected.spacing_mm


def test_options_hold_where_the_uri_says_nothing() -> None:
    options = SourceOptions(fps=12.5, size=(96, 80))
    phantom = open_phantom("phantom:", options).phantom
    assert (phantom.fps, phantom.width, phantom.height) == (12.5, 96, 80)
    phantom = open_phantom("phantom:?fps=50&height=64", options).phantom
    assert (phantom.fps, phantom.width, phantom.height) == (50, 96, 64)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sed=3", r"unknown key 'sed'; allowed are seed, lesion"),
        ("seed=x", r"seed='x' is not allowed; give a whole number, 0 or more"),
        ("seed=-1", r"seed='-1'"),
        ("seed=", r"seed=''"),
        ("lesion=cyst", r"lesion='cyst' is not allowed; give mixed, benign, malignant, none"),
        ("fps=0", r"fps='0' is not allowed; give frames per second, above 0"),
        ("fps=nan", r"fps='nan'"),
        ("fps=fast", r"fps='fast'"),
        ("width=10", r"width='10' is not allowed; give a whole number from 64 to 4096"),
        ("height=5000", r"height='5000'"),
        ("frames=1.5", r"frames='1.5'"),
        ("prerender=1000000", r"prerender='1000000'"),
        ("lift=no", r"lift='no' is not allowed; give true or false"),
    ],
)
def test_a_bad_uri_is_refused_by_name(query: str, said: str) -> None:
    with pytest.raises(SourceUnavailable, match=said):
        open_phantom(f"phantom:?{query}", SourceOptions())


def test_a_path_in_the_uri_is_refused() -> None:
    with pytest.raises(SourceUnavailable, match="has no path 'seed=3'"):
        open_phantom("phantom:seed=3", SourceOptions())


@pytest.mark.parametrize(
    "options", [SourceOptions(size=(8, 480)), SourceOptions(fps=0.0)], ids=["size", "fps"]
)
def test_bad_options_are_refused(options: SourceOptions) -> None:
    with pytest.raises(SourceUnavailable, match="is not allowed"):
        open_phantom("phantom:", options)

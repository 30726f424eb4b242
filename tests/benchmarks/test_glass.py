"""`bench glass`: what a real browser shows, read back from its pixels."""

from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from benchmarks import glass, plot
from benchmarks.daemon import BenchError
from benchmarks.glass import GlassSettings, Shown, draw, find_browser, judge, run_glass, show
from models.artifact import zoo_names
from streamer.sources.phantom.code import NUMBER_BITS, TICK_NS, check
from tests.programs import require_program

SECOND = 1_000_000_000


def shown(number: int, due_ns: int, *, after_ms: float = 40.0, frame_id: int | None = None) -> Shown:
    """A picture of frame `number` that appeared so long after it was due."""
    ticks = due_ns // TICK_NS
    first = number | check(number, ticks) << NUMBER_BITS
    return Shown(due_ns + after_ms * 1e6, first, ticks, number if frame_id is None else frame_id, True)


def due(number: int) -> int:
    return 5 * SECOND + number * SECOND // 25


TOLD = {number: (number, due(number)) for number in range(20)}


def test_latency_is_from_the_instant_in_the_pixels_to_their_appearance() -> None:
    pictures = [shown(number, due(number), after_ms=30 + number) for number in (3, 4, 6)]
    report = judge(pictures, TOLD)
    assert report["latency_ms"] == [33, 34, 36]
    assert report["glass_to_glass_ms"]["p50"] == 34
    assert (report["pictures"], report["compared"], report["frames_not_shown"]) == (3, 3, 1)


def test_an_overlay_on_another_frames_picture_is_refused() -> None:
    pictures = [shown(3, due(3)), shown(4, due(4), frame_id=3)]
    with pytest.raises(BenchError, match="the overlay of frame 3, the feed's 3, was on picture 4"):
        judge(pictures, TOLD)


def test_a_picture_with_another_frames_instant_is_refused() -> None:
    with pytest.raises(BenchError, match="frame 3"):
        judge([shown(3, due(4))], TOLD)


def test_a_torn_strip_is_counted_and_not_believed() -> None:
    torn = Shown(0.0, shown(3, due(3)).first, shown(4, due(4)).second, 3, True)
    report = judge([shown(2, due(2)), torn], TOLD)
    assert (report["pictures"], report["unreadable"]) == (1, 1)


def test_a_page_that_shows_nothing_readable_is_an_error() -> None:
    with pytest.raises(BenchError, match="none of 1 pictures"):
        judge([Shown(0.0, 1 << NUMBER_BITS, 0, 0, True)], TOLD)


def test_a_missing_browser_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("playwright")
    monkeypatch.setattr(glass, "_BROWSERS", ("no-such-browser",))
    with pytest.raises(BenchError, match="apt install chromium"):
        find_browser()


def test_a_real_page_shows_each_overlay_with_its_own_picture(tmp_path: Path) -> None:
    pytest.importorskip("playwright", reason="reads the page with playwright")
    require_program("chromium", package="chromium")
    if "default" not in zoo_names():
        pytest.skip("no model ships with this checkout")
    settings = GlassSettings(
        seconds=3,
        warm_up_s=0.5,
        fps=10,
        width=320,
        height=240,
        window=(640, 480),
        prerendered=20,
    )
    with Progress(disable=True) as progress:
        report = run_glass(settings, progress)

    assert report["pictures"] >= 3
    assert report["compared"] >= 3
    assert all(latency > 0 for latency in report["latency_ms"])
    assert report["animation_frames_per_s"] > 0
    console = Console(record=True, width=120)
    show(report, console)
    assert "glass to glass" in console.export_text()
    plot.save(draw(report), tmp_path / "plot.png", lambda console: show(report, console))
    assert (tmp_path / "plot.png").stat().st_size > 1000

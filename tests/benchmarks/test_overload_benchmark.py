"""`bench overload` on a short run: what it counts adds up, whatever the times are."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from benchmarks.command import bench
from benchmarks.overload import OverloadSettings, run_overload
from benchmarks.overload_report import draw, show

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    settings = OverloadSettings(
        factors=(1.5, 4.0), sources=(1,), width=160, height=120, seconds=2, warm_up_s=0.2, repeats=1
    )
    return run_overload(settings, Progress(disable=True))


def steps(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [*report["load"].values(), *report["sources"].values()]


def test_every_frame_is_accounted_for(report: dict[str, Any]) -> None:
    for step in steps(report):
        counts = step["accounts"]
        gone = counts["passed_over"] + counts["dropped_frames"] + counts["lost_by_subscriber"]
        assert counts["captured"] == counts["analyzed"] + gone
        assert step["frames"] == counts["analyzed"]
        assert step["frames_due"] >= counts["captured"]
        late = step["deadline_misses"]["33.3"]["frames"]
        assert late >= step["frames_due"] - step["frames"]


def test_a_feed_beyond_what_the_machine_can_do_is_dropped_and_does_not_wait(report: dict[str, Any]) -> None:
    heaviest = report["load"]["4"]

    assert heaviest["answered_share"] < 1
    assert set(heaviest["accounts"]["dropped"]) == {"superseded"}
    assert report["checks"]["in_flight_max"] <= 3


def test_rates_are_multiples_of_what_a_flooded_daemon_delivers(report: dict[str, Any]) -> None:
    for factor, step in report["load"].items():
        assert 1e3 / step["interval_ms"] == pytest.approx(float(factor) * report["capacity_fps"], rel=1e-3)
    for step in report["sources"].values():
        assert step["interval_ms"] == pytest.approx(1e3 / 30, abs=1e-3)


def test_the_largest_number_of_feeds_keeps_up_and_so_do_all_smaller(report: dict[str, Any]) -> None:
    kept = [step["deadline_misses"]["33.3"]["share"] <= 0.01 for step in report["sources"].values()]
    largest = report["largest_sources"]

    assert all(kept[:largest])
    assert largest == len(kept) or not kept[largest]


def test_it_is_shown_and_drawn(report: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    console = Console(width=120)
    with console.capture() as capture:
        show(json.loads(json.dumps(report)), console)
    assert "feeds of 30 fps" in capture.get()

    draw(report, tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--factors", "fast"], "--factors are numbers with commas between"),
        (["--factors", "0"], "--factors are from 0.1 to 10"),
        (["--sources", "1.5"], "--sources are whole numbers"),
        (["--size", "800"], "--size is WIDTHxHEIGHT"),
    ],
)
def test_wrong_options_are_one_clear_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(bench, ["overload", *arguments])

    assert result.exit_code == 2
    assert message in result.output

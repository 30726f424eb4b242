"""`bench soak`: real feeds that are torn off and come back, and everything accounted for."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

pytest.importorskip("onnx", reason="the small model is made with the onnx package")

from benchmarks import plot, soak
from benchmarks.soak import JUDGED, UNITS, SoakSettings, draw, run_soak, show
from tests.models.tiny import save, tiny_model


@pytest.fixture
def settings(tmp_path: Path) -> SoakSettings:
    return SoakSettings(
        minutes=0.2,
        fps=15,
        width=160,
        height=128,
        window_s=0.75,
        reconnect_s=3,
        warm_up_s=1,
        artifact=str(save(tiny_model(), tmp_path / "tiny.onnx")),
        runtime="onnxruntime",
    )


def test_a_soak_counts_every_frame_and_draws_every_slope(settings: SoakSettings, tmp_path: Path) -> None:
    with Progress(disable=True) as progress:
        report = run_soak(settings, progress)

    assert report["senders_killed"] >= 2
    assert 1 <= report["reconnects"] <= report["senders_killed"]
    assert [account["name"] for account in report["accounts"]] == ["tcp", "tcp-2"]
    for account in report["accounts"]:
        gone = account["analyzed"] + sum(account["dropped"].values()) + account["in_flight"]
        assert account["captured"] == gone > 0
    assert len(report["windows"]) == 16
    assert sum(window["frames"] for window in report["windows"]) > 0
    assert set(report["trends_per_hour"]) >= {"memory_mib", "threads", "descriptors", "cpu_cores"}
    assert set(JUDGED) <= set(UNITS)
    for found in report["trends_per_hour"].values():
        assert found["low"] <= found["high"]
    assert report["verdict"] in ("steady", "growing", "too short to say")
    assert not report["interrupted"]
    assert json.loads(json.dumps(report)) == report
    console = Console(record=True, width=120)
    show(report, console)
    assert "senders killed" in console.export_text()
    plot.save(draw(report), tmp_path / "plot.png", lambda console: show(report, console))
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_ctrl_c_ends_it_with_what_there_is(settings: SoakSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = soak._windows

    def until_the_second(*arguments: object) -> Iterator[object]:
        for number, window in enumerate(windows(*arguments)):  # type: ignore[arg-type]
            yield window
            if number == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(soak, "_windows", until_the_second)
    with Progress(disable=True) as progress:
        report = run_soak(settings, progress)

    assert report["interrupted"]
    assert len(report["windows"]) == 2
    assert report["verdict"] == "too short to say"

"""`bench startup`: real daemons, told to be ready by the protocol of service managers."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

pytest.importorskip("onnx", reason="the small model is made with the onnx package")

from benchmarks import plot
from benchmarks.daemon import BenchError
from benchmarks.startup import StartupSettings, draw, run_startup, show
from tests.models.tiny import save, tiny_model


def test_starts_are_timed_to_ready_and_to_the_first_result_with_and_without_caches(tmp_path: Path) -> None:
    model = save(tiny_model(), tmp_path / "tiny.onnx")
    settings = StartupSettings(repeats=1, cold_repeats=1, width=160, height=128, artifact=str(model))
    with Progress(disable=True) as progress:
        report = run_startup(settings, progress)

    for kind in ("cold", "warm"):
        (start,) = report[kind]["starts"]
        assert 0 < start["ready_s"] <= start["first_result_s"]
        assert 10 < start["ready_mib"] <= start["peak_mib"]
        assert start["cpu_s"] > 0
        assert not start["torch"]
    assert report["python_and_imports_s"]["median"] > 0
    assert json.loads(json.dumps(report)) == report
    console = Console(record=True, width=120)
    show(report, console)
    assert "warm: ready, s" in console.export_text()
    plot.save(draw(report), tmp_path / "plot.html", lambda console: show(report, console))
    assert "<svg" in (tmp_path / "plot.html").read_text()


def test_a_daemon_that_cannot_start_is_quoted(tmp_path: Path) -> None:
    settings = StartupSettings(
        repeats=1, cold_repeats=0, width=160, height=128, artifact=str(tmp_path / "none.onnx")
    )
    with Progress(disable=True) as progress, pytest.raises(BenchError, match="no such model file"):
        run_startup(settings, progress)

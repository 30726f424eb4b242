"""`bench profile`: a real daemon, looked into from outside while it analyses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

pytest.importorskip("onnx", reason="the small model is made with the onnx package")

from benchmarks import plot, profile
from benchmarks.daemon import BenchError
from benchmarks.feeds import FeedSettings
from benchmarks.profile import ProfileSettings, draw, read_stacks, run_profile, show, summarise
from tests.models.tiny import save, tiny_model

STACKS = """\
thread (0x7F1C): analyzer;run (streamer/analyzer.py:66);_analyze (streamer/analyzer.py:131) 30
thread (0x7F1C): analyzer;run (streamer/analyzer.py:66);_analyze (streamer/analyzer.py:140);fit (a/f.py:9) 10
thread (0x7F2D): feed-tcp;_pump (streamer/feed.py:190);_pump (streamer/feed.py:191) 20
thread (0x7F2D): feed-tcp 1
"""


def test_what_was_seen_is_summed_up_by_thread_and_by_function_whatever_the_line() -> None:
    found = summarise(read_stacks(STACKS), ms_per_look=0.01)

    assert found["python_ms_per_frame"] == 0.61
    assert found["threads_ms"] == {"analyzer": 0.4, "feed-tcp": 0.21}
    assert found["functions"] == [
        {"name": "_analyze (streamer/analyzer.py)", "own_ms": 0.3, "with_calls_ms": 0.4},
        {"name": "_pump (streamer/feed.py)", "own_ms": 0.2, "with_calls_ms": 0.2},
        {"name": "fit (a/f.py)", "own_ms": 0.1, "with_calls_ms": 0.1},
        {"name": "(no call yet)", "own_ms": 0.01, "with_calls_ms": 0.01},
    ]


def test_another_form_of_stacks_is_refused() -> None:
    with pytest.raises(BenchError, match="does not read: 'run;analyze many'"):
        read_stacks("run;analyze many")


@pytest.fixture
def may_look() -> None:
    """Skip where py-spy is not installed, or the system lets it look into no other process."""
    beside = Path(sys.executable).with_name("py-spy")
    spy = str(beside) if beside.is_file() else shutil.which("py-spy")
    if spy is None:
        pytest.skip("needs py-spy: pip install 'sonostream[dev]'")
    waiting = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        looked = subprocess.run(
            [spy, "dump", "--nonblocking", "--pid", str(other.pid)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        other.kill()
    if looked.returncode:
        pytest.skip(f"this system lets py-spy look into no process: {looked.stderr.strip()}")


@pytest.mark.usefixtures("may_look")
def test_a_running_daemon_is_looked_into(tmp_path: Path) -> None:
    model = save(tiny_model(), tmp_path / "tiny.onnx")
    feed = FeedSettings("phantom", fps=60, width=160, height=128)
    settings = ProfileSettings(feed, seconds=2, warm_up_s=0.5, artifact=str(model), runtime="onnxruntime")
    with Progress(disable=True) as progress:
        report = run_profile(settings, progress)

    assert report["frames"] > 20
    assert 0 < report["python_ms_per_frame"] < 1e3 * settings.seconds / report["frames"]
    assert "analyzer" in report["threads_ms"]
    functions = {each["name"] for each in report["functions"] if each["with_calls_ms"]}
    assert any("streamer/" in name for name in functions)
    assert json.loads(json.dumps(report)) == report
    console = Console(record=True, width=120)
    show(report, console)
    assert "all threads" in console.export_text()
    plot.save(draw(report), tmp_path / "plot.png", lambda console: show(report, console))
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_without_the_program_that_looks_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile.sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    settings = ProfileSettings(FeedSettings("phantom"))
    with Progress(disable=True) as progress, pytest.raises(BenchError, match="pip install"):
        run_profile(settings, progress)


def test_a_program_that_may_not_look_is_quoted_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "py-spy"
    refusing.write_text("#!/bin/sh\necho 'Error: Permission Denied' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(profile, "_find_spy", lambda: str(refusing))
    model = save(tiny_model(), tmp_path / "tiny.onnx")
    feed = FeedSettings("phantom", fps=30, width=160, height=128)
    settings = ProfileSettings(feed, seconds=100, warm_up_s=0.1, artifact=str(model), runtime="onnxruntime")
    with Progress(disable=True) as progress, pytest.raises(BenchError, match="Permission Denied; Linux lets"):
        run_profile(settings, progress)

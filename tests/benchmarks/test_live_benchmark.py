"""`bench live` on short runs: what it counts adds up, whatever the times are."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from benchmarks.coded_feed import render
from benchmarks.command import bench
from benchmarks.figures import PERCENTILES
from benchmarks.live import OURS, LiveRun, LiveSettings, run_live
from benchmarks.live_report import draw, show
from benchmarks.measured import Block, accounts, deadline_misses, timings
from benchmarks.references import LOOPS
from benchmarks.watch import FloorRun, Seen, Window
from tests.models.tiny import save, tiny_model

pytestmark = pytest.mark.timeout(300)

Measured = tuple[dict[str, Any], LiveRun]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture(scope="module")
def coded(model: str) -> Measured:
    """A coded stream, with all references."""
    settings = LiveSettings(
        feed="h264",
        width=160,
        height=120,
        seconds=2,
        warm_up_s=0.3,
        artifact=model,
        runtime="onnxruntime",
        references=tuple(LOOPS),
    )
    return run_live(settings, Progress(disable=True))


@pytest.fixture(scope="module")
def raw(model: str) -> Measured:
    """A phantom at 60 fps, twice."""
    settings = LiveSettings(
        fps=60,
        width=160,
        height=120,
        seconds=2,
        warm_up_s=0.3,
        artifact=model,
        runtime="onnxruntime",
        repeats=2,
    )
    return run_live(settings, Progress(disable=True))


@pytest.mark.parametrize("measured", ["coded", "raw"])
def test_every_frame_is_accounted_for(measured: str, request: pytest.FixtureRequest) -> None:
    report, run = request.getfixturevalue(measured)

    gone = report["passed_over"] + report["dropped_frames"] + report["lost_by_subscriber"]
    assert report["captured"] == report["analyzed"] + gone
    assert report["frames"] == report["analyzed"] == sum(len(block.seen) for block in run.blocks[OURS])
    assert report["frames_due"] >= report["captured"] > 1
    # At the end of each block a drop may have been told, or not yet.
    told = sum(report["dropped"].values())
    assert abs(told - report["dropped_frames"]) <= len(run.blocks[OURS])


def test_all_repeats_together_hold_the_frames_of_each(raw: Measured) -> None:
    report, _ = raw

    assert len(report["repeats"]) == 2
    for count in ("frames", "frames_due", "captured", "analyzed", "floor_samples"):
        assert report[count] == sum(repeat[count] for repeat in report["repeats"]), count
    for path, values in report["spread"].items():
        key, _, name = path.partition(".")
        assert [values["low"], values["high"]] == sorted(repeat[key][name] for repeat in report["repeats"])


def test_a_reference_says_when_it_had_the_answer_to_which_frame(coded: Measured) -> None:
    report, run = coded

    assert set(report["references"]) == set(LOOPS)
    for name in LOOPS:
        (block,) = run.blocks[name]
        theirs = report["references"][name]
        assert theirs["frames"] == len(block.due_ns) > 1
        assert (block.latency_ms > 0).all(), "an answer before its frame was due"
        # The feed's frames, in order, at its rate.
        steps = np.diff(block.due_ns) * 1e-6 / block.interval_ms
        assert np.allclose(steps, np.round(steps), atol=0.05)
        assert (np.round(steps) >= 1).all()
        ours = report["end_to_end_ms"]["p50"] / theirs["end_to_end_ms"]["p50"]
        assert theirs["ours_over"]["p50"] == pytest.approx(ours, abs=1e-3)


def test_stages_cover_the_way_from_capture_to_subscriber(coded: Measured) -> None:
    report, run = coded

    assert list(report["stages_ms"])[:2] == ["capture", "wait"]
    assert list(report["stages_ms"])[-2:] == ["publish", "transport"]
    (block,) = run.blocks[OURS]
    for result in block.seen:
        whole = (result.received_ns - result.captured_ns) * 1e-6
        assert sum(result.stages_ms.values()) == pytest.approx(whole, abs=0.01)


def test_the_report_is_plain_json_with_ordered_percentiles(coded: Measured) -> None:
    report = json.loads(json.dumps(coded[0]))

    for key in ("end_to_end_ms", "floor_ms", "age_at_display_ms", "jitter_ms"):
        values = [report[key][name] for name in PERCENTILES]
        assert values == sorted(values), key
    assert set(report["deadline_misses"]) == {"16.7", "33.3"}
    assert report["cpu_ms_per_frame"]["program"] > 0
    assert report["cpu_ms_per_frame"]["floor"] > 0


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_a_run_is_shown_and_drawn(coded: Measured, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report, run = coded
    console = Console(width=120)
    with console.capture() as capture:
        show(report, console)
    assert "PyAV, one thread" in capture.get()

    file = tmp_path / f"run{suffix}"
    draw(report, run, file)
    begin = file.read_bytes()[:200]
    assert begin.startswith(b"\x89PNG") if suffix == ".png" else b"<html" in begin
    if suffix == ".html":
        assert "<svg" in file.read_text()


def test_any_source_can_be_measured_and_a_file_has_its_frames_decoded_for_the_floor(
    model: str, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.avi"
    write_video(clip, frames=40, fps=20)

    report, run = run_live(
        LiveSettings(
            feed="source",
            source=str(clip),
            seconds=2,
            warm_up_s=0.3,
            artifact=model,
            runtime="onnxruntime",
        ),
        Progress(disable=True),
    )

    assert (report["settings"]["width"], report["settings"]["height"]) == (160, 120)
    assert report["latency_from"] == "due by presentation time"
    assert report["floor_decodes"]
    assert report["floor_parts_ms"]["decode"]["p50"] > 0
    (block,) = run.blocks[OURS]
    assert block.interval_ms == pytest.approx(50, rel=0.02)
    assert report["captured"] == report["analyzed"] + report["dropped_frames"] + report["passed_over"]


def write_video(file: Path, *, frames: int, fps: int) -> None:
    with av.open(str(file), "w") as out:
        stream = out.add_stream("mjpeg", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuvj420p"
        for picture in render(frames=frames, width=160, height=120, fps=fps, seed=1):
            frame = av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuvj420p")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


MS = 1_000_000


def block(latencies_ms: list[int | None], *, interval_ms: int = 10) -> Block:
    """Frames due every interval from 1 s on; None: dropped."""
    seen: list[Seen] = []
    for number, latency in enumerate(latencies_ms):
        due = 1_000_000_000 + number * interval_ms * MS
        if latency is not None:
            seen.append(Seen("a", len(seen), number, True, due, None, due + latency * MS, {}, {}))
    return Block(
        window=Window(1.0, 1.0 + 1e-3 * interval_ms * len(latencies_ms)),
        due_ns=[each.captured_ns for each in seen],
        done_ns=[each.received_ns for each in seen],
        interval_ms=interval_ms,
        cpu_s=1.0,
        memory_mib=[1.0],
        floor=FloorRun([], 0.0),
        expected=len(latencies_ms),
        seen=seen,
    )


def test_a_dropped_frame_misses_every_deadline() -> None:
    assert deadline_misses(block([10, 20, None, 40]).latency_ms, 4) == {
        "16.7": {"frames": 3, "share": 0.75},
        "33.3": {"frames": 2, "share": 0.5},
    }


def test_a_display_shows_the_age_of_the_newest_result() -> None:
    ages = block([5] * 50 + [None] * 10).age_ms

    # A tick falls anywhere within an interval while results come; then nothing new makes it older.
    assert ages[:28].min() >= 5
    assert ages[:28].max() < 15
    assert ages[-1] > 90


def test_drops_are_counted_by_the_frames_own_numbers() -> None:
    counts = accounts([block([5, None, None, 5]), block([5, 5])])

    assert counts["captured"] == 6
    assert counts["analyzed"] == 4
    assert counts["dropped_frames"] == 2
    assert counts["lost_by_subscriber"] == 0


def test_a_result_that_did_not_arrive_is_a_loss_and_no_drop() -> None:
    all_but_one = block([5, 5, 5])
    del all_but_one.seen[1]

    counts = accounts([all_but_one])

    assert (counts["lost_by_subscriber"], counts["dropped_frames"]) == (1, 0)


def test_a_run_without_answers_cannot_be_summarised() -> None:
    with pytest.raises(ValueError, match="no durations"):
        timings([block([])])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--feed", "film"], "--feed is phantom or h264, not 'film'"),
        (["--size", "big"], "--size is WIDTHxHEIGHT"),
        (["--references"], "give --feed h264"),
        (["--plot", "run.gif"], "--plot writes .png or .html"),
        (["--source", "nosuch.mp4", "--seconds", "2"], "no such file or folder: 'nosuch.mp4'"),
    ],
)
def test_wrong_options_are_one_clear_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(bench, ["live", *arguments])

    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output

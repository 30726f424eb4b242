"""`bench offline`: every frame of a recorded study, once and in order, against the engine alone."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

pytest.importorskip("onnx", reason="the small model is made with the onnx package")

from benchmarks import plot
from benchmarks.command import bench
from benchmarks.daemon import BenchError
from benchmarks.offline import OfflineSettings, StudyKind, check_identity, draw, run_offline, show
from tests.models.tiny import save, tiny_model


@pytest.mark.parametrize("study", ["h264", "mcap"])
def test_a_study_is_analysed_frame_by_frame_and_compared_with_the_engine(
    study: StudyKind, tmp_path: Path
) -> None:
    if study == "mcap":
        pytest.importorskip("mcap", reason="recordings need the formats extra")
    settings = OfflineSettings(
        study=study,
        frames=40,
        width=160,
        height=128,
        rounds=2,
        round_s=0.5,
        artifact=str(save(tiny_model(), tmp_path / "tiny.onnx")),
        runtime="onnxruntime",
    )
    with Progress(disable=True) as progress:
        report = run_offline(settings, progress)

    identity = report["identity"]
    assert identity["captured"] == identity["analyzed"] + identity["in_flight"]
    assert identity["frames"] + identity["lost_on_the_way"] == identity["last"] - identity["first"] + 1
    assert identity["frames"] > settings.frames  # over the end of the file and into the next lap
    assert len(report["rounds"]) == 2
    for each in report["rounds"]:
        assert each["frames_per_s"] > 0
        assert each["engine_per_s"] > 0
        assert each["decode_cpu_ms"] > 0
    assert report["ratio"]["min"] <= report["ratio"]["median"] <= report["ratio"]["max"]
    assert report["model"]["name"] == "tiny"
    assert json.loads(json.dumps(report)) == report
    console = Console(record=True, width=120)
    show(report, console)
    assert "the engine alone" in console.export_text()
    plot.save(draw(report), tmp_path / "plot.png", lambda console: show(report, console))
    assert (tmp_path / "plot.png").stat().st_size > 1000


GOOD = [(seq, seq + 10, (seq + 10) / 30) for seq in range(5)]


def test_results_lost_on_their_way_are_counted_and_no_mistake() -> None:
    assert check_identity(GOOD, fps=30)["lost_on_the_way"] == 0
    assert check_identity(GOOD[:1] + GOOD[3:], fps=30) == {
        "frames": 3,
        "first": 10,
        "last": 14,
        "lost_on_the_way": 2,
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((3, 14, 14 / 30), "after frame 12"),  # a frame was left out
        ((3, 12, 12 / 30), "after frame 12"),  # a frame came twice
        ((2, 13, 13 / 30), "after frame 12"),  # a result came twice
        ((3, 13, 12 / 30), "is of 0.4000 s"),  # another frame's time
    ],
)
def test_a_frame_that_is_left_out_repeated_or_taken_for_another_is_refused(
    wrong: tuple[int, int, float], said: str
) -> None:
    with pytest.raises(BenchError, match=said):
        check_identity([*GOOD[:3], wrong, GOOD[4]], fps=30)


def test_a_study_of_another_kind_is_refused_with_what_is_known() -> None:
    said = CliRunner().invoke(bench, ["offline", "--study", "tape"])
    assert said.exit_code == 2
    assert "--study is h264 or mcap, not 'tape'" in said.output


def test_a_plot_of_another_format_is_refused_before_the_run() -> None:
    said = CliRunner().invoke(bench, ["offline", "--plot", "plot.gif"])
    assert said.exit_code == 2
    assert "--plot writes .png or .html" in said.output

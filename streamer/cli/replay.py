"""`sonostream replay`: what a new model, version or runtime changes for a recording."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cv2
import msgspec
import typer
from rich.console import Console
from rich.table import Table

from models.artifact import ArtifactError
from models.runtimes import EngineError
from streamer.analysis import INTENDED_USE, Analysis
from streamer.cli.run import fail
from streamer.sources import SourceUnavailable

if TYPE_CHECKING:
    from streamer.recording import Recorded
    from streamer.replay import Answer, Difference


def replay(
    path: Annotated[Path, typer.Argument(help="A recording with pictures, such as study.mcap.")],
    model: Annotated[str, typer.Option(help="An exported model (.onnx), or the one that ships.")] = "default",
    runtime: Annotated[str, typer.Option(help="Engine: auto, openvino, onnxruntime...")] = "auto",
    against: Annotated[
        Path | None,
        typer.Option(
            help="Compare with the results in this file, made with --save; else the recording's own."
        ),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the new results (MCAP).")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the comparison as JSON.")] = None,
) -> None:
    """Run a recording through a model again and report what changed. Research use only.

    Frames keep the time between them, so that the same recording, model and runtime give the same answers.
    Agreement says nothing about which of the two is right.
    Example: sonostream replay study.mcap --model new.onnx
    """
    try:
        from streamer.recording import RecordingError, RecordingWriter, survey
        from streamer.replay import ReplayError, Rerun, compare, recorded_smoothing
    except SourceUnavailable as error:
        fail(str(error))
    console = Console()
    writer = None
    try:
        overview = survey(path)
        if against is not None:
            survey(against)
        rerun = Rerun(model, runtime=runtime)
        writer = None if save is None else RecordingWriter(save, config=overview.config)

        def keep(frame: "Recorded", answer: "Answer") -> None:
            if writer is not None:
                writer.add(_as_of(frame, answer), _mask(answer), None)

        smoothing = recorded_smoothing(overview)
        differences = [
            compare(rerun, path, source, smoothing, against=against, keep=keep) for source in overview.sources
        ]
        rerun.close()
    except (RecordingError, ReplayError, ArtifactError, EngineError, OSError, ValueError) as error:
        fail(str(error))
    finally:
        if writer is not None:
            writer.close()
    if as_json is not None:
        report = {
            "recording": path.name,
            "model": msgspec.to_builtins(rerun.model),
            "intended_use": INTENDED_USE,
            "sources": [_numbers(each) for each in differences],
        }
        as_json.write_text(json.dumps(report, indent=2) + "\n")
    console.print(_table(differences, f"{rerun.model.name} {rerun.model.version} ({rerun.model.runtime})"))
    console.print(f"Agreement between two runs, not accuracy. {INTENDED_USE.capitalize()}.")


def _as_of(frame: "Recorded", answer: "Answer") -> Analysis:
    """Give a new answer the identity of the frame as it was recorded."""
    was = frame.analysis
    return msgspec.structs.replace(
        answer.analysis,
        seq=was.seq,
        frame_id=was.frame_id,
        captured_at=was.captured_at,
        captured_monotonic=was.captured_monotonic,
        published_monotonic=was.captured_monotonic,
    )


def _mask(answer: "Answer") -> bytes | None:
    return None if answer.mask is None else cv2.imencode(".png", answer.mask)[1].tobytes()


def _numbers(difference: "Difference") -> dict[str, object]:
    """As JSON has no NaN, what was not measured is null."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in difference._asdict().items()
    }


def _table(differences: "list[Difference]", title: str) -> Table:
    table = Table(title=f"Recorded results against {title}")
    for column in ("source", "frames", "identical", "same label", "Dice", "malignancy", "largest change"):
        table.add_column(column, justify="left" if column == "source" else "right")
    for each in differences:
        table.add_row(
            each.source,
            str(each.compared),
            str(each.identical),
            f"{each.label_agreement:.1%}",
            f"{each.dice:.3f}",
            f"{each.malignancy_difference:+.3f}",
            f"{each.malignancy_largest:.3f}",
        )
    return table

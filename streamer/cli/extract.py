"""`sonostream extract`: other files of a recording."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streamer.cli.run import fail
from streamer.sources import SourceUnavailable

if TYPE_CHECKING:
    from streamer.extract.facts import Facts
    from streamer.extract.frames import Span


def extract(
    path: Annotated[Path, typer.Argument(help="A recording, such as study.mcap.")],
    video: Annotated[
        Path | None, typer.Option(help="MP4 with contour, class and intended use burned in.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Findings as comma-separated values.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Findings as Parquet (needs pyarrow).")] = None,
    dicom_seg: Annotated[
        Path | None,
        typer.Option(help="New folder for a DICOM Segmentation, and the clip it lies on (needs highdicom)."),
    ] = None,
    dicom_source: Annotated[
        Path | None,
        typer.Option(help="The DICOM clip that was analysed: the Segmentation refers to it, in its study."),
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(help="One HTML file: charts, key frames and lesions.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Which source, where there are several.")] = None,
    start: Annotated[float, typer.Option(help="Begin so many seconds into the recording.", min=0)] = 0.0,
    end: Annotated[float | None, typer.Option(help="End so many seconds into it.", min=0)] = None,
) -> None:
    """Make a video, tables, DICOM or a summary of a recording. Research use only.

    All of them count the same frames: row, video frame, DICOM frame and key frame of one number belong
    together. Files are never overwritten.

    Example: sonostream extract study.mcap --video study.mp4 --csv findings.csv --summary summary.html
    """
    try:
        from streamer.extract.facts import gather
        from streamer.extract.frames import ExtractError, Span, choose_source, shown_frames
        from streamer.recording import RecordingError, survey
    except SourceUnavailable as error:
        fail(str(error))
    asked = {"video": video, "csv": csv, "parquet": parquet, "dicom": dicom_seg, "summary": summary}
    if not any(asked.values()):
        fail("nothing to make: give --video, --csv, --parquet, --dicom-seg or --summary")
    if dicom_source is not None and dicom_seg is None:
        fail("--dicom-source belongs to --dicom-seg")
    span = Span(start, float("inf") if end is None else end)
    console = Console(stderr=True)
    try:
        name = choose_source(survey(path), source, path)
        with _progress(console) as progress:
            reading = progress.add_task("reading", total=None)
            facts = gather(
                progress.track(shown_frames(path, name, span, wanted=()), task_id=reading, total=None)
            )
            if not facts.frames:
                fail(f"{path} holds no frame of {name} in this part")
            progress.remove_task(reading)
            _make(path, name, span, facts, asked, dicom_source, progress)
    except (ExtractError, RecordingError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write: {error.strerror}: {error.filename or ''}")
    made = ", ".join(str(each) for each in asked.values() if each is not None)
    console.print(f"{len(facts.frames)} frames of {name}: {made}", markup=False, highlight=False)


def _make(
    path: Path,
    name: str,
    span: "Span",
    facts: "Facts",
    asked: dict[str, Path | None],
    dicom_source: Path | None,
    progress: Progress,
) -> None:
    """Go through the frames once and hand each to everything that was asked for."""
    from streamer.extract.frames import shown_frames

    with ExitStack() as stack:
        # What is made of a recording is for the same eyes as the recording.
        stack.callback(os.umask, os.umask(0o077))
        makers = [
            stack.enter_context(_maker(kind, target, facts, path.name, name, dicom_source))
            for kind, target in asked.items()
            if target is not None
        ]
        whole = asked["video"] is not None or (asked["dicom"] is not None)
        wanted = None if whole else frozenset().union(*(getattr(each, "numbers", ()) for each in makers))
        frames = shown_frames(path, name, span, wanted=wanted or (() if not whole else None))
        for shown in progress.track(frames, total=len(facts.frames), description="writing"):
            for maker in makers:
                maker.add(shown)
        for maker in makers:
            maker.close()


@contextmanager
def _maker(
    kind: str, target: Path, facts: "Facts", recording: str, source: str, dicom_source: Path | None
) -> Iterator[Any]:
    from streamer.extract.frames import ExtractError, whole_file

    if kind == "dicom":
        try:
            from streamer.extract.segmentation import DicomFolder
        except (ImportError, SourceUnavailable):
            raise ExtractError(
                "DICOM needs pydicom and highdicom: pip install 'sonostream[formats]' highdicom"
            ) from None
        yield DicomFolder(target, of=dicom_source)
        return
    with whole_file(target) as part:
        if kind == "video":
            from streamer.extract.video import OverlayVideo

            yield OverlayVideo(part)
        elif kind == "summary":
            from streamer.extract.summary import Summary

            yield Summary(part, facts, recording=recording, source=source)
        else:
            from streamer.extract.table import CsvTable, ParquetTable

            table = CsvTable if kind == "csv" else ParquetTable
            yield table(part, facts.names)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )

"""`sonostream bench live`."""

from typing import Annotated

import typer

from benchmarks.commands.options import JsonFile, PlotFile, fail, write_json


def live(
    feed: Annotated[str, typer.Option(help="phantom: raw frames; h264: a live coded stream.")] = "phantom",
    source: Annotated[str, typer.Option(help="Any source's URI instead of --feed.")] = "",
    fps: Annotated[float, typer.Option(min=1, max=240, help="Frames a second that are due.")] = 30.0,
    size: Annotated[str, typer.Option(help="Width x height of a frame.")] = "800x600",
    seconds: Annotated[float, typer.Option(min=2, help="How long to measure, after the warm-up.")] = 60.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds left out at the start.")] = 3.0,
    repeats: Annotated[int, typer.Option(min=1, max=20, help="How often, with the spread between.")] = 1,
    references: Annotated[
        bool, typer.Option("--references", help="Also run loops written by hand, on --feed h264.")
    ] = False,
    artifact: Annotated[str, typer.Option(help="Model to run.")] = "default",
    runtime: Annotated[str, typer.Option(help="Engine to run it in.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision to run it in.")] = "auto",
    json_file: JsonFile = None,
    plot: PlotFile = None,
) -> None:
    """Latency from when a frame was due to its result in another process.

    The floor (decoding, one resize, the bare engine call) is timed in the same run, between frames. With
    --source, frames of files, phantoms and generators are due by their presentation time; of devices and
    streams the stamp counts that the report names.
    """
    from rich.console import Console

    from benchmarks.daemon import BenchError
    from benchmarks.live import LiveSettings, progress_bar, run_live
    from benchmarks.live_report import draw, show
    from benchmarks.plot import check
    from benchmarks.references import LOOPS

    if feed not in ("phantom", "h264"):
        fail(f"--feed is phantom or h264, not {feed!r}")
    if references and (feed != "h264" or source):
        fail("--references reads a live coded stream: give --feed h264 and no --source")
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        fail(f"--size is WIDTHxHEIGHT, such as 800x600, not {size!r}")
    settings = LiveSettings(
        feed="source" if source else "h264" if feed == "h264" else "phantom",
        source=source,
        fps=fps,
        width=int(width),
        height=int(height),
        seconds=seconds,
        warm_up_s=warm_up,
        repeats=repeats,
        references=tuple(LOOPS) if references else (),
        artifact=artifact,
        runtime=runtime,
        precision=precision,
    )
    try:
        if plot is not None:
            check(plot)
        with progress_bar(Console(stderr=True)) as progress:
            report, run = run_live(settings, progress)
        show(report, Console())
        write_json(report, json_file)
        if plot is not None:
            draw(report, run, plot)
    except BenchError as error:
        fail(str(error))

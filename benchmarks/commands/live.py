"""`sonostream bench live`."""

import sys
from typing import Annotated

import typer

from benchmarks.commands.options import JsonFile, fail, write_json


def live(
    feed: Annotated[str, typer.Option(help="phantom: raw frames; h264: a live coded stream.")] = "phantom",
    fps: Annotated[float, typer.Option(min=1, max=240, help="Frames a second that are due.")] = 30.0,
    size: Annotated[str, typer.Option(help="Width x height of a frame.")] = "800x600",
    seconds: Annotated[float, typer.Option(min=2, help="How long to measure, after the warm-up.")] = 60.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds left out at the start.")] = 3.0,
    artifact: Annotated[str, typer.Option(help="Model to run.")] = "default",
    runtime: Annotated[str, typer.Option(help="Engine to run it in.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision to run it in.")] = "auto",
    json_file: JsonFile = None,
) -> None:
    """Latency from when a frame was due to its result in another process.

    The floor (decoding, one resize, the bare engine call) is timed in the same run, between frames.
    """
    from rich.console import Console

    from benchmarks.live import BenchError, LiveSettings, progress_bar, run_live, show

    # The floor's thread and the receiver's must not wait for each other's Python code.
    sys.setswitchinterval(0.0005)
    if feed not in ("phantom", "h264"):
        fail(f"--feed is phantom or h264, not {feed!r}")
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        fail(f"--size is WIDTHxHEIGHT, such as 800x600, not {size!r}")
    settings = LiveSettings(
        feed="h264" if feed == "h264" else "phantom",
        fps=fps,
        width=int(width),
        height=int(height),
        seconds=seconds,
        warm_up_s=warm_up,
        artifact=artifact,
        runtime=runtime,
        precision=precision,
    )
    console = Console()
    try:
        with progress_bar(Console(stderr=True)) as progress:
            report = run_live(settings, progress)
    except BenchError as error:
        fail(str(error))
    show(report, console)
    write_json(report, json_file)

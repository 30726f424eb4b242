"""`sonostream bench profile`."""

from functools import partial
from typing import Annotated

import typer

from benchmarks.commands.options import JsonFile, PlotFile, carry_out, fail


def profile(
    feed: Annotated[str, typer.Option(help="phantom: raw frames; h264: a live coded stream.")] = "h264",
    source: Annotated[str, typer.Option(help="Any source's URI instead of --feed.")] = "",
    fps: Annotated[float, typer.Option(min=1, max=240, help="Frames a second.")] = 30.0,
    seconds: Annotated[int, typer.Option(min=2, help="How long to look, after the warm-up.")] = 20,
    artifact: Annotated[str, typer.Option(help="Model to run.")] = "default",
    runtime: Annotated[str, typer.Option(help="Engine to run it in.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision to run it in.")] = "auto",
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """How much Python is run for a frame of a live feed, and where.

    py-spy looks into the daemon from outside for the thread that holds the interpreter's lock. Engine,
    decoder and OpenCV work without it.
    """
    from benchmarks.feeds import FeedSettings
    from benchmarks.profile import ProfileSettings, draw, run_profile, show

    if feed not in ("phantom", "h264"):
        fail(f"--feed is phantom or h264, not {feed!r}")
    settings = ProfileSettings(
        feed=FeedSettings("source" if source else "h264" if feed == "h264" else "phantom", source, fps),
        seconds=seconds,
        artifact=artifact,
        runtime=runtime,
        precision=precision,
    )
    carry_out(partial(run_profile, settings), show, draw, json_file, plot_file)

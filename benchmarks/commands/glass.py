"""`sonostream bench glass`."""

import sys
from functools import partial
from typing import Annotated

import typer

from benchmarks.commands.options import JsonFile, PlotFile, carry_out


def glass(
    seconds: Annotated[float, typer.Option(min=1, help="How long to look, after the warm-up.")] = 30.0,
    fps: Annotated[float, typer.Option(min=1, max=240, help="Frames a second that are due.")] = 30.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds left out at the start.")] = 3.0,
    artifact: Annotated[str, typer.Option(help="Model to run.")] = "default",
    runtime: Annotated[str, typer.Option(help="Engine to run it in.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision to run it in.")] = "auto",
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """From a frame's instant to its pixels on the page in a real browser, read back from the pixels.

    Needs Chromium and playwright; without them it says so and ends with exit code 2.
    """
    from benchmarks.glass import GlassSettings, draw, run_glass, show

    sys.setswitchinterval(0.0005)
    settings = GlassSettings(
        seconds=seconds,
        fps=fps,
        warm_up_s=warm_up,
        artifact=artifact,
        runtime=runtime,
        precision=precision,
    )
    carry_out(partial(run_glass, settings), show, draw, json_file, plot_file)

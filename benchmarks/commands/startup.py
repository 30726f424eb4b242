"""`sonostream bench startup`."""

from functools import partial
from typing import Annotated

import typer

from benchmarks.commands.options import JsonFile, PlotFile, carry_out


def startup(
    repeats: Annotated[int, typer.Option(min=1, help="Warm starts.")] = 7,
    cold: Annotated[int, typer.Option(min=0, help="Starts without any of the program's own caches.")] = 3,
    artifact: Annotated[str, typer.Option(help="Model to run.")] = "default",
    runtime: Annotated[str, typer.Option(help="Engine to run it in.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision to run it in.")] = "auto",
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """From the command to ready and to the first result, cold and warm, and the memory held by then."""
    from benchmarks.startup import StartupSettings, draw, run_startup, show

    settings = StartupSettings(
        repeats=repeats, cold_repeats=cold, artifact=artifact, runtime=runtime, precision=precision
    )
    carry_out(partial(run_startup, settings), show, draw, json_file, plot_file)

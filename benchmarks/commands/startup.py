"""`sonostream bench startup`."""

from typing import Annotated

import typer

from benchmarks.commands.options import JsonFile, PlotFile, fail, write_json


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
    from rich.console import Console

    from benchmarks import plot
    from benchmarks.daemon import BenchError
    from benchmarks.live import progress_bar
    from benchmarks.startup import StartupSettings, draw, run_startup, show

    settings = StartupSettings(
        repeats=repeats, cold_repeats=cold, artifact=artifact, runtime=runtime, precision=precision
    )
    try:
        if plot_file is not None:
            plot.check(plot_file)
        with progress_bar(Console(stderr=True)) as progress:
            report = run_startup(settings, progress)
        show(report, Console())
        write_json(report, json_file)
        if plot_file is not None:
            plot.save(draw(report), plot_file, lambda console: show(report, console))
    except BenchError as error:
        fail(str(error))

"""What the benchmarks' commands have in common."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.progress import Progress

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="Draw to this file; .png or .html.")]


def write_json(report: dict[str, Any], file: Path | None) -> None:
    """Write a report, if a file was named."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report, indent=2) + "\n")


def fail(message: str) -> NoReturn:
    """End with a line for the person at the terminal, as for wrong input."""
    typer.echo(f"sonostream: {message}", err=True)
    raise typer.Exit(2)


def carry_out(
    run: Callable[["Progress"], dict[str, Any]],
    show: Callable[[dict[str, Any], "Console"], None],
    draw: Callable[[dict[str, Any]], "Figure"],
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Run a benchmark with its progress shown, print its report, and write the files that were asked for."""
    from rich.console import Console

    from benchmarks import plot
    from benchmarks.daemon import BenchError
    from benchmarks.live import progress_bar

    try:
        if plot_file is not None:
            plot.check(plot_file)
        with progress_bar(Console(stderr=True)) as progress:
            report = run(progress)
        show(report, Console())
        write_json(report, json_file)
        if plot_file is not None:
            plot.save(draw(report), plot_file, lambda console: show(report, console))
    except BenchError as error:
        fail(str(error))

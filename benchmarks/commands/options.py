"""What the benchmarks' commands have in common."""

import json
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

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

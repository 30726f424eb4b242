"""The tables of `sonostream models`."""

from importlib.util import find_spec

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from models.networks.registry import describe, list_models


def models_command() -> None:
    """List the networks with their papers and sizes. Models that ship are listed by `sonostream doctor`."""
    if find_spec("torch") is None:  # nothing else counts them
        typer.echo("sonostream: `models` needs torch: pip install 'sonostream[train]'", err=True)
        raise typer.Exit(2)
    show(Console())


def show(console: Console) -> None:
    """Print every network: parameters, GMACs, input, outputs, classes; then its paper and licence."""
    costs = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption="GMACs for one frame of the input")
    costs.add_column("name", no_wrap=True)
    for column in ("parameters", "GMACs", "input"):
        costs.add_column(column, justify="right", no_wrap=True)
    costs.add_column("outputs")
    costs.add_column("classes")
    origins = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption="Research use only, not a medical device")
    origins.add_column("name", no_wrap=True)
    origins.add_column("paper", ratio=3)
    origins.add_column("licence", ratio=2)
    for name in list_models():
        d = describe(name)
        outputs, classes = ", ".join(d.outputs), ", ".join(d.classes)
        costs.add_row(name, f"{d.parameters:,}", f"{d.gmacs:.2f}", d.input, outputs, classes)
        origins.add_row(name, d.paper, d.licence)
    console.print(costs)
    console.print(origins)

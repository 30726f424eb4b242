"""`sonostream bench compare` and `sonostream bench check`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import fail


def compare(
    before: Annotated[Path, typer.Argument(help="A run that `--json` wrote.")],
    after: Annotated[Path, typer.Argument(help="Another run of the same benchmark.")],
    everything: Annotated[bool, typer.Option("--all", help="Also what did not change.")] = False,
) -> None:
    """Ratios of two runs of a benchmark, and which of them are more than noise.

    A figure has changed if its medians are further apart than the repeats of both runs together; so runs need
    --repeats 2 or more.
    """
    from rich.console import Console

    from benchmarks import compare as comparing
    from benchmarks.daemon import BenchError

    try:
        comparison = comparing.compare(comparing.read_run(before), comparing.read_run(after))
    except BenchError as error:
        fail(str(error))
    comparing.show(comparison, Console(), everything=everything)


def check(
    run: Annotated[Path, typer.Argument(help="A run that `--json` wrote.")],
    budgets: Annotated[Path | None, typer.Option(help="Other budgets than benchmarks/budgets.toml.")] = None,
) -> None:
    """Hold a run against its budgets: exit code 1 if one is missed."""
    from rich.console import Console

    from benchmarks import check as checking
    from benchmarks.compare import read_run
    from benchmarks.daemon import BenchError

    try:
        findings = checking.check(read_run(run), checking.read_budgets(budgets or checking.BUDGETS))
    except BenchError as error:
        fail(str(error))
    checking.show(findings, Console())
    missed = [finding for finding in findings if finding.status == "MISSED"]
    for finding in missed:
        typer.echo(f"missed: {finding.budget.figure} is {finding.value:g}, {finding.budget.bound}", err=True)
    if missed:
        raise typer.Exit(1)

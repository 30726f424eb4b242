"""`sonostream bench networks`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import fail


def networks(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs of `sonostream train`.")],
    out: Annotated[Path, typer.Option(help="Folder of comparison.json, .md, .png and .html.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="What the runs were trained on: fits the temperature of those whose recipe does not, on "
            "their inner validation part."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Turns of every network.")] = 100,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the engine; one for each physical core if left out.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="Copy the runs' small text files here, in a folder for each network."),
    ] = None,
    cache: Annotated[Path, typer.Option(help="Where rendered pictures are kept.")] = Path(".cache"),
) -> None:
    """Trained networks against each other: accuracy, with its intervals, and latency on this machine.

    All networks take turns in the engine that `auto` takes. Beside each stands what its paper prints, and
    what differs.
    """
    from rich.console import Console

    from benchmarks.daemon import BenchError
    from benchmarks.live import progress_bar
    from benchmarks.networks.keep import keep as keep_files
    from benchmarks.networks.run import ComparisonSettings, run_networks, write
    from benchmarks.networks.runs import read_runs
    from benchmarks.networks.tables import show

    settings = ComparisonSettings(rounds, threads, tuple(data or ()), cache)
    try:
        trained = read_runs(runs)
        with progress_bar(Console(stderr=True)) as progress:
            report = run_networks(trained, settings, progress)
        write(report, out)
        show(report, Console())
        if keep is not None:
            for file in keep_files(trained, keep):
                typer.echo(f"kept {file}", err=True)
    except BenchError as error:
        fail(str(error))

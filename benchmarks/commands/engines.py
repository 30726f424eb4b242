"""`sonostream bench engines`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import JsonFile, fail, write_json


def engines(
    network: Annotated[list[str] | None, typer.Option(help="Only these; the five if left out.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Numbers of threads; 1 and 2.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Batch sizes; 1 and 4.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the frame instead of the networks' own.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Timed calls of each row.")] = 20,
    cache: Annotated[Path, typer.Option(help="Where exported networks are kept.")] = Path(".cache/engines"),
    json_file: JsonFile = None,
) -> None:
    """Every network in every engine, precision and number of threads, against PyTorch eager.

    Weights are random, which changes no time. All engines of a cell take turns.
    """
    from rich.console import Console

    from benchmarks.engines import NETWORKS, EngineSettings, run_engines, show

    unknown = sorted(set(network or ()) - set(NETWORKS))
    if unknown:
        fail(f"--network is one of {', '.join(NETWORKS)}, not {', '.join(unknown)}")
    settings = EngineSettings(
        networks=tuple(network or NETWORKS),
        threads=tuple(threads or (1, 2)),
        batches=tuple(batch or (1, 4)),
        rounds=rounds,
        size=size,
    )
    report = run_engines(settings, cache, lambda text: typer.echo(text, err=True))
    show(report, Console())
    write_json(report, json_file)

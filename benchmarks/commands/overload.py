"""`sonostream bench overload`."""

from typing import Annotated

import typer

from benchmarks.commands.options import JsonFile, PlotFile, fail, write_json


def overload(
    factors: Annotated[
        str, typer.Option(help="Rates of the feed, in parts of what the machine can do.")
    ] = "1,1.5,2,4",
    sources: Annotated[
        int, typer.Option(min=0, max=64, help="At least so many 30 fps feeds, step by step; 0: none.")
    ] = 4,
    size: Annotated[str, typer.Option(help="Width x height of a frame.")] = "800x600",
    seconds: Annotated[float, typer.Option(min=2, help="How long to measure each step.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds left out at the start of each.")] = 1.5,
    repeats: Annotated[int, typer.Option(min=1, max=20, help="How often, with the spread between.")] = 1,
    artifact: Annotated[
        str, typer.Option(help="Model to run; a heavier one, as `bench engines` keeps in .cache/engines.")
    ] = "default",
    runtime: Annotated[str, typer.Option(help="Engine to run it in.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision to run it in.")] = "auto",
    json_file: JsonFile = None,
    plot: PlotFile = None,
) -> None:
    """Latency of what is delivered when frames, or feeds, are more than the machine can analyse.

    Finds the largest number of 30 fps feeds with 99 % of all frames answered within 33.3 ms.
    """
    from rich.console import Console

    from benchmarks.daemon import BenchError
    from benchmarks.live import progress_bar
    from benchmarks.overload import OverloadSettings, run_overload
    from benchmarks.overload_report import draw, show
    from benchmarks.plot import check

    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        fail(f"--size is WIDTHxHEIGHT, such as 800x600, not {size!r}")
    try:
        rates = tuple(float(factor) for factor in factors.split(",") if factor.strip())
    except ValueError:
        fail(f"--factors are numbers with commas between, such as 1,1.5,2,4, not {factors!r}")
    if not all(0.1 <= rate <= 10 for rate in rates) or not (rates or sources):
        fail(f"--factors are from 0.1 to 10, not {factors!r}")
    settings = OverloadSettings(
        factors=rates,
        sources=sources,
        width=int(width),
        height=int(height),
        seconds=seconds,
        warm_up_s=warm_up,
        repeats=repeats,
        artifact=artifact,
        runtime=runtime,
        precision=precision,
    )
    try:
        if plot is not None:
            check(plot)
        with progress_bar(Console(stderr=True)) as progress:
            report = run_overload(settings, progress)
        show(report, Console())
        write_json(report, json_file)
        if plot is not None:
            draw(report, plot)
    except BenchError as error:
        fail(str(error))

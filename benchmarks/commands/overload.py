"""`sonostream bench overload`."""

from typing import Annotated

import typer

from benchmarks.commands.options import JsonFile, PlotFile, fail, write_json


def overload(
    factors: Annotated[
        str, typer.Option(help="Rates of the feed, in parts of what the machine can do.")
    ] = "1,1.5,2,4",
    sources: Annotated[str, typer.Option(help="Numbers of 30 fps feeds; none if empty.")] = "1,2,3,4",
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
    rates = _numbers("--factors", factors, "1,1.5,2,4", low=0.1, high=10)
    counts = _numbers("--sources", sources, "1,2,3,4", low=1, high=64)
    if not all(count.is_integer() for count in counts):
        fail(f"--sources are whole numbers, not {sources!r}")
    settings = OverloadSettings(
        factors=rates,
        sources=tuple(int(count) for count in counts),
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


def _numbers(flag: str, text: str, example: str, *, low: float, high: float) -> tuple[float, ...]:
    try:
        numbers = sorted({float(each) for each in text.split(",") if each.strip()})
    except ValueError:
        fail(f"{flag} are numbers with commas between, such as {example}, not {text!r}")
    if not all(low <= number <= high for number in numbers):
        fail(f"{flag} are from {low:g} to {high:g}, not {text!r}")
    return tuple(numbers)

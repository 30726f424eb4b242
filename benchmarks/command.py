"""`sonostream bench`: measurements that print a table and write JSON."""

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

bench = typer.Typer(no_args_is_help=True, add_completion=False)


@bench.callback()
def _root() -> None:
    """Measure latency against its floor. Prints a table, writes JSON."""


@bench.command()
def live(
    feed: Annotated[str, typer.Option(help="phantom: raw frames; h264: a live coded stream.")] = "phantom",
    fps: Annotated[float, typer.Option(min=1, max=240, help="Frames a second that are due.")] = 30.0,
    size: Annotated[str, typer.Option(help="Width x height of a frame.")] = "800x600",
    seconds: Annotated[float, typer.Option(min=2, help="How long to measure, after the warm-up.")] = 60.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds left out at the start.")] = 3.0,
    artifact: Annotated[str, typer.Option(help="Model to run.")] = "default",
    runtime: Annotated[str, typer.Option(help="Engine to run it in.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision to run it in.")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Latency from when a frame was due to its result in another process.

    The floor (decoding, one resize, the bare engine call) is timed in the same run, between frames.
    """
    from rich.console import Console

    from benchmarks.live import BenchError, LiveSettings, progress_bar, run_live, show

    # The floor's thread and the receiver's must not wait for each other's Python code.
    sys.setswitchinterval(0.0005)
    if feed not in ("phantom", "h264"):
        _fail(f"--feed is phantom or h264, not {feed!r}")
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        _fail(f"--size is WIDTHxHEIGHT, such as 800x600, not {size!r}")
    settings = LiveSettings(
        feed="h264" if feed == "h264" else "phantom",
        fps=fps,
        width=int(width),
        height=int(height),
        seconds=seconds,
        warm_up_s=warm_up,
        artifact=artifact,
        runtime=runtime,
        precision=precision,
    )
    console = Console()
    try:
        with progress_bar(Console(stderr=True)) as progress:
            report = run_live(settings, progress)
    except BenchError as error:
        _fail(str(error))
    show(report, console)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")


@bench.command()
def temporal(
    network: Annotated[
        str, typer.Option(help="simulated: the truth with errors of known strength; or a model.")
    ] = "simulated",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Phantoms to run on.")] = 4,
    seconds: Annotated[float, typer.Option(min=8, max=120, help="Length of each sequence.")] = 16.0,
    cost_model: Annotated[str, typer.Option(help="Model that the cost is compared to.")] = "default",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the first sequence to this PNG file.")] = None,
) -> None:
    """Flicker, overlap and delay of smoothing on phantoms, against plain averages and medians.

    The simulated network makes the judgement independent of one model: its errors are drawn anew in every
    frame, with the strengths that the report states.
    """
    from rich.console import Console

    from benchmarks.live import BenchError, progress_bar
    from benchmarks.temporal.report import draw, show
    from benchmarks.temporal.run import TemporalSettings, run_temporal
    from models.artifact import ArtifactError
    from models.runtimes import EngineError

    settings = TemporalSettings(network=network, seeds=seeds, seconds=seconds, cost_model=cost_model)
    try:
        with progress_bar(Console(stderr=True)) as progress:
            report, trace = run_temporal(settings, progress)
        show(report, Console())
        if json_file is not None:
            json_file.write_text(json.dumps(report, indent=2) + "\n")
        if plot is not None:
            draw(report, trace, plot)
    except (BenchError, ArtifactError, EngineError) as error:
        _fail(str(error))


@bench.command()
def engines(
    network: Annotated[list[str] | None, typer.Option(help="Only these; the five if left out.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Numbers of threads; 1 and 2.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Batch sizes; 1 and 4.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the frame instead of the networks' own.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Timed calls of each row.")] = 20,
    cache: Annotated[Path, typer.Option(help="Where exported networks are kept.")] = Path(".cache/engines"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Every network in every engine, precision and number of threads, against PyTorch eager.

    Weights are random, which changes no time. All engines of a cell take turns.
    """
    from rich.console import Console

    from benchmarks.engines import NETWORKS, EngineSettings, run_engines, show

    unknown = sorted(set(network or ()) - set(NETWORKS))
    if unknown:
        _fail(f"--network is one of {', '.join(NETWORKS)}, not {', '.join(unknown)}")
    settings = EngineSettings(
        networks=tuple(network or NETWORKS),
        threads=tuple(threads or (1, 2)),
        batches=tuple(batch or (1, 4)),
        rounds=rounds,
        size=size,
    )
    report = run_engines(settings, cache, lambda text: typer.echo(text, err=True))
    show(report, Console())
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")


def _fail(message: str) -> NoReturn:
    typer.echo(f"sonostream: {message}", err=True)
    raise typer.Exit(2)

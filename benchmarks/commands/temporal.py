"""`sonostream bench temporal`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import JsonFile, fail, write_json


def temporal(
    network: Annotated[
        str, typer.Option(help="simulated: the truth with errors of known strength; or a model.")
    ] = "simulated",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Phantoms to run on.")] = 4,
    first_seed: Annotated[
        int, typer.Option(min=0, help="The first of them; the defaults were chosen on 0 to 99.")
    ] = 100,
    seconds: Annotated[float, typer.Option(min=8, max=120, help="Length of each sequence.")] = 16.0,
    cost_model: Annotated[str, typer.Option(help="Model that the cost is compared to.")] = "default",
    json_file: JsonFile = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the first sequence to this PNG file.")] = None,
) -> None:
    """Flicker, overlap and delay of smoothing on phantoms, against plain averages and medians.

    The simulated network makes the judgement independent of one model: its errors are drawn anew in every
    frame, with the strengths that the report states.
    """
    from rich.console import Console

    from benchmarks.daemon import BenchError
    from benchmarks.live import progress_bar
    from benchmarks.temporal.report import draw, show
    from benchmarks.temporal.run import TemporalSettings, run_temporal
    from models.artifact import ArtifactError
    from models.runtimes import EngineError

    settings = TemporalSettings(
        network=network, seeds=seeds, first_seed=first_seed, seconds=seconds, cost_model=cost_model
    )
    try:
        with progress_bar(Console(stderr=True)) as progress:
            report, trace = run_temporal(settings, progress)
        show(report, Console())
        write_json(report, json_file)
        if plot is not None:
            draw(report, trace, plot)
    except (BenchError, ArtifactError, EngineError) as error:
        fail(str(error))

"""`sonostream bench soak`."""

import sys
from functools import partial
from typing import Annotated

import typer

from benchmarks.commands.options import JsonFile, PlotFile, carry_out


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long to run.")] = 30.0,
    sources: Annotated[int, typer.Option(min=1, max=16, help="Live feeds.")] = 2,
    fps: Annotated[float, typer.Option(min=1, max=240, help="Frames a second of each.")] = 30.0,
    reconnect_s: Annotated[float, typer.Option(min=1, help="Seconds between two senders' deaths.")] = 60.0,
    window_s: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks at the daemon.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds left out at the start.")] = 600.0,
    artifact: Annotated[str, typer.Option(help="Model to run.")] = "default",
    runtime: Annotated[str, typer.Option(help="Engine to run it in.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision to run it in.")] = "auto",
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """Latency, memory, threads and descriptors over time, while sources are lost and come back.

    Ctrl-C ends it early and writes what there is.
    """
    from benchmarks.soak import SoakSettings, draw, run_soak, show

    # The receiver must not wait for other Python code to stamp what arrives.
    sys.setswitchinterval(0.0005)
    settings = SoakSettings(
        minutes=minutes,
        sources=sources,
        fps=fps,
        reconnect_s=reconnect_s,
        window_s=window_s,
        warm_up_s=warm_up,
        artifact=artifact,
        runtime=runtime,
        precision=precision,
    )
    carry_out(partial(run_soak, settings), show, draw, json_file, plot_file)

"""`sonostream bench offline`."""

import sys
from functools import partial
from typing import Annotated, Literal, cast

import typer

from benchmarks.commands.options import JsonFile, PlotFile, carry_out, fail


def offline(
    study: Annotated[str, typer.Option(help="h264: a video file; mcap: a recording of ours.")] = "h264",
    frames: Annotated[int, typer.Option(min=30, help="Length of the study, which is played over.")] = 240,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of daemon, then engine.")] = 5,
    round_s: Annotated[float, typer.Option(min=0.5, help="Seconds of each in a round.")] = 3.0,
    artifact: Annotated[str, typer.Option(help="Model to run.")] = "default",
    runtime: Annotated[str, typer.Option(help="Engine to run it in.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision to run it in.")] = "auto",
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """A recorded study as fast as possible, against the engine alone on the same frames.

    Every frame is analysed; that each came once, in order, and with its own time is checked.
    """
    from benchmarks.offline import OfflineSettings, draw, run_offline, show

    sys.setswitchinterval(0.0005)
    if study not in ("h264", "mcap"):
        fail(f"--study is h264 or mcap, not {study!r}")
    settings = OfflineSettings(
        study=cast(Literal["h264", "mcap"], study),
        frames=frames,
        rounds=rounds,
        round_s=round_s,
        artifact=artifact,
        runtime=runtime,
        precision=precision,
    )
    carry_out(partial(run_offline, settings), show, draw, json_file, plot_file)

"""Compares runs of training: reads them, times them, writes the comparison."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import Progress

from benchmarks import plot
from benchmarks.daemon import BenchError
from benchmarks.networks.calibration import InnerParts, calibration
from benchmarks.networks.draw import draw
from benchmarks.networks.latency import measure
from benchmarks.networks.report import compare
from benchmarks.networks.runs import Trained
from benchmarks.networks.tables import as_markdown, show
from train.data import join
from train.evaluation.answers import Answers
from train.evaluation.scores import score
from train.report.part import number


class ComparisonSettings(NamedTuple):
    """How to compare."""

    rounds: int = 100
    threads: int | None = None
    data: tuple[str, ...] = ()
    """What the runs were trained on, to fit temperatures; none: runs that have none get none."""
    cache: Path = Path(".cache")


def run_networks(runs: Sequence[Trained], settings: ComparisonSettings, progress: Progress) -> dict[str, Any]:
    """Compare; what comparison.json holds.

    :raises BenchError: if a network cannot be timed or calibrated.
    """
    inner = InnerParts(settings.data, settings.cache) if settings.data else None
    task = progress.add_task("calibration", total=len(runs))
    calibrations = {}
    for run in runs:
        calibrations[run.label] = calibration(run, inner)
        progress.advance(task)
    with tempfile.TemporaryDirectory() as folder:
        timings = measure(runs, Path(folder), progress, rounds=settings.rounds, threads=settings.threads)
    return compare(runs, timings, calibrations, sizes)


def sizes(run: Trained) -> list[dict[str, Any]]:
    """Look up a run's figures by size of the lesion, or compute them where its results lack them."""
    stored: list[dict[str, Any]] = run.part.get("sizes", [])
    if stored:
        return stored
    answers = Answers(
        np.concatenate([fold.answers.lesion for fold in run.folds]),
        np.concatenate([fold.answers.classes for fold in run.folds]),
        segments=run.segments,
    )
    groups = score(answers, join(fold.images for fold in run.folds), rounds=0).sizes
    return [{key: number(value) for key, value in one._asdict().items()} for one in groups]


def write(report: dict[str, Any], folder: Path) -> None:
    """Write comparison.json, .md, .png and .html into a folder.

    :raises BenchError: if they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "comparison.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
        (folder / "comparison.md").write_text(as_markdown(report))
        for suffix in plot.FORMATS:
            plot.save(draw(report), folder / f"comparison{suffix}", lambda console: show(report, console))
    except OSError as error:
        raise BenchError(f"cannot write into {folder}: {error.strerror or error}") from None

"""`sonostream bench compare`: two runs of a benchmark, figure by figure, and what of it is noise.

A run holds its figures once for all its repeats and once for each: how far a figure wanders from repeat to
repeat is what two runs must differ by to mean anything.
"""

import json
import math
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.daemon import BenchError

Verdict = Literal["lower", "higher", "noise", "unknown"]

MAIN = (
    "end_to_end_ms.p50",
    "end_to_end_ms.p99",
    "floor_ms.p50",
    "overhead_ratio.*",
    "references.*.ours_over.*",
    "cpu_ms_per_frame.ratio",
    "load.*.end_to_end_ms.p99",
    "largest_sources",
    "ratio",
    "*.ready_s",
    "*.first_result_s",
)
"""Shown even where nothing has changed."""

# What is asked of a run, or only repeats other figures.
_NOT_FIGURES = frozenset(
    {"schema", "machine", "versions", "settings", "model", "repeats", "spread", "target"}
)
_SUMMARY = {"median", "min", "max"}
_CIRCUMSTANCES = ("machine", "versions", "settings", "model")


class Figure(NamedTuple):
    """One figure of one run."""

    median: float
    low: float
    high: float
    repeats: int
    """At least; what matters is whether there were several."""

    @property
    def spread(self) -> float:
        """How far apart its repeats are."""
        return self.high - self.low


class Compared(NamedTuple):
    """One figure of two runs."""

    path: str
    """Its keys, with dots between."""
    before: Figure
    after: Figure

    @property
    def ratio(self) -> float:
        """After over before; 1 where both are 0."""
        if self.before.median == 0:
            return 1.0 if self.after.median == 0 else math.inf
        return self.after.median / self.before.median

    @property
    def verdict(self) -> Verdict:
        """Lower or higher if the medians are further apart than both runs' repeats together."""
        if min(self.before.repeats, self.after.repeats) < 2:
            return "unknown"
        apart = self.after.median - self.before.median
        if abs(apart) <= self.before.spread + self.after.spread:
            return "noise"
        return "lower" if apart < 0 else "higher"


class Comparison(NamedTuple):
    """Two runs, figure by figure."""

    figures: list[Compared]
    differences: list[str]
    """What the runs were not alike in, besides the figures."""


def read_run(file: Path) -> dict[str, Any]:
    """Read what `--json` wrote.

    :raises BenchError: if it is not there, or no run of a benchmark.
    """
    try:
        report = json.loads(file.read_bytes())
    except OSError as error:
        raise BenchError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise BenchError(f"{file} is not JSON: give what `sonostream bench ... --json` wrote") from None
    if not isinstance(report, dict) or not isinstance(report.get("schema", report.get("benchmark")), str):
        raise BenchError(f"{file} is not a run of a benchmark: give what `sonostream bench ... --json` wrote")
    return report


def kind(report: dict[str, Any]) -> str:
    """Name the benchmark that a report is of, such as `live`."""
    schema: str = report.get("schema") or report["benchmark"]
    return schema.partition("/")[0].rpartition(".")[2]


def compare(before: dict[str, Any], after: dict[str, Any]) -> Comparison:
    """Compare two runs of one benchmark.

    :raises BenchError: if they are of different benchmarks.
    """
    if kind(before) != kind(after):
        raise BenchError(
            f"runs of `bench {kind(before)}` and of `bench {kind(after)}` have no common figures"
        )
    ours, theirs = figures(before), figures(after)
    return Comparison(
        [Compared(path, ours[path], theirs[path]) for path in ours if path in theirs],
        list(_differences(before, after)),
    )


def figures(report: dict[str, Any]) -> dict[str, Figure]:
    """Give the figures of a run by the path to them, over its repeats."""
    if "repeats" not in report:
        return dict(_figures_in(report))
    repeats = [dict(_figures_in(repeat)) for repeat in report["repeats"]]
    found = {}
    for path in repeats[0]:
        values = [repeat[path].median for repeat in repeats if path in repeat]
        found[path] = Figure(float(np.median(values)), min(values), max(values), len(values))
    return found


def _figures_in(node: Any, path: str = "") -> Iterator[tuple[str, Figure]]:
    if isinstance(node, dict):
        if node.keys() == _SUMMARY:  # of several rounds
            yield path, Figure(node["median"], node["min"], node["max"], 2)
            return
        for key, value in node.items():
            if path or key not in _NOT_FIGURES:
                yield from _figures_in(value, f"{path}.{key}" if path else key)
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield path, Figure(float(node), float(node), float(node), 1)


def _differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for part in _CIRCUMSTANCES:
        ours, theirs = before.get(part, {}), after.get(part, {})
        for key in dict.fromkeys((*ours, *theirs)):
            if ours.get(key) != theirs.get(key):
                yield f"{part}.{key}: {ours.get(key)} and {theirs.get(key)}"


def show(comparison: Comparison, console: Console, *, everything: bool) -> None:
    """Print main and changed figures, or all."""
    for difference in comparison.differences:
        console.print(f"not alike: {difference}", style="yellow", soft_wrap=True, highlight=False)
    shown = [
        each
        for each in comparison.figures
        if everything
        or each.verdict in ("lower", "higher")
        or any(fnmatch(each.path, pattern) for pattern in MAIN)
    ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "before", "spread", "after", "spread", "ratio", ""):
        table.add_column(name, justify="right" if name else "left", overflow="fold")
    for each in shown:
        table.add_row(
            each.path,
            *(f"{value:.4g}" for value in (each.before.median, each.before.spread)),
            *(f"{value:.4g}" for value in (each.after.median, each.after.spread)),
            f"{each.ratio:.3f}",
            "one run" if each.verdict == "unknown" else each.verdict,
            style="bold" if each.verdict in ("lower", "higher") else "",
        )
    console.print(table)
    if not everything:
        rest = len(comparison.figures) - len(shown)
        console.print(f"{rest} more figures have not changed for certain; --all shows them", highlight=False)

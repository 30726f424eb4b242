"""A run of `bench overload` as tables and as a plot."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.overload import ANSWERED_SHARE, SOURCES_DEADLINE_MS, SOURCES_FPS
from benchmarks.plot import figure, save


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report: load, then number of feeds, then what the checks say."""
    asked, model = report["settings"], report["model"]
    console.print(
        f"{asked['width']} x {asked['height']}; {model['name']} {model['version']} on {model['runtime']} "
        f"{model['precision']}; {report['machine']['cpu']}; flooded, it answers "
        f"{report['capacity_fps']:.1f} a second",
        soft_wrap=True,
        highlight=False,
    )
    if report["load"]:
        console.print(_table("load", {f"{name}x": row for name, row in report["load"].items()}))
    if report["sources"]:
        console.print(_table(f"feeds of {SOURCES_FPS:g} fps", report["sources"]))
        console.print(
            f"largest number of {SOURCES_FPS:g} fps feeds with {ANSWERED_SHARE:.0%} of all frames answered "
            f"within {SOURCES_DEADLINE_MS} ms: {report['largest_sources']}",
            soft_wrap=True,
            highlight=False,
        )
    for name, value in report["checks"].items():
        console.print(f"{name.replace('_', ' ')}: {value:g}", highlight=False)


def _table(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for name in (
        "",
        "due",
        "answered",
        "per s",
        "p50",
        "p99",
        "max",
        "floor",
        "late",
        "waiting",
        "CPU",
    ):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        latency = row["end_to_end_ms"]
        table.add_row(
            name,
            str(row["frames_due"]),
            f"{row['answered_share']:.0%}",
            f"{row['answers_per_s']:.1f}",
            *(f"{latency[key]:.1f}" for key in ("p50", "p99", "max")),
            f"{row['floor_ms']['p50']:.1f}",
            f"{row['deadline_misses'][SOURCES_DEADLINE_MS]['share']:.0%}",
            str(row["in_flight_max"]),
            f"{row['cpu_ms_per_answer']:.1f}",
        )
    return table


def draw(report: dict[str, Any], file: Path) -> None:
    """Draw latency and drops against load, to a PNG or HTML file.

    :raises BenchError: if matplotlib is not installed.
    """
    tables = [(name, report[name]) for name in ("load", "sources") if report[name]]
    drawing = figure(12, 5)
    for axes, (name, rows) in zip(drawing.subplots(1, len(tables), squeeze=False)[0], tables, strict=True):
        at = [float(key) for key in rows]
        for key, style in (("p50", "o-"), ("p99", "s-"), ("max", "^:")):
            axes.plot(
                at, [row["end_to_end_ms"][key] for row in rows.values()], style, label=f"answers, {key}"
            )
        axes.plot(
            at, [row["floor_ms"]["p50"] for row in rows.values()], "--", color="0.6", label="floor, p50"
        )
        axes.set_ylim(0)
        axes.set_ylabel("end to end, ms")
        axes.set_xlabel(
            "rate of the feed, in parts of what the machine can do"
            if name == "load"
            else f"feeds of {SOURCES_FPS:g} fps"
        )
        drops = axes.twinx()
        dropped = [1 - row["answered_share"] for row in rows.values()]
        drops.plot(at, dropped, "x--", color="tab:red", label="dropped")
        drops.set_ylim(0, 1)
        drops.set_ylabel("part of frames that is dropped", color="tab:red")
        axes.legend(loc="upper left")
    drawing.suptitle(f"{report['model']['name']} on {report['model']['runtime']}, {report['machine']['cpu']}")
    save(drawing, file, lambda console: show(report, console))

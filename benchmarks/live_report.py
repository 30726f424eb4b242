"""A run of `bench live` as tables and as a plot."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.live import OURS, LiveRun
from benchmarks.measured import DEADLINES_MS, Block
from benchmarks.plot import figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_COLOURS = {
    OURS: "tab:blue",
    "floor": "0.55",
    "pyav": "tab:green",
    "threaded": "tab:orange",
    "opencv": "tab:red",
}
# A stage and the part of the floor that is the same work look alike.
_STAGE_COLOURS = {
    **dict.fromkeys(("capture", "decode"), "C0"),
    "wait": "C1",
    "resize": "C2",
    **dict.fromkeys(("inference", "engine"), "C3"),
    "smoothing": "C4",
    "lesions": "C5",
    "publish": "C6",
    "transport": "C7",
}
_TITLES = {
    OURS: "ours, at a subscriber",
    "opencv": "OpenCV loop",
    "threaded": "newest-frame thread",
    "pyav": "PyAV, one thread",
}


def title(report: dict[str, Any]) -> str:
    """Say on one line what was run, on what."""
    asked, model = report["settings"], report["model"]
    feed = asked["source"] if asked["feed"] == "source" else asked["feed"]
    return (
        f"{feed} {asked['width']} x {asked['height']} at {asked['fps']:g} fps; {model['name']} "
        f"{model['version']} on {model['runtime']} {model['precision']}; {report['machine']['cpu']}"
    )


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report as one table of latencies, one of references where there were any, and the rest."""
    table = Table(title=title(report), box=box.SIMPLE_HEAD, pad_edge=False)
    names = list(report["floor_ms"])
    for name in ("ms", *names):
        table.add_column(name, justify="left" if name == "ms" else "right")

    def row(what: str, values: dict[str, float], style: str = "") -> None:
        table.add_row(what, *(f"{values[name]:.2f}" if name in values else "" for name in names), style=style)

    row("end to end", report["end_to_end_ms"], "bold")
    row("floor", report["floor_ms"], "bold")
    row("ratio", report["overhead_ratio"], "bold")
    table.add_section()
    row("age at 60 Hz display ticks", report["age_at_display_ms"])
    row("jitter", report["jitter_ms"])
    table.add_section()
    for name, values in report["stages_ms"].items():
        row(name, values)
    table.add_section()
    for name, values in report["floor_parts_ms"].items():
        row(f"floor: {name}", values)
    console.print(table)
    if "references" in report:
        console.print(_references(report))
    _tell_rest(report, console)


def _references(report: dict[str, Any]) -> Table:
    table = Table(
        title="the same feed and engine in loops written by hand", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name in ("", "p50", "p99", "max", "age", "CPU", "MiB", "ours/it", "at p99"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, values in [(OURS, report), *report["references"].items()]:
        latency, over = values["end_to_end_ms"], values.get("ours_over")
        table.add_row(
            _TITLES[name],
            *(f"{latency[key]:.1f}" for key in ("p50", "p99", "max")),
            f"{values['age_at_display_ms']['p50']:.1f}",
            f"{values['cpu_ms_per_frame']['program']:.1f}",
            f"{values['memory_mib']['max']:.0f}",
            *(f"{over[key]:.2f}" if over else "" for key in ("p50", "p99")),
            style="bold" if name == OURS else "",
        )
    return table


def _tell_rest(report: dict[str, Any], console: Console) -> None:
    drops = ", ".join(f"{count} {reason}" for reason, count in report["dropped"].items()) or "none"
    misses = ", ".join(
        f"{each['frames']} ({each['share']:.2%}) at {deadline} ms"
        for deadline, each in report["deadline_misses"].items()
    )
    cpu, memory, first = report["cpu_ms_per_frame"], report["memory_mib"], report["first_result_s"]
    lines = [
        f"latency counts from: {report['latency_from']}; floor timed {report['floor_timed']}"
        + ("" if report["floor_decodes"] else ", without decoding, as the feed can be read only once"),
        f"{report['frames_due']} frames due, {report['analyzed']} analysed; dropped: {drops}; "
        f"lost on the way: {report['lost_by_subscriber']}",
        f"deadlines missed (with what was dropped): {misses}",
        f"age above interval + p99 at {report['age_above_interval_plus_p99_share']:.2%} of the ticks",
        f"processor {cpu['program']:.1f} ms a frame, floor {cpu['floor']:.1f}: ratio {cpu['ratio']:.2f}; "
        f"memory {memory['start']:.0f} MiB at the start, {memory['end']:.0f} at the end",
    ]
    if first:
        lines.append(f"first result {first:.2f} s after the command")
    if len(report["repeats"]) > 1:
        each = ", ".join(
            f"{path} {values['low']:.2f} to {values['high']:.2f}" for path, values in report["spread"].items()
        )
        lines.append(f"{len(report['repeats'])} repeats: {each}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def draw(report: dict[str, Any], run: LiveRun, file: Path) -> None:
    """Draw latency over time, its distribution, and where it goes, to a PNG or HTML file.

    :raises BenchError: if matplotlib is not installed, or the file is neither.
    """
    drawing = figure(13, 11)
    over_time, distribution, where = drawing.subplots(3, 1, height_ratios=(1, 1.2, 0.8))
    _draw_over_time(run, over_time)
    _draw_distribution(run, distribution)
    _draw_stages(report, where)
    drawing.suptitle(title(report))
    save(drawing, file, lambda console: show(report, console))


def _draw_over_time(run: LiveRun, axes: "Axes") -> None:
    begin = min(block.window.begin for blocks in run.blocks.values() for block in blocks)
    for name, blocks in run.blocks.items():
        for at, block in enumerate(blocks):
            seconds = np.asarray(block.due_ns) * 1e-9 - begin
            label = name if at == 0 else None
            axes.plot(seconds, block.latency_ms, ".", markersize=2.5, color=_COLOURS[name], label=label)
    axes.set_ylabel("end to end, ms")
    axes.set_xlabel("seconds")
    axes.set_yscale("log")
    _plain_numbers(axes.yaxis)
    axes.legend(loc="upper right", ncols=4)


def _draw_distribution(run: LiveRun, axes: "Axes") -> None:
    def line(name: str, values: Any, style: str) -> None:
        ordered = np.sort(np.asarray(values, np.float64))
        # The part of the frames that took longer, on a scale on which a tail shows.
        rest = 1 - np.arange(len(ordered)) / len(ordered)
        axes.plot(ordered, rest, style, color=_COLOURS[name], label=name, drawstyle="steps-post")

    def totals(blocks: list[Block]) -> list[float]:
        return [sample.total for block in blocks for sample in block.floor.samples]

    line("floor", totals(run.blocks[OURS]), "--")
    for name, blocks in run.blocks.items():
        line(name, np.concatenate([block.latency_ms for block in blocks]), "-")
    for deadline in DEADLINES_MS:
        axes.axvline(deadline, color="0.7", linewidth=0.8)
        axes.text(deadline, 1.0, f" {deadline} ms", fontsize=8, va="top")
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_numbers(axes.xaxis)
    axes.set_xlabel("ms")
    axes.set_ylabel("part of frames that took longer")
    axes.legend()


def _plain_numbers(axis: "Axis") -> None:
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("{x:g}")


def _draw_stages(report: dict[str, Any], axes: "Axes") -> None:
    rows = {"end to end": report["stages_ms"], "floor": report["floor_parts_ms"]}
    for at, (row, parts) in enumerate(rows.items()):
        left = 0.0
        for name, values in parts.items():
            width = values["p50"]
            axes.barh(at, width, left=left, color=_STAGE_COLOURS[name], alpha=0.8 if at == 0 else 0.5)
            if width > 0.02 * report["end_to_end_ms"]["p50"]:
                axes.text(left + width / 2, at, f"{name}\n{width:.2f}", ha="center", va="center", fontsize=7)
            left += width
        axes.text(left, at, f"  {row}: medians of its parts", va="center", fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(0, 1.25 * report["end_to_end_ms"]["p50"])
    axes.set_xlabel("ms")
    axes.invert_yaxis()

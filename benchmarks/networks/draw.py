"""Accuracy against latency, drawn."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks import plot
from benchmarks.networks.labels import Box, place
from benchmarks.networks.report import FRAME_MS, value_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

INK, ACCENT, GRAY, PALE = "#1f2933", "#1b5e8c", "#7b8794", "#e4e7eb"
PANELS = {"dice": "Dice, lesions", "auc": "AUC, malignant against benign"}
CAPTION = (
    "Research use only. Bars: 95 % intervals over test images; another seed or fold may differ by more. "
    "Line: Pareto front."
)

APART = "Other shapes were tested on other images: compare like shapes only."
MARKERS = ("o", "s", "D", "^", "v")
"""Of networks that were tested on the same lesions."""


def draw(report: Mapping[str, Any]) -> "Figure":
    """Draw Dice and AUC of every network against its latency, 800 pixels wide in a PNG file.

    A network without a figure is not in that figure's panel.

    :param report: what comparison.json holds.
    :raises BenchError: if matplotlib is not installed.
    """
    drawing = plot.figure(800 / 90, 820 / 90)
    from matplotlib.ticker import LogLocator

    panels = drawing.subplots(2, 1, sharex=True)
    for axes, (name, says) in zip(panels, PANELS.items(), strict=True):
        _style(axes, says)
        _panel(axes, report, name)
    times = [row["latency_ms"]["p50"] for row in report["networks"]]
    least, most = min(*times, FRAME_MS) / 1.6, max(*times, FRAME_MS) * 1.7
    panels[0].set_xlim(least, most)
    panels[0].xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if most > 12 * least else (1, 1.5, 2, 3, 5, 7))
    )
    for axes in panels:
        axes.axvline(FRAME_MS, color=GRAY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    panels[1].set_xlabel(f"median latency of a frame, ms ({report['machine']['cpu']})", color=INK)
    drawing.suptitle(f"Trained and tested on {', '.join(report['data'])}", fontsize=12, color=INK)
    apart = len(report["tested_alike"]) > 1
    drawing.supxlabel(f"{CAPTION}\n{APART}" if apart else CAPTION, fontsize=8.5, color=GRAY)
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")  # labels are placed in pixels: nothing may move after
    for axes, name in zip(panels, PANELS, strict=True):
        _name(axes, report, name, points_per_pixel=72 / drawing.dpi)
    return drawing


def _style(axes: "Axes", says: str) -> None:
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelbottom=True, colors=INK, labelsize=10)
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_ylabel(says, color=INK, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRAY)


def _panel(axes: "Axes", report: Mapping[str, Any], name: str) -> None:
    front = report["pareto"][name]
    points, bounds = _points(report, name), []
    shapes = {
        label: MARKERS[number % len(MARKERS)]
        for number, group in enumerate(report["tested_alike"])
        for label in group["networks"]
    }
    for label, (x, y, low, high) in points.items():
        colour = ACCENT if label in front else GRAY
        axes.plot([x, x], [low, high], color=colour, linewidth=1.2, alpha=0.55, zorder=2)
        axes.plot(
            [x],
            [y],
            shapes[label],
            markersize=8 if shapes[label] == "o" else 7.5,
            color=colour if label in front else "white",
            zorder=4,
            markeredgecolor=colour,
            markeredgewidth=1.6,
        )
        bounds += [low, high]
    if not points:
        axes.text(
            0.5, 0.5, "no network here has this figure", transform=axes.transAxes, ha="center", color=GRAY
        )
        return
    room = 0.12 * max(max(bounds) - min(bounds), 0.05)
    axes.set_ylim(max(0.0, min(bounds) - room), max(bounds) + room)
    if front:
        steps = [points[label] for label in front]
        end = 2 * max(FRAME_MS, *(x for x, *_ in points.values()))
        axes.step(
            [x for x, *_ in steps] + [end],
            [y for _, y, *_ in steps] + [steps[-1][1]],
            where="post",
            color=ACCENT,
            linewidth=1.6,
            alpha=0.45,
            zorder=3,
        )


def _points(report: Mapping[str, Any], name: str) -> dict[str, tuple[float, float, float, float]]:
    """Where each network lies: latency, figure and the ends of its interval."""
    found = {}
    for row in report["networks"]:
        y = value_of(row, name)
        if y is not None:
            low, high = (y if end is None else end for end in row["figures"][name]["interval_95"])
            found[row["label"]] = (row["latency_ms"]["p50"], y, low, high)
    return found


def _name(axes: "Axes", report: Mapping[str, Any], name: str, *, points_per_pixel: float) -> None:
    from matplotlib.patheffects import withStroke

    points = _points(report, name)
    front = set(report["pareto"][name])
    texts = {
        label: axes.annotate(
            label,
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=10,
            path_effects=[withStroke(linewidth=3, foreground="white")],
            zorder=5,
            va="center",
            ha="center",
            color=ACCENT if label in front else INK,
            arrowprops={"arrowstyle": "-", "color": GRAY, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5},
        )
        for label, (x, y, *_) in points.items()
    }
    frame = axes.annotate(
        "a frame at 30 fps",
        (FRAME_MS, 0),
        xycoords=("data", "axes fraction"),
        xytext=(-4, 5),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=9,
        color=GRAY,
        rotation=90,
    )
    pixels = {label: tuple(axes.transData.transform((x, y))) for label, (x, y, *_) in points.items()}
    area = axes.get_window_extent()
    placed = place(
        pixels,
        {label: _size(text) for label, text in texts.items()},
        Box(area.x0 + 3, area.y0 + 3, area.x1, area.y1),
        avoid=_lines(axes, report, name),
        clear=[Box(*frame.get_window_extent().extents)],
    )
    for label, text in texts.items():
        (x, y), (across, up) = pixels[label], placed[label].centre
        text.set_position(((across - x) * points_per_pixel, (up - y) * points_per_pixel))
        near = max(abs(across - x) - _size(text)[0] / 2, abs(up - y) - _size(text)[1] / 2) < 14
        if near and text.arrow_patch is not None:
            text.arrow_patch.set_visible(False)


def _size(text: "Annotation") -> tuple[float, float]:
    from matplotlib.text import Text

    box = Text.get_window_extent(text)
    return box.width, box.height


def _lines(axes: "Axes", report: Mapping[str, Any], name: str) -> list[Box]:
    """Boxes of error bars, of the front's steps and of the line of 30 fps, in pixels."""
    points = _points(report, name)
    segments = [((x, low), (x, high)) for x, _, low, high in points.values()]
    segments.append(((FRAME_MS, axes.get_ylim()[0]), (FRAME_MS, axes.get_ylim()[1])))
    steps = [points[label][:2] for label in report["pareto"][name]]
    for (x, y), (next_x, next_y) in zip(steps, [*steps[1:], (axes.get_xlim()[1], 0.0)], strict=False):
        segments.append(((x, y), (next_x, y)))
        segments.append(((next_x, y), (next_x, max(y, next_y))))
    found = []
    for ends in segments:
        (left, bottom), (right, top) = (axes.transData.transform(end) for end in ends)
        found.append(Box(left - 2, bottom - 2, right + 2, top + 2))
    return found

"""The comparison of trained networks in words: comparison.md, and the table at the terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.networks.report import FIGURES, FRAME_MS

_SAYS = {"dice": "Dice", "auc": "AUC", "accuracy": "accuracy"}


def as_markdown(report: Mapping[str, Any]) -> str:
    """Write the comparison: one table, then breakdowns, then how each run departs from its paper."""
    rows = report["networks"]
    cpu = report["machine"]
    threads = sorted({row["engine"]["threads"] for row in rows})
    load = report["load_average"][0]
    lines = [
        "# Networks compared",
        "",
        f"Research use only: nothing here is evidence about any patient. Data: {', '.join(report['data'])}.",
        "",
        "In brackets: 95 % intervals over groups of test images; another seed or fold may differ by more. "
        "AUC is of malignant against benign lesions. The papers' own figures stand beside ours and do not "
        "compare: the last section names what differs. Latency: median of one frame, from pixels of the "
        "input's size to mask and class probabilities, all networks in turns on one machine "
        f"({cpu['cpu']}, {cpu['cores']} cores, {_list(threads)} threads; load average {load:.1f}). The other "
        "figures are of the checkpoint in fp32.",
        "",
        *(f"**{said}**\n" for said in warnings(report)),
        *_grid(
            ["network", "input", "weights"]
            + [column for name in FIGURES for column in (_SAYS[name], "paper")]
            + ["engine", "least ms", "median ms", "p95 ms", f"of {FRAME_MS:.1f} ms (30 fps)"],
            (_main(row, report["pareto"]) for row in rows),
        ),
        "",
        "Bold: on the Pareto front, no other network here is both as fast and better.",
        "",
        "## By size of the lesion",
        "",
        *_grid(["network", "size", "lesions", "Dice", "not touched", "class right"], _sizes(rows)),
        "",
        "## By class",
        "",
        *_grid(["network", "class", "Dice", "sensitivity", "precision"], _classes(rows)),
        "",
        "## Calibration",
        "",
        "Expected calibration error and Brier score on the test parts, as the network answers and with a "
        "temperature that was fitted on other images.",
        "",
        *_grid(
            ["network", "temperature", "error before", "error after", "Brier before", "Brier after"],
            _calibrations(rows),
        ),
        "",
        "## What was trained, and what differs from the papers",
        "",
    ]
    for row in rows:
        lines += [f"**{row['label']}**", "", *(f"- {said}" for said in _trained(row)), ""]
    return "\n".join(lines)


def warnings(report: Mapping[str, Any]) -> list[str]:
    """Say what makes figures of a comparison not comparable with each other."""
    first, *others = report["tested_alike"]
    return [
        f"{_list(one['networks'])}: tested on other lesions than {_list(first['networks'])} "
        f"({one['shared']} of {one['lesions']} are the same). Their figures do not compare."
        for one in others
    ]


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the main table."""
    cpu = report["machine"]
    table = Table(
        title=f"{', '.join(report['data'])}; {cpu['cpu']}, {cpu['cores']} cores",
        caption="In brackets: 95 % intervals over images. Research use only.",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("network", no_wrap=True)
    for name in (*_SAYS.values(), "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report["networks"]:
        figures = [with_interval(row["figures"][name]) for name in ("dice", "auc")]
        right = row["figures"]["accuracy"]
        table.add_row(
            row["label"], *figures, _number(right and right["value"]), f"{row['latency_ms']['p50']:.2f}"
        )
    console.print(table)
    for said in warnings(report):
        console.print(said, style="red")
    for name, front in report["pareto"].items():
        console.print(f"Pareto front, {_SAYS[name]} against latency: {', '.join(front) or 'none'}")


def with_interval(figure: Mapping[str, Any] | None) -> str:
    """Write a figure with its 95 % interval; empty where there is none."""
    if figure is None or figure["value"] is None:
        return ""
    low, high = figure["interval_95"]
    return f"{figure['value']:.3f}" + ("" if None in (low, high) else f" [{low:.2f}, {high:.2f}]")


def _main(row: Mapping[str, Any], pareto: Mapping[str, list[str]]) -> list[str]:
    cells = [row["label"], _input(row), f"{row['parameters'] / 1e6:.2f} M"]
    for name in FIGURES:
        ours = with_interval(row["figures"][name])
        cells += [f"**{ours}**" if row["label"] in pareto.get(name, ()) else ours, _paper(row, name)]
    times = row["latency_ms"]
    return [
        *cells,
        _engine(row),
        *(f"{times[name]:.2f}" for name in ("min", "p50", "p95")),
        f"{times['p50'] / FRAME_MS:.0%}",
    ]


def _paper(row: Mapping[str, Any], name: str) -> str:
    printed = row["paper"] and row["paper"]["figures"].get(name)
    if not printed:
        return ""
    return f"{printed['value']:.3f}" + (f" ± {printed['spread']:.3f}" if printed["spread"] else "")


def _sizes(rows: Iterable[Mapping[str, Any]]) -> Iterable[list[str]]:
    for row in rows:
        for one in row["by_size"]:
            if one["images"]:
                figures = [_number(one[name]) for name in ("dice", "missed", "accuracy")]
                yield [row["label"], one["name"], str(one["images"]), *figures]


def _classes(rows: Iterable[Mapping[str, Any]]) -> Iterable[list[str]]:
    for row in rows:
        for name, figures in row["by_class"].items():
            cells = [with_interval(figures.get(kind)) for kind in ("dice", "recall", "precision")]
            yield [row["label"], name, *cells]


def _calibrations(rows: Iterable[Mapping[str, Any]]) -> Iterable[list[str]]:
    for row in rows:
        found = row["calibration"]
        if found is None:
            continue
        scales = ", ".join(f"{scale:.2f}" for scale in found["temperatures"])
        cells = [
            with_interval(found[when] and found[when][name])
            for name in ("calibration_error", "brier")
            for when in ("before", "after")
        ]
        yield [row["label"], scales, *cells]


def _trained(row: Mapping[str, Any]) -> Iterable[str]:
    made = row["training"]
    images = made["images"]
    folds = ", ".join(map(str, made["folds"]))
    yield (
        f"{row['run']}: recipe {made['recipe'].get('name')}, {made['size']} x {made['size']} pixels, "
        f"epochs: {_list(made['epochs'])} (kept: {_list(made['chosen_epochs'])}), fold {folds} of "
        f"{made['of_folds']}; {images['train']} images to train, {images['validation']} to choose by, "
        f"{made['tested']} tested; chosen on: {made['selection']}; seed {made['seed']}"
    )
    if not (row["segments"] and row["classifies"]):
        lacking = "classify" if row["segments"] else "segment"
        yield f"does not {lacking}: timed with that output held constant, in the engines of the others"
    if row["paper"]:
        yield f"paper's figures: {row['paper']['cite']}, {row['paper']['source']}, {row['paper']['data']}"
    yield from row["differs_from_paper"]


def _grid(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        "|---|" + "---:|" * (len(head) - 1),
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]


def _input(row: Mapping[str, Any]) -> str:
    height, width, channels = row["input"]
    return f"{height} x {width} x {channels}"


def _engine(row: Mapping[str, Any]) -> str:
    engine = row["engine"]
    return f"{engine['name']} {engine['precision']}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _list(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))

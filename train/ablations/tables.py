"""The rows that are done as a table: for a program, a terminal and a page."""

import json
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from train.ablations.rows import Planned, ablations
from train.evaluation.paired import differences
from train.report.run import pool, read_run

FIGURES = ("dice", "jaccard", "accuracy", "auc", "sensitivity", "specificity")
AGAINST = ("dice", "accuracy", "auc")
"""Figures that a row and the reference are compared by, image for image."""


def tabulate(planned: Sequence[Planned]) -> dict[str, Any]:
    """Gather the figures of the rows that are done, by table, and how far each is from the reference's."""
    tables: dict[str, Any] = {}
    for name in dict.fromkeys(one.study for one in planned):
        study = ablations()[name]
        done = [one for one in planned if one.study == name and (one.request.out / "results.json").is_file()]
        rows = [_row(one) for one in done]
        reference = next((one for one in done if one.row.name == study.reference), None)
        if reference is not None:
            asked = pool(read_run(reference.request.out).folds)
            for one, row in zip(done, rows, strict=True):
                if one is not reference:
                    apart = differences(pool(read_run(one.request.out).folds), asked)
                    row["minus_reference"] = {
                        figure: {
                            "value": round(found.value, 6),
                            "interval_95": [round(found.low, 6), round(found.high, 6)],
                            "images": found.images,
                        }
                        for figure, found in apart.items()
                    }
        tables[name] = {"paper": study.paper, "reference": study.reference, "rows": rows}
    return tables


def _row(one: Planned) -> dict[str, Any]:
    results = json.loads((one.request.out / "results.json").read_text(encoding="utf-8"))
    figures = results["parts"][0]["figures"]
    return {
        "name": one.row.name,
        "network": one.row.network,
        "folds": [fold["fold"] for fold in results["folds"]],
        "options": one.request.recipe.network,
        "settings": one.row.settings,
        "parameters": one.parameters,
        "figures": {name: figures[name] for name in FIGURES if name in figures},
    }


def show(tables: dict[str, Any]) -> list[Table]:
    """Lay the tables out for a terminal; below each, how far its rows are from the bold one, the paper's."""
    shown = []
    for table in tables.values():
        grid = Table(title=table["paper"], caption="Research use only.", caption_justify="left")
        for column in ("", "folds", "weights", *FIGURES):
            grid.add_column(column, justify="right" if column else "left")
        for row in table["rows"]:
            style = "bold" if row["name"] == table["reference"] else ""
            cells = [_value(row["figures"].get(figure)) for figure in FIGURES]
            grid.add_row(row["name"], _folds(row), _millions(row["parameters"]), *cells, style=style)
        shown.append(grid)
        if compared := _compared(table):
            grid = Table(title=f"less {table['reference']}, image for image")
            for column in ("", *AGAINST):
                grid.add_column(column, justify="right" if column else "left")
            for row in compared:
                grid.add_row(row["name"], *_apart(row))
            shown.append(grid)
    return shown


def as_markdown(tables: dict[str, Any]) -> str:
    """Write the tables out with their 95 % intervals, which are over images and not over runs."""
    lines = [
        "Research use only. In brackets: 95 % intervals over images; another seed may differ by more.",
        "",
    ]
    for table in tables.values():
        lines += [f"## {table['paper']}", "", "| | folds | weights | " + " | ".join(FIGURES) + " |"]
        lines.append("|---|" + "---:|" * (2 + len(FIGURES)))
        for row in table["rows"]:
            name = f"**{row['name']}**" if row["name"] == table["reference"] else row["name"]
            cells = [_with_interval(row["figures"].get(figure)) for figure in FIGURES]
            lines.append(f"| {name} | {_folds(row)} | {_millions(row['parameters'])} | {' | '.join(cells)} |")
        lines.append("")
        compared = _compared(table)
        if compared:
            lines += [f"Less **{table['reference']}**, image for image:", ""]
            lines += ["| | " + " | ".join(AGAINST) + " |", "|---|" + "---:|" * len(AGAINST)]
        lines += [f"| {row['name']} | {' | '.join(_apart(row))} |" for row in compared]
        lines += [""] if compared else []
    return "\n".join(lines)


def _compared(table: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in table["rows"] if row.get("minus_reference")]


def _apart(row: dict[str, Any]) -> list[str]:
    return [_with_interval(row["minus_reference"].get(figure), "+") for figure in AGAINST]


def _value(figure: dict[str, Any] | None, sign: str = "") -> str:
    return "" if figure is None or figure["value"] is None else f"{figure['value']:{sign}.3f}"


def _with_interval(figure: dict[str, Any] | None, sign: str = "") -> str:
    value = _value(figure, sign)
    if figure is None or not value or None in figure["interval_95"]:
        return value
    low, high = figure["interval_95"]
    return f"{value} [{low:{sign}.2f}, {high:{sign}.2f}]"


def _folds(row: dict[str, Any]) -> str:
    return ", ".join(map(str, row["folds"]))


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"

"""Composes a report: report.html, one file that opens offline, and results.json with the same figures."""

import datetime as dt
import json
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from models.checkpoint import INTENDED_USE
from models.networks.base import Network
from train.data import DataError
from train.metrics import MeanSd, Roc
from train.report import charts
from train.report.compare import Comparison
from train.report.part import (
    MAIN,
    Part,
    Row,
    as_json,
    cams,
    class_names,
    class_rows,
    examples,
    figure_rows,
    number,
    show,
)
from train.report.sheet import read_sheet
from train.report.words import words

SCHEMA = "sonostream.results/1"


class FoldRow(NamedTuple):
    """One fold's figures."""

    fold: int
    images: int
    figures: dict[str, float]
    curve: Roc | None
    epochs: list[dict[str, Any]]


class Folds(NamedTuple):
    """The folds of a run and what they come to."""

    rows: list[FoldRow]
    summary: dict[str, MeanSd]


class Report(NamedTuple):
    """Everything that a report is made of."""

    kind: str
    """`run` or `evaluation`."""
    title: str
    subtitle: str
    parts: list[Part]
    """The first is the one that pictures and curves are of."""
    facts: list[tuple[str, str]]
    """About the model, and how the figures were made."""
    findings: Mapping[str, Any]
    """Of `train.sets.read`."""
    command: str
    folds: Folds | None = None
    comparison: Comparison | None = None
    network: Network | None = None
    """What answered, where its gradients can be had."""
    explained: Part | None = None
    """The part it answered; None: the first."""
    warnings: tuple[str, ...] = ()
    model: Mapping[str, Any] = {}
    """What results.json says of the model."""


def write_report(report: Report, folder: Path) -> None:
    """Write report.html and results.json into a folder.

    :raises DataError: if they cannot be written.
    """
    made = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    replace_file(
        folder / "results.json", json.dumps(_results(report, made), indent=1, allow_nan=False) + "\n"
    )
    replace_file(folder / "report.html", _page(report, made))


def replace_file(path: Path, text: str) -> None:
    """Write a text file; at every instant it is the old one whole or the new one whole.

    :raises DataError: if it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror or error}") from None


def _results(report: Report, made: str) -> dict[str, Any]:
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": report.kind,
        "intended_use": INTENDED_USE,
        "made": made,
        "sonostream": version("sonostream"),
        "command": report.command,
        "model": dict(report.model),
        "facts": dict(report.facts),
        "warnings": _warnings(report),
        "parts": [as_json(part) for part in report.parts],
        "data": dict(report.findings),
    }
    if report.folds:
        results["folds"] = [
            {
                "fold": row.fold,
                "images": row.images,
                "epochs": len(row.epochs),
                "figures": {name: number(value) for name, value in row.figures.items()},
            }
            for row in report.folds.rows
        ]
        results["summary"] = {
            name: {"mean": number(one.mean), "sd": number(one.sd), "folds": one.folds}
            for name, one in report.folds.summary.items()
        }
    if report.comparison:
        results["papers"] = {
            **report.comparison._asdict(),
            "rows": [row._asdict() for row in report.comparison.rows],
            "protocol": [row._asdict() for row in report.comparison.protocol],
            "others": [[name, *cells] for name, cells in report.comparison.others],
        }
    return results


def _warnings(report: Report) -> list[str]:
    if not report.parts[0].synthetic:
        return list(report.warnings)
    return [
        "All images are synthetic: the figures show that the software works, nothing about people.",
        *report.warnings,
    ]


def _page(report: Report, made: str) -> str:
    part = report.parts[0]
    scores = part.scores
    template = (files("train.report") / "page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    layer, shown = cams(report.explained or part, report.network) if report.network else ("", [])
    folds = report.folds
    return environment.from_string(template).render(
        kind=report.kind,
        title=report.title,
        subtitle=report.subtitle,
        warnings=_warnings(report),
        parts=report.parts,
        part_names=[one.name for one in report.parts],
        main=figure_rows(report.parts, MAIN),
        everything=figure_rows(report.parts),
        folds=_fold_table(report),
        comparison=report.comparison,
        training=charts.curves([row.epochs for row in folds.rows])
        if folds and any(row.epochs for row in folds.rows)
        else "",
        roc=_roc(report),
        roc_says=f"ROC, {words('auc', scores.positive).says.removeprefix('AUC, ')}, {part.name}."
        + (" Pale: each fold." if folds and len(folds.rows) > 1 else ""),
        reliability=charts.reliability(scores.reliability, scores.uncalibrated) if scores.reliability else "",
        reliability_says=_reliability_says(part),
        matrix=_matrix(part) if scores.confusion.any() else None,
        classes={"names": class_names(part), "rows": class_rows(part)},
        sizes=[
            {"name": one.name, "cells": [one.images, *map(_cell, (one.dice, one.missed, one.accuracy))]}
            for one in scores.sizes
            if one.images
        ],
        examples=examples(part),
        cams=shown,
        cam_layer=layer,
        cam_says="The surest right answers, then the surest wrong ones"
        + (f", of {report.explained.name}." if report.explained else "."),
        sheet=read_sheet(report.findings),
        facts=report.facts,
        command=report.command or "not recorded",
        made=made,
        version=version("sonostream"),
        schema=SCHEMA,
    )


def _fold_table(report: Report) -> dict[str, Any] | None:
    """Tabulate the main figures, and those that the paper prints, by fold."""
    folds, positive = report.folds, report.parts[0].scores.positive
    if folds is None or len(folds.rows) < 2:
        return None
    paper = {row.says: row.paper for row in report.comparison.rows} if report.comparison else {}
    rows = []
    for name, one in folds.summary.items():
        known = words(name, positive)
        if name in MAIN or known.says in paper:
            cells = [_cell(row.figures.get(name, float("nan"))) for row in folds.rows]
            printed = [paper.get(known.says, "-")] if paper else []
            rows.append(Row(known.says, known.better, [*cells, spread(one), *printed]))
    head = [f"fold {row.fold}" for row in folds.rows]
    counts = [str(row.images) for row in folds.rows]
    return {
        "head": ["", *head, "mean ± SD", *(["the paper"] if paper else [])],
        "rows": [Row("images", "higher", [*counts, "", *([""] if paper else [])]), *rows],
    }


def spread(one: MeanSd) -> str:
    """Write a mean with its SD, where there is one."""
    return _cell(one.mean) + (f" ± {_cell(one.sd)}" if np.isfinite(one.sd) else "")


def _roc(report: Report) -> str:
    scores = report.parts[0].scores
    if scores.roc is None:
        return ""
    rows = report.folds.rows if report.folds and len(report.folds.rows) > 1 else []
    return charts.roc(
        scores.roc, show(scores.figures.get("auc")), [row.curve for row in rows if row.curve is not None]
    )


def _reliability_says(part: Part) -> str:
    error = part.scores.figures.get("calibration_error")
    says = f"Reliability, {part.name}: expected calibration error {show(error)}."
    if part.answers.temperature != 1:
        says += f" Temperature {part.answers.temperature:.3g}, fitted on images of no test part."
    else:
        says += " The probabilities are not calibrated by a temperature."
    return says


def _matrix(part: Part) -> dict[str, Any]:
    table = part.scores.confusion
    return {
        "columns": part.scores.classes,
        "rows": [
            {
                "name": name,
                "cells": [
                    {"count": int(count), "share": f"{0.55 * count / max(1, row.sum()):.2f}"} for count in row
                ],
            }
            for name, row in zip(part.scores.classes, table, strict=True)
            if row.sum()
        ],
    }


def _cell(value: float) -> str:
    if not np.isfinite(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}"

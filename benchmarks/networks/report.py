"""The comparison of trained networks as plain values: what comparison.json holds."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.figures import machine, versions
from benchmarks.networks.front import pareto_front
from benchmarks.networks.latency import Timing
from benchmarks.networks.runs import Trained, folds_in_all, images_of, lesions_of
from models.checkpoint import INTENDED_USE
from models.networks.registry import ModelError, card
from train.objectives import ObjectiveError
from train.recipe import RecipeError, load_recipe
from train.report.papers import Published, published
from train.run.whole import resolve_recipe

SCHEMA = "sonostream.comparison/1"
FIGURES = {"dice": ("dice",), "auc": ("auc", "auc_macro"), "accuracy": ("accuracy_lesions", "accuracy")}
"""What is compared, and what papers print of it."""
BY_CLASS = ("dice", "recall", "precision")
FRAME_MS = 1000 / 30
"""A frame of a feed of 30 fps."""


def compare(
    runs: Sequence[Trained],
    timings: Mapping[str, Timing],
    calibrations: Mapping[str, dict[str, Any] | None],
    sizes: Callable[[Trained], list[dict[str, Any]]],
) -> dict[str, Any]:
    """Gather every figure of every run, the best Dice first; networks without masks follow by their AUC.

    :param timings: by the runs' labels; so are `calibrations`.
    :param sizes: gives a run's figures by size of the lesion.
    """
    rows = [
        {
            "label": run.label,
            "network": run.network,
            "run": "/".join(run.folder.resolve().parts[-2:]),
            "segments": run.segments,
            "classifies": run.classifies,
            "figures": {name: run.part["figures"].get(name) for name in FIGURES},
            "by_size": sizes(run),
            "by_class": _by_class(run.part),
            "calibration": calibrations[run.label],
            **_timing(timings[run.label]),
            "training": _training(run, timings[run.label]),
            "paper": _paper(run),
            "differs_from_paper": differences(run),
        }
        for run in runs
    ]
    rows.sort(key=lambda row: [_lowest_last(value_of(row, name)) for name in ("dice", "auc")])
    return {
        "schema": SCHEMA,
        "benchmark": "networks",
        "intended_use": INTENDED_USE,
        "machine": machine(),
        "versions": versions(),
        "load_average": [round(one, 2) for one in os.getloadavg()],
        "data": sorted({_data_set(source) for run in runs for source in _sources(run)}),
        "tested_alike": _tested_alike(runs),
        "pareto": {
            name: pareto_front(
                {row["label"]: (row["latency_ms"]["p50"], value_of(row, name)) for row in rows}
            )
            for name in ("dice", "auc")
        },
        "networks": rows,
    }


def value_of(row: Mapping[str, Any], name: str) -> float | None:
    """Look up a figure of a row of the comparison; None where it has none."""
    figure = row["figures"][name]
    return None if figure is None else figure["value"]


def _tested_alike(runs: Sequence[Trained]) -> list[dict[str, Any]]:
    """Sort runs by the lesions that they were tested on: folds of other sets of images are other folds.

    The largest group comes first; `shared` counts the lesions that a group has in common with it.
    """
    groups: dict[frozenset[tuple[str, str]], list[str]] = {}
    for run in runs:
        groups.setdefault(lesions_of(run), []).append(run.label)
    ordered = sorted(groups, key=lambda lesions: -len(groups[lesions]))
    return [
        {"networks": groups[each], "lesions": len(each), "shared": len(each & ordered[0])} for each in ordered
    ]


def _lowest_last(figure: float | None) -> float:
    return float("inf") if figure is None else -figure


def differences(run: Trained) -> list[str]:
    """Say in what a run departs from its network's paper: recipe, first weights, protocol."""
    protocol = (run.results.get("papers") or {}).get("protocol", [])
    return [
        *_recipe_differences(run),
        *(f"{one['says']}: {one['ours']} (paper: {one['paper']})" for one in protocol),
    ]


def _recipe_differences(run: Trained) -> list[str]:
    if run.recipe.get("name") != "paper":
        return [f"recipe: {run.recipe.get('name', 'not recorded')}, not the paper's"]
    try:
        known = card(run.network)
        stated = resolve_recipe(load_recipe("paper", run.network)).model_dump(mode="json", exclude_none=True)
    except (ModelError, ObjectiveError, RecipeError):
        return []
    stated.setdefault("network", {}).setdefault("size", known.size)
    ours, theirs = _flat({"network": {"size": known.size}}) | _flat(run.recipe), _flat(stated)
    found = [
        f"{key}: {_plain(ours.get(key))} (paper's recipe: {_plain(theirs.get(key))})"
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key) != theirs.get(key) and key not in ("name", "networks")
    ]
    if known.weights and run.data.get("weights") is None:
        found.append(f"first weights: random (paper: ImageNet's, {known.weights})")
    return found


def _flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return flat


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)


def _by_class(part: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    figures = part["figures"]
    found = {
        name: {kind: figures[f"{kind}_{name}"] for kind in BY_CLASS if f"{kind}_{name}" in figures}
        for name in ("benign", "malignant", "normal")
    }
    return {name: one for name, one in found.items() if one}


def _timing(timing: Timing) -> dict[str, Any]:
    engine = timing.engine
    return {
        "latency_ms": timing.milliseconds,
        "calls": timing.calls,
        "engine": {
            "name": engine.name,
            "version": engine.version,
            "precision": engine.precision,
            "device": engine.device,
            "threads": engine.threads,
        },
        "input": list(timing.input),
        "parameters": timing.parameters,
        "gmacs": timing.gmacs,
    }


def _training(run: Trained, timing: Timing) -> dict[str, Any]:
    epochs = [len(fold.epochs) for fold in run.folds]
    chosen = [
        max((place for place, one in enumerate(fold.epochs, 1) if one.get("best")), default=None)
        for fold in run.folds
    ]
    return {
        "recipe": run.recipe,
        "size": timing.input[0],
        "epochs": epochs,
        "chosen_epochs": chosen,
        "images": images_of(run),
        "tested": run.part["counts"]["images"],
        "folds": [fold.number for fold in run.folds],
        "of_folds": folds_in_all(run),
        "split": run.data.get("split"),
        "selection": run.data.get("selection"),
        "heldout": run.data.get("heldout"),
        "seed": run.data.get("seed"),
        "first_weights": run.data.get("weights") or "random",
    }


def _paper(run: Trained) -> dict[str, Any] | None:
    row = _published(run)
    if row is None:
        return None
    figures = {}
    for name, printed in FIGURES.items():
        key = next((key for key in printed if key in row.figures), None)
        if key is not None:
            value, spread = row.figures[key]
            figures[name] = {"value": round(value, 4), "spread": spread and round(spread, 4), "printed": key}
    return {"cite": row.cite, "source": row.source, "data": row.data, "figures": figures}


def _published(run: Trained) -> Published | None:
    sources = {_data_set(source) for source in _sources(run)}
    if len(sources) != 1:
        return None
    rows = published(sources.pop())
    return next((row for row in rows if row.network == run.network), None)


def _data_set(source: str) -> str:
    """Name a data set as the papers do, if they used it."""
    known = {row.data for row in published()}
    return source.upper() if source.upper() in known else source


def _sources(run: Trained) -> set[str]:
    return {source for fold in run.folds for source in fold.images.sources if source}

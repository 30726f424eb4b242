"""The report of a training run, from its folder alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from models.checkpoint import read_checkpoint
from models.networks.base import Network
from models.networks.registry import ModelError
from train.data import Images
from train.evaluation.scores import Positive, Scores, score
from train.metrics import Bin, mean_sd, reliability
from train.report.compare import compare
from train.report.part import Part, as_json, is_synthetic, show
from train.report.run import Fold, Run, pool, read_run
from train.report.write import (
    SCHEMA,
    FoldRow,
    Folds,
    Report,
    replace_file,
    spread,
    write_report,
)

_UNKNOWN = "not recorded"


def write(run: Path, *, positive: Positive = "malignant") -> None:
    """Write results.json and report.html of a run, and results.json of each of its folds.

    Read are, in RUN: `recipe.toml`; `data.json` (the findings of `train.sets.read`, and where it has them
    `command`, `network`, `split`, `selection`, `heldout`); in every fold-N: `answers.npz`
    (`train.evaluation.answers.save_answers`), `epochs.jsonl`, `best.pt` (for Grad-CAM). What is absent is
    left out.

    :param run: the run's folder.
    :param positive: the class that sensitivity is of; RMTL-Net counts benign.
    :raises DataError: if no fold has answers, or a file cannot be read or written.
    """
    kept = read_run(run)
    network = _network(kept.folds[0])
    name = network.name if network else str(kept.data.get("network", _UNKNOWN))
    scored = [score(fold.answers, fold.images, positive=positive, rounds=0) for fold in kept.folds]
    several = len(kept.folds) > 1
    pooled_answers, pooled_images = pool(kept.folds)
    pooled = score(pooled_answers, pooled_images, positive=positive)
    if several and pooled.uncalibrated:
        pooled = pooled._replace(uncalibrated=_before(kept.folds))
    made = _made(kept, pooled_images, positive)
    protocol = (
        f"Test parts of {len(kept.folds)} folds, each answered by the weights of its own fold."
        if several
        else "The test part of one split."
    )
    name_of_part = "test parts" if several else "test part"
    synthetic = is_synthetic(pooled_images)
    part = Part(name_of_part, protocol, pooled_answers, pooled_images, pooled, synthetic)
    folds = Folds(
        [_row(fold, scores) for fold, scores in zip(kept.folds, scored, strict=True)],
        {
            figure: mean_sd([one.figures[figure].value for one in scored if figure in one.figures])
            for figure in pooled.figures
        },
    )
    ours = {
        figure: spread(one) if several else show(pooled.figures[figure])
        for figure, one in folds.summary.items()
    }
    first = kept.folds[0]
    warnings = []
    if str(kept.data.get("selection", "")).startswith("test"):
        warnings.append(
            "Optimistic: the weights of every fold were chosen on its own test part, as the public scripts "
            "of ACSNet and LA-Net do."
        )
    if kept.data.get("heldout") == "use":
        warnings.append("BUSI's held-out fifth was used in this run: it can no longer judge these weights.")
    write_report(
        Report(
            kind="run",
            title=f"{name}, trained on {', '.join(_sources(pooled_images)) or 'unnamed data'}",
            subtitle=f"recipe {kept.recipe.get('name', _UNKNOWN)}; "
            f"{len(kept.folds)} fold{'s' if several else ''} tested, {len(pooled_images)} images",
            parts=[part],
            facts=[
                ("network", name),
                ("first weights", str(kept.data.get("weights") or "random")),
                ("seed", str(kept.data.get("seed", _UNKNOWN))),
                *made.items(),
                ("recipe", _recipe(kept.recipe)),
            ],
            findings=_findings(kept.data),
            command=str(kept.data.get("command", "")),
            folds=folds,
            comparison=compare(name, _sources(pooled_images), ours, made, positive),
            network=network,
            explained=Part(f"fold {first.number}", "", first.answers, first.images, scored[0])
            if several
            else None,
            warnings=tuple(warnings),
            model={"network": name, "recipe": kept.recipe},
        ),
        run,
    )
    for fold, scores in zip(kept.folds, scored, strict=True):
        one = Part(f"fold {fold.number}", protocol, fold.answers, fold.images, scores)
        text = json.dumps({"schema": SCHEMA, "kind": "fold", "parts": [as_json(one)]}, indent=1)
        replace_file(fold.folder / "results.json", text + "\n")


def _before(folds: list[Fold]) -> list[Bin]:
    """Reliability before calibration: every fold has a temperature of its own."""
    count = folds[0].answers.classes.shape[1]
    labels = np.concatenate([fold.images.labels for fold in folds])
    named = (labels >= 0) & (labels < count)
    return reliability(np.concatenate([fold.answers.uncalibrated() for fold in folds])[named], labels[named])


def _row(fold: Fold, scores: Scores) -> FoldRow:
    figures = {name: figure.value for name, figure in scores.figures.items()}
    return FoldRow(fold.number, len(fold.images), figures, scores.roc, fold.epochs)


def _network(fold: Fold) -> Network | None:
    path = fold.folder / "best.pt"
    try:
        return read_checkpoint(path).network if path.is_file() else None
    except ModelError:
        return None  # a report without Grad-CAM is better than none


def _sources(images: Images) -> list[str]:
    return sorted({source for source in images.sources if source})


def _made(run: Run, images: Images, positive: Positive) -> dict[str, str]:
    """Say how the figures were made, by the points that papers are compared on."""
    split = {"grouped": "stratified, near-duplicates and patients kept together", "paper": "stratified only"}
    chosen = str(run.data.get("selection", "inner validation split"))
    count = len(run.folds)
    normals = int((images.labels == 2).sum())
    known = np.isfinite(images.spacing_mm).all(axis=1)
    return {
        "images": f"{len(images)} tested"
        + (f", {normals} normals among them" if normals else ", no normals"),
        "split": f"{count} fold{'s' if count > 1 else ''}; "
        + split.get(str(run.data.get("split")), str(run.data.get("split", _UNKNOWN))),
        "checkpoint": f"chosen on: {chosen}",
        "positive class": f"{positive}; plain means of all classes beside it",
        "spread": "SD over folds (n - 1)" if count > 1 else "95 % bootstrap interval over groups of images",
        "distances": "pixels of the 256 grid"
        + (f", in mm for {int(known.sum())} images of known pixel size" if known.any() else "")
        + "; undefined and counted apart where either mask is empty",
    }


def _findings(data: dict[str, Any]) -> dict[str, Any]:
    inner = data.get("findings", data)
    return dict(inner) if isinstance(inner, dict) else {}


def _recipe(recipe: dict[str, Any]) -> str:
    parts = []
    for table, values in recipe.items():
        if isinstance(values, dict) and table != "augment":
            parts += [
                f"{table}.{key} = {value}" for key, value in values.items() if not isinstance(value, dict)
            ]
    return "; ".join(parts) or _UNKNOWN

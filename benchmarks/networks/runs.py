"""Reads what a run of training has left: its results, its recipe, its answers, its artifact."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.daemon import BenchError
from train.data import DataError
from train.evaluation.scores import NORMAL
from train.report import SCHEMA
from train.report.run import Fold, read_run


class Trained(NamedTuple):
    """A network that was trained and tested."""

    label: str
    """Its name; with its folder's where several runs trained the same network."""
    network: str
    folder: Path
    results: dict[str, Any]
    """results.json."""
    recipe: dict[str, Any]
    data: dict[str, Any]
    """data.json."""
    folds: list[Fold]
    artifact: Path | None
    """None for a network that segments or classifies only: an artifact does both."""

    @property
    def part(self) -> dict[str, Any]:
        """What results.json says of the test parts."""
        part: dict[str, Any] = self.results["parts"][0]
        return part

    @property
    def segments(self) -> bool:
        """Whether it has masks."""
        return self.folds[0].answers.segments

    @property
    def classifies(self) -> bool:
        """Whether it has classes."""
        return bool(self.folds[0].answers.classes.shape[1])


def read_runs(folders: Sequence[Path]) -> list[Trained]:
    """Read the folders of finished runs.

    :raises BenchError: if one is not a finished run, was written by another version, or lacks its artifact.
    """
    runs = [_read(folder) for folder in folders]
    seen = Counter(run.network for run in runs)
    named = [
        run._replace(label=f"{run.network} ({run.folder.resolve().name})") if seen[run.network] > 1 else run
        for run in runs
    ]
    repeated = [label for label, count in Counter(run.label for run in named).items() if count > 1]
    if repeated:
        raise BenchError(f"two runs are called {repeated[0]}; name each folder once, or rename one")
    return named


def images_of(run: Trained) -> dict[str, int]:
    """Count the images of the parts: of its fold, or the mean of its folds rounded."""
    try:
        with (run.folder / "folds.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["fold"] != "left out"]
    except (OSError, KeyError) as error:
        raise BenchError(f"{run.folder / 'folds.csv'} cannot be read: {error}") from None
    counts: Counter[str] = Counter()
    for fold in run.folds:
        number = str(fold.number)
        for row in rows:
            validates = number in row["validation_of"].split()
            counts["test" if row["fold"] == number else "validation" if validates else "train"] += 1
    return {part: round(counts[part] / len(run.folds)) for part in ("train", "validation", "test")}


def lesions_of(run: Trained) -> frozenset[tuple[str, str]]:
    """Name the images with a lesion, by source and name, that a run was tested on."""
    return frozenset(
        (source, name)
        for fold in run.folds
        for source, name, label in zip(
            fold.images.sources, fold.images.names, fold.images.labels, strict=True
        )
        if label != NORMAL
    )


def folds_in_all(run: Trained) -> int:
    """Count the folds that the images were dealt into."""
    with (run.folder / "folds.csv").open(newline="", encoding="utf-8") as file:
        return max((int(row["fold"]) for row in csv.DictReader(file) if row["fold"].isdecimal()), default=0)


def data_paths(run: Trained) -> Iterator[tuple[str, str]]:
    """List the data sets of a run, by name, with where they lay."""
    for one in run.data.get("findings", {}).get("sets", {}).get("items", []):
        if isinstance(one, dict) and {"name", "path"} <= one.keys():
            yield str(one["name"]), str(one["path"])


def _read(folder: Path) -> Trained:
    file = folder / "results.json"
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError(
            f"{folder} holds no results.json: give the folder of a run that is finished"
        ) from None
    except (OSError, ValueError) as error:
        raise BenchError(f"{file} cannot be read: {error}") from None
    found = results.get("schema") if isinstance(results, dict) else None
    if found != SCHEMA:
        raise BenchError(
            f"{file} has the schema {found!r}, this version reads {SCHEMA!r}; report the run again"
        )
    if results.get("kind") != "run":
        raise BenchError(
            f"{file} is of an {results.get('kind')}, not of a run: give the folder of a training"
        )
    try:
        run = read_run(folder)
    except DataError as error:
        raise BenchError(str(error)) from None
    network = str(results["model"]["network"])
    artifact = folder / f"{network}.onnx"
    trained = Trained(network, network, folder, results, run.recipe, run.data, run.folds, None)
    if artifact.is_file():
        return trained._replace(artifact=artifact)
    if trained.segments and trained.classifies:
        raise BenchError(
            f"{folder} holds no {artifact.name}: finish the run, or export its best weights, "
            f"`sonostream export {run.folds[0].folder / 'best.pt'} -o {artifact}`"
        )
    return trained

"""Reads the folder of a training run; see `train.report.write`."""

import csv
import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from train.data import DataError, Images, join
from train.evaluation.answers import Answers, load_answers


class Fold(NamedTuple):
    """One fold that was tested."""

    number: int
    folder: Path
    epochs: list[dict[str, Any]]
    answers: Answers
    images: Images


class Run(NamedTuple):
    """What a run's folder holds."""

    folder: Path
    recipe: dict[str, Any]
    data: dict[str, Any]
    folds: list[Fold]


def read_run(folder: Path) -> Run:
    """Read a run; folds that were not tested yet are left out.

    :raises DataError: if no fold was tested, or a file of the run cannot be read.
    """
    folds = [
        Fold(number, path, _lines(path / "epochs.jsonl"), *load_answers(path / "answers.npz"))
        for number, path in _folds(folder)
        if (path / "answers.npz").is_file()
    ]
    if not folds:
        raise DataError(f"{folder} has no fold with answers (fold-1/answers.npz): finish the run first")
    return Run(folder, _toml(folder / "recipe.toml"), _json(folder / "data.json"), folds)


def pool(folds: Sequence[Fold]) -> tuple[Answers, Images]:
    """Put the answers of all folds, and the images they are of, into one."""
    if len(folds) == 1:
        return folds[0].answers, folds[0].images
    images = join(fold.images for fold in folds)
    answers = [fold.answers for fold in folds]
    classes = np.concatenate([one.classes for one in answers])
    lesion = np.concatenate([one.lesion for one in answers])
    temperature = float(np.mean([one.temperature for one in answers]))
    return Answers(lesion, classes, temperature, answers[0].segments), images


def names_in_fold(folder: Path) -> set[tuple[str, str]]:
    """Name the images that a fold of a run was tested on, as (source, name).

    :param folder: RUN/fold-N.
    :raises DataError: if it is no fold of a run.
    """
    number = folder.name.removeprefix("fold-")
    table = folder.parent / "folds.csv"
    if not number.isdigit() or not table.is_file():
        raise DataError(f"{folder} is no fold of a run: name RUN/fold-N, beside RUN/folds.csv")
    with table.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"image", "source", "fold"} <= set(rows.fieldnames or ()):
            raise DataError(f"{table} needs the columns image, source and fold, it has {rows.fieldnames}")
        names = {(row["source"], row["image"]) for row in rows if row["fold"] == number}
    if not names:
        raise DataError(f"{table} has no image in fold {number}")
    return names


def _folds(folder: Path) -> Iterator[tuple[int, Path]]:
    found = [path for path in folder.glob("fold-*") if path.name.removeprefix("fold-").isdigit()]
    for path in sorted(found, key=lambda one: int(one.name.removeprefix("fold-"))):
        yield int(path.name.removeprefix("fold-")), path


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return []
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:  # a last line cut off by a crash
            continue
    return lines


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not isinstance(kept, dict):
        raise DataError(f"{path} cannot be read: it holds no object")
    return kept

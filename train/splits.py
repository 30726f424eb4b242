"""Splits that keep duplicates and patients together and the share of every class equal."""

import csv
import io
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from train.data import DataError, Study
from train.dealing import Unit, deal, group_units

Split = Literal["grouped", "paper", "given"]
VALIDATION_FRACTION = 0.15
"""Of what a fold does not test, for choosing the checkpoint and the temperature."""
_LEFT_OUT = 0
_NEVER_TESTED = -1
_IN_FILE = {_LEFT_OUT: "left out", _NEVER_TESTED: "never tested"}
_COLUMNS = ("image", "source", "class", "group", "fold", "validation_of")


class Parts(NamedTuple):
    """What one fold trains on, chooses by and is judged on; no image is in two."""

    train: list[Study]
    validation: list[Study]
    test: list[Study]


@dataclass(frozen=True, slots=True)
class FoldTable:
    """Which fold tests each image, and in which folds it is one of the inner validation split."""

    studies: tuple[Study, ...]
    fold: tuple[int, ...]
    """From 1; 0 for an image that is left out, -1 for one that is trained on in every fold."""
    validation_of: tuple[frozenset[int], ...]
    split: Split

    @property
    def folds(self) -> int:
        """Count folds."""
        return max(self.fold, default=0)

    def parts(self, fold: int) -> Parts:
        """List what a fold trains on, validates on and tests.

        :param fold: from 1.
        :raises DataError: if there is no such fold.
        """
        if not 1 <= fold <= self.folds:
            raise DataError(f"there is no fold {fold}; folds are numbered from 1 to {self.folds}")
        parts = Parts([], [], [])
        for study, tested, validating in zip(self.studies, self.fold, self.validation_of, strict=True):
            if tested == _LEFT_OUT:
                continue
            part = parts.test if tested == fold else parts.validation if fold in validating else parts.train
            part.append(study)
        return parts

    def left_out(self) -> list[Study]:
        """List the studies that no fold uses."""
        return [study for study, fold in zip(self.studies, self.fold, strict=True) if fold == _LEFT_OUT]

    def write(self, path: Path) -> None:
        """Write the table as CSV: image, source, class, group, fold and the folds it validates.

        :raises DataError: if it cannot be written; a table that was there before is then untouched.
        """
        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for study, fold, validating in zip(self.studies, self.fold, self.validation_of, strict=True):
            tested = _IN_FILE.get(fold, fold)
            folds = " ".join(map(str, sorted(validating)))
            rows.writerow([study.name, study.source, study.label or "", study.group, tested, folds])
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            partial.write_text(text.getvalue(), "utf-8")
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise DataError(f"{path} cannot be written ({error.strerror})") from None


def make_folds(
    studies: Sequence[Study],
    *,
    folds: int = 5,
    seed: int = 0,
    split: Split = "grouped",
    validation_fraction: float = VALIDATION_FRACTION,
) -> FoldTable:
    """Divide studies into folds, the same for the same studies (in whatever order) and seed.

    Every fold gets its share of every class, of every data set, of images with and without a mask.

    :param split: `grouped` keeps each group in one part and leaves contradictory studies out; `paper` deals
        single images out, duplicates and all, as published protocols do; `given` takes the splits that the
        data set states: `train`, `validation` (optional) and `test`, or numbers of folds.
    :param validation_fraction: of what a fold does not test.
    :raises DataError: if a class has too few images for a part of every fold, or the given splits are
        missing, unknown or separate images of one patient or lesion.
    """
    studies = sorted(studies, key=lambda study: (study.source, study.name))
    kept = [row for row, study in enumerate(studies) if split == "paper" or not study.contradictory]
    unit_of: Callable[[int], Hashable] = (
        (lambda row: row) if split == "paper" else (lambda row: studies[row].group)
    )
    fold = [_LEFT_OUT] * len(studies)
    validating: list[set[int]] = [set() for _ in studies]
    if split == "given":
        given_validation = _take_given(studies, kept, fold)
    else:
        if folds < 2:
            raise DataError(f"a cross-validation needs 2 folds or more, not {folds}")
        given_validation = []
        units = group_units(kept, unit_of)
        _refuse_rare(studies, units, folds)
        for unit, part in zip(units, deal(studies, units, [1.0] * folds, f"{seed} folds"), strict=True):
            for row in unit:
                fold[row] = part + 1
    for number in range(1, max(fold, default=0) + 1):
        if given_validation:
            inner = given_validation
        else:
            units = group_units([row for row in kept if fold[row] != number], unit_of)
            shares = [1 - validation_fraction, validation_fraction]
            dealt = deal(studies, units, shares, f"{seed} validation {number}")
            inner = [row for unit, part in zip(units, dealt, strict=True) if part == 1 for row in unit]
        for row in inner:
            validating[row].add(number)
    table = FoldTable(tuple(studies), tuple(fold), tuple(map(frozenset, validating)), split)
    _refuse_missing_class(table)
    return table


def read_folds(path: Path, studies: Iterable[Study], *, split: Split = "grouped") -> FoldTable:
    """Read a table that `FoldTable.write` wrote, for the same studies.

    :raises DataError: if it cannot be read, names other images than the studies, or puts images of one group
        into two parts although the split is not `paper`.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error})") from None
    if not rows or not set(_COLUMNS) <= set(rows[0]):
        raise DataError(f"{path} is no table of folds: it needs the columns {', '.join(_COLUMNS)}")
    by_name = {(study.source, study.name): study for study in studies}
    named = {(row["source"], row["image"]) for row in rows}
    if named != set(by_name):
        other = sorted(named ^ set(by_name))[0]
        where = (
            "is in the table and not in the data" if other in named else "is in the data and not in the table"
        )
        raise DataError(f"{path}: {other[0]} {other[1]} {where}; the data has changed, start a new run")
    in_words = {word: number for number, word in _IN_FILE.items()}
    try:
        fold = tuple(int(in_words.get(row["fold"], row["fold"])) for row in rows)
        validating = tuple(frozenset(map(int, row["validation_of"].split())) for row in rows)
    except ValueError as error:
        raise DataError(f"{path}: {error}; a fold is a number from 1") from None
    table = FoldTable(tuple(by_name[row["source"], row["image"]] for row in rows), fold, validating, split)
    if split != "paper":
        _refuse_leaks(table, path)
    return table


def split(studies: Sequence[Study], fraction: float, seed: int) -> tuple[list[Study], list[Study]]:
    """Take about `fraction` of every class, group by group.

    :param fraction: of the images, 0 to 1.
    :return: the rest and the part taken; no group is in both.
    """
    by_label: dict[str, dict[int, list[Study]]] = defaultdict(lambda: defaultdict(list))
    for study in studies:
        by_label[str(study.label)][study.group].append(study)
    chosen: set[int] = set()
    for label, groups in sorted(by_label.items()):
        wanted = fraction * sum(map(len, groups.values()))
        order = sorted(groups)
        random.Random(f"{seed} {label}").shuffle(order)
        taken = 0
        for group in order:
            if taken + len(groups[group]) / 2 > wanted:
                break
            chosen.add(group)
            taken += len(groups[group])
    rest = [study for study in studies if study.group not in chosen]
    return rest, [study for study in studies if study.group in chosen]


def _take_given(studies: Sequence[Study], kept: Iterable[int], fold: list[int]) -> list[int]:
    """Fill in the folds that the data states; return the rows of its validation part, if it states one."""
    kept = list(kept)
    lacking = next((studies[row] for row in kept if not studies[row].split), None)
    if lacking is not None:
        raise DataError(f"{lacking.source} {lacking.name} is in no given split; use --split grouped")
    words = {row: str(studies[row].split).lower() for row in kept}
    names = set(words.values())
    if all(word.isdecimal() for word in names):
        numbers = {word: number for number, word in enumerate(sorted(names, key=int), 1)}
        if len(numbers) < 2:
            raise DataError("the data states one fold only; it needs two, or the splits train and test")
    elif names <= {"train", "validation", "test"} and {"train", "test"} <= names:
        numbers = {"train": _NEVER_TESTED, "validation": _NEVER_TESTED, "test": 1}
    else:
        raise DataError(
            f"the data states the splits {', '.join(sorted(names))}; they may be train, validation and test, "
            "train and test, or numbers of folds"
        )
    first: dict[int, int] = {}
    for row in kept:
        fold[row] = numbers[words[row]]
        one = first.setdefault(studies[row].group, row)
        if words[one] != words[row]:
            raise DataError(
                f"{studies[one].name} and {studies[row].name} show the same lesion or patient, and the data "
                f"states the splits {words[one]} and {words[row]}; correct it, or use --split grouped"
            )
    return [row for row in kept if words[row] == "validation"]


def _refuse_rare(studies: Sequence[Study], units: Iterable[Unit], folds: int) -> None:
    having: Counter[str] = Counter()
    for unit in units:
        having.update({label for row in unit if (label := studies[row].label) is not None})
    for label, count in sorted(having.items()):
        if count < max(folds, 3):
            raise DataError(
                f"class {label} has {count} independent image{'s' * (count != 1)}, too few for {folds} folds "
                "and an inner validation split; add images, use fewer folds, or leave the class out"
            )


def _refuse_missing_class(table: FoldTable) -> None:
    for fold in range(1, table.folds + 1):
        parts = table.parts(fold)
        labels = [{study.label for study in part} - {None} for part in parts]
        for name, of_part in zip(Parts._fields, labels, strict=True):
            if missing := sorted(map(str, set().union(*labels) - of_part)):
                raise DataError(
                    f"fold {fold} has no image of class {', '.join(missing)} in its {name} part; add images, "
                    "use fewer folds, or leave the class out"
                )


def _refuse_leaks(table: FoldTable, path: Path) -> None:
    for fold in range(1, table.folds + 1):
        part_of: dict[int, tuple[str, Study]] = {}
        for name, part in zip(Parts._fields, table.parts(fold), strict=True):
            for study in part:
                known, other = part_of.setdefault(study.group, (name, study))
                if known != name:
                    raise DataError(
                        f"{path}: in fold {fold}, {other.name} is in the {known} part and {study.name}, "
                        f"of the same lesion or patient, in the {name} part; start a new run"
                    )

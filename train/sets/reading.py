"""Reads data sets of any known layout, several together, and says what it found wrong with them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from train.data import DataError, Study
from train.sets.bus_bra import is_bus_bra, list_bus_bra
from train.sets.busi import is_busi, list_busi
from train.sets.duplicates import find_duplicates, join_pairs
from train.sets.findings import Finding, describe, finding, name_of
from train.sets.heldout import LIST, is_heldout
from train.sets.inspection import Look, look_at
from train.sets.listing import Listing, Skip
from train.sets.manifest import list_manifest
from train.sets.phantom import list_phantom
from train.sets.udiat import is_udiat, list_udiat

Heldout = Literal["leave_out", "use", "only"]
_LAYOUTS = (
    "BUSI (benign, malignant, normal), BUS-BRA (Images, Masks, bus_data.csv), UDIAT (original, GT, "
    "DatasetB.xlsx), a CSV manifest with a column image, or phantom:N"
)


class DataSet(NamedTuple):
    """Studies that can be used, and what was found on the way."""

    studies: tuple[Study, ...]
    findings: dict[str, Finding]
    """By kind; a kind that was not found is absent, except `sets`. Holds only what JSON can hold."""


def read(
    paths: Sequence[str | Path],
    *,
    heldout: Heldout = "leave_out",
    cache: Path = Path(".cache"),
    on_image: Callable[[int, int], None] | None = None,
) -> DataSet:
    """Read data sets and join them.

    Every picture is decoded once to check it and to compare it with all others: images that show the same
    lesion, by duplicate or by patient, get one group, across sets too. Near-duplicates with different classes
    are kept and marked as contradictory.

    :param paths: folders or CSV files, or `phantom:N` (N synthetic stills; `phantom:N:validation` and
        `phantom:N:test` are others).
    :param heldout: what becomes of BUSI's held-out images: left out with their near-duplicates, used as any
        other, or the only ones that are kept.
    :param cache: folder of rendered synthetic images.
    :param on_image: called with the number of synthetic images that are ready and of all, for a progress bar.
    :raises DataError: if a path has no known layout or a class folder is misspelt, a table is wrong, a
        patient is in two of the splits that the set gives, or no image is left.
    """
    listings = [_list(str(path), cache, on_image) for path in paths]
    _name_sources(listings)
    skipped = [skip for listing in listings for skip in listing.skipped]
    looks: list[Look] = []
    comparable: list[int] = []
    for listing in listings:
        seen = look_at(listing.studies)
        for study, look in zip(listing.studies, seen, strict=True):
            if isinstance(look, DataError):
                skipped.append(Skip(f"{study.source}: {study.name}", str(look)))
                continue
            if listing.compare:
                comparable.append(len(looks))
            looks.append(look)
    if not looks:
        reason = f"; the first of {len(skipped)} left out: {skipped[0].reason}" if skipped else ""
        raise DataError(f"no image of {', '.join(map(str, paths))} can be used{reason}")
    findings: dict[str, Finding] = {}
    if skipped:
        findings["skipped"] = finding(
            "files that cannot be used and are left out", [skip._asdict() for skip in skipped]
        )
    studies = _group(looks, comparable, listings, findings)
    _refuse_split_patients(studies)
    studies = _apply_heldout(studies, [look.digest for look in looks], heldout, findings)
    describe(studies, looks, listings, findings)
    return DataSet(tuple(studies), findings)


def _list(path: str, cache: Path, on_image: Callable[[int, int], None] | None) -> Listing:
    if path.startswith("phantom:"):
        return list_phantom(path, cache, on_image=on_image)
    root = Path(path)
    if root.is_file() and root.suffix.lower() == ".csv":
        return list_manifest(root)
    if not root.is_dir():
        problem = "is no folder and no CSV file" if root.exists() else "does not exist"
        raise DataError(f"{path} {problem}; known are {_LAYOUTS}")
    try:
        if (root / "manifest.csv").is_file():
            return list_manifest(root / "manifest.csv")
        if is_bus_bra(root):
            return list_bus_bra(root)
        if is_udiat(root):
            return list_udiat(root)
        if is_busi(root):
            return list_busi(root)
        inner = next((sub for sub in sorted(root.iterdir()) if sub.is_dir() and _is_known(sub)), None)
    except OSError as error:
        raise DataError(f"{path} cannot be listed ({error.strerror})") from None
    hint = f"; did you mean {inner}?" if inner else ""
    raise DataError(f"{path} has no known layout{hint}; known are {_LAYOUTS}")


def _is_known(root: Path) -> bool:
    return (root / "manifest.csv").is_file() or is_bus_bra(root) or is_udiat(root) or is_busi(root)


def _name_sources(listings: Iterable[Listing]) -> None:
    used: Counter[str] = Counter()
    for listing in listings:
        used[listing.name] += 1
        if used[listing.name] > 1:
            listing.name = f"{listing.name}-{used[listing.name]}"
        listing.studies = [replace(study, source=listing.name) for study in listing.studies]


def _group(
    looks: Sequence[Look],
    comparable: Sequence[int],
    listings: Iterable[Listing],
    findings: dict[str, Finding],
) -> list[Study]:
    studies = [look.study for look in looks]
    names = [name_of(study) for study in studies]
    found = find_duplicates(
        np.array([looks[row].thumbnail for row in comparable], np.uint8),
        [looks[row].digest.encode() for row in comparable],
    )
    exact = [(comparable[one], comparable[other]) for one, other in found.exact]
    near = [(comparable[one], comparable[other]) for one, other in found.near]
    stated = _stated_groups(studies, listings)
    alike = join_pairs(len(studies), [*exact, *near, *stated])
    by_patient: dict[tuple[str, str], int] = {}
    same_patient = []
    for row, study in enumerate(studies):
        if study.patient is not None:
            same_patient.append((by_patient.setdefault((study.source, study.patient), row), row))
    groups = join_pairs(len(studies), [*exact, *near, *stated, *same_patient])
    labels = defaultdict(set)
    for row, study in enumerate(studies):
        if study.label is not None:
            labels[alike[row]].add(study.label)
    if exact:
        findings["exact_duplicates"] = finding(
            "pairs of images with the same pixels; kept together in every grouped split",
            [[names[one], names[other]] for one, other in exact],
        )
    if near:
        findings["near_duplicates"] = finding(
            "pairs of images that show the same frame or nearly so; kept together in every grouped split",
            [[names[one], names[other]] for one, other in near],
        )
    if stated:
        rows = sorted({row for pair in stated for row in pair})
        findings["stated_duplicates"] = finding(
            "images in groups of near-duplicates that index.csv states; joined with those found here",
            [names[row] for row in rows],
        )
    clashing = [kind for kind, of_kind in labels.items() if len(of_kind) > 1]
    if clashing:
        members = defaultdict(list)
        for row, kind in enumerate(alike):
            members[kind].append(names[row])
        findings["contradictory"] = finding(
            "groups of duplicates with more than one class; left out of grouped splits",
            [members[kind] for kind in clashing],
        )
    return [
        replace(study, group=groups[row], contradictory=len(labels[alike[row]]) > 1)
        for row, study in enumerate(studies)
    ]


def _stated_groups(studies: Sequence[Study], listings: Iterable[Listing]) -> list[tuple[int, int]]:
    known = {(one.name, name): group for one in listings for name, group in one.known_groups.items()}
    first: dict[tuple[str, int], int] = {}
    pairs = []
    for row, study in enumerate(studies):
        group = known.get((study.source, study.name))
        if group is not None and (one := first.setdefault((study.source, group), row)) != row:
            pairs.append((one, row))
    return pairs


def _refuse_split_patients(studies: Iterable[Study]) -> None:
    given: dict[tuple[str, str], Study] = {}
    for study in studies:
        if study.patient is None or study.split is None:
            continue
        other = given.setdefault((study.source, study.patient), study)
        if other.split != study.split:
            raise DataError(
                f"patient {study.patient} of {study.source} is in two splits: {other.name} in {other.split}, "
                f"{study.name} in {study.split}; put all images of a patient in one"
            )


def _apply_heldout(
    studies: list[Study], digests: Sequence[str], heldout: Heldout, findings: dict[str, Finding]
) -> list[Study]:
    held = is_heldout(studies, digests)
    if heldout == "only":
        kept = [study for study, is_held in zip(studies, held, strict=True) if is_held]
        if not kept:
            raise DataError(f"none of BUSI's held-out images ({LIST}) is in the data; name BUSI's folder")
        return kept
    if not any(held):
        return studies
    names = [name_of(study) for study, is_held in zip(studies, held, strict=True) if is_held]
    if heldout == "use":
        findings["heldout"] = finding(
            f"images of BUSI's held-out part ({LIST}) that are USED, though the shipped model's figures are "
            "measured on them",
            names,
        )
        return studies
    groups = {study.group for study, is_held in zip(studies, held, strict=True) if is_held}
    twins = [name_of(study) for study in studies if study.group in groups]
    findings["heldout"] = finding(
        f"images left out because they are in BUSI's held-out part ({LIST}; {len(names)} images) or nearly "
        "duplicate one of it",
        twins,
    )
    left = [study for study in studies if study.group not in groups]
    if not left:
        raise DataError("every image is one of BUSI's held-out part; `--heldout use` takes them all the same")
    return left

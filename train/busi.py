"""Reads BUSI in its original layout: a folder per class, `NAME.png`, `NAME_mask.png`, `NAME_mask_1.png`.

Al-Dhabyani, Gomaa, Khaled, Fahmy. "Dataset of breast ultrasound images". Data in Brief 28 (2020) 104863.

BUSI has no patient ids but many near-duplicates, some of them with contradictory labels. Groups of
near-duplicates come from `index.csv` beside the folders (columns `image`, `near_dup_group`); groups that span
classes are left out of training and of scoring. `busi_heldout.csv` in this package lists the images that no
training and no selection may see.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from models.networks.registry import CLASSES
from train.data import DataError, Study

_MASK = re.compile(r"^(?P<image>.+)_mask(_\d+)?$")


def read_busi(folder: str | Path) -> list[Study]:
    """List BUSI's images, sorted by name, without groups of near-duplicates whose labels contradict.

    :param folder: holds `benign`, `malignant`, `normal` and `index.csv`.
    :raises DataError: if a folder, a mask or the index is missing, or a mask has no image.
    """
    root = Path(folder)
    missing = [label for label in CLASSES if not (root / label).is_dir()]
    if missing:
        raise DataError(
            f"{root} is not a BUSI folder: it has no folder {', '.join(missing)}; "
            f"name the folder that holds {', '.join(CLASSES)}"
        )
    groups = _read_groups(root / "index.csv")
    studies = [study for label in CLASSES for study in _read_class(root, label, groups)]
    labels = defaultdict(set)
    for study in studies:
        labels[study.group].add(study.label)
    return [study for study in studies if len(labels[study.group]) == 1]


def heldout_names() -> frozenset[str]:
    """Name the images that are never used for training or selection (`train/busi_heldout.csv`)."""
    text = (files("train") / "busi_heldout.csv").read_text()
    return frozenset(row["image"] for row in csv.DictReader(text.splitlines()))


def divide(studies: Sequence[Study]) -> tuple[list[Study], list[Study]]:
    """Divide studies into those free for development and those held out.

    A study whose near-duplicate is held out is kept from development too.
    """
    names = heldout_names()
    heldout = [study for study in studies if study.name in names]
    groups = {study.group for study in heldout}
    return [study for study in studies if study.group not in groups], heldout


def _read_class(root: Path, label: str, groups: dict[str, int]) -> list[Study]:
    masks: dict[str, list[Path]] = defaultdict(list)
    images = {}
    for path in sorted((root / label).glob("*.png")):
        if match := _MASK.match(path.stem):
            masks[match["image"]].append(path)
        else:
            images[path.stem] = path
    if orphans := sorted(set(masks) - set(images)):
        raise DataError(f"{masks[orphans[0]][0]} has no image {orphans[0]}.png; add it or remove the mask")
    studies = []
    for stem, path in images.items():
        name = f"{label}/{path.name}"
        if label != "normal" and stem not in masks:
            raise DataError(f"{path} has no mask {stem}_mask.png; add it, or remove the image")
        if name not in groups:
            raise DataError(f"{root / 'index.csv'} has no row for {name}; add it with its near_dup_group")
        studies.append(Study(name, label, groups[name], path, tuple(masks[stem])))
    return studies


def _read_groups(index: Path) -> dict[str, int]:
    if not index.is_file():
        raise DataError(
            f"{index} is missing: it groups near-duplicates so that no split straddles them; "
            "write it with the columns image, near_dup_group"
        )
    with index.open(newline="") as file:
        rows = csv.DictReader(file)
        if not {"image", "near_dup_group"} <= set(rows.fieldnames or ()):
            raise DataError(f"{index} needs the columns image and near_dup_group, it has {rows.fieldnames}")
        try:
            return {row["image"]: int(row["near_dup_group"]) for row in rows}
        except ValueError:
            raise DataError(f"{index}, line {rows.line_num}: near_dup_group must be a number") from None

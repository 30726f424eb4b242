"""BUSI by its own protocol: its images without contradictory labels, and its held-out part.

Groups of near-duplicates come from `index.csv` beside its folders where that is there, and are found by
comparing the pictures where it is not. Groups that span classes are left out of training and of scoring.
`busi_heldout.csv` in this package lists the images that no training and no selection may see;
`python -m train.busi BUSI_FOLDER` writes it anew (the same list, for the same images).
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from train.data import DataError, Study
from train.pictures import read_gray
from train.sets import read
from train.sets.busi import list_busi
from train.sets.heldout import heldout_names
from train.sets.inspection import digest_of
from train.splits import split

__all__ = ["divide", "heldout_names", "read_busi", "write_heldout"]

HELDOUT_FRACTION = 0.2
HELDOUT_SEED = 20200201


def read_busi(folder: str | Path) -> list[Study]:
    """List BUSI's images, sorted by name, without groups of near-duplicates whose labels contradict.

    :param folder: holds `benign`, `malignant`, `normal` and, if its groups are to be used, `index.csv`.
    :raises DataError: if a folder or a mask is missing, a mask has no image, or the index is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is no folder; name the one that holds benign, malignant and normal")
    if not (root / "index.csv").is_file():
        return [study for study in read([root], heldout="use").studies if not study.contradictory]
    listing = list_busi(root)
    if listing.skipped:
        raise DataError(f"{listing.skipped[0].file} {listing.skipped[0].reason}; add it or remove the mask")
    if listing.unmasked:
        raise DataError(f"{root / listing.unmasked[0]} has no mask; add it, or remove the image")
    studies = []
    for study in listing.studies:
        if study.name not in listing.known_groups:
            raise DataError(
                f"{root / 'index.csv'} has no row for {study.name}; add it with its near_dup_group"
            )
        studies.append(replace(study, group=listing.known_groups[study.name], source=listing.name))
    labels = defaultdict(set)
    for study in studies:
        labels[study.group].add(study.label)
    return [study for study in studies if len(labels[study.group]) == 1]


def divide(studies: Sequence[Study]) -> tuple[list[Study], list[Study]]:
    """Divide BUSI's studies into those free for development and those held out, by their names.

    A study whose near-duplicate is held out is kept from development too.
    """
    names = heldout_names()
    heldout = [study for study in studies if study.name in names]
    groups = {study.group for study in heldout}
    return [study for study in studies if study.group not in groups], heldout


def write_heldout(folder: str | Path, path: Path) -> None:
    """Choose BUSI's held-out part and write it as a list of image, class, group and digest of its pixels."""
    _, heldout = split(read_busi(folder), HELDOUT_FRACTION, HELDOUT_SEED)
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "class", "group", "pixels"])
        for study in heldout:
            rows.writerow([study.name, study.label, study.group, digest_of(read_gray(study.image))])


if __name__ == "__main__":
    write_heldout(sys.argv[1], Path(__file__).parent / "busi_heldout.csv")

"""Splits that keep near-duplicates together and the share of every class equal.

`python -m train.splits BUSI_FOLDER` writes BUSI's held-out list anew (the same list, for the same images).
"""

import csv
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from train.busi import read_busi
from train.data import Study

HELDOUT_FRACTION = 0.2
HELDOUT_SEED = 20200201


def split(studies: Sequence[Study], fraction: float, seed: int) -> tuple[list[Study], list[Study]]:
    """Take about `fraction` of every class, group by group.

    :param fraction: of the images, 0 to 1.
    :return: the rest and the part taken; no group is in both.
    """
    by_label: dict[str, dict[int, list[Study]]] = defaultdict(lambda: defaultdict(list))
    for study in studies:
        by_label[study.label][study.group].append(study)
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


def write_heldout(folder: str | Path, path: Path) -> None:
    """Choose BUSI's held-out part and write it as a list of image, class and group."""
    _, heldout = split(read_busi(folder), HELDOUT_FRACTION, HELDOUT_SEED)
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "class", "group"])
        rows.writerows([study.name, study.label, study.group] for study in heldout)


if __name__ == "__main__":
    write_heldout(sys.argv[1], Path(__file__).parent / "busi_heldout.csv")

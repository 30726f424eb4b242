"""Lists BUSI in its original layout: a folder per class, `NAME.png`, `NAME_mask.png`, `NAME_mask_1.png`.

Al-Dhabyani, Gomaa, Khaled, Fahmy. "Dataset of breast ultrasound images". Data in Brief 28 (2020) 104863.

BUSI has no patient ids but many near-duplicates, some of them with contradictory labels. An `index.csv`
beside the folders (columns `image`, `near_dup_group`) may state groups of them; it is not needed.
"""

import re
from collections import defaultdict
from pathlib import Path

from models.networks.registry import CLASSES
from train.data import DataError, Study
from train.sets.listing import Listing, Skip, closest, pictures_in
from train.sets.tables import read_table

_MASK = re.compile(r"^(?P<image>.+)_mask(_\d+)?$")
_NORMAL = "normal"


def is_busi(root: Path) -> bool:
    """Tell whether a folder looks like BUSI: it has a folder named for a class, or nearly so."""
    return any(path.is_dir() and closest(path.name, CLASSES) for path in root.iterdir())


def list_busi(root: Path) -> Listing:
    """List BUSI's images, sorted by class and name.

    :param root: holds `benign`, `malignant` and `normal`; the last may be absent.
    :raises DataError: if a class folder is missing, misspelt or empty, or the index is damaged.
    """
    labels = _labels(root)
    listing = Listing(layout="BUSI", name="busi", path=str(root), studies=[])
    for label in labels:
        before = len(listing.studies)
        _list_class(root, label, listing)
        if len(listing.studies) == before:
            raise DataError(f"{root / label} holds no image; add some, or name another folder")
    if (root / "index.csv").is_file():
        listing.known_groups = _read_groups(root / "index.csv")
    return listing


def _labels(root: Path) -> list[str]:
    folders = {path.name for path in root.iterdir() if path.is_dir()}
    missing = [label for label in CLASSES if label not in folders]
    for name in sorted(folders - set(CLASSES)):
        if (meant := closest(name, missing)) is not None:
            raise DataError(f"{root / name} is no class; rename it to {meant}")
    if missing and missing != [_NORMAL]:
        raise DataError(
            f"{root} is not a BUSI folder: it has no folder {', '.join(missing)}; "
            f"name the folder that holds {', '.join(CLASSES)}"
        )
    return [label for label in CLASSES if label not in missing]


def _list_class(root: Path, label: str, listing: Listing) -> None:
    masks: dict[str, list[Path]] = defaultdict(list)
    images: dict[str, Path] = {}
    for path in pictures_in(root / label):
        if match := _MASK.match(path.stem):
            masks[match["image"]].append(path)
        elif path.stem in images:
            listing.skipped.append(Skip(str(path), f"has the same name as {images[path.stem].name}"))
        else:
            images[path.stem] = path
    for stem in sorted(set(masks) - set(images)):
        listing.skipped += [Skip(str(path), f"has no image {stem}.png") for path in masks[stem]]
    for stem, path in images.items():
        name = f"{label}/{path.name}"
        found: tuple[Path, ...] | None = tuple(masks[stem])
        if label != _NORMAL and not found:
            listing.unmasked.append(name)
            found = None
        listing.studies.append(Study(name, label, 0, path, found))


def _read_groups(index: Path) -> dict[str, int]:
    table = read_table(index)
    if not {"image", "near_dup_group"} <= set(table.columns):
        raise DataError(
            f"{index} needs the columns image and near_dup_group, it has {', '.join(table.columns)}; "
            "correct it, or remove it: groups are found without it too"
        )
    groups = {}
    for row in table.rows:
        try:
            groups[row.cells["image"]] = int(row.cells["near_dup_group"])
        except ValueError:
            raise DataError(f"{table.where(row, 'near_dup_group')}: it must be a number") from None
    return groups

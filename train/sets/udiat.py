"""Lists the UDIAT set, also named Dataset B: `original/000001.png`, `GT/000001.png` and `DatasetB.xlsx`.

Yap et al. "Automated breast ultrasound lesions detection using convolutional neural networks". IEEE Journal
of Biomedical and Health Informatics 22 (2018) 1218-1226.

The table has the columns `Image` (the number) and `Type` (Benign or Malignant); a CSV file with the same
columns serves as well. The set names no patients.
"""

from pathlib import Path

from train.data import DataError, Study
from train.sets.listing import Listing, Skip, parse_class, pictures_in
from train.sets.tables import Table, read_table

_IMAGE = ("image", "id", "name", "file")
_CLASS = ("type", "class", "label")


def is_udiat(root: Path) -> bool:
    """Tell whether a folder looks like UDIAT."""
    return _folder(root, "original") is not None and _folder(root, "gt") is not None


def list_udiat(root: Path) -> Listing:
    """List UDIAT's images, sorted by name.

    An image without a row, a row without an image and a mask without an image are left out and listed.

    :raises DataError: if a folder or the table of classes is missing, or a cell of the table is wrong.
    """
    original, truth = _folder(root, "original"), _folder(root, "gt")
    if original is None or truth is None:
        raise DataError(f"{root} is not UDIAT: it needs the folders original and GT")
    table = _find_table(root)
    key = next(column for column in _IMAGE if column in table.columns)
    kind = next(column for column in _CLASS if column in table.columns)
    labels = {}
    for row in table.rows:
        name = _number(Path(row.cells[key]).stem)
        if name in labels:
            raise DataError(f"{table.where(row, key)}: there are two rows for {name}; remove one")
        labels[name] = parse_class(row.cells[kind], table.where(row, kind))
    masks = {_number(path.stem): path for path in pictures_in(truth)}
    listing = Listing(
        layout="UDIAT",
        name="udiat",
        path=str(root),
        studies=[],
        unused=[column for column in table.columns if column not in (key, kind)],
    )
    for path in pictures_in(original):
        number = _number(path.stem)
        mask = masks.pop(number, None)
        if number not in labels:
            listing.skipped.append(Skip(str(path), f"has no row in {table.path.name}"))
            continue
        if mask is None:
            listing.unmasked.append(path.name)
        label = labels.pop(number)
        listing.studies.append(Study(path.name, label, 0, path, None if mask is None else (mask,)))
    listing.skipped += [Skip(f"{table.path}: {number}", "has no image") for number in labels]
    listing.skipped += [Skip(str(path), "has no image") for path in masks.values()]
    return listing


def _folder(root: Path, name: str) -> Path | None:
    return next(
        (path for path in sorted(root.iterdir()) if path.is_dir() and path.name.lower() == name), None
    )


def _number(stem: str) -> str:
    # Tables write 7 where the file is named 000007.
    return str(int(stem)) if stem.isdecimal() else stem


def _find_table(root: Path) -> Table:
    paths = sorted(path for path in root.iterdir() if path.suffix.lower() in (".xlsx", ".csv"))
    for path in paths:
        table = read_table(path)
        if any(name in table.columns for name in _IMAGE) and any(name in table.columns for name in _CLASS):
            return table
    found = ", ".join(path.name for path in paths) or "none"
    raise DataError(
        f"{root} has no table of classes (found: {found}); add DatasetB.xlsx, or a CSV file with the columns "
        "Image, Type"
    )

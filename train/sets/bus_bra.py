"""Lists BUS-BRA: `Images/bus_0001-l.png`, `Masks/mask_0001-l.png`, `bus_data.csv`, `5-fold-cv.csv`.

Gomez-Flores, Gregorio-Calas, Pereira. "BUS-BRA: A breast ultrasound dataset for assessing computer-aided
diagnosis systems". Medical Physics 51 (2024) 3110-3123.

The table has a row an image: `ID` (the file's name), `Case` (the patient), `Pathology` (benign or malignant)
and more that is not used. The authors' five folds, where they are there, become the images' given splits.
"""

from pathlib import Path

from train.data import DataError, Study
from train.sets.listing import Listing, Skip, parse_class, pictures_in
from train.sets.tables import read_table

TABLE = "bus_data.csv"
_FOLDS = "5-fold-cv.csv"
_USED = ("id", "case", "pathology")


def is_bus_bra(root: Path) -> bool:
    """Tell whether a folder looks like BUS-BRA."""
    return (root / TABLE).is_file() or ((root / "Images").is_dir() and (root / "Masks").is_dir())


def list_bus_bra(root: Path) -> Listing:
    """List BUS-BRA's images in the order of its table.

    An image without a row, a row without an image and a mask without an image are left out and listed.

    :raises DataError: if the table or a folder is missing, or a cell of the table is wrong.
    """
    for name in ("Images", "Masks", TABLE):
        if not (root / name).exists():
            raise DataError(f"{root} has no {name}; BUS-BRA is Images, Masks and {TABLE} in one folder")
    table = read_table(root / TABLE)
    if missing := [column for column in _USED if column not in table.columns]:
        raise DataError(f"{table.path} has no column {', '.join(missing)}; it is not BUS-BRA's own table")
    images = {path.stem: path for path in pictures_in(root / "Images")}
    masks = {path.stem.removeprefix("mask_"): path for path in pictures_in(root / "Masks")}
    folds = _read_folds(root / _FOLDS)
    listing = Listing(
        layout="BUS-BRA",
        name="bus_bra",
        path=str(root),
        studies=[],
        unused=[column for column in table.columns if column not in _USED],
    )
    named: set[str] = set()
    for row in table.rows:
        name = row.cells["id"]
        if name in named:
            raise DataError(f"{table.where(row, 'ID')}: there are two rows for {name}; remove one")
        named.add(name)
        if name not in images:
            listing.skipped.append(Skip(f"{table.path}: {name}", f"has no image Images/{name}.png"))
            continue
        mask = masks.pop(name.removeprefix("bus_"), None)
        if mask is None:
            listing.unmasked.append(images[name].name)
        label = parse_class(row.cells["pathology"], table.where(row, "Pathology"))
        listing.studies.append(
            Study(
                images[name].name,
                label,
                0,
                images[name],
                None if mask is None else (mask,),
                patient=row.cells["case"] or None,
                split=folds.get(name),
            )
        )
    listing.skipped += [
        Skip(str(path), f"has no row in {TABLE}") for stem, path in images.items() if stem not in named
    ]
    listing.skipped += [
        Skip(str(path), "has no image") for stem, path in masks.items() if f"bus_{stem}" not in images
    ]
    return listing


def _read_folds(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    table = read_table(path)
    if not {"id", "kfold"} <= set(table.columns):
        raise DataError(f"{path} needs the columns ID and kFold; correct it, or remove it")
    return {row.cells["id"]: row.cells["kfold"] for row in table.rows if row.cells["kfold"]}

"""Lists any set of images that a CSV file describes, one row an image.

Columns, all but the first optional; paths are relative to the file's folder:
- `image`;
- `mask`: one or several paths with `;` between them, whose union is the lesion; `none` where the image has no
  lesion; empty where it is not annotated;
- `class`: benign, malignant or normal; empty where it is not known;
- `patient`: images of one patient stay in one part of every split;
- `spacing_mm`: size of a pixel in mm, one number, or width and height with a blank between them;
- `gland`: path of a mask of the glandular tissue;
- `boxes`: `x y width height` in pixels, several with `;` between them: where lesions lie, without an outline;
- `split`: train, validation or test, or the number of a fold, for `--split given`.
"""

from pathlib import Path

from train.data import Box, DataError, Study
from train.sets.listing import Listing, closest, parse_class
from train.sets.tables import Row, Table, read_table

COLUMNS = ("image", "mask", "class", "patient", "spacing_mm", "gland", "boxes", "split")
_ALIASES = {"spacing": "spacing_mm", "box": "boxes", "masks": "mask", "gland_mask": "gland", "label": "class"}
_NO_LESION = "none"


def list_manifest(path: Path) -> Listing:
    """List the images of a manifest, in its order.

    :raises DataError: if it cannot be read, has no column `image` or one nearly spelt like a known one, names
        an image twice, or a cell cannot be understood.
    """
    table = read_table(path)
    columns = {_ALIASES.get(column, column): column for column in table.columns}
    unused = [column for column in columns if column not in COLUMNS]
    for column in unused:
        if (meant := closest(column, (name for name in COLUMNS if name not in columns))) is not None:
            raise DataError(f"{path} has a column {column!r}; did you mean {meant}? Rename it, or remove it")
    if "image" not in columns:
        raise DataError(f"{path} has no column image; its columns may be {', '.join(COLUMNS)}")
    listing = Listing(layout="CSV manifest", name=path.stem, path=str(path), studies=[], unused=unused)
    seen: dict[str, int] = {}
    for row in table.rows:
        cells = {name: row.cells[column] for name, column in columns.items()}
        study = _study(table, row, cells)
        if study.name in seen:
            raise DataError(
                f"{table.where(row, 'image')}: {study.name} is in line {seen[study.name]} too; remove one"
            )
        seen[study.name] = row.line
        listing.studies.append(study)
    return listing


def _study(table: Table, row: Row, cells: dict[str, str]) -> Study:
    folder = table.path.parent
    name = cells["image"]
    if not name:
        raise DataError(f"{table.where(row, 'image')} is empty; name the image's file")
    label = parse_class(cells.get("class", ""), table.where(row, "class"))
    boxes = _boxes(cells.get("boxes", ""), table.where(row, "boxes"))
    masks: tuple[Path, ...] | None
    listed = [part.strip() for part in cells.get("mask", "").split(";") if part.strip()]
    if listed == [_NO_LESION]:
        masks = ()
    elif listed:
        masks = tuple(folder / part for part in listed)
    else:
        # A normal picture has no lesion to outline, so it needs no mask to say so.
        masks = () if label == "normal" and not boxes else None
    return Study(
        name,
        label,
        0,
        folder / name,
        masks,
        boxes=boxes,
        gland=folder / cells["gland"] if cells.get("gland") else None,
        patient=cells.get("patient") or None,
        spacing_mm=_spacing(cells.get("spacing_mm", ""), table.where(row, "spacing_mm")),
        split=cells.get("split") or None,
    )


def _numbers(text: str, where: str, wanted: str) -> list[float]:
    try:
        return [float(part) for part in text.replace("x", " ").split()]
    except ValueError:
        raise DataError(f"{where}: {text!r} is not {wanted}") from None


def _spacing(text: str, where: str) -> tuple[float, float] | None:
    if not text:
        return None
    wanted = "a pixel's size in mm, such as 0.08, or its width and height, such as 0.08 0.07"
    numbers = _numbers(text, where, wanted)
    if len(numbers) not in (1, 2) or not all(0.001 <= number <= 10 for number in numbers):
        raise DataError(f"{where}: {text!r} is not {wanted}")
    return numbers[0], numbers[-1]


def _boxes(text: str, where: str) -> tuple[Box, ...]:
    wanted = "boxes as `x y width height`, several with `;` between them"
    boxes = []
    for part in text.split(";"):
        if not part.strip():
            continue
        numbers = _numbers(part, where, wanted)
        if len(numbers) != 4 or not all(number >= 0 for number in numbers) or min(numbers[2:]) <= 0:
            raise DataError(f"{where}: {part.strip()!r} is not {wanted}")
        boxes.append(Box(*numbers))
    return tuple(boxes)

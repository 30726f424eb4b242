"""Small data sets in the layouts of the public ones, for tests."""

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
SIZE = (72, 96)
"""Height and width of the pictures."""


def speckle(seed: int, size: tuple[int, int] = SIZE) -> Pixels:
    """Draw a picture that is like no other one but is the same for the same seed."""
    noise = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.asarray(np.clip(120 + 60 * smooth / smooth.std(), 0, 255), np.uint8)


def disc(size: tuple[int, int] = SIZE, radius: int = 12) -> Pixels:
    """Draw a lesion's mask."""
    mask = np.zeros(size, np.uint8)
    cv2.circle(mask, (size[1] // 2, size[0] // 2), radius, 255, -1)
    return mask


def save(path: Path, picture: NDArray[np.generic]) -> Path:
    """Write a picture, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(picture))
    return path


def write_busi(root: Path, *, benign: int = 3, malignant: int = 3, normal: int = 3) -> Path:
    """Write BUSI's layout, without its index."""
    for kind, (label, count) in enumerate((("benign", benign), ("malignant", malignant), ("normal", normal))):
        for number in range(1, count + 1):
            stem = root / label / f"{label} ({number})"
            save(stem.with_name(f"{stem.name}.png"), speckle(1000 * kind + number))
            mask = np.zeros(SIZE, np.uint8) if label == "normal" else disc(radius=8 + number % 5)
            save(stem.with_name(f"{stem.name}_mask.png"), mask)
    return root


def write_bus_bra(root: Path, *, cases: int = 6, folds: bool = False) -> Path:
    """Write BUS-BRA's layout: two images a case, every third case malignant."""
    rows, dealt = [], []
    for case in range(1, cases + 1):
        pathology = "malignant" if case % 3 == 0 else "benign"
        for side in "lr":
            stem = f"{case:04}-{side}"
            save(root / "Images" / f"bus_{stem}.png", speckle(10_000 + 2 * case + (side == "r")))
            save(root / "Masks" / f"mask_{stem}.png", disc())
            rows.append([f"bus_{stem}", case, "Cyst", pathology, 4, "LOGIQ", 96, 72, side, "[1,2,3,4]"])
            dealt.append([f"bus_{stem}", pathology, case % 2 + 1])
    header = ["ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX"]
    write_csv(root / "bus_data.csv", [header, *rows])
    if folds:
        write_csv(root / "5-fold-cv.csv", [["ID", "Pathology", "kFold"], *dealt])
    return root


def write_udiat(root: Path, *, images: int = 6, table: str = "DatasetB.xlsx") -> Path:
    """Write UDIAT's layout; every third image is malignant."""
    rows: list[Sequence[object]] = [["Image", "Type", "Pathology"]]
    for number in range(1, images + 1):
        save(root / "original" / f"{number:06}.png", speckle(20_000 + number))
        save(root / "GT" / f"{number:06}.png", disc())
        rows.append([number, "Malignant" if number % 3 == 0 else "Benign", "FA"])
    (write_xlsx if table.endswith(".xlsx") else write_csv)(root / table, rows)
    return root


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    """Write a table with commas."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def write_xlsx(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    """Write a table as Excel does: words in a list of their own, numbers in the cells."""
    namespace = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    words = sorted({cell for row in rows for cell in row if isinstance(cell, str)})
    lines = []
    for number, row in enumerate(rows, 1):
        cells = []
        for column, cell in zip("ABCDEFGH", row, strict=False):
            kind, value = (' t="s"', words.index(cell)) if isinstance(cell, str) else ("", cell)
            cells.append(f'<c r="{column}{number}"{kind}><v>{value}</v></c>')
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    with zipfile.ZipFile(path, "w") as book:
        entries = "".join(f"<si><t>{word}</t></si>" for word in words)
        book.writestr("xl/sharedStrings.xml", f"<sst {namespace}>{entries}</sst>")
        book.writestr(
            "xl/worksheets/sheet1.xml",
            f"<worksheet {namespace}><sheetData>{''.join(lines)}</sheetData></worksheet>",
        )
    return path

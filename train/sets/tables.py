"""Reads the small tables that come with data sets: CSV files and the first sheet of Excel's .xlsx."""

import csv
import io
import re
import zipfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from train.data import DataError

_MAX_BYTES = 64_000_000
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


class Row(NamedTuple):
    """One row of a table."""

    line: int
    """In its file, from 1."""
    cells: dict[str, str]
    """By the column's name in lower case; empty where the row is too short."""


class Table(NamedTuple):
    """A table with a line of headings."""

    path: Path
    columns: tuple[str, ...]
    """In lower case."""
    rows: tuple[Row, ...]

    def where(self, row: Row, column: str) -> str:
        """Name a cell in an error."""
        return f"{self.path}, line {row.line}, column {column}"


def read_table(path: Path) -> Table:
    """Read a table: `.xlsx`, or else text with commas, semicolons or tabs between the cells.

    :raises DataError: if it is missing, damaged or without rows, or a row has more cells than columns.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} is larger than {_MAX_BYTES // 1_000_000} MB; this is no table of images")
        lines = _sheet(path) if path.suffix.lower() == ".xlsx" else _text(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if len(lines) < 2:
        raise DataError(f"{path} is empty: it needs a line of column names and a line for every image")
    columns = tuple(cell.strip().lower() for cell in lines[0][1])
    while columns and not columns[-1]:
        columns = columns[:-1]
    if twice := next((column for column in columns if columns.count(column) > 1), None):
        raise DataError(f"{path} has two columns {twice!r}; remove one")
    rows = []
    for number, cells in lines[1:]:
        if any(cells[len(columns) :]):
            raise DataError(
                f"{path}, line {number} has {len(cells)} cells, there are {len(columns)} columns; "
                'put a cell with a comma in it between "quotes"'
            )
        padded = [cell.strip() for cell in cells] + [""] * len(columns)
        rows.append(Row(number, dict(zip(columns, padded, strict=False))))
    return Table(path, columns, tuple(rows))


def _text(path: Path) -> list[tuple[int, list[str]]]:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it as CSV in UTF-8") from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(rows.line_num, cells) for cells in rows]
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: {error}") from None


def _sheet(path: Path) -> list[tuple[int, list[str]]]:
    try:
        with zipfile.ZipFile(path) as book:
            if sum(entry.file_size for entry in book.infolist()) > _MAX_BYTES:
                raise DataError(f"{path} unpacks to more than {_MAX_BYTES // 1_000_000} MB; this is no table")
            names = book.namelist()
            words: list[str] = []
            if "xl/sharedStrings.xml" in names:
                words = [
                    "".join(part.text or "" for part in entry.iter(f"{_SHEET}t"))
                    for entry in ET.fromstring(book.read("xl/sharedStrings.xml"))
                ]
            sheets = sorted(name for name in names if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name))
            sheet = ET.fromstring(book.read(sheets[0]))
            return [_cells(row, words) for row in sheet.iter(f"{_SHEET}row")]
    except (zipfile.BadZipFile, ET.ParseError, LookupError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no Excel file that can be read; save it as CSV instead") from None


def _cells(row: ET.Element, words: list[str]) -> tuple[int, list[str]]:
    cells: list[str] = []
    for cell in row.iter(f"{_SHEET}c"):
        column = 0
        for letter in re.sub(r"\d", "", cell.get("r", "")):
            column = 26 * column + ord(letter) - ord("A") + 1
        cells += [""] * (min(column, 1000) - 1 - len(cells))
        if cell.get("t") == "inlineStr":
            value = "".join(part.text or "" for part in cell.iter(f"{_SHEET}t"))
        else:
            value = cell.findtext(f"{_SHEET}v") or ""
            value = words[int(value)] if cell.get("t") == "s" and value else value
        # Excel keeps whole numbers as fractions: 12 may be written as 12.0.
        cells.append(value.removesuffix(".0"))
    return int(row.get("r", "0")), cells

"""Findings as a table: one row for each lesion of each frame, and one for a frame without any."""

import csv
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from streamer.analysis import INTENDED_USE, Analysis, Lesion
from streamer.extract.frames import ExtractError, Shown

_FRAME: dict[str, type] = {
    "number": int, "source": str, "frame_id": int, "seq": int, "time_s": float, "captured_at": str,
    "captured_at_ns": int, "state": str, "view_change": str, "label": str, "stable": bool,
    "uncertain": bool, "malignancy": float,
}  # fmt: skip
_LESION: dict[str, type] = {
    "lesions": int, "track": int, "lesion_label": str, "lesion_probability": float, "area_px": float,
    "area_mm2": float, "longest_px": float, "longest_mm": float, "perpendicular_px": float,
    "perpendicular_mm": float, "centre_x": float, "centre_y": float, "depth_px": float, "depth_mm": float,
    "box_x": float, "box_y": float, "box_width": float, "box_height": float,
}  # fmt: skip
_LAST: dict[str, type] = {"age_s": float, "model": str, "intended_use": str}
_ROWS_AT_ONCE = 4096

Row = dict[str, Any]


def columns(names: list[str]) -> dict[str, type]:
    """Return the columns of a table in order, with the type of each; any but the first may be empty.

    :param names: the classes.
    """
    classes: dict[str, type] = {}
    for name in names:
        classes |= {f"probability_{name}": float, f"raw_{name}": float}
    return _FRAME | classes | _LESION | _LAST


def rows(shown: Shown) -> list[Row]:
    """Return the rows of one frame; what is not known is left out."""
    analysis = shown.analysis
    frame = _of_frame(shown, analysis) | {"lesions": len(analysis.lesions)}
    return [frame | _of_lesion(each) for each in analysis.lesions] or [frame]


def _of_frame(shown: Shown, analysis: Analysis) -> Row:
    row: Row = {
        "number": shown.number,
        "source": analysis.source,
        "frame_id": analysis.frame_id,
        "seq": analysis.seq,
        "time_s": round(shown.time_s, 6),
        "captured_at": datetime.fromtimestamp(analysis.captured_at * 1e-9, UTC).isoformat(),
        "captured_at_ns": analysis.captured_at,
        "state": str(analysis.state),
        "view_change": analysis.view_change,
        "age_s": analysis.age,
        "model": f"{analysis.model.name} {analysis.model.version}",
        "intended_use": INTENDED_USE,
    }
    if (classes := analysis.classes) is not None:
        row |= {
            "label": classes.label,
            "stable": classes.stable,
            "uncertain": classes.uncertain,
            "malignancy": classes.malignancy,
        }
        for name, smoothed, raw in zip(classes.names, classes.smoothed, classes.raw, strict=False):
            row |= {f"probability_{name}": smoothed, f"raw_{name}": raw}
    return {key: value for key, value in row.items() if value is not None}


def _of_lesion(lesion: Lesion) -> Row:
    row: Row = {
        "track": lesion.track,
        "lesion_label": lesion.label,
        "lesion_probability": lesion.probability,
        "area_px": lesion.area_px,
        "area_mm2": lesion.area_mm2,
        "longest_px": lesion.longest_px,
        "longest_mm": lesion.longest_mm,
        "perpendicular_px": lesion.perpendicular_px,
        "perpendicular_mm": lesion.perpendicular_mm,
        "centre_x": lesion.centre[0],
        "centre_y": lesion.centre[1],
        "depth_px": lesion.depth_px,
        "depth_mm": lesion.depth_mm,
    }
    row |= dict(zip(("box_x", "box_y", "box_width", "box_height"), lesion.box, strict=True))
    return {key: value for key, value in row.items() if value is not None}


class Table(Protocol):
    """Takes frames and writes rows."""

    def add(self, shown: Shown) -> None:
        """Take the next frame."""

    def close(self) -> None:
        """Finish the file."""


class CsvTable:
    """Comma-separated values, UTF-8, with a header."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, list(columns(names)), restval="", extrasaction="ignore")
        self._writer.writeheader()

    def add(self, shown: Shown) -> None:
        """Take the next frame."""
        self._writer.writerows(rows(shown))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class ParquetTable:
    """Apache Parquet, with typed columns."""

    def __init__(self, path: Path, names: list[str]) -> None:
        """Begin the file.

        :raises ExtractError: if pyarrow is not installed.
        """
        try:
            arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        except ImportError:
            raise ExtractError("Parquet needs pyarrow: pip install pyarrow; --csv needs nothing") from None
        kinds = {int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_(), str: arrow.string()}
        fields = [arrow.field(name, kinds[kind]) for name, kind in columns(names).items()]
        self._schema = arrow.schema(fields, metadata={"intended_use": INTENDED_USE})
        self._arrow = arrow
        self._writer = parquet.ParquetWriter(path, self._schema)
        self._waiting: list[Row] = []

    def add(self, shown: Shown) -> None:
        """Take the next frame."""
        self._waiting += rows(shown)
        if len(self._waiting) >= _ROWS_AT_ONCE:
            self._write()

    def close(self) -> None:
        """Finish the file."""
        self._write()
        self._writer.close()

    def _write(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting.clear()

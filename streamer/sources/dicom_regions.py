"""Which part of a DICOM ultrasound picture shows tissue, and how large its pixels are."""

import logging
import math
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

_TWO_DIMENSIONAL, _TISSUE, _CENTIMETRES = 1, 1, 3
_MIN_SIDE = 32
_SPACING_MM = (0.001, 10.0)
"""Outside this no ultrasound scanner images: the value is a mistake."""


class Tissue(NamedTuple):
    """The tissue region of a picture."""

    region: tuple[int, int, int, int] | None
    """(x, y, width, height); None: the whole picture."""
    spacing_mm: tuple[float, float] | None
    """(row, column), None where the file does not tell it in millimetres or centimetres."""


def find_tissue(dataset: Any, *, width: int, height: int) -> Tissue:
    """Choose the largest two-dimensional tissue region of a data set; of equal ones, the leftmost.

    Doppler spectra, M-mode strips, ECG traces and graphs are regions too: they are told by their spatial
    format and data type and passed over. A calibration is taken only where it is in centimetres along both
    axes. Regions that reach outside the picture describe another one (it was scaled or cut after it was
    taken), so neither their place nor their calibration is used.
    """
    found: list[tuple[int, int, int, int, Any]] = []
    for item in dataset.get("SequenceOfUltrasoundRegions") or ():
        if (item.get("RegionSpatialFormat"), item.get("RegionDataType")) != (_TWO_DIMENSIONAL, _TISSUE):
            continue
        corners = [_whole(item.get(f"RegionLocation{key}")) for key in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if None in corners:
            continue
        left, top, right, bottom = (int(corner or 0) for corner in corners)
        # The last corner is inside the region, yet some writers give the first one outside.
        if left < 0 or top < 0 or right > width or bottom > height:
            log.warning(
                "a DICOM tissue region %d,%d to %d,%d reaches outside the picture of %d x %d, which was "
                "scaled or cut later: region and calibration are not used",
                left,
                top,
                right,
                bottom,
                width,
                height,
            )
            continue
        columns, rows = min(right, width - 1) - left + 1, min(bottom, height - 1) - top + 1
        if columns >= _MIN_SIDE and rows >= _MIN_SIDE:
            found.append((left, top, columns, rows, item))
    if not found:
        return Tissue(None, _pixel_spacing(dataset))
    x, y, columns, rows, item = min(found, key=lambda each: (-each[2] * each[3], each[0], each[1]))
    if len(found) > 1:
        log.info("of %d tissue regions, the one at %d,%d,%d,%d is taken", len(found), x, y, columns, rows)
    return Tissue((x, y, columns, rows), _calibration(item) or _pixel_spacing(dataset))


def _calibration(item: Any) -> tuple[float, float] | None:
    units = item.get("PhysicalUnitsXDirection"), item.get("PhysicalUnitsYDirection")
    if units != (_CENTIMETRES, _CENTIMETRES):
        return None
    # The sign is the direction of the physical axis, not of the size.
    return _sane(item.get("PhysicalDeltaY"), item.get("PhysicalDeltaX"), scale=10.0)


def _pixel_spacing(dataset: Any) -> tuple[float, float] | None:
    spacing = dataset.get("PixelSpacing")
    if spacing is None or isinstance(spacing, str) or len(spacing) != 2:
        return None
    return _sane(spacing[0], spacing[1], scale=1.0)


def _sane(row: Any, column: Any, *, scale: float) -> tuple[float, float] | None:
    try:
        sizes = abs(float(row)) * scale, abs(float(column)) * scale
    except (TypeError, ValueError):
        return None
    low, high = _SPACING_MM
    return sizes if all(math.isfinite(size) and low <= size <= high for size in sizes) else None


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int) else None

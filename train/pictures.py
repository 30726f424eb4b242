"""Decodes one picture or mask file, of whatever depth and colour, or says exactly what is wrong with it."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

MAX_PIXELS = 64_000_000
"""Larger pictures are refused: no scanner makes them, and they would fill the memory."""
# The last bytes of a whole file; some programs leave a few of their own behind them.
_ENDS = {b"\x89PNG": b"IEND\xaeB`\x82", b"\xff\xd8\xff": b"\xff\xd9"}
_END_REACH = 4096
# What white is in files of more than 8 bits.
_DEPTHS = (255.0, 1023.0, 4095.0, 65535.0)
_FRACTIONS = (1.0,)


class DataError(ValueError):
    """A data set cannot be used as it is; the message names the file and says what to do."""


def read_gray(path: Path) -> Pixels:
    """Decode a picture as H x W gray, 0 to 255.

    A picture of more than 8 bits is scaled by the smallest usual depth (8, 10, 12 or 16 bits) that holds its
    brightest value, since files do not say which one they use; one of fractions by 1 or 255 likewise. Colours
    are weighted as the eye does; transparency is left out.

    :raises DataError: if it is missing, cut short, too large or no picture.
    """
    picture = _decode(path)
    if picture.dtype != np.uint8:
        if not np.isfinite(picture).all():
            raise DataError(f"{path} holds values that are not finite; replace it, or remove it")
        peak = float(picture.max(initial=0))
        depths = _DEPTHS if picture.dtype.kind == "u" else _FRACTIONS + _DEPTHS
        white = next((depth for depth in depths if peak <= depth), peak)
        picture = np.asarray(np.clip(picture * (255 / white), 0, 255).round(), np.uint8)
    if picture.ndim == 3:
        picture = np.asarray(cv2.cvtColor(picture[:, :, :3], cv2.COLOR_BGR2GRAY), np.uint8)
    return np.ascontiguousarray(picture, np.uint8)


def read_mask(path: Path) -> Pixels:
    """Decode a mask as H x W, 255 inside and 0 outside.

    Inside is what is brighter than half the mask's own brightest value, so masks of 0 and 1, of 0 and 255
    and of 16 bits all mean the same.

    :raises DataError: as `read_gray`.
    """
    mask = _decode(path)
    if mask.ndim == 3:
        mask = mask[:, :, :3].max(axis=2)
    peak = mask.max(initial=0)
    inside = mask > peak / 2 if peak else np.zeros(mask.shape, bool)
    return np.asarray(inside, np.uint8) * np.uint8(255)


def _decode(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; replace it, or remove it from the data set") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); replace it, or remove it") from None
    for start, end in _ENDS.items():
        if data.startswith(start) and end not in data[-_END_REACH:]:
            raise DataError(f"{path} is cut short; replace it, or remove it from the data set")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error:
        picture = None
    if picture is None:
        raise DataError(
            f"{path} is no picture that can be decoded; replace it, or remove it from the data set"
        )
    if picture.shape[0] * picture.shape[1] > MAX_PIXELS:
        raise DataError(f"{path} is larger than {MAX_PIXELS // 1_000_000} million pixels; shrink it")
    return picture  # type: ignore[return-value]

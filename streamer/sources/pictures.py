"""Coded still pictures, bounded before they are decoded."""

import struct

import cv2
import numpy as np

from streamer.frame import Pixels
from streamer.sources.base import SourceInvalidFrame
from streamer.sources.libav_pixels import fits, too_large
from streamer.sources.picture_work import (
    DAMAGED,
    JPEG_SIZE_MARKERS,
    bounded_png,
    check_bmp,
    check_jpeg,
    check_tiff,
    jpeg_segments,
    tiff_tags,
)

MAX_PICTURE_BYTES = 256 << 20


def decode_gray(data: bytes | memoryview) -> Pixels:
    """Decode PNG, JPEG, BMP or TIFF to gray.

    Colour becomes luma and transparency is ignored; 16 bits are scaled by the picture's own maximum.

    :return: H x W, uint8.
    :raises SourceInvalidFrame: if it is none of these, damaged, or more work than `picture_work` allows.
    """
    plain = np.frombuffer(bounded_picture(data), np.uint8)
    try:
        pixels = cv2.imdecode(plain, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise SourceInvalidFrame(DAMAGED)
    if pixels.dtype == np.uint16:
        return np.asarray(cv2.convertScaleAbs(pixels, alpha=255 / max(1, int(pixels.max()))), np.uint8)
    if pixels.dtype != np.uint8:
        raise SourceInvalidFrame(f"pixels of type {pixels.dtype} are not understood: store 8 or 16 bits")
    return np.asarray(pixels, np.uint8)


def bounded_picture(data: bytes | memoryview) -> bytes | memoryview:
    """Look at a coded picture before a decoder does, and leave out what makes no pixels.

    :raises SourceInvalidFrame: if it is of no known kind, cut short, or more work than a picture can be.
    """
    size = picture_size(data)
    if size is None:
        raise SourceInvalidFrame("not a PNG, JPEG, BMP or TIFF picture")
    if not fits(*size):
        raise SourceInvalidFrame(too_large(*size))
    try:
        match bytes(data[:2]):
            case b"\x89P":
                return bounded_png(data)
            case b"\xff\xd8":
                check_jpeg(data, *size)
            case b"BM":
                check_bmp(data, *size)
            case _:
                check_tiff(data)
    except struct.error:
        raise SourceInvalidFrame(DAMAGED) from None
    return data


def picture_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Read (width, height) from a picture's header; None if it is of no known kind or has none."""
    head = bytes(data[:32])
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", head, 16)
        elif head.startswith(b"\xff\xd8"):
            return _jpeg_size(data)
        elif head.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", head, 18)
        elif head[:4] in (b"II*\x00", b"MM\x00*"):
            return _tiff_size(data)
        else:
            return None
    except struct.error:
        return None
    return width, abs(height)


def _jpeg_size(data: bytes | memoryview) -> tuple[int, int] | None:
    for marker, at in jpeg_segments(data):
        if marker in JPEG_SIZE_MARKERS:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
    return None


def _tiff_size(data: bytes | memoryview) -> tuple[int, int] | None:
    tags = tiff_tags(data)
    return (tags[256], tags[257]) if 256 in tags and 257 in tags else None

"""Coded still pictures, bounded before they are decoded."""

import struct

import cv2
import numpy as np

from streamer.frame import Pixels
from streamer.sources.base import SourceInvalidFrame
from streamer.sources.libav_pixels import fits, too_large

MAX_PICTURE_BYTES = 256 << 20
_MAX_PNG_CHUNKS = 1 << 16
# JPEG markers that carry the size: all start-of-frame kinds.
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode_gray(data: bytes | memoryview) -> Pixels:
    """Decode PNG, JPEG, BMP or TIFF to gray.

    Colour becomes luma and transparency is ignored; 16 bits are scaled by the picture's own maximum.

    :return: H x W, uint8.
    :raises SourceInvalidFrame: if it is none of these, damaged, or larger than 8192 x 8192.
    """
    check_picture(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise SourceInvalidFrame("the picture is damaged or cut short")
    if pixels.dtype == np.uint16:
        return np.asarray(cv2.convertScaleAbs(pixels, alpha=255 / max(1, int(pixels.max()))), np.uint8)
    if pixels.dtype != np.uint8:
        raise SourceInvalidFrame(f"pixels of type {pixels.dtype} are not understood: store 8 or 16 bits")
    return np.asarray(pixels, np.uint8)


def check_picture(data: bytes | memoryview) -> None:
    """Look at a coded picture before a decoder does.

    :raises SourceInvalidFrame: if it is of no known kind, claims too many pixels, or is a PNG cut short.
    """
    size = picture_size(data)
    if size is None:
        raise SourceInvalidFrame("not a PNG, JPEG, BMP or TIFF picture")
    if not fits(*size):
        raise SourceInvalidFrame(too_large(*size))
    if bytes(data[:4]) == b"\x89PNG" and not _has_whole_chunks(data):
        raise SourceInvalidFrame("the picture is damaged or cut short")


def _has_whole_chunks(data: bytes | memoryview) -> bool:
    """Whether all the chunks of a PNG are as long as they say; OpenCV hangs on some that are not."""
    at = 8
    for _ in range(_MAX_PNG_CHUNKS):
        if at + 12 > len(data):
            return False
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + int(length)
        if kind == b"IEND":
            return at <= len(data)
    return False


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
            return _tiff_size(data, "<" if head[:1] == b"I" else ">")
        else:
            return None
    except struct.error:
        return None
    return width, abs(height)


def _jpeg_size(data: bytes | memoryview) -> tuple[int, int] | None:
    at = 2
    while True:
        lead, marker = struct.unpack_from(">BB", data, at)
        if lead != 0xFF:
            return None
        if marker == 0xFF:  # padding
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + length


def _tiff_size(data: bytes | memoryview, order: str) -> tuple[int, int] | None:
    (at,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, at)
    size: dict[int, int] = {}
    for entry in range(min(entries, 512)):
        tag, kind = struct.unpack_from(order + "HH", data, at + 2 + 12 * entry)
        if tag in (256, 257):
            (size[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 10 + 12 * entry)
    return (size[256], size[257]) if len(size) == 2 else None

"""OpenIGTLink's messages, as far as pictures and texts need them: protocol versions 1 to 3.

A message is a header of 58 bytes, of version 3 an extended header, the content and metadata. All numbers are
big-endian but for pixels, which say which they are. See openigtlink.org/developers/spec.
"""

import math
import struct
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np

from streamer.crc64 import crc64
from streamer.frame import Pixels, Placement
from streamer.sources.libav_pixels import MAX_PIXELS, fits, too_large

DEFAULT_PORT = 18944
HEADER_BYTES = 58
IMAGE_HEADER_BYTES = 72
MAX_BODY_BYTES = 4 * MAX_PIXELS + (1 << 20)
"""A larger body is no picture we take; whoever announces one is not believed."""
_HEADER = struct.Struct(">H12s20sIIQQ")
_EXTENDED = struct.Struct(">HHII")
_IMAGE = struct.Struct(">HBBBB3H12f6H")
_SCALARS = {3: "u1", 5: "u2"}
_NAME_BYTES = 20
_ASCII, _UTF8 = 3, 106
_SPACING_MM = (0.001, 10.0)


class MessageError(ValueError):
    """A message is not OpenIGTLink, is damaged, or asks for too much; says what."""


class Header(NamedTuple):
    """What comes before every body."""

    version: int
    kind: str
    device: str
    stamp_ns: int
    """Since the epoch; 0 where the sender gave none."""
    body_bytes: int
    crc: int
    """0 where the sender computed none."""


class Layout(NamedTuple):
    """What comes before the pixels of an IMAGE."""

    width: int
    height: int
    components: int
    dtype: str
    """Of numpy, with the byte order."""
    placement: Placement
    spacing_mm: tuple[float, float] | None
    """(row, column)."""
    pixels_at: int
    """Offset of the pixels in the body."""
    pixels_bytes: int


def parse_header(data: bytes | bytearray | memoryview) -> Header:
    """Read the first 58 bytes of a message.

    :raises MessageError: if they cannot be a header, or announce more than a picture can need.
    """
    version, kind, device, seconds, fraction, size, crc = _HEADER.unpack(data)
    if not 1 <= version <= 3:
        raise MessageError(f"no OpenIGTLink message: header version {version}")
    name = kind.rstrip(b"\0 ")
    if not name.isascii() or not name.decode("ascii", "replace").isprintable() or not name:
        raise MessageError(f"no OpenIGTLink message: type {name!r}")
    if size > MAX_BODY_BYTES:
        raise MessageError(f"a message of {size} bytes; at most {MAX_BODY_BYTES} are taken")
    stamp = seconds * 1_000_000_000 + (fraction * 1_000_000_000 >> 32)
    text = device.partition(b"\0")[0].decode("utf-8", "replace").strip()
    return Header(version, name.decode(), text, stamp, size, crc)


def image_head_bytes(header: Header) -> int:
    """How much of an IMAGE's body `parse_image` needs."""
    return IMAGE_HEADER_BYTES + (_EXTENDED.size if header.version > 1 else 0)


def parse_image(header: Header, head: bytes | bytearray | memoryview) -> Layout:
    """Read the layout of a picture and check it against the size of the body, before the pixels are there.

    :param head: the first `image_head_bytes` of the body.
    :raises MessageError: if it is not one plane of 8 or 16 bit gray or 8 bit RGB(A), or the sizes disagree.
    """
    if len(head) < image_head_bytes(header) or header.body_bytes < len(head):
        raise MessageError(f"an IMAGE of {header.body_bytes} bytes is cut short")
    at = after = 0
    if header.version > 1:
        at, index_bytes, metadata_bytes, _ = _EXTENDED.unpack_from(head)
        after = index_bytes + metadata_bytes
        if at != _EXTENDED.size:
            raise MessageError(f"an extended header of {at} bytes is not understood")
    _, components, scalar, endian, coordinates, *rest = _IMAGE.unpack_from(head, at)
    size, numbers, part = rest[:3], rest[3:15], rest[15:]
    if part != [0, 0, 0, *size]:
        raise MessageError("a part of a picture: have the sender send whole pictures")
    # One of the three is the slices; some senders write the picture as (1, columns, rows).
    first, second = (0, 1) if size[2] == 1 else (1, 2)
    if size[3 - first - second] != 1:
        raise MessageError(f"a volume of {size[0]} x {size[1]} x {size[2]}: only single pictures are taken")
    width, height = size[first], size[second]
    if not fits(width, height):
        raise MessageError(too_large(width, height))
    if scalar not in _SCALARS or components not in (1, 3, 4) or (components > 1 and scalar != 3):
        raise MessageError(
            f"pixels of {components} components of scalar type {scalar}: send 8 or 16 bit gray, or 8 bit RGB"
        )
    dtype = (">" if endian == 1 else "<") + _SCALARS[scalar]
    expected = width * height * components * np.dtype(dtype).itemsize
    pixels_at = at + IMAGE_HEADER_BYTES
    if header.body_bytes != pixels_at + expected + after:
        raise MessageError(f"an IMAGE of {width} x {height} in a body of {header.body_bytes} bytes")
    axes = [numbers[3 * index : 3 * index + 3] for index in (first, second, 3 - first - second, 3)]
    placement = Placement(tuple(chain.from_iterable(axes)), "RAS" if coordinates == 1 else "LPS")
    spacing = _spacing(axes[1], axes[0])
    return Layout(width, height, components, dtype, placement, spacing, pixels_at, expected)


def _spacing(row: list[float], column: list[float]) -> tuple[float, float] | None:
    """Lengths of the matrix's steps; exactly 1 mm is what a sender without a calibration says."""
    spacing = math.hypot(*row), math.hypot(*column)
    low, high = _SPACING_MM
    sane = all(math.isfinite(each) and low <= each <= high for each in spacing)
    return spacing if sane and 1.0 not in spacing else None


def take_pixels(layout: Layout, body: bytes | bytearray | memoryview) -> Pixels:
    """Give the pixels of a body: H x W gray or H x W x 3 RGB, uint8; 16 bits are scaled from 0 to 65535."""
    count = layout.pixels_bytes // np.dtype(layout.dtype).itemsize
    flat = np.frombuffer(body, layout.dtype, count, layout.pixels_at)
    if flat.dtype.itemsize == 2:
        flat = (flat >> 8).astype(np.uint8)
    if layout.components == 1:
        return flat.reshape(layout.height, layout.width)
    return np.ascontiguousarray(flat.reshape(layout.height, layout.width, layout.components)[..., :3])


def check_body(header: Header, body: bytes | bytearray | memoryview) -> None:
    """Check the checksum of a body, where its sender computed one.

    :raises MessageError: if it is another one.
    """
    if header.crc and crc64(body) != header.crc:
        raise MessageError("the checksum is wrong: damaged on the way")


def pack_image(device: str, stamp_ns: int, pixels: Pixels, placement: Placement) -> bytes:
    """Make an IMAGE of H x W, uint8, as protocol version 1, which everyone understands."""
    height, width = pixels.shape
    size = (width, height, 1)
    coordinates = 1 if placement.coordinates == "RAS" else 2
    head = _IMAGE.pack(1, 1, 3, 2, coordinates, *size, *placement.axes, 0, 0, 0, *size)
    return _pack("IMAGE", device, stamp_ns, head + pixels.tobytes())


def pack_string(device: str, stamp_ns: int, text: str) -> bytes:
    """Make a STRING."""
    data = text.encode()[:0xFFFF]
    encoding = _ASCII if text.isascii() else _UTF8
    return _pack("STRING", device, stamp_ns, struct.pack(">HH", encoding, len(data)) + data)


def _pack(kind: Literal["IMAGE", "STRING"], device: str, stamp_ns: int, body: bytes) -> bytes:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    # Rounded up, so that the nanoseconds come back as they were.
    fraction = -(-(nanoseconds << 32) // 1_000_000_000)
    name = device.encode()[:_NAME_BYTES]
    return _HEADER.pack(1, kind.encode(), name, seconds, fraction, len(body), crc64(body)) + body

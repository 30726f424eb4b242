"""How much work a coded picture makes for a decoder, read from its headers before one sees it.

A few bytes can claim pixels, passes over them, tiles and compressed notes without end; decoders follow, for
seconds or hours. What is let through takes a tenth of a second or little more.
"""

import re
import struct
from collections.abc import Iterator

from streamer.sources.base import SourceInvalidFrame

MAX_DECODED_BYTES = 36 << 20
"""Of all channels: 4096 x 2160 in 8-bit RGBA fit."""
MAX_JPEG_PASSES = 48
"""Components in all scans of a JPEG; a progressive one in colour makes a dozen."""
MAX_JPEG_WORK = 160 << 20
"""Pixels times passes: 3840 x 2160 fit, progressive in colour."""
JPEG_SIZE_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""Those that carry the size: all start-of-frame kinds, JPEG-LS among them."""

_SLACK_BYTES = 1 << 20  # for notes and colour profiles
_MAX_PNG_CHUNKS = 1 << 14
_MAX_JPEG_SEGMENTS = 4096
_MAX_JPEG_PADDING = 1 << 16
_MAX_TIFF_ENTRIES = 512
# What makes pixels. OpenCV also unpacks compressed notes, 8 MB each, and turns pictures as a note says.
_PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PNG_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
# Palettes are decoded to colours.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
# All that begin a segment or end the picture: not padding, restart markers, nor what pixels are stuffed with.
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_SOS, _EOI = 0xDA, 0xD9
# None, LZW, two names of deflate, PackBits: the others bring formats of their own along.
_TIFF_CODINGS = frozenset({1, 5, 8, 32773, 32946})
DAMAGED = "the picture is damaged or cut short"


def bounded_png(data: bytes | memoryview) -> bytes | memoryview:
    """Return a PNG without the chunks that make no pixels.

    :raises SourceInvalidFrame: if it is damaged, animated or too much work.
    """
    width, height, depth, kind = struct.unpack_from(">IIBB", data, 16)
    _check_bytes(width * height * _PNG_CHANNELS.get(kind, 4) * (2 if depth > 8 else 1), len(data))
    chunks = list(_png_chunks(data))
    kinds = [name for name, _ in chunks]
    if kinds[0] != b"IHDR" or b"IDAT" not in kinds:
        raise SourceInvalidFrame(DAMAGED)
    if not _PNG_ANIMATION.isdisjoint(kinds):
        raise SourceInvalidFrame("an animated PNG: send one picture at a time")
    kept = [part for name, part in chunks if name in _PNG_CHUNKS]
    if len(kept) == len(chunks):
        # Up to its end, because OpenCV may read on.
        return data[: 8 + sum(map(len, kept))]
    return b"".join([data[:8], *kept])


def _png_chunks(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and bytes of each chunk, up to the last one."""
    view, at = memoryview(data), 8
    for _ in range(_MAX_PNG_CHUNKS):
        if at + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + int(length)
        if end > len(data):
            break
        yield kind, view[at:end]
        if kind == b"IEND":
            return
        at = end
    raise SourceInvalidFrame(DAMAGED)


def check_jpeg(data: bytes | memoryview, width: int, height: int, *, strict: bool = False) -> None:
    """Count the passes over a JPEG's pixels.

    :param strict: refuse bytes between segments too.
    :raises SourceInvalidFrame: if it is cut short or too much work.
    """
    passes = components = 0
    for marker, at in jpeg_segments(data, strict=strict):
        if marker == _EOI and passes:
            return
        if marker in JPEG_SIZE_MARKERS and not components:
            bits, components = struct.unpack_from(">B4xB", data, at + 2)
            _check_bytes(width * height * components * (2 if bits > 8 else 1), len(data))
        elif marker == _SOS:
            passes += struct.unpack_from("B", data, at + 2)[0]
            if passes > MAX_JPEG_PASSES or passes * width * height > MAX_JPEG_WORK:
                raise SourceInvalidFrame(
                    f"a JPEG of {width}x{height} in so many passes refused: store it as baseline"
                )
    raise SourceInvalidFrame(DAMAGED)


def jpeg_segments(data: bytes | memoryview, *, strict: bool = False) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment and where its length is; coded pixels are passed over.

    :param strict: end at bytes between segments.
    :raises struct.error: if the file ends within one.
    """
    at, in_scan = 2, False
    for _ in range(_MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.search(data, at, len(data) if in_scan else at + _MAX_JPEG_PADDING)
        if found is None or (strict and not in_scan and bytes(data[at : found.start()]).strip(b"\xff")):
            return
        at = found.end()
        marker = int(data[at - 1])
        yield marker, at
        if marker == _EOI:
            return
        at += max(2, int(struct.unpack_from(">H", data, at)[0]))
        in_scan = marker == _SOS


def check_bmp(data: bytes | memoryview, width: int, height: int) -> None:
    """Bound a BMP, which is decoded to colour.

    :raises SourceInvalidFrame: if it is too much work.
    """
    _check_bytes(width * height * 3, len(data))


def check_tiff(data: bytes | memoryview) -> None:
    """Bound the tiles of a TIFF, which may be larger than the picture.

    :raises SourceInvalidFrame: if it is damaged, holds another format, or is too much work.
    """
    tags = tiff_tags(data)
    width, height = tags[256], tags[257]
    tile_width, tile_height = tags.get(322, width), tags.get(323, height)
    if tags.get(259, 1) not in _TIFF_CODINGS:
        raise SourceInvalidFrame("a TIFF of this compression is not understood: use LZW, deflate or none")
    if not tile_width or not tile_height:
        raise SourceInvalidFrame(DAMAGED)
    pixels = -(-width // tile_width) * tile_width * -(-height // tile_height) * tile_height
    _check_bytes(pixels * tags.get(277, 1) * max(1, tags.get(258, 1) // 8), len(data))


def tiff_tags(data: bytes | memoryview) -> dict[int, int]:
    """Read the first value of the tags that say how large a TIFF is.

    :raises SourceInvalidFrame: if one is there twice or is not a plain number.
    :raises struct.error: if the file ends before.
    """
    order = "<" if bytes(data[:1]) == b"I" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, at)
    tags: dict[int, int] = {}
    for entry in range(min(entries, _MAX_TIFF_ENTRIES + 1)):
        start = at + 2 + 12 * entry
        tag, kind, count = struct.unpack_from(order + "HHI", data, start)
        if tag not in (256, 257, 258, 259, 277, 322, 323):
            continue
        if kind not in (3, 4) or tag in tags or entry == _MAX_TIFF_ENTRIES:
            raise SourceInvalidFrame(DAMAGED)
        place = start + 8
        if count * (2 if kind == 3 else 4) > 4:
            (place,) = struct.unpack_from(order + "I", data, place)
        (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, place)
    if entries > _MAX_TIFF_ENTRIES:
        raise SourceInvalidFrame(DAMAGED)
    return tags


def _check_bytes(decoded: int, coded: int) -> None:
    """Refuse what would be too large decoded, or is far larger coded than decoded."""
    if decoded > MAX_DECODED_BYTES:
        raise SourceInvalidFrame(
            f"a coded picture of {decoded >> 20} MB refused: at most {MAX_DECODED_BYTES >> 20} MB of pixels "
            "are decoded; send a smaller one, or raw pixels"
        )
    if coded > decoded + decoded // 2 + _SLACK_BYTES:
        raise SourceInvalidFrame(
            f"a coded picture of {coded} bytes refused: that is far more than its pixels take"
        )

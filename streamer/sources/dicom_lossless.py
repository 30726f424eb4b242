"""Lossless JPEG (ITU T.81, process 14) in DICOM files, decoded by FFmpeg.

GDCM, which pydicom would ask, ends the whole process over some damaged pictures. FFmpeg gives the same
pixels, or an error. It gets only what makes pixels: fields of the header that were looked at, and coded
samples. It would also follow notes, which say that rows or colours are stored in some program's own way.
"""

import struct
from itertools import pairwise
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt

from streamer.sources.base import SourceInvalidFrame
from streamer.sources.libav_pixels import MAX_PIXELS
from streamer.sources.picture_work import DAMAGED, JPEG_SIZE_MARKERS, jpeg_segments

DECODER_DEPENDENCIES = {"1.2.840.10008.1.2.4.57": ("av",), "1.2.840.10008.1.2.4.70": ("av",)}
"""Transfer syntaxes, for pydicom: any predictor, and the first one."""

_SOF3, _DHT, _EOI, _SOS, _DRI = 0xC3, 0xC4, 0xD9, 0xDA, 0xDD
_NOTES = frozenset({*range(0xE0, 0xF0), 0xFE, 0xDB})  # and tables that lossless coding does not use
# Format of what FFmpeg gives: samples of a pixel and bits of each.
_LAYOUTS = {"gray": (1, 8), "gray16le": (1, 16), "bgr24": (3, 8), "bgr48le": (3, 16)}


class LosslessJpeg(NamedTuple):
    """A picture whose header was looked at."""

    width: int
    height: int
    channels: int
    """1 or 3."""
    bits: int
    """Of a sample, 2 to 16."""
    data: bytes
    """A JPEG of nothing but what makes pixels."""


def is_available(uid: str) -> bool:
    """Say whether a transfer syntax is decoded here; pydicom asks."""
    return uid in DECODER_DEPENDENCIES


def read_header(data: bytes) -> LosslessJpeg:
    """Look at everything in a lossless JPEG but its samples.

    :raises SourceInvalidFrame: if it is damaged, another coding, or of a kind that FFmpeg would decode to
        other pixels.
    """
    try:
        return _read_header(data)
    except (struct.error, IndexError):
        raise SourceInvalidFrame(DAMAGED) from None


def decode(picture: LosslessJpeg) -> npt.NDArray[np.uint8 | np.uint16]:
    """Decode the samples as they were coded, of whatever colours they are.

    :return: H x W or H x W x 3, uint8 up to 8 bits a sample and uint16 above.
    :raises SourceInvalidFrame: if they are damaged.
    """
    # A fresh one for each, with nothing in it of another picture: it takes 30 us.
    context = av.CodecContext.create("mjpeg", "r")
    context.thread_count = 1
    # Without the first it makes up what is missing.
    context.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
    try:
        frames = context.decode(av.Packet(picture.data))
    except av.FFmpegError:
        raise SourceInvalidFrame(DAMAGED) from None
    if len(frames) != 1:
        raise SourceInvalidFrame(DAMAGED)
    return _samples(frames[0], picture)


def decode_frame(src: bytes, runner: Any) -> bytes:
    """Decode one frame for pydicom, of which `runner` is a `DecodeRunner`.

    :raises SourceInvalidFrame: as `read_header` and `decode`, or if the file describes other pixels.
    """
    picture = read_header(src)
    told = (runner.columns, runner.rows, runner.samples_per_pixel)
    if (picture.width, picture.height, picture.channels) != told or picture.bits > runner.bits_allocated:
        raise SourceInvalidFrame("the picture is not what the file says")
    if picture.channels > 1:
        runner.set_option("planar_configuration", 0)
    return decode(picture).astype(f"<u{runner.bits_allocated // 8}", copy=False).tobytes()


def _read_header(data: bytes) -> LosslessJpeg:
    width = height = bits = channels = 0
    waiting: set[int] = set()
    tables: set[int] = set()
    kept = [b"\xff\xd8"]
    segments = list(jpeg_segments(data, strict=True))
    for (marker, at), (_, following) in pairwise(segments):
        # The samples after the start of a scan belong to it.
        segment = data[at - 2 : following - 2]
        if marker in _NOTES:
            continue
        if marker == _DHT:
            segment = _without_32768(segment, tables)
        elif marker == _SOS:
            waiting -= _scanned(segment, waiting, channels, bits, tables)
        elif marker in JPEG_SIZE_MARKERS and not bits:
            if marker != _SOF3:
                raise SourceInvalidFrame("the picture is coded as another JPEG than the file says")
            bits, height, width, channels = struct.unpack_from(">BHHB", segment, 4)
            waiting = _components(segment, channels)
            _check_depth(bits, channels)
        elif marker != _DRI:
            raise SourceInvalidFrame(DAMAGED)
        kept.append(segment)
    # What no scan holds would be black.
    if not bits or waiting or segments[-1][0] != _EOI:
        raise SourceInvalidFrame(DAMAGED)
    return LosslessJpeg(width, height, channels, bits, b"".join([*kept, b"\xff\xd9"]))


def _check_depth(bits: int, channels: int) -> None:
    if channels not in (1, 3) or not 2 <= bits <= 16:
        raise SourceInvalidFrame(f"a lossless JPEG of {channels} x {bits} bits is not understood")
    if channels > 1 and bits == 9:
        # FFmpeg takes this depth for another coding of colours.
        raise SourceInvalidFrame("a lossless JPEG in colours of 9 bits is not understood")


def _components(segment: bytes, channels: int) -> set[int]:
    """Return the names of the components of a frame, which may not be of different sizes."""
    parts = [segment[at : at + 3] for at in range(10, 10 + 3 * channels, 3)]
    if any(part[1] != 0x11 for part in parts):
        raise SourceInvalidFrame("a lossless JPEG with colours of half the size is not understood")
    names = {part[0] for part in parts}
    if len(names) != channels:
        raise SourceInvalidFrame(DAMAGED)
    return names


def _scanned(segment: bytes, waiting: set[int], channels: int, bits: int, tables: set[int]) -> set[int]:
    """Return the components of a scan: waited for, and coded by tables that were there."""
    count = segment[4]
    names = {segment[5 + 2 * i] for i in range(count)}
    used = {segment[6 + 2 * i] >> 4 for i in range(count)}
    predictor, shift = segment[5 + 2 * count], segment[7 + 2 * count] & 0x0F
    known = len(names) == count and names <= waiting and count in (1, channels)
    # FFmpeg has tables of its own for those that are missing.
    if not known or not used <= tables or not 1 <= predictor <= 7 or shift >= bits:
        raise SourceInvalidFrame(DAMAGED)
    return names


def _without_32768(segment: bytes, tables: set[int]) -> bytes:
    """Give another name to the code of samples that differ by 32768 from what was predicted.

    FFmpeg reads sixteen bits after it that are not there, and goes on with the wrong ones. Of a name that it
    does not know it makes an error: a picture with such a difference is refused, and no other is.

    :param tables: numbers of the tables so far; this one's are added.
    """
    made, at = bytearray(segment), 4
    while at < len(segment):
        start = at + 17
        tables.add(segment[at])
        at = start + sum(segment[at + 1 : start])
        made[start:at] = segment[start:at].replace(b"\x10", b"\x11")
    if at != len(segment):
        raise SourceInvalidFrame(DAMAGED)
    return bytes(made)


def _samples(frame: av.VideoFrame, picture: LosslessJpeg) -> npt.NDArray[np.uint8 | np.uint16]:
    """Copy the samples out of a decoded frame."""
    channels, depth = _LAYOUTS.get(frame.format.name, (0, 0))
    expected = (picture.width, picture.height, picture.channels)
    if (frame.width, frame.height, channels) != expected or picture.bits > depth:
        raise SourceInvalidFrame(DAMAGED)
    plane, size = frame.planes[0], depth // 8
    shape = (picture.height, picture.width, channels)
    strides = (plane.line_size, size * channels, size)
    pixels = np.ndarray(shape, f"<u{size}", memoryview(plane), 0, strides)
    if channels == 1:
        # It moves the bits of gray to the top.
        return np.asarray(pixels[..., 0] >> (depth - picture.bits))
    return np.ascontiguousarray(pixels[..., ::-1])

"""A few bytes that would keep a decoder at work for seconds are refused before it sees them."""

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from streamer.frame import Pixels
from streamer.sources import SourceInvalidFrame
from streamer.sources.pictures import decode_gray

GRAY = np.tile(np.arange(60, dtype=np.uint8), (40, 1))


def coded(suffix: str, pixels: Pixels = GRAY, *options: int) -> bytes:
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *, colour: int = 0, depth: int = 8, interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def with_chunks(*chunks: bytes) -> bytes:
    whole = coded(".png")
    return whole[:33] + b"".join(chunks) + whole[33:]


def with_scans(count: int, side: int) -> bytes:
    """A progressive JPEG whose last scan comes so many times more."""
    whole = coded(".jpg", np.zeros((side, side), np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    return whole[:-2] + whole[whole.rfind(b"\xff\xda") : -2] * count + whole[-2:]


def jpeg_claiming(side: int) -> bytes:
    whole = coded(".jpg")
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", side, side) + whole[at + 4 :]


def tiff(width: int, height: int, *, tile: tuple[int, int], coding: int = 8, samples: int = 1) -> bytes:
    tags = {256: width, 257: height, 258: 8, 259: coding, 277: samples, 322: tile[0], 323: tile[1]}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\x00" + struct.pack("<IH", 8, len(tags)) + entries + bytes(100)


ANIMATION = struct.pack(">II", 2, 0)

HOSTILE = {
    "a PNG of 64 million pixels": (png(8192, 8192), "64 MB refused"),
    "a palette of 64 million colours": (png(8192, 8192, colour=3, depth=1), "192 MB refused"),
    "a PNG of 16 bits with transparency": (png(4096, 4096, colour=6, depth=16), "128 MB refused"),
    "a PNG without pixels, with a tail": (png(8, 8)[:33] + chunk(b"IEND", b"") + b"\xbb" * 99, "damaged"),
    "a PNG of 20,000 chunks": (with_chunks(chunk(b"tEXt", b"") * 20_000), "damaged"),
    "an animated PNG": (with_chunks(chunk(b"acTL", ANIMATION)), "animated"),
    "a PNG with a megabyte of notes": (with_chunks(chunk(b"tEXt", bytes(2 << 20))), "more than its pixels"),
    "a JPEG of 64 million pixels": (jpeg_claiming(8192), "64 MB refused"),
    "a progressive JPEG of 60 scans": (with_scans(60, 64), "so many passes"),
    "a large progressive JPEG of 16 scans": (with_scans(10, 4096), "so many passes"),
    "a JPEG that is all padding": (b"\xff\xd8" + b"\xff" * (8 << 20), "not a PNG, JPEG"),
    "a JPEG of two million comments": (b"\xff\xd8" + b"\xff\xfe\x00\x02" * (2 << 20), "not a PNG, JPEG"),
    "a JPEG cut short": (coded(".jpg")[:-9], "damaged"),
    "a JPEG with a long tail": (coded(".jpg") + bytes(2 << 20), "more than its pixels"),
    "a BMP of 64 million pixels": (
        b"BM" + bytes(12) + struct.pack("<Iii", 40, 8192, 8192) + bytes(40),
        "192 MB",
    ),
    "tiles far larger than the picture": (tiff(16, 8192, tile=(1 << 19, 16)), "4096 MB refused"),
    "a TIFF with 4 billion samples": (tiff(40, 40, tile=(16, 16), samples=2**32 - 1), "MB refused"),
    "a TIFF with tiles of no size": (tiff(40, 40, tile=(0, 16)), "damaged"),
    "a JPEG in a TIFF": (tiff(40, 40, tile=(16, 16), coding=7), "compression is not understood"),
}


@pytest.mark.parametrize(("data", "why"), HOSTILE.values(), ids=HOSTILE)
def test_a_picture_that_is_too_much_work_is_refused_before_it_is_decoded(
    data: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the decoder was called"))

    with pytest.raises(SourceInvalidFrame, match=why):
        decode_gray(data)


def test_compressed_notes_are_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = zlib.compress(bytes(7_900_000), 9)
    hostile = with_chunks(*[chunk(b"zTXt", b"k\0\0" + packed), chunk(b"iTXt", b"k\0\1\0\0\0" + packed)] * 50)
    seen: list[bytes] = []
    decode = cv2.imdecode
    monkeypatch.setattr(
        cv2, "imdecode", lambda data, flags: (seen.append(data.tobytes()), decode(data, flags))[1]
    )

    assert np.array_equal(decode_gray(hostile), GRAY)

    assert seen == [coded(".png")]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("content", ["even", "noise"])
def test_a_screen_of_4k_in_colour_is_decoded(suffix: str, content: str) -> None:
    screen = np.zeros((2160, 3840, 3), np.uint8)
    if content == "noise":
        cv2.randu(screen, 0, 255)

    assert decode_gray(coded(suffix, screen)).shape == (2160, 3840)


def test_a_progressive_screen_of_4k_in_colour_is_decoded() -> None:
    screen = np.zeros((2160, 3840, 3), np.uint8)

    assert decode_gray(coded(".jpg", screen, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)).shape == (2160, 3840)


def test_bytes_after_a_picture_s_end_are_not_decoded() -> None:
    for suffix in (".png", ".jpg"):
        whole = coded(suffix)
        assert np.array_equal(decode_gray(whole + b"\xbb" * 500), decode_gray(whole))


def test_a_deflated_dicom_file_that_goes_on_after_its_end_does_not_hold_its_reader() -> None:
    code = "from tests.fuzz import formats\nformats.dicom(formats.deflated_with_a_tail())\nprint('came back')"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert "came back" in done.stdout, done.stderr

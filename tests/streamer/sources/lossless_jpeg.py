"""A small encoder of lossless JPEG (ITU T.81, annex H): it codes as scanners and converters do, by choice."""

import struct
from typing import Any

import numpy as np

Samples = np.ndarray[Any, Any]

START, END = b"\xff\xd8", b"\xff\xd9"


def encode(
    samples: Samples,
    *,
    bits: int = 0,
    predictor: int = 1,
    shift: int = 0,
    rows: int = 0,
    interleaved: bool = True,
    first_name: int = 1,
) -> bytes:
    """Code samples, H x W or H x W x 3, uint8 or uint16.

    :param bits: of a sample; as many as the type has when 0.
    :param predictor: 1 to 7.
    :param shift: lowest bits that are left out.
    :param rows: rows between restarts; 0 is none.
    :param interleaved: all colours in one scan.
    :param first_name: of the components, which count on from it.
    """
    planes = np.atleast_3d(samples).astype(np.int64) >> shift
    height, width, count = planes.shape
    bits = bits or samples.dtype.itemsize * 8
    names = range(first_name, first_name + count)
    parts = [START, frame(width, height, bits, bytes(names)), CODES]
    if rows:
        parts.append(segment(0xDD, struct.pack(">H", rows * width)))
    for channels in [list(range(count))] if interleaved else [[each] for each in range(count)]:
        parts.append(scan([names[each] for each in channels], predictor, shift))
        step = rows or height
        for number, top in enumerate(range(0, height, step)):
            if number:
                parts.append(bytes([0xFF, 0xD0 + (number - 1) % 8]))
            part = planes[top : top + step, :, channels]
            parts.append(_coded(_differences(part, predictor, 1 << (bits - shift - 1))))
    return b"".join([*parts, END])


def segment(marker: int, body: bytes) -> bytes:
    """A marker with its length and what follows."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def frame(width: int, height: int, bits: int, names: bytes, sampling: int = 0x11) -> bytes:
    """The header of a lossless picture; the first component is sampled as told."""
    parts = [bytes([name, 0x11 if number else sampling, 0]) for number, name in enumerate(names)]
    return segment(0xC3, struct.pack(">BHHB", bits, height, width, len(names)) + b"".join(parts))


def scan(names: list[int], predictor: int = 1, shift: int = 0) -> bytes:
    """The header of a scan."""
    parts = [bytes([name, 0]) for name in names]
    return segment(0xDA, bytes([len(names)]) + b"".join(parts) + bytes([predictor, 0, shift]))


CODES = segment(0xC4, bytes([0, 0, 0, 0, 0, 17] + [0] * 11) + bytes(range(17)))
"""Seventeen codes of five bits: how many bits a difference takes."""


def _differences(samples: Samples, predictor: int, start: int) -> Samples:
    """From each sample to what its neighbours predict, -32767 to 32768."""
    a, b, c = (np.zeros_like(samples) for _ in range(3))
    a[:, 1:], b[1:], c[1:, 1:] = samples[:, :-1], samples[:-1], samples[:-1, :-1]
    guesses = (a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1)
    guess = guesses[predictor - 1].copy()
    guess[0], guess[:, 0] = a[0], b[:, 0]
    guess[0, 0] = start
    return np.asarray((samples - guess + 32767) % 65536 - 32767)


def _coded(differences: Samples) -> bytes:
    each = differences.reshape(-1)
    size = np.frexp(np.abs(each))[1].astype(np.int64)
    extra = np.where(size == 16, 0, size)
    low = np.where(each < 0, each + (1 << size) - 1, each) * (size < 16)
    words, lengths = size << extra | low, 5 + extra
    place = np.arange(20, -1, -1)
    chosen = place < lengths[:, None]
    packed = np.packbits((words[:, None] >> place & 1)[chosen].astype(np.uint8))
    if used := int(lengths.sum()) % 8:
        packed[-1] |= 0xFF >> used
    return packed.tobytes().replace(b"\xff", b"\xff\x00")

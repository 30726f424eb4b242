"""Number and instant of a frame, written into its pixels, so that whoever sees the picture can tell both.

A strip of black and white cells at the lower edge: large enough to survive JPEG and scaling, clear of the
page's scale bar and names. Two rows of 28 cells, lowest bit first: 20 bits of number and 8 of check, then 28
bits of time.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CELLS, ROWS = 28, 2
NUMBER_BITS, CHECK_BITS, TIME_BITS = 20, 8, 28
TICK_NS = 100_000
"""Unit of the time; it wraps after 7.4 hours."""

Pixels = NDArray[np.uint8]


class Strip(NamedTuple):
    """Where the strip lies, in pixels of the picture."""

    x: int
    y: int
    width: int
    """Of a cell."""
    height: int
    """Of a cell."""


class Code(NamedTuple):
    """What a strip says."""

    number: int
    """Of the frame, modulo 2^20."""
    ticks: int
    """Of `TICK_NS` on CLOCK_MONOTONIC at which it was due, modulo 2^28."""


def strip(width: int, height: int) -> Strip:
    """Place the strip in a picture of this size."""
    cell, row = max(1, width // 40), max(2, height // 36)
    return Strip(width - (CELLS + 1) * cell, height - (ROWS + 1) * row, cell, row)


def check(number: int, ticks: int) -> int:
    """8 bits that a strip half of one frame and half of another does not have."""
    return (number * 37 + (ticks & 0x3FFF) * 101 + (ticks >> 14) * 53) & 0xFF


def stamp(pixels: Pixels, number: int, due_ns: int) -> Pixels:
    """Return a copy of a picture, H x W, with the strip in it."""
    number, ticks = number % (1 << NUMBER_BITS), due_ns // TICK_NS % (1 << TIME_BITS)
    rows = (number | check(number, ticks) << NUMBER_BITS, ticks)
    bits = np.array([[row >> bit & 1 for bit in range(CELLS)] for row in rows], np.uint8)
    x, y, width, height = strip(pixels.shape[1], pixels.shape[0])
    coded = pixels.copy()
    cells = np.repeat(np.repeat(bits * 255, height, axis=0), width, axis=1)
    coded[y : y + ROWS * height, x : x + CELLS * width] = cells
    return coded


def read(pixels: Pixels) -> Code | None:
    """Read the strip of a picture, H x W, by its cells' centres; None if there is none, or half of two."""
    x, y, width, height = strip(pixels.shape[1], pixels.shape[0])
    rows = []
    for row in range(ROWS):
        line = pixels[y + row * height + height // 2, x + width // 2 : x + CELLS * width : width]
        rows.append(sum(int(value > 127) << bit for bit, value in enumerate(line)))
    number, ticks = rows[0] & (1 << NUMBER_BITS) - 1, rows[1]
    return Code(number, ticks) if rows[0] >> NUMBER_BITS == check(number, ticks) else None

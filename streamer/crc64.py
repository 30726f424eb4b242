"""The checksum of OpenIGTLink: CRC-64 of ECMA-182, most significant bit first, starting from zero.

A loop over bytes in Python would take longer than a frame lasts. Zeros in front change nothing, and the
checksum is linear: so a message is padded in front and cut into lanes that numpy moves on together, and the
lanes are then joined pairwise, each left one moved on by the length of its right neighbour.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x42F0E1EBA9EA3693
_LANES = 2048
_Words = NDArray[np.uint64]


def crc64(data: bytes | bytearray | memoryview) -> int:
    """Return the checksum of a message's body."""
    length = -(-max(1, len(data)) // (2 * _LANES)) * 2
    padded = np.zeros(_LANES * length, np.uint8)
    padded[padded.size - len(data) :] = np.frombuffer(data, np.uint8)
    # One row for each step, so that a step reads a run of memory.
    steps = np.ascontiguousarray(padded.view(">u2").reshape(_LANES, length // 2).T).astype(np.uint64)
    table, state = _pair_table(), np.zeros(_LANES, np.uint64)
    for pair in steps:
        state = (state << np.uint64(16)) ^ table[(state >> np.uint64(48)) ^ pair]
    while state.size > 1:
        state = _advance(state[0::2], length) ^ state[1::2]
        length *= 2
    return int(state[0])


@lru_cache(maxsize=1)
def _pair_table() -> _Words:
    """What two bytes make of a checksum of zero."""
    state = np.arange(1 << 16, dtype=np.uint64) << np.uint64(48)
    for _ in range(16):
        carry = (state >> np.uint64(63)) * np.uint64(_POLYNOMIAL)
        state = (state << np.uint64(1)) ^ carry
    return state


def _advance(state: _Words, count: int) -> _Words:
    """Move checksums on by so many zero bytes."""
    tables = _advance_tables(count)
    moved = np.zeros_like(state)
    for index in range(8):
        moved ^= tables[index][(state >> np.uint64(8 * index)) & np.uint64(255)]
    return moved


@lru_cache(maxsize=256)
def _advance_tables(count: int) -> _Words:
    """8 x 256: what each byte of a checksum becomes after `count` (even) zero bytes."""
    values = np.arange(256, dtype=np.uint64)
    alone = np.stack([values << np.uint64(8 * index) for index in range(8)])
    if count == 2:
        moved: _Words = (alone << np.uint64(16)) ^ _pair_table()[alone >> np.uint64(48)]
        return moved
    if count % 4 == 0:
        return _advance(_advance_tables(count // 2).ravel(), count // 2).reshape(8, 256)
    return _advance(_advance_tables(count - 2).ravel(), 2).reshape(8, 256)

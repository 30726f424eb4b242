"""Random numbers that depend neither on how many processes share a batch nor on where a run was cut."""

import hashlib
from typing import NamedTuple

import torch
from torch import Generator, Tensor


def mix(*parts: object) -> int:
    """Make a seed out of what it is for: 63 bits, the same on every machine."""
    text = " ".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


class Rows(NamedTuple):
    """Which images of a batch a process works on."""

    first: int
    own: int
    total: int
    """Images of the whole batch."""


class Chance:
    """Draws for a whole batch and keeps the rows of this process.

    What happens to an image is therefore the same whether one process has the batch or several share it. What
    is drawn once for all comes from a generator on the CPU: reading it never waits for the device.
    """

    def __init__(self, seed: int, rows: Rows, device: torch.device) -> None:
        """Start at a seed."""
        self.rows, self.device = rows, device
        self._each = Generator(device).manual_seed(seed)
        self._all = Generator().manual_seed(mix(seed, "all"))

    def uniform(self, low: float, high: float) -> Tensor:
        """N x 1 x 1 x 1, evenly between the two."""
        return self._own(torch.rand(self.rows.total, 1, 1, 1, generator=self._each, device=self.device)) * (
            high - low
        ) + (low)

    def either(self, limit: float) -> Tensor:
        """N x 1 x 1 x 1, evenly between -`limit` and `limit`."""
        return self.uniform(-limit, limit)

    def chosen(self, share: float) -> Tensor:
        """N x 1 x 1 x 1, bool: True for about a share of the images."""
        return self.uniform(0, 1) < share

    def normal(self, height: int, width: int) -> Tensor:
        """N x 1 x `height` x `width`, of a standard normal distribution."""
        shape = (self.rows.total, 1, height, width)
        return self._own(torch.randn(shape, generator=self._each, device=self.device))

    def choice(self, count: int) -> Tensor:
        """N: whole numbers below `count`."""
        drawn = torch.randint(count, (self.rows.total,), generator=self._each, device=self.device)
        return self._own(drawn)

    def number(self, low: float, high: float) -> float:
        """Draw one number for the whole batch."""
        return float(torch.rand((), generator=self._all)) * (high - low) + low

    def _own(self, drawn: Tensor) -> Tensor:
        return drawn[self.rows.first : self.rows.first + self.rows.own]

"""What a screen or a lifted probe lays over a picture: marks, borders, menus, lost contact."""

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from train.learning.chance import Chance

_BANK = 256


class Covered(NamedTuple):
    """Frames of which a part is no picture any more."""

    frames: Tensor
    hidden: Tensor
    """N x 1 x H x W, bool: nothing can be seen there."""


def marks(frames: Tensor, share: float, chance: Chance) -> Tensor:
    """Draw calipers, dotted lines and letters on a share of the frames."""
    height, width = frames.shape[2:]
    bank = _mark_bank(height, width, frames.device)
    drawn = bank[chance.choice(len(bank))].float() / 255
    brightness = chance.uniform(0.6, 1) * chance.chosen(share)
    return torch.maximum(frames, drawn * brightness)


def borders(frames: Tensor, share: float, chance: Chance) -> Covered:
    """Cover a strip along some edges by black or an even gray."""
    hidden = torch.zeros_like(frames, dtype=torch.bool)
    if not share:
        return Covered(frames, hidden)
    down, across = _axes(frames)
    for place in (down, 1 - down, across, 1 - across):
        depth = chance.uniform(0, 0.12) * chance.chosen(share / 2)
        hidden = hidden | (place < depth)
    shade = chance.uniform(0, 0.3) * chance.chosen(0.3)
    return Covered(torch.where(hidden, shade, frames), hidden)


def lifted(frames: Tensor, hidden: Tensor, share: float, chance: Chance) -> Covered:
    """Let the probe lose contact on one side of a share of the frames: that side fades to black."""
    if not share:
        return Covered(frames, hidden)
    _, across = _axes(frames)
    across = torch.where(chance.chosen(0.5), across, 1 - across)
    edge = chance.uniform(0.05, 0.5)
    contact = torch.where(chance.chosen(share), ((across - edge) / 0.04).sigmoid(), 1.0)
    return Covered(frames * contact, hidden | (contact < 0.3))


def _axes(frames: Tensor) -> tuple[Tensor, Tensor]:
    height, width = frames.shape[2:]
    down = torch.linspace(0, 1, height, device=frames.device).view(1, 1, -1, 1)
    return down, torch.linspace(0, 1, width, device=frames.device).view(1, 1, 1, -1)


_banks: dict[tuple[int, int, torch.device], Tensor] = {}


def _mark_bank(height: int, width: int, device: torch.device) -> Tensor:
    """Draw overlays of calipers, dotted lines and letters: `_BANK` x 1 x H x W, uint8."""
    key = (height, width, device)
    if key not in _banks:
        rng = np.random.default_rng(7)
        small = np.empty((_BANK, height, width), np.uint8)
        for overlay in small:
            # Drawn large and reduced: a screen's letters are a pixel or less wide at the network's size.
            canvas = np.zeros((4 * height, 4 * width), np.uint8)
            for _ in range(rng.integers(1, 4)):
                _draw_mark(canvas, rng)
            cv2.resize(canvas, (width, height), dst=overlay, interpolation=cv2.INTER_AREA)
        _banks[key] = torch.from_numpy(small)[:, None].to(device)
    return _banks[key]


def _draw_mark(canvas: np.ndarray, rng: np.random.Generator) -> None:
    height, width = canvas.shape
    x, y = int(rng.integers(width)), int(rng.integers(height))
    kind = rng.integers(3)
    if kind == 0:
        text = "".join(rng.choice(list("ABDLRTX0123456789.:+ "), rng.integers(2, 14)))
        scale, thickness = rng.uniform(0.4, 0.9), 1 + int(rng.integers(2))
        cv2.putText(canvas, text, (x // 2, y), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness)
        return
    end = int(x + rng.normal(0, width / 4)), int(y + rng.normal(0, height / 5))
    for tip in ((x, y), end):
        style = cv2.MARKER_CROSS if rng.random() < 0.6 else cv2.MARKER_TILTED_CROSS
        cv2.drawMarker(canvas, tip, 255, style, int(rng.integers(10, 24)), 1 + int(rng.integers(2)))
    if kind == 2:
        for part in np.linspace(0, 1, max(2, int(math.dist((x, y), end) / 9))):
            dot = int(x + part * (end[0] - x)), int(y + part * (end[1] - y))
            cv2.circle(canvas, dot, 1, 255, -1)

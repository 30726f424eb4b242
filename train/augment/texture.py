"""Grain, sharpness, resolution and compression of a feed, for batches of N x 1 x H x W in [0, 1]."""

import math

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d, median_blur
from torch import Tensor

from train.augment.strength import Strength
from train.learning.chance import Chance


def texture(frames: Tensor, strength: Strength, chance: Chance) -> Tensor:
    """Change the texture of some frames, each change for its own share of them.

    Every change is computed for all and kept for some: picking rows would make the host wait for the device.
    """

    def some(share: float, changed: Tensor) -> Tensor:
        return torch.where(chance.chosen(share), changed, frames).clamp(0, 1)

    height, width = frames.shape[2:]
    if strength.detail:
        frames = some(strength.detail_share, _detailed(frames, strength.detail, chance))
    if strength.filter:
        frames = some(strength.filter_share, _filtered(frames, strength.filter, chance))
    if strength.speckle:
        frames = some(strength.speckle_share, _speckled(frames, strength.speckle, chance))
    if strength.coarse < 1:
        share = chance.number(strength.coarse, 1)
        small = F.interpolate(frames, scale_factor=share, mode="bilinear", antialias=True)
        frames = some(
            strength.coarse_share,
            F.interpolate(small, size=(height, width), mode="bilinear", antialias=False),
        )
    if strength.blur:
        frames = some(strength.blur_share, _blurred(frames, strength, chance))
    if strength.median_share:
        frames = some(strength.median_share, median_blur(frames, (3, 3)))
    if strength.compression and height % 8 == width % 8 == 0:
        steps = chance.uniform(1e-4, strength.compression + 1e-4)
        frames = some(strength.compression_share, compress(frames, steps))
    return frames


def _detailed(frames: Tensor, strength: float, chance: Chance) -> Tensor:
    height, width = frames.shape[2:]
    cells = int(chance.number(5, 25))
    coarse = F.interpolate(frames, size=(cells, cells), mode="bilinear", antialias=True)
    coarse = F.interpolate(coarse, size=(height, width), mode="bilinear", antialias=False)
    return frames + chance.uniform(-strength / 2, strength) * (frames - coarse)


def _filtered(frames: Tensor, spread: float, chance: Chance) -> Tensor:
    kernels = spread * chance.normal(5, 5)
    kernels = kernels - kernels.mean(dim=(2, 3), keepdim=True)
    padded = F.pad(frames, (2, 2, 2, 2), mode="reflect").transpose(0, 1)
    return frames + F.conv2d(padded, kernels, groups=len(frames)).transpose(0, 1)


def _speckled(frames: Tensor, strength: float, chance: Chance) -> Tensor:
    height, width = frames.shape[2:]
    amount = chance.uniform(0, strength)
    grain = 1 + int(chance.number(0, 3))
    noise = F.interpolate(chance.normal(height // grain, width), size=(height, width), mode="bilinear")
    return frames * (1 + amount * noise)


def _blurred(frames: Tensor, strength: Strength, chance: Chance) -> Tensor:
    # Below a third of a pixel the kernel is one tap and changes nothing.
    sigma = chance.uniform(min(0.3, strength.blur), strength.blur).view(-1, 1).expand(-1, 2)
    smooth = gaussian_blur2d(frames, (7, 7), sigma, border_type="reflect")
    return frames + chance.uniform(-strength.sharpen, 1) * (smooth - frames)


def compress(frames: Tensor, steps: Tensor) -> Tensor:
    """Quantise 8 x 8 blocks in the cosine domain, high frequencies coarser, as JPEG and video codecs do.

    :param frames: N x 1 x H x W, sides multiples of 8.
    :param steps: N x 1 x 1 x 1: quantisation step of the lowest frequencies.
    """
    count, _, height, width = frames.shape
    index = torch.arange(8.0, device=frames.device)
    cosine = torch.cos(math.pi / 8 * (index[None] + 0.5) * index[:, None]) / 2
    cosine[0] /= math.sqrt(2)
    quanta = steps.unsqueeze(4) * (1 + index[:, None] + index[None])
    blocks = frames.reshape(count, height // 8, 8, width // 8, 8).transpose(2, 3)
    spectrum = cosine @ blocks @ cosine.T
    blocks = cosine.T @ ((spectrum / quanta).round() * quanta) @ cosine
    return blocks.transpose(2, 3).reshape(count, 1, height, width)

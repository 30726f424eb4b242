"""What real feeds do to a picture, applied to whole batches on the device.

Geometry first (flip, turn, scale, aspect, rotation, crop), then what an instrument's knobs do (gain, gamma,
depth gain, dynamic range), then texture (speckle, blur, resolution, compression), then what a screen adds
(marks, menus, borders). Frames are N x 1 x H x W in [0, 1]; masks and glands go through the same geometry.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from train.augment.overlays import borders, lifted, marks
from train.augment.strength import Strength
from train.augment.texture import texture
from train.learning.batch import UNKNOWN, Batch
from train.learning.chance import Chance

__all__ = ["UNKNOWN", "Batch", "Chance", "Strength", "augment"]

# Less of a lesion than this in a crop, and nobody could say its class from the picture.
_VISIBLE = 0.35


def augment(batch: Batch, size: tuple[int, int], strength: Strength, chance: Chance) -> Batch:
    """Change a batch at random and bring it to the network's size.

    The class of a frame that keeps too little of its lesion becomes `UNKNOWN`.

    :param size: height and width, in pixels.
    """
    maps = [batch.frames, batch.masks] + ([] if batch.glands is None else [batch.glands])
    view = _view(strength, chance)
    moved = _move(torch.cat(maps, dim=1), size, view, strength, chance).chunk(len(maps), dim=1)
    frames, masks = moved[0], moved[1]
    # The share of the area that each lesion has if none of it is cut off.
    whole = batch.masks.mean(dim=(1, 2, 3)) / view.area
    frames = _intensity(frames, strength, chance)
    frames = texture(frames, strength, chance)
    if strength.marks:
        frames = marks(frames, strength.marks, chance)
    covered = borders(frames, strength.borders, chance)
    covered = lifted(covered.frames, covered.hidden, strength.lift, chance)
    masks = masks.masked_fill(covered.hidden, 0)
    lost = (whole > 0) & (masks.mean(dim=(1, 2, 3)) < _VISIBLE * whole)
    return Batch(
        covered.frames.clamp(0, 1),
        masks,
        batch.labels.masked_fill(lost, UNKNOWN),
        batch.masked,
        batch.boxed,
        moved[2].masked_fill(covered.hidden, 0) if batch.glands is not None else None,
        batch.gland_known,
    )


class _View(NamedTuple):
    """Where each frame looks at its picture."""

    theta: Tensor
    """N x 2 x 3, from the frame's coordinates to the picture's, both in [-1, 1]."""
    area: Tensor
    """N: share of the picture's area that the frame shows."""


def _view(strength: Strength, chance: Chance) -> _View:
    def either(limit: float) -> Tensor:
        return chance.either(limit).flatten()

    def sign(share: float) -> Tensor:
        return torch.where(chance.chosen(share).flatten(), -1.0, 1.0)

    angle = either(strength.rotation_deg) * math.pi / 180
    if strength.quarter_turns:
        angle = angle + chance.choice(4) * (math.pi / 2)
    zoom = (either(strength.zoom) - strength.closer).exp()
    aspect = either(strength.aspect / 2).exp()
    # Of what is seen, so that a close view still shows the lesion.
    across, down = (either(2 * strength.shift) * zoom.clamp(max=1) for _ in range(2))
    cropped = chance.chosen(strength.crop_share).flatten()
    side = torch.where(cropped, chance.uniform(strength.crop, 1).flatten().sqrt(), 1.0)
    freedom = 0.0 if strength.crop_centred else 1.0
    across = across + either(freedom) * (1 - side)
    down = down + either(freedom) * (1 - side)
    width = sign(strength.horizontal_flip) * zoom * aspect * side
    height = sign(strength.vertical_flip) * zoom / aspect * side
    theta = torch.stack(
        [
            torch.stack([angle.cos() * width, -angle.sin() * height, across], dim=1),
            torch.stack([angle.sin() * width, angle.cos() * height, down], dim=1),
        ],
        dim=1,
    )
    return _View(theta, (width * height).abs())


def _move(maps: Tensor, size: tuple[int, int], view: _View, strength: Strength, chance: Chance) -> Tensor:
    """Look at maps (N x C x H x W); beyond them is black, or more tissue of the same kind."""
    grid = F.affine_grid(view.theta, [len(maps), 1, *size], align_corners=False)
    moved = F.grid_sample(maps, grid, padding_mode="reflection", align_corners=False)
    outside = (grid.abs() > 1).any(dim=3).unsqueeze(1)
    return moved.masked_fill(outside & ~chance.chosen(strength.mirrored_border), 0)


def _intensity(frames: Tensor, strength: Strength, chance: Chance) -> Tensor:
    height, width = frames.shape[2:]
    if strength.gamma:
        frames = frames.clamp_min(1e-4) ** chance.either(strength.gamma).exp()
    if strength.tone:
        bend, sway = chance.either(strength.tone), chance.either(strength.tone) / 2
        frames = frames + bend * (math.pi * frames).sin() + sway * (2 * math.pi * frames).sin()
    if strength.gain or strength.depth_gain:
        down = torch.linspace(-1, 1, height, device=frames.device).view(1, 1, -1, 1)
        across = torch.linspace(-1, 1, width, device=frames.device).view(1, 1, 1, -1)
        slope, tilt = chance.either(strength.depth_gain), chance.either(strength.depth_gain) / 3
        frames = frames * (chance.either(strength.gain) + slope * down / 2 + tilt * across).exp()
    if strength.contrast:
        # Dynamic range: what lies under the floor becomes black, the rest is stretched about the mean.
        mean = frames.mean(dim=(2, 3), keepdim=True)
        frames = (frames - mean) * chance.either(strength.contrast).exp() + mean
    if strength.brightness:
        frames = frames + chance.either(strength.brightness)
    return frames.clamp(0, 1)

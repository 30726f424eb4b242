"""What real feeds do to a picture, applied to whole batches on the device.

Geometry first (flip, scale, aspect, rotation, crop), then what an instrument's knobs do (gain, gamma,
depth gain, dynamic range), then texture (speckle, blur, resolution, compression), then what a screen adds
(marks, menus, borders). Frames are N x 1 x H x W in [0, 1]; all randomness comes from one generator.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

# Less of a lesion than this in a crop, and nobody could say its class from the picture.
_VISIBLE = 0.35


class Batch(NamedTuple):
    """Frames and what is true of them."""

    frames: Tensor
    """N x 1 x H x W, float32 in [0, 1]."""
    masks: Tensor
    """N x 1 x H x W, float32 in [0, 1]."""
    labels: Tensor
    """N: class index, or `UNKNOWN` where the crop left too little of the lesion to tell."""


UNKNOWN = -100
"""Ignored by the class loss."""


@dataclass(frozen=True, slots=True)
class Strength:
    """How far each change goes; 0 leaves it out."""

    rotation_deg: float = 15.0
    vertical_flip: bool = False
    zoom: float = 0.3
    """Largest change of scale, as a logarithm."""
    aspect: float = 0.25
    """Likewise of width against height."""
    shift: float = 0.15
    """Of the picture's side."""
    gain: float = 0.25
    gamma: float = 0.3
    depth_gain: float = 0.45
    contrast: float = 0.25
    speckle: float = 0.2
    blur: float = 1.0
    """Largest Gaussian sigma, in pixels of the network's input."""
    coarse: float = 0.5
    """Smallest share of the resolution that is kept."""
    compression: float = 0.05
    """Largest quantisation step of the lowest frequencies."""
    marks: float = 0.35
    """Share of frames that get calipers, dotted lines or letters: of all classes alike."""
    borders: float = 0.3
    """Share of frames with a black border or a menu over an edge."""


def augment(batch: Batch, size: int, strength: Strength, generator: Generator) -> Batch:
    """Change a batch at random and bring it to the network's size.

    :param size: side of the square, in pixels.
    """
    frames, masks, whole = _geometry(batch, size, strength, generator)
    frames = _intensity(frames, strength, generator)
    frames = _texture(frames, strength, generator)
    frames = _marks(frames, strength.marks, generator)
    frames, masks = _borders(frames, masks, strength.borders, generator)
    hidden = (whole > 0) & (masks.mean(dim=(1, 2, 3)) < _VISIBLE * whole)
    return Batch(frames.clamp(0, 1), masks, batch.labels.masked_fill(hidden, UNKNOWN))


def _uniform(generator: Generator, count: int, low: float, high: float) -> Tensor:
    return torch.rand(count, 1, 1, 1, generator=generator) * (high - low) + low


def _chosen(generator: Generator, count: int, share: float) -> Tensor:
    return torch.rand(count, 1, 1, 1, generator=generator) < share


def _geometry(
    batch: Batch, size: int, strength: Strength, generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return frames, masks, and the share of the area (N) that each lesion has if none of it is cut off."""
    count = len(batch.frames)

    def draw(limit: float) -> Tensor:
        return _uniform(generator, count, -limit, limit).flatten()

    angle = draw(strength.rotation_deg) * math.pi / 180
    zoom, aspect = draw(strength.zoom).exp(), draw(strength.aspect / 2).exp()
    flip_x = torch.where(_chosen(generator, count, 0.5).flatten(), -1.0, 1.0)
    flip_y = torch.where(_chosen(generator, count, 0.5 * strength.vertical_flip).flatten(), -1.0, 1.0)
    width, height = flip_x * zoom * aspect, flip_y * zoom / aspect
    across, down = draw(2 * strength.shift), draw(2 * strength.shift)
    theta = torch.stack(
        [
            torch.stack([angle.cos() * width, -angle.sin() * height, across], dim=1),
            torch.stack([angle.sin() * width, angle.cos() * height, down], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [count, 1, size, size], align_corners=False)
    # Beyond the picture: black, as beside a scanner's sector, or more tissue of the same kind.
    mirrored = bool(_chosen(generator, 1, 0.3))
    both = torch.cat([batch.frames, batch.masks], dim=1)
    padding = "reflection" if mirrored else "zeros"
    frames, masks = F.grid_sample(both, grid, padding_mode=padding, align_corners=False).chunk(2, dim=1)
    return frames, masks, batch.masks.mean(dim=(1, 2, 3)) / zoom**2


def _intensity(frames: Tensor, strength: Strength, generator: Generator) -> Tensor:
    count, _, height, width = frames.shape
    gamma = _uniform(generator, count, -strength.gamma, strength.gamma).exp()
    frames = frames.clamp_min(1e-4) ** gamma
    down = torch.linspace(-1, 1, height).view(1, 1, -1, 1)
    across = torch.linspace(-1, 1, width).view(1, 1, 1, -1)
    slope = _uniform(generator, count, -strength.depth_gain, strength.depth_gain)
    tilt = _uniform(generator, count, -strength.depth_gain, strength.depth_gain) / 3
    gain = _uniform(generator, count, -strength.gain, strength.gain)
    frames = frames * (gain + slope * down / 2 + tilt * across).exp()
    # Dynamic range: what lies under the floor becomes black, the rest is stretched about the mean.
    contrast = _uniform(generator, count, -strength.contrast, strength.contrast).exp()
    mean = frames.mean(dim=(2, 3), keepdim=True)
    return ((frames - mean) * contrast + mean).clamp(0, 1)


def _texture(frames: Tensor, strength: Strength, generator: Generator) -> Tensor:
    height, width = frames.shape[2:]

    def speckled(some: Tensor) -> Tensor:
        amount = _uniform(generator, len(some), 0, strength.speckle)
        grain = 1 + int(torch.randint(3, (), generator=generator))
        noise = torch.randn(len(some), 1, height // grain, width, generator=generator)
        return some * (1 + amount * F.interpolate(noise, size=(height, width), mode="bilinear"))

    def coarse(some: Tensor) -> Tensor:
        share = float(_uniform(generator, 1, strength.coarse, 1))
        small = F.interpolate(some, scale_factor=share, mode="bilinear", antialias=True)
        return F.interpolate(small, size=(height, width), mode="bilinear")

    def blurred(some: Tensor) -> Tensor:
        sigma = float(_uniform(generator, 1, 0.3, strength.blur))
        kernel = (-((torch.arange(-3, 4) / sigma) ** 2) / 2).exp()
        kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
        smooth = F.conv2d(F.pad(some, (3, 3, 3, 3), mode="reflect"), kernel)
        smooth = F.conv2d(smooth, kernel.transpose(2, 3))
        # Below 0 it sharpens, as scanners' edge enhancement does.
        return some + _uniform(generator, len(some), -0.6, 1) * (smooth - some)

    def compressed(some: Tensor) -> Tensor:
        return _compress(some, float(_uniform(generator, 1, 1e-4, strength.compression + 1e-4)))

    changes = (
        (speckled, 0.5, strength.speckle > 0),
        (coarse, 0.25, strength.coarse < 1),
        (blurred, 0.5, strength.blur > 0),
        (compressed, 0.25, strength.compression > 0 and height % 8 == width % 8 == 0),
    )
    for change, share, wanted in changes:
        rows = _chosen(generator, len(frames), share).flatten().nonzero()[:, 0]
        if wanted and len(rows):
            frames = frames.index_copy(0, rows, change(frames[rows]).clamp(0, 1))
    return frames


def _compress(frames: Tensor, step: float) -> Tensor:
    """Quantise 8 x 8 blocks in the cosine domain, high frequencies coarser, as JPEG and video codecs do."""
    count, _, height, width = frames.shape
    index = torch.arange(8.0)
    cosine = torch.cos(math.pi / 8 * (index[None] + 0.5) * index[:, None]) / 2
    cosine[0] /= math.sqrt(2)
    steps = step * (1 + index[:, None] + index[None])
    blocks = frames.view(count, height // 8, 8, width // 8, 8).transpose(2, 3)
    spectrum = cosine @ blocks @ cosine.T
    blocks = cosine.T @ ((spectrum / steps).round() * steps) @ cosine
    return blocks.transpose(2, 3).reshape(count, 1, height, width)


def _marks(frames: Tensor, share: float, generator: Generator) -> Tensor:
    count, _, height, width = frames.shape
    if not share:
        return frames
    bank = _mark_bank(height, width)
    drawn = bank[torch.randint(len(bank), (count,), generator=generator)]
    brightness = _uniform(generator, count, 0.6, 1) * _chosen(generator, count, share)
    return torch.maximum(frames, drawn * brightness)


_banks: dict[tuple[int, int], Tensor] = {}


def _mark_bank(height: int, width: int, count: int = 256) -> Tensor:
    """Draw overlays of calipers, dotted lines and letters: `count` x 1 x H x W in [0, 1]."""
    if (height, width) not in _banks:
        rng = np.random.default_rng(7)
        # Drawn large and reduced, because a screen's letters are a pixel or less wide at the network's size.
        canvases = np.zeros((count, 4 * height, 4 * width), np.uint8)
        for canvas in canvases:
            for _ in range(rng.integers(1, 4)):
                _draw_mark(canvas, rng)
        small = [cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA) for canvas in canvases]
        _banks[height, width] = torch.from_numpy(np.stack(small))[:, None].float() / 255
    return _banks[height, width]


def _draw_mark(canvas: np.ndarray, rng: np.random.Generator) -> None:
    height, width = canvas.shape
    x, y = int(rng.integers(width)), int(rng.integers(height))
    kind = rng.integers(3)
    if kind == 0:
        text = "".join(rng.choice(list("ABDLRTX0123456789.:+ "), rng.integers(2, 14)))
        cv2.putText(
            canvas,
            text,
            (x // 2, y),
            cv2.FONT_HERSHEY_SIMPLEX,
            rng.uniform(0.4, 0.9),
            255,
            1 + int(rng.integers(2)),
        )
        return
    end = int(x + rng.normal(0, width / 4)), int(y + rng.normal(0, height / 5))
    for tip in ((x, y), end):
        style = cv2.MARKER_CROSS if rng.random() < 0.6 else cv2.MARKER_TILTED_CROSS
        cv2.drawMarker(canvas, tip, 255, style, int(rng.integers(10, 24)), 1 + int(rng.integers(2)))
    if kind == 2:
        for part in np.linspace(0, 1, max(2, int(math.dist((x, y), end) / 9))):
            dot = int(x + part * (end[0] - x)), int(y + part * (end[1] - y))
            cv2.circle(canvas, dot, 1, 255, -1)


def _borders(frames: Tensor, masks: Tensor, share: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Cover a strip along some edges by black or an even gray; what is covered is no lesion any more."""
    count, _, height, width = frames.shape
    covered = torch.zeros(count, 1, height, width, dtype=torch.bool)
    down = torch.linspace(0, 1, height).view(1, 1, -1, 1)
    across = torch.linspace(0, 1, width).view(1, 1, 1, -1)
    for place in (down, 1 - down, across, 1 - across):
        depth = _uniform(generator, count, 0, 0.12) * _chosen(generator, count, share / 2)
        covered |= place < depth
    shade = _uniform(generator, count, 0, 0.3) * _chosen(generator, count, 0.3)
    return torch.where(covered, shade, frames), masks.masked_fill(covered, 0)

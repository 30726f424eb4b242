"""Synthetic labelled images: stills, and frames of sweeps with normal tissue and lifted probes in between."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from models.networks.registry import CLASSES
from streamer.sources.phantom import Phantom, PhantomFrame
from train.data import Images, fit

# What training, selection and the card's figures draw from never overlaps.
FIRST_SEED = {"train": 1_000_000, "validation": 2_000_000, "test": 3_000_000}
_LABELS: tuple[Literal["benign", "malignant", "normal"], ...] = ("benign", "malignant", "normal")
# A sweep shows a lesion for seconds: frames closer than this are nearly one picture.
_STEP_S = 2.3


class Mixture(NamedTuple):
    """How many synthetic images of each kind."""

    stills: int
    """Independent pictures, a third of each class."""
    sweeps: int
    """Different sweeps of the live phantom."""
    frames: int
    """Of every sweep, evenly spread over its first minutes."""


def render(part: str, mixture: Mixture, size: int, *, tick: Callable[[], None] = lambda: None) -> Images:
    """Render synthetic images.

    A lifted probe and a view without a visible lesion are normal, with an empty mask.

    :param part: `train`, `validation` or `test`; each has seeds of its own.
    :param size: side of the square they are brought to, in pixels.
    :param tick: called after every image.
    """
    count = mixture.stills + mixture.sweeps * mixture.frames
    pixels = np.empty((count, size, size), np.uint8)
    masks = np.empty_like(pixels)
    names, groups, labels = [], [], []
    for row, (name, group, frame) in enumerate(_frames(FIRST_SEED[part], mixture)):
        fit(frame.pixels, pixels[row])
        fit(frame.lesion_mask, masks[row])
        names.append(name)
        groups.append(group)
        labels.append(CLASSES.index(frame.label if frame.lesion_mask.any() else "normal"))
        tick()
    return Images(tuple(names), np.array(groups, np.int64), pixels, masks, np.array(labels, np.int64))


def load_or_render(part: str, mixture: Mixture, size: int, cache: Path) -> Images:
    """Read images that were rendered before, or render and keep them.

    :param cache: folder of the kept files; the name of each tells what is in it.
    """
    path = cache / f"phantom-{part}-{mixture.stills}-{mixture.sweeps}x{mixture.frames}-{size}.npz"
    if path.is_file():
        with np.load(path) as kept:
            return Images(
                tuple(kept["names"].tolist()), kept["groups"], kept["pixels"], kept["masks"], kept["labels"]
            )
    images = render(part, mixture, size)
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(
        partial,
        names=np.array(images.names),
        groups=images.groups,
        pixels=images.pixels,
        masks=images.masks,
        labels=images.labels,
    )
    partial.replace(path)
    return images


def _frames(first_seed: int, mixture: Mixture) -> Iterator[tuple[str, int, PhantomFrame]]:
    for number in range(mixture.stills):
        seed, label = first_seed + number, _LABELS[number % 3]
        # Scanners' pictures differ in aspect; the network sees them all squeezed into a square.
        width = 480 + 40 * (number % 6)
        yield f"still-{seed}-{label}", number, Phantom.still(seed, width=width, height=480, label=label)
    for number in range(mixture.sweeps):
        seed = first_seed + 500_000 + number
        feed = Phantom(seed=seed)
        for index in range(mixture.frames):
            frame = feed.frame(round(index * _STEP_S * feed.fps))
            yield f"sweep-{seed}-{index}", mixture.stills + number, frame

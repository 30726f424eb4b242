"""Synthetic labelled images: stills, and frames of sweeps with normal tissue and lifted probes in between."""

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import cache as remember
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from models.networks.registry import CLASSES
from streamer.sources.phantom import Phantom, PhantomFrame
from train.data import DataError, Images, fit

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


@remember
def version() -> str:
    """Name the phantom by its source code: no picture of another version is taken for one of this."""
    name = hashlib.sha256()
    for package, ending in (
        ("streamer.sources.phantom", ".py"),
        ("train", "phantoms.py"),
        ("models", "fit.py"),
    ):
        for file in sorted(files(package).iterdir(), key=lambda file: file.name):
            if file.name.endswith(ending):
                name.update(file.name.encode() + b"\0" + file.read_bytes())
    return name.hexdigest()[:12]


def render(
    part: str, mixture: Mixture, size: int, *, glands: bool = False, tick: Callable[[], None] = lambda: None
) -> Images:
    """Render synthetic images.

    A lifted probe and a view without a visible lesion are normal, with an empty mask.

    :param part: `train`, `validation` or `test`; each has seeds of its own.
    :param size: side of the square they are brought to, in pixels.
    :param glands: keep the glandular tissue's masks too.
    :param tick: called after every image.
    """
    count = mixture.stills + mixture.sweeps * mixture.frames
    pixels = np.empty((count, size, size), np.uint8)
    masks = np.empty_like(pixels)
    tissue = np.empty_like(pixels) if glands else None
    spacing_mm = np.empty((count, 2))
    names, groups, labels = [], [], []
    for row, (name, group, frame) in enumerate(_frames(part, mixture)):
        fit(frame.pixels, pixels[row])
        fit(frame.lesion_mask, masks[row])
        if tissue is not None:
            fit(frame.gland_mask, tissue[row])
        height, width = frame.pixels.shape
        spacing_mm[row] = frame.spacing_mm[1] * width / size, frame.spacing_mm[0] * height / size
        names.append(name)
        groups.append(group)
        labels.append(CLASSES.index(frame.label if frame.lesion_mask.any() else "normal"))
        tick()
    return Images(
        tuple(names),
        np.array(groups, np.int64),
        pixels,
        masks,
        np.array(labels, np.int64),
        glands=tissue,
        gland_known=np.full(count, glands),
        spacing_mm=spacing_mm,
        sources=("phantom",) * count,
    )


def load_or_render(part: str, mixture: Mixture, size: int, cache: Path, *, glands: bool = False) -> Images:
    """Read images that this version of the phantom rendered before, or render and keep them.

    :param cache: folder of the kept files; the name of each tells what is in it.
    :param glands: keep the glandular tissue's masks too.
    :raises DataError: if they cannot be kept.
    """
    kind = f"{mixture.stills}-{mixture.sweeps}x{mixture.frames}-{size}{'-glands' if glands else ''}"
    path = cache / f"phantom-{version()}-{part}-{kind}.npz"
    if path.is_file():
        with np.load(path) as arrays:
            found = dict(arrays)
        names = tuple(found.pop("names").tolist())
        return Images(names, sources=("phantom",) * len(names), **found)
    images = render(part, mixture, size, glands=glands)
    arrays = {
        name: getattr(images, name)
        for name in ("groups", "pixels", "masks", "labels", "glands", "gland_known", "spacing_mm")
        if getattr(images, name) is not None
    }
    # Another process may render the same: each writes a file of its own, and the last one stays.
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial.npz")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(partial, names=np.array(images.names), **arrays)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written ({error.strerror}); free some room, or name another cache"
        ) from None
    return images


def still(part: str, number: int) -> tuple[str, PhantomFrame]:
    """Render one independent picture, of the class and the size that its number stands for.

    :param part: `train`, `validation` or `test`.
    :return: its name and the picture with its truth.
    """
    seed, label = FIRST_SEED[part] + number, _LABELS[number % 3]
    # Scanners' pictures differ in aspect; the network sees them all squeezed into a square.
    width = 480 + 40 * (number % 6)
    return f"still-{seed}-{label}", Phantom.still(seed, width=width, height=480, label=label)


def _frames(part: str, mixture: Mixture) -> Iterator[tuple[str, int, PhantomFrame]]:
    for number in range(mixture.stills):
        name, frame = still(part, number)
        yield name, number, frame
    for number in range(mixture.sweeps):
        seed = FIRST_SEED[part] + 500_000 + number
        feed = Phantom(seed=seed)
        for index in range(mixture.frames):
            frame = feed.frame(round(index * _STEP_S * feed.fps))
            yield f"sweep-{seed}-{index}", mixture.stills + number, frame

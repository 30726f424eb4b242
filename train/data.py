"""Labelled images in memory: what every reader returns and the trainer draws from."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.fit import Fitter
from models.networks.registry import CLASSES

Pixels = NDArray[np.uint8]


class DataError(ValueError):
    """A data set cannot be used as it is; the message names the file and says what to do."""


@dataclass(frozen=True, slots=True)
class Study:
    """One labelled image on disk."""

    name: str
    """Unique in its data set."""
    label: str
    """One of `models.networks.registry.CLASSES`."""
    group: int
    """Images of one group show the same lesion; no split may straddle them."""
    image: Path
    masks: tuple[Path, ...]
    """Their union is the lesion; none where the image has no lesion."""


@dataclass(frozen=True, slots=True)
class Images:
    """Decoded images of one size, with what is true of each."""

    names: tuple[str, ...]
    groups: NDArray[np.int64]
    pixels: Pixels
    """M x H x W gray."""
    masks: Pixels
    """M x H x W: 255 in a lesion, 0 elsewhere, values between on the rim of resized masks."""
    labels: NDArray[np.int64]
    """M: index into `CLASSES`."""

    def __len__(self) -> int:
        """Count images."""
        return len(self.names)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Images":
        """Keep the chosen rows, by index or by mask."""
        rows = np.arange(len(self))[chosen]
        return Images(
            tuple(self.names[row] for row in rows),
            self.groups[rows],
            self.pixels[rows],
            self.masks[rows],
            self.labels[rows],
        )


def read_images(studies: Iterable[Study], size: int) -> Images:
    """Decode images and masks and bring them to one size, as the live path does (aspect ratio ignored).

    :param size: side of the square they are brought to, in pixels.
    :raises DataError: if a file cannot be read or a mask has another size than its image.
    """
    studies = list(studies)
    pixels = np.empty((len(studies), size, size), np.uint8)
    masks = np.zeros_like(pixels)
    for row, study in enumerate(studies):
        picture = read_gray(study.image)
        lesion = np.zeros_like(picture)
        for path in study.masks:
            mask = read_gray(path)
            if mask.shape != picture.shape:
                raise DataError(
                    f"{path} is {mask.shape[1]} x {mask.shape[0]} pixels, its image {study.image.name} is "
                    f"{picture.shape[1]} x {picture.shape[0]}; a mask must have its image's size"
                )
            lesion[mask > 127] = 255
        fit(picture, pixels[row])
        fit(lesion, masks[row])
    return Images(
        tuple(study.name for study in studies),
        np.array([study.group for study in studies], np.int64),
        pixels,
        masks,
        np.array([CLASSES.index(study.label) for study in studies], np.int64),
    )


def read_gray(path: Path) -> Pixels:
    """Decode a picture as H x W gray.

    :raises DataError: if it is missing, truncated or no picture.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        problem = "is no picture that can be decoded" if path.is_file() else "does not exist"
        raise DataError(f"{path} {problem}; replace it, or remove it from the data set")
    return np.asarray(picture, np.uint8)


def fit(picture: Pixels, out: Pixels) -> None:
    """Resize a gray picture into `out` (H x W) by the live path's own resize."""
    Fitter(out.shape[1], out.shape[0]).fit(picture, out[:, :, None])


def shrink(images: Images, size: int) -> Images:
    """Bring images to a smaller square, as `read_images` would have read them."""
    pixels = np.empty((len(images), size, size), np.uint8)
    masks = np.empty_like(pixels)
    for row in range(len(images)):
        fit(images.pixels[row], pixels[row])
        fit(images.masks[row], masks[row])
    return Images(images.names, images.groups, pixels, masks, images.labels)


def join(parts: Iterable[Images]) -> Images:
    """Put several sets of one size behind each other; groups stay apart by set."""
    parts = list(parts)
    offset, groups = 0, []
    for part in parts:
        groups.append(part.groups + offset)
        offset = int(groups[-1].max(initial=offset)) + 1
    return Images(
        tuple(name for part in parts for name in part.names),
        np.concatenate(groups),
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.masks for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )

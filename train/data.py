"""Labelled images in memory: what every reader returns and the trainer draws from."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.fit import Fitter
from models.networks.registry import CLASSES
from train.pictures import DataError, Pixels, read_gray, read_mask

__all__ = ["UNKNOWN_LABEL", "Box", "DataError", "Images", "Pixels", "Study", "fit", "join", "read_gray"]

UNKNOWN_LABEL = -100
"""Label of an image whose class is not known; the class losses leave it out."""
MEMORY_LIMIT_BYTES = 4_000_000_000
"""A set larger than this is kept in a mapped file instead of in memory."""


class Box(NamedTuple):
    """Where a lesion lies, without its outline, in pixels of the source picture."""

    x: float
    """Left edge."""
    y: float
    """Upper edge."""
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Study:
    """One labelled image on disk."""

    name: str
    """Unique in its data set."""
    label: str | None
    """One of `models.networks.registry.CLASSES`; None where it is not known."""
    group: int
    """Images of one group show the same lesion or patient; no split may straddle them."""
    image: Path
    masks: tuple[Path, ...] | None
    """Their union is the lesion; none where the image has no lesion; None where it is not annotated."""
    boxes: tuple[Box, ...] = field(default=(), kw_only=True)
    """Location labels, for images without masks."""
    gland: Path | None = field(default=None, kw_only=True)
    """Mask of the glandular tissue."""
    patient: str | None = field(default=None, kw_only=True)
    spacing_mm: tuple[float, float] | None = field(default=None, kw_only=True)
    """Width and height of a source pixel."""
    source: str = field(default="", kw_only=True)
    """Name of its data set."""
    split: str | None = field(default=None, kw_only=True)
    """The part or the fold that its data set puts it in."""
    contradictory: bool = field(default=False, kw_only=True)
    """A near-duplicate of it has another class: one of the two labels is wrong."""


def _unset() -> NDArray[Any]:
    return np.empty(0)


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
    """M: index into `CLASSES`, or `UNKNOWN_LABEL`."""
    masked: NDArray[np.bool_] = field(default_factory=_unset, kw_only=True)
    """M: the mask is the truth, also where it is empty (default: all are)."""
    boxed: NDArray[np.bool_] = field(default_factory=_unset, kw_only=True)
    """M: the mask's row holds filled boxes, the lesion's place and not its outline (default: none does)."""
    glands: Pixels | None = field(default=None, kw_only=True)
    """M x H x W: 255 in glandular tissue; None where no image has it annotated."""
    gland_known: NDArray[np.bool_] = field(default_factory=_unset, kw_only=True)
    """M: the gland's row is the truth."""
    spacing_mm: NDArray[np.float64] = field(default_factory=_unset, kw_only=True)
    """M x 2: width and height of a pixel of this grid; NaN where it is not known (default)."""
    sources: tuple[str, ...] = field(default=(), kw_only=True)
    """M: name of the data set (default: empty)."""

    def __post_init__(self) -> None:
        """Fill in what was left out and check that there is one row an image."""
        count = len(self.names)
        defaults: dict[str, Any] = {
            "masked": np.ones(count, bool),
            "boxed": np.zeros(count, bool),
            "gland_known": np.zeros(count, bool),
            "spacing_mm": np.full((count, 2), np.nan),
            "sources": ("",) * count,
        }
        for name, default in defaults.items():
            if len(getattr(self, name)) == 0:
                object.__setattr__(self, name, default)
        for name in ("groups", "pixels", "masks", "labels", *defaults):
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows, there are {count} images")

    def __len__(self) -> int:
        """Count images."""
        return len(self.names)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Images":
        """Keep the chosen rows, by index or by mask."""
        rows = np.arange(len(self))[chosen]
        return Images(
            tuple(self.names[row] for row in rows),
            self.groups[rows],
            _pick(self.pixels, rows),
            _pick(self.masks, rows),
            self.labels[rows],
            masked=self.masked[rows],
            boxed=self.boxed[rows],
            glands=None if self.glands is None else _pick(self.glands, rows),
            gland_known=self.gland_known[rows],
            spacing_mm=self.spacing_mm[rows],
            sources=tuple(self.sources[row] for row in rows),
        )


class _Decoded(NamedTuple):
    width: int
    height: int


def read_images(studies: Iterable[Study], size: int, *, memory_bytes: int = MEMORY_LIMIT_BYTES) -> Images:
    """Decode images and masks and bring them to one size, as the live path does (aspect ratio ignored).

    A set that needs more than `memory_bytes` is kept in a file without a name in the temporary folder, mapped
    into memory, which goes when the arrays go.

    :param size: side of the square they are brought to, in pixels.
    :raises DataError: if a file cannot be read, a mask has another size than its image, or the temporary
        folder has no room for a set that is too large for the memory.
    """
    studies = list(studies)
    with_glands = any(study.gland is not None for study in studies)
    planes = 3 if with_glands else 2
    stack = _allocate((planes, len(studies), size, size), memory_bytes)

    def decode(row: int) -> _Decoded:
        study = studies[row]
        picture = read_gray(study.image)
        height, width = picture.shape
        fit(picture, stack[0, row])
        fit(lesion_of(study, picture.shape), stack[1, row])
        if study.gland is not None:
            fit(_checked_mask(study.gland, study, picture.shape), stack[2, row])
        elif with_glands:
            stack[2, row] = 0
        return _Decoded(width, height)

    # OpenCV decodes and resizes without the interpreter's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = list(pool.map(decode, range(len(studies))))
    spacing = np.full((len(studies), 2), np.nan)
    for row, (study, source) in enumerate(zip(studies, decoded, strict=True)):
        if study.spacing_mm is not None:
            spacing[row] = np.multiply(study.spacing_mm, (source.width / size, source.height / size))
    return Images(
        tuple(study.name for study in studies),
        np.array([study.group for study in studies], np.int64),
        stack[0],
        stack[1],
        np.array([label_index(study.label) for study in studies], np.int64),
        masked=np.array([study.masks is not None for study in studies], bool),
        boxed=np.array([study.masks is None and bool(study.boxes) for study in studies], bool),
        glands=stack[2] if with_glands else None,
        gland_known=np.array([study.gland is not None for study in studies], bool),
        spacing_mm=spacing,
        sources=tuple(study.source for study in studies),
    )


def label_index(label: str | None) -> int:
    """Number a class, or say that it is not known."""
    return UNKNOWN_LABEL if label is None else CLASSES.index(label)


def fit(picture: Pixels, out: Pixels) -> None:
    """Resize a gray picture into `out` (H x W) by the live path's own resize."""
    Fitter(out.shape[1], out.shape[0]).fit(picture, out[:, :, None])


def shrink(images: Images, size: int) -> Images:
    """Bring images to a smaller square, as `read_images` would have read them."""

    def shrunk(planes: Pixels) -> Pixels:
        out = _allocate_like(planes, (len(planes), size, size))
        for row in range(len(planes)):
            fit(planes[row], out[row])
        return out

    scale = np.array([images.pixels.shape[2], images.pixels.shape[1]]) / size
    return replace(
        images,
        pixels=shrunk(images.pixels),
        masks=shrunk(images.masks),
        glands=None if images.glands is None else shrunk(images.glands),
        spacing_mm=images.spacing_mm * scale,
    )


def join(parts: Iterable[Images]) -> Images:
    """Put several sets of one size behind each other; groups stay apart by set."""
    parts = list(parts)
    offset, groups = 0, []
    for part in parts:
        groups.append(part.groups + offset)
        offset = int(groups[-1].max(initial=offset)) + 1
    glands = None
    if any(part.glands is not None for part in parts):
        glands = np.concatenate(
            [np.zeros_like(part.masks) if part.glands is None else part.glands for part in parts]
        )
    return Images(
        tuple(name for part in parts for name in part.names),
        np.concatenate(groups),
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.masks for part in parts]),
        np.concatenate([part.labels for part in parts]),
        masked=np.concatenate([part.masked for part in parts]),
        boxed=np.concatenate([part.boxed for part in parts]),
        glands=glands,
        gland_known=np.concatenate([part.gland_known for part in parts]),
        spacing_mm=np.concatenate([part.spacing_mm for part in parts]),
        sources=tuple(source for part in parts for source in part.sources),
    )


def lesion_of(study: Study, shape: Sequence[int]) -> Pixels:
    """Read the union of a study's masks, or fill its boxes: H x W, 255 in the lesion.

    :param shape: of its image: height, width.
    :raises DataError: if a mask cannot be read or has another size.
    """
    lesion = np.zeros((shape[0], shape[1]), np.uint8)
    if study.masks is not None:
        for path in study.masks:
            np.maximum(lesion, _checked_mask(path, study, shape), out=lesion)
        return lesion
    for box in study.boxes:
        left, top = max(round(box.x), 0), max(round(box.y), 0)
        lesion[top : round(box.y + box.height), left : round(box.x + box.width)] = 255
    return lesion


def _checked_mask(path: Path, study: Study, shape: Sequence[int]) -> Pixels:
    mask = read_mask(path)
    if mask.shape != tuple(shape):
        raise DataError(
            f"{path} is {mask.shape[1]} x {mask.shape[0]} pixels, its image {study.image.name} is "
            f"{shape[1]} x {shape[0]}; a mask must have its image's size"
        )
    return mask


def _allocate_like(planes: Pixels, shape: tuple[int, ...]) -> Pixels:
    # What was too large for the memory is so in parts too.
    return _allocate(shape, 0 if isinstance(planes, np.memmap) else MEMORY_LIMIT_BYTES)


def _pick(planes: Pixels, rows: NDArray[np.int64]) -> Pixels:
    picked = _allocate_like(planes, (len(rows), *planes.shape[1:]))
    for to, row in enumerate(rows):
        picked[to] = planes[row]
    return picked


def _allocate(shape: tuple[int, ...], memory_bytes: int) -> Pixels:
    needed = int(np.prod(shape))
    if needed <= memory_bytes or not needed:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile() as file:
        try:
            # Reserved now: a hole in the file that finds the disk full later would kill the process.
            os.posix_fallocate(file.fileno(), 0, needed)
        except OSError as error:
            raise DataError(
                f"{tempfile.gettempdir()} has no room for {needed / 1e9:.1f} GB of decoded images "
                f"({error.strerror}); free some, or set TMPDIR to a folder with room"
            ) from None
        return np.memmap(file, np.uint8, "r+", shape=shape)

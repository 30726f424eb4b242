"""Looks at every picture and mask of a set once: what cannot be used is named with the reason."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from train.data import DataError, Study
from train.pictures import Pixels, read_gray, read_mask
from train.sets.duplicates import thumbnail


class Look(NamedTuple):
    """What was seen of one study."""

    study: Study
    """As it was, or without a mask that marks nothing."""
    width: int
    height: int
    digest: str
    """Of the gray pixels: equal for equal pictures, in whatever file format."""
    thumbnail: Pixels
    lesion_pixels: int | None
    """Inside the union of the masks; None without masks."""
    empty_mask: bool
    """Its masks mark nothing although its class has a lesion: taken as not annotated."""


def look_at(studies: Sequence[Study]) -> list[Look | DataError]:
    """Decode everything, several files at a time.

    :return: what was seen of each study, or what is wrong with it.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_look, studies))


def digest_of(picture: Pixels) -> str:
    """Name a gray picture (H x W) by its pixels."""
    name = hashlib.sha256(f"{picture.shape[0]} {picture.shape[1]} ".encode())
    name.update(picture.tobytes())
    return name.hexdigest()[:24]


def _look(study: Study) -> Look | DataError:
    try:
        picture = read_gray(study.image)
        lesion = _lesion_pixels(study, picture)
        if study.gland is not None:
            _same_size(read_mask(study.gland), picture, str(study.gland))
        height, width = picture.shape
        for box in study.boxes:
            if box.x + box.width > width + 1 or box.y + box.height > height + 1:
                raise DataError(
                    f"{study.image}: the box {tuple(box)} lies outside its {width} x {height} pixels"
                )
        if study.label == "normal" and (lesion or study.boxes):
            raise DataError(f"{study.image} is normal, yet a lesion is marked in it; correct one of the two")
    except DataError as error:
        return error
    empty = lesion == 0 and study.label in ("benign", "malignant")
    return Look(
        replace(study, masks=None) if empty else study,
        width,
        height,
        digest_of(picture),
        thumbnail(picture),
        lesion,
        empty,
    )


def _lesion_pixels(study: Study, picture: Pixels) -> int | None:
    if study.masks is None:
        return None
    lesion = np.zeros_like(picture)
    for path in study.masks:
        mask = read_mask(path)
        _same_size(mask, picture, str(path))
        np.maximum(lesion, mask, out=lesion)
    return int(np.count_nonzero(lesion))


def _same_size(mask: Pixels, picture: Pixels, path: str) -> None:
    if mask.shape != picture.shape:
        raise DataError(
            f"{path} is {mask.shape[1]} x {mask.shape[0]} pixels, its image is {picture.shape[1]} x "
            f"{picture.shape[0]}; a mask must have its image's size"
        )

"""What is drawn for training: decoded images on the device, and which of them make up an epoch."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from models.networks.registry import CLASSES
from train.data import Images
from train.learning.batch import UNKNOWN, Batch
from train.learning.chance import mix
from train.recipe import Recipe, RecipeError

# A set may take this much of a device's free memory; the rest is for feature maps.
_DEVICE_SHARE = 0.3


class Pool:
    """The training images, real and synthetic, as 8-bit tensors on the device where they fit.

    Otherwise they stay on the host (or mapped from a file), and only a batch at a time is moved.
    """

    def __init__(
        self,
        real: Images,
        synthetic: Images | None,
        recipe: Recipe,
        device: torch.device,
        *,
        batch: int,
        classes: int,
    ) -> None:
        """Take the images.

        :param synthetic: of the same size; None leaves `draw.synthetic_share` without effect.
        :param batch: images of a step.
        :param classes: how many the network has.
        :raises RecipeError: if the recipe's class shares are not for that many classes.
        """
        self._sets = [real] if synthetic is None else [real, synthetic]
        self.names = tuple(name for part in self._sets for name in part.names)
        self.real = len(real)
        self.device = device
        self.batch = batch
        self.epoch_images = recipe.train.epoch_images or self.real
        self._weights = None
        shares = recipe.draw.class_shares
        if shares is not None and classes and len(shares) != classes:
            raise RecipeError(
                f"draw.class_shares has {len(shares)} shares, the network {classes} classes "
                f"({', '.join(CLASSES[:classes])}); give one share for each"
            )
        if shares is not None or synthetic is not None:
            of_set = (
                [1.0] if synthetic is None else [1 - recipe.draw.synthetic_share, recipe.draw.synthetic_share]
            )
            self._weights = torch.from_numpy(
                np.concatenate(
                    [
                        _weights(part.labels, shares) * share
                        for part, share in zip(self._sets, of_set, strict=True)
                    ]
                )
            )
        self._glands = any(part.gland_known.any() for part in self._sets)
        self._starts = np.cumsum([0, *(len(part) for part in self._sets)])
        self._device_sets = self._moved() if device.type == "cuda" else None

    @property
    def steps(self) -> int:
        """Batches of an epoch; the last is filled up."""
        return -(-self.epoch_images // self.batch)

    def order(self, seed: int) -> NDArray[np.int64]:
        """Choose the images of an epoch: `steps` x `batch` rows.

        Without class shares and synthetic images every image comes once before any comes again.
        """
        generator = Generator().manual_seed(seed)
        wanted = self.steps * self.batch
        if self._weights is not None:
            rows = torch.multinomial(self._weights, wanted, replacement=True, generator=generator)
        else:
            rounds = -(-wanted // self.real)
            rows = torch.cat([torch.randperm(self.real, generator=generator) for _ in range(rounds)])[:wanted]
        return rows.view(self.steps, self.batch).numpy()

    def take(self, rows: NDArray[np.int64]) -> Batch:
        """Gather images as a batch on the device, at the size they are kept in."""
        pixels = self._gather(rows, "pixels")
        glands = self._gather(rows, "glands") if self._glands else None
        return Batch(
            pixels,
            self._gather(rows, "masks"),
            self._flags(rows, "labels"),
            self._flags(rows, "masked"),
            self._flags(rows, "boxed"),
            glands,
            None if glands is None else self._flags(rows, "gland_known"),
        )

    def _gather(self, rows: NDArray[np.int64], name: str) -> Tensor:
        """N x 1 x H x W in [0, 1]."""
        if self._device_sets is not None:
            index = torch.from_numpy(rows).to(self.device, non_blocking=True)
            return self._device_sets[name][index].unsqueeze(1).float() / 255
        shape = self._sets[0].pixels.shape[1:]
        planes = np.zeros((len(rows), *shape), np.uint8)
        for part, start in zip(self._sets, self._starts, strict=False):
            source = getattr(part, name)
            here = (rows >= start) & (rows < start + len(part))
            if source is not None and here.any():
                planes[here] = source[rows[here] - start]
        return torch.from_numpy(planes).to(self.device).unsqueeze(1).float() / 255

    def _flags(self, rows: NDArray[np.int64], name: str) -> Tensor:
        values = np.concatenate([getattr(part, name) for part in self._sets])[rows]
        return torch.from_numpy(values).to(self.device, non_blocking=True)

    def _moved(self) -> dict[str, Tensor] | None:
        wanted = ["pixels", "masks", *(["glands"] if self._glands else [])]
        free, _ = torch.cuda.mem_get_info(self.device)
        if sum(part.pixels.nbytes for part in self._sets) * len(wanted) > _DEVICE_SHARE * free:
            return None
        moved = {}
        for name in wanted:
            planes = [getattr(part, name) for part in self._sets]
            full = [
                np.zeros_like(part.pixels) if p is None else p
                for part, p in zip(self._sets, planes, strict=True)
            ]
            moved[name] = torch.cat([torch.from_numpy(np.ascontiguousarray(p)).to(self.device) for p in full])
        return moved


def for_network(images: Images, classes: int) -> Images:
    """Leave out the images of classes that a network does not have; those of unknown class stay."""
    return images.take(images.labels < classes) if classes and (images.labels >= classes).any() else images


def hide_masks(images: Images, share: float, seed: int) -> Images:
    """Hide the masks of all but a share of the images with a lesion, chosen class by class by the seed.

    Empty masks of normals stay: they follow from the class.

    :param share: of the masks that are kept, 0 to 1.
    """
    if share >= 1:
        return images
    masked, boxed = images.masked.copy(), images.boxed.copy()
    masks = images.masks.copy()
    marked = images.masks.reshape(len(images), -1).any(axis=1) & (masked | boxed)
    for label in np.unique(images.labels):
        rows = np.flatnonzero(marked & (images.labels == label))
        rng = np.random.default_rng(mix(seed, "hide", int(label)))
        hidden = rng.permutation(rows)[round(share * len(rows)) :]
        masked[hidden] = boxed[hidden] = False
        masks[hidden] = 0
    values = {name: getattr(images, name) for name in ("glands", "gland_known", "spacing_mm", "sources")}
    return Images(
        images.names, images.groups, images.pixels, masks, images.labels, masked=masked, boxed=boxed, **values
    )


def _weights(labels: NDArray[np.int64], shares: Sequence[float] | None) -> NDArray[np.float64]:
    """Chance of every image to be drawn, 1 in total; images of unknown class keep their share of the set."""
    weights = np.ones(len(labels))
    known = labels != UNKNOWN
    if shares is not None and known.any():
        present = [label for label in range(len(shares)) if (labels == label).any()]
        total = sum(shares[label] for label in present) or 1.0
        for label in present:
            here = labels == label
            weights[here] = shares[label] / total * known.sum() / here.sum()
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised

"""Every network by name: built, given weights, counted. Needs no torch until one is built."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from models.networks.cards import CARDS, Card

if TYPE_CHECKING:
    from models.networks.base import Network

logger = logging.getLogger(__name__)

CLASSES = ("benign", "malignant", "normal")
"""Names of the first K classes, in the order of every network's class logits."""


class ModelError(ValueError):
    """A name, option, weights file or frame that a network cannot take; says what is allowed instead."""


def list_models() -> list[str]:
    """Name every network that `create` can build."""
    return list(CARDS)


def card(name: str) -> Card:
    """Look up what is known of a network.

    :raises ModelError: if there is no such network.
    """
    try:
        return CARDS[name]
    except KeyError:
        raise ModelError(f"no network named {name!r}; there are {', '.join(CARDS)}") from None


def build(name: str, **options: Any) -> Network:
    """Build a network by its name, with random weights.

    :param options: `num_classes`, `in_channels`, `size` and the network's own.
    :raises ModelError: if there is no such network or option, or an option has an impossible value.
    """
    known = card(name)
    module, _, function = known.builder.partition(":")
    builder: Callable[..., Network] = getattr(import_module(module), function)
    allowed = [option for option in inspect.signature(builder).parameters if option not in known.preset]
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise ModelError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(allowed)}")
    network = builder(**known.preset, **options)
    network.name = name
    network.options = dict(options)
    return network


def create(name: str, *, weights: str | Path | None = None, **options: Any) -> Network:
    """Build a network by its name, its backbone with ImageNet weights where a file of them is given.

    :param weights: a local file with torchvision's key names; nothing is ever fetched.
    :param options: `num_classes`, `in_channels`, `size` and the network's own.
    :raises ModelError: if there is no such network or option, an option has an impossible value, or the
        weights do not fit.
    """
    network = build(name, **options)
    encoder, published = network.pretrained(), card(name).weights
    if weights is not None:
        if encoder is None:
            raise ModelError(f"{name} has no part that ImageNet weights fit: leave weights out")
        from models.networks.weights import load_weights

        load_weights(encoder, weights)
        logger.info("%s: ImageNet weights from %s", name, weights)
    elif encoder is not None:
        logger.warning(
            "%s starts from random weights, its paper from ImageNet's: pass weights=FILE, a local copy of "
            "torchvision's %s",
            name,
            published,
        )
    return network


class Description(NamedTuple):
    """One row of `sonostream models`."""

    name: str
    paper: str
    parameters: int
    gmacs: float
    """Billions of multiply-accumulates for one frame of `input`, in convolutions and matrix products."""
    input: str
    """Channels x height x width."""
    outputs: tuple[str, ...]
    """`lesion` and `classes` where it has them, then its auxiliary maps."""
    classes: tuple[str, ...]
    licence: str


def describe(name: str, **options: Any) -> Description:
    """Count a network and say what it reads and returns.

    :param options: as for `create`.
    :raises ModelError: as `create`.
    """
    import torch

    from models.networks.cost import count_gmacs, count_parameters

    known = card(name)
    with torch.device("meta"):
        network = build(name, **options)
    height, width = network.size
    gmacs, output = count_gmacs(network)
    outputs = ["lesion"] * bool(network.regions) + ["classes"] * bool(network.classes)
    return Description(
        name=name,
        paper=known.paper,
        parameters=count_parameters(network),
        gmacs=gmacs,
        input=f"{network.in_channels}x{height}x{width}",
        outputs=(*outputs, *output.auxiliary),
        classes=network.classes,
        licence=known.licence,
    )

"""Networks without weights, outputs and batches, for the tests of objectives."""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import models
from models.networks.base import Network, Output
from train.learning.batch import UNKNOWN, Batch

SIDE = 64


@cache
def network(name: str, **options: Any) -> Network:
    """What an objective asks a network for needs no weights."""
    with torch.device("meta"):
        return models.networks.registry.build(name, **({"size": SIDE} | options))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def output(net: Network, count: int, *, coarse: int = 0, seed: int = 0) -> tuple[Output, list[Tensor]]:
    """Answer as the network would, from random logits.

    :param coarse: channels of the coarse mask; 0: it has none.
    :return: the output and the logits it was made from.
    """
    leaves: list[Tensor] = []

    def leaf(*shape: int) -> Tensor:
        leaves.append(draw(*shape, seed=seed + len(leaves)).requires_grad_())
        return leaves[-1]

    logits = lesion = class_logits = None
    auxiliary = {}
    if net.regions:
        side = SIDE // 32 if net.name.startswith("la_net") else SIDE
        logits = leaf(count, len(net.regions), side, side)
        if len(net.regions) == 1:
            lesion = logits.sigmoid()
        else:
            channel = net.regions.index("lesion")
            lesion = logits.softmax(dim=1)[:, channel : channel + 1]
        lesion = F.interpolate(lesion, (SIDE, SIDE), mode="bilinear", align_corners=True)[:, 0]
    if net.classes:
        class_logits = leaf(count, len(net.classes))
    if coarse:
        auxiliary["coarse_logits"] = leaf(count, coarse, SIDE, SIDE)
    return Output(logits, lesion, class_logits, auxiliary), leaves


def batch(
    labels: list[int],
    *,
    masked: list[bool] | None = None,
    boxed: list[bool] | None = None,
    glands: bool = False,
) -> Batch:
    """Images of a disc each, empty where normal, unless not masked: then the mask row says nothing."""
    count = len(labels)
    known = torch.tensor(masked if masked is not None else [True] * count)
    masks = torch.stack([disc(32 + index, 30, 8 + index % 5) for index in range(count)])
    masks[torch.tensor(labels) == 2] = 0
    masks[~known] = 0
    in_box = torch.tensor(boxed if boxed is not None else [False] * count)
    masks[in_box, :, 20:40, 10:50] = 1
    band = torch.zeros(count, 1, SIDE, SIDE)
    band[:, :, 16:48] = 1
    return Batch(
        draw(count, 1, SIDE, SIDE, seed=9).sigmoid(),
        masks,
        torch.tensor(labels),
        known,
        in_box,
        band if glands else None,
        torch.tensor([index % 2 == 0 for index in range(count)]) if glands else None,
    )


def disc(x: float, y: float, radius: float) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2).float()[None]


def rows(whole: Batch, chosen: list[int]) -> Batch:
    return Batch(*(None if part is None else part[chosen] for part in whole))


def answers(whole: Output, chosen: list[int]) -> Output:
    def pick(part: Tensor | None) -> Tensor | None:
        return None if part is None else part[chosen]

    auxiliary = {name: part[chosen] for name, part in whole.auxiliary.items()}
    return Output(pick(whole.lesion_logits), pick(whole.lesion), pick(whole.class_logits), auxiliary)


ALL_UNKNOWN = [UNKNOWN] * 4

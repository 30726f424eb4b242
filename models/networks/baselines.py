"""Baselines that are not one of the networks with parts left out."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.attention import PositionAttention
from models.networks.base import IMAGENET_MEAN, IMAGENET_STD, Network, Output
from models.networks.blocks import class_names
from models.networks.resnet import ResNet, Stem
from models.networks.rmtl_net import RegionFusion, RMTLNet


class ResNetClassifier(Network):
    """A plain ResNet. Output: `class_logits` N x K only."""

    def __init__(
        self,
        *,
        num_classes: int = 2,
        in_channels: int = 3,
        size: int | tuple[int, int] = 256,
        depth: Literal[18, 50, 101] = 18,
    ) -> None:
        """Build the network.

        :param num_classes: benign, malignant, normal.
        :param in_channels: channels the stem reads, 1 or 3.
        :param size: side of the frame or (height, width), multiples of 32.
        :param depth: 18, 50 or 101.
        :raises ModelError: if an option has an impossible value.
        """
        super().__init__(
            size=size,
            size_divisor=32,
            classes=class_names(num_classes),
            regions=(),
            in_channels=in_channels,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )
        self.encoder = ResNet(depth, in_channels=in_channels)
        self.fc = nn.Linear(self.encoder.channels[-1], num_classes)

    def forward(self, frames: Tensor) -> Output:
        """Analyse N x 1 or 3 x H x W frames in [0, 1]."""
        c5 = self.encoder(self.prepare(frames)).c5
        return Output(None, None, self.fc(c5.mean(dim=(2, 3))), {})

    def pretrained(self) -> nn.Module:
        """The ResNet."""
        return self.encoder


class MTLCOSA(RMTLNet):
    """MTL-COSA: self-attention in three regions drawn from the predicted binary mask.

    Built from its description in RMTL-Net's paper (it has its own, Xu, Huang, Qi, ISBI 2022) to the parameter
    count printed there. Output: as RMTL-Net's without regions; auxiliary `regions`, the binary tumour,
    peritumoral and background masks, N x 3 x H/32 x W/32.
    """

    def __init__(
        self,
        *,
        num_classes: int = 2,
        in_channels: int = 3,
        size: int | tuple[int, int] = 256,
        stem: Stem = "plain",
        unused_fc: bool = False,
        dropout: float = 0.5,
    ) -> None:
        """Build the network; the options are `RMTLNet`'s."""
        super().__init__(
            num_classes=num_classes,
            in_channels=in_channels,
            size=size,
            regions=(),
            stem=stem,
            unused_fc=unused_fc,
            dropout=dropout,
        )
        self.ra = ContextOrientedSelfAttention(self.encoder.channels[-1])


class ContextOrientedSelfAttention(nn.Module):
    """Self-attention on C_5 within each region, pooled and weighed as in regional attention."""

    def __init__(self, channels: int) -> None:
        """Channels of C_5."""
        super().__init__()
        self.attention = nn.ModuleList(PositionAttention(channels, channels // 8) for _ in range(3))
        self.fuse = RegionFusion(3)

    def forward(self, c5: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Pool features per region and weigh the regions.

        :param c5: N x C x H/32 x W/32.
        :param p: N x 2 x H x W: probabilities of lesion and background.
        :return: N x C, and the regions, N x 3 x H/32 x W/32.
        """
        regions = mask_regions(p[:, :1] > p[:, 1:])[:, :, ::32, ::32].to(c5.dtype)
        g = [
            attention(c5 * region).mean(dim=(2, 3))
            for attention, region in zip(self.attention, torch.split(regions, 1, dim=1), strict=True)
        ]
        return self.fuse(torch.stack(g, dim=1)), regions


def mask_regions(mask: Tensor) -> Tensor:
    """Draw tumour, peritumoral and background from a mask; the second is 5 px wide, centred on the contour.

    :param mask: N x 1 x H x W, bool.
    :return: N x 3 x H x W, 0 or 1: they add up to one everywhere.
    """
    tumour = mask.float()
    # The contour is the mask's outermost pixels: those with background among their eight neighbours.
    contour = tumour * F.max_pool2d(1 - tumour, 3, stride=1, padding=1)
    peritumoral = F.max_pool2d(contour, 5, stride=1, padding=2)
    return torch.cat([tumour * (1 - peritumoral), peritumoral, (1 - tumour) * (1 - peritumoral)], dim=1)

"""RMTL-Net: the classifier reads features pooled over tumour, peritumoral and background regions.

Xu, Huang, Qi. "A Regional-Attentive Multi-Task Learning Framework for Breast Ultrasound Image Segmentation
and Classification". IEEE Access 11, 2023. The layers are those that meet the paper's printed parameter counts
to the unit; UResNet and MTL-Net are this network without regions, without and with its class head.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from models.networks.base import IMAGENET_MEAN, IMAGENET_STD, Network, Output
from models.networks.blocks import class_names, conv_bn_relu, full_precision
from models.networks.registry import ModelError
from models.networks.resnet import ResNet, Stages, Stem

Region = Literal["T", "P", "B"]
_REGIONS: dict[Region, str] = {"T": "lesion", "P": "peritumoral", "B": "background"}


class RMTLNet(Network):
    """RMTL-Net (Fig. 3).

    Output: `lesion_logits` N x 3 x H x W (lesion, peritumoral, background), without regions N x 2 x H x W
    (lesion, background); `lesion` is P_T of their softmax; `class_logits` N x K; auxiliary `regions`, the
    kept probabilities P'' of eq 1, N x R x H/32 x W/32, absent without regions.
    """

    def __init__(
        self,
        *,
        num_classes: int = 2,
        in_channels: int = 3,
        size: int | tuple[int, int] = 256,
        regions: Sequence[Region] = ("T", "P", "B"),
        classify: bool = True,
        detach_regions: bool = False,
        stem: Stem = "plain",
        unused_fc: bool = False,
        dropout: float = 0.5,
    ) -> None:
        """Build the network.

        :param num_classes: benign, malignant, normal.
        :param in_channels: channels the stem reads, 1 or 3.
        :param size: side of the frame or (height, width), multiples of 32.
        :param regions: which of tumour, peritumoral and background the classifier attends to; () pools all.
        :param classify: have a class head.
        :param detach_regions: keep the class loss from training the decoder through the regions.
        :param stem: "plain" agrees with the paper's text and loads the usual weights; "deep" with its counts.
        :param unused_fc: keep the encoder's 1000-way classifier, as the printed counts do.
        :param dropout: before the fully connected layer.
        :raises ModelError: if an option has an impossible value.
        """
        chosen = [region for region in _REGIONS if region in regions]
        if len(chosen) != len(regions):
            raise ModelError(f"regions must be distinct, from 'T', 'P' and 'B', not {tuple(regions)}")
        if chosen and not classify:
            raise ModelError("regions guide the class head: with classify=False, use regions=()")
        super().__init__(
            size=size,
            size_divisor=32,
            classes=class_names(num_classes) if classify else (),
            regions=tuple(_REGIONS.values()) if chosen else ("lesion", "background"),
            in_channels=in_channels,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )
        self.detach_regions = detach_regions
        self.encoder = ResNet(101, in_channels=in_channels, stem=stem, unused_fc=unused_fc)
        self.decoder = Decoder(self.encoder.channels, len(self.regions))
        self.ra: nn.Module | None = RegionalAttention(chosen) if chosen else None
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.encoder.channels[-1], num_classes) if classify else None

    def forward(self, frames: Tensor) -> Output:
        """Analyse N x 1 or 3 x H x W frames in [0, 1]."""
        stages = self.encoder(self.prepare(frames))
        logits = self.decoder(stages)
        p = full_precision(logits).softmax(dim=1)
        class_logits, auxiliary = None, {}
        if self.fc is not None:
            f_w = stages.c5.mean(dim=(2, 3))
            if self.ra is not None:
                f_w, auxiliary["regions"] = self.ra(stages.c5, p.detach() if self.detach_regions else p)
            class_logits = self.fc(self.dropout(f_w))
        return Output(logits, p[:, 0], class_logits, auxiliary)

    def pretrained(self) -> nn.Module:
        """The ResNet-101."""
        return self.encoder


class Decoder(nn.Module):
    """Deconv4 to Deconv1, a last doubling of the size, Conv2."""

    def __init__(self, channels: tuple[int, ...], classes: int) -> None:
        """Channels of C1 to C5 and of the output."""
        super().__init__()
        c1, _, _, _, c5 = channels
        self.deconv4 = Deconv(c5, 1024, channels[3])
        self.deconv3 = Deconv(1024, 512, channels[2])
        self.deconv2 = Deconv(512, 256, channels[1])
        self.deconv1 = Deconv(256, 128, c1)
        self.up = _up(128, 128)
        self.conv2 = nn.Conv2d(128, classes, 3, padding=1)

    def forward(self, stages: Stages) -> Tensor:
        """Stages of an H x W frame -> N x classes x H x W logits."""
        x = self.deconv4(stages.c5, stages.c4)
        x = self.deconv3(x, stages.c3)
        x = self.deconv2(x, stages.c2)
        x = self.deconv1(x, stages.c1)
        logits: Tensor = self.conv2(self.up(x))
        return logits


class Deconv(nn.Module):
    """Transposed convolution that doubles the size, concatenation with the skip, two 3x3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int, skip_channels: int) -> None:
        """Channels from below, out, and of the skip."""
        super().__init__()
        self.up = _up(in_channels, out_channels)
        self.convs = nn.Sequential(
            conv_bn_relu(out_channels + skip_channels, out_channels, 3, bias=True),
            conv_bn_relu(out_channels, out_channels, 3, bias=True),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """N x in x h x w and N x skip x 2h x 2w -> N x out x 2h x 2w."""
        out: Tensor = self.convs(torch.cat([self.up(x), skip], dim=1))
        return out


class RegionalAttention(nn.Module):
    """Regional attention (RA, Fig. 5, eqs 1 to 6)."""

    def __init__(self, regions: Sequence[Region]) -> None:
        """The regions attended to, in the order T, P, B."""
        super().__init__()
        self.channels = [list(_REGIONS).index(region) for region in regions]
        # One region needs no weighting: G_x is the feature vector.
        self.fuse = RegionFusion(len(regions)) if len(regions) > 1 else None

    def forward(self, c5: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Pool features per region and weigh the regions.

        :param c5: C_5, N x 2048 x H/32 x W/32.
        :param p: P, N x 3 x H x W: probabilities of tumour, peritumoral, background.
        :return: F_W, N x 2048, and P'', N x R x H/32 x W/32.
        """
        # The nearest neighbour of an integer reduction is the first pixel of each cell.
        p_coarse = torch.stack([p[:, channel, ::32, ::32] for channel in self.channels], dim=1)
        p_kept = p_coarse * (p_coarse > 0.5)  # eq 1
        # GAP over all cells of C_5 * P''_x (eqs 2 and 3), as one product.
        cells = c5.shape[2] * c5.shape[3]
        g = p_kept.flatten(2).to(c5.dtype) @ c5.flatten(2).transpose(1, 2) / cells
        return g[:, 0] if self.fuse is None else self.fuse(g), p_kept


class RegionFusion(nn.Module):
    """F_W = w_1 G_T + w_2 G_P + w_3 G_B (eqs 4 to 6), by a 1x1 convolution over regions and BatchNorm."""

    def __init__(self, regions: int) -> None:
        """How many regions."""
        super().__init__()
        self.conv = nn.Conv2d(regions, 1, 1)
        self.bn = nn.BatchNorm2d(1)

    def forward(self, f: Tensor) -> Tensor:
        """F, N x R x C -> F_W, N x C."""
        f_w: Tensor = self.bn(self.conv(f.unsqueeze(2)))
        return f_w.flatten(1)


def _up(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )

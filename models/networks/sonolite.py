"""Sonolite: our own network for live feeds, built from what the five published ones teach.

A light residual encoder; skips gated by what lies deeper (ACSNet); a mask that is first coarse, then fine
(CTG-Net, MTL-OCA); a class read inside the lesion, on the rim around it and over the whole frame (RMTL-Net's
regions, LA-Net's mask attention), from decoder as well as encoder features (MTL-OCA). All normalisation is
BatchNorm, which an engine folds into the convolutions, and no map is finer than a quarter of the frame.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.base import Network, Output
from models.networks.blocks import class_names, conv_bn_relu, full_precision, upsample2
from models.networks.registry import ModelError
from models.networks.resnet import BasicBlock


class Sonolite(Network):
    """Our network for live feeds.

    Output: `lesion_logits` N x 2 x H x W (background, lesion), `lesion` is their softmax, `class_logits`
    N x K; auxiliary `coarse_logits` N x 2 x H x W, the mask as the decoder first sees it, at 1/16.
    """

    def __init__(
        self,
        *,
        num_classes: int = 3,
        in_channels: int = 1,
        size: int | tuple[int, int] = 192,
        widths: tuple[int, int, int, int] = (48, 96, 144, 192),
        decoder: int = 64,
        gate: bool = True,
        regions: bool = True,
        dropout: float = 0.2,
    ) -> None:
        """Build the network.

        :param num_classes: benign, malignant, normal.
        :param in_channels: always 1: the network reads gray.
        :param size: side of the frame or (height, width), multiples of 32.
        :param widths: channels at 1/4, 1/8, 1/16 and 1/32 of the frame.
        :param decoder: channels of the decoder.
        :param gate: gate what the encoder hands the decoder by what lies deeper.
        :param regions: read the class inside the mask and on its rim as well as over the whole frame.
        :param dropout: on the pooled features.
        :raises ModelError: if an option has an impossible value.
        """
        super().__init__(
            size=size,
            size_divisor=32,
            classes=class_names(num_classes),
            regions=("background", "lesion"),
            in_channels=in_channels,
            mean=(0.33,),
            std=(0.2,),
        )
        if in_channels != 1:
            raise ModelError("sonolite reads gray (colour frames are reduced to it): in_channels must be 1")
        if len(widths) != 4:
            raise ModelError(f"widths must be four numbers of channels, not {widths}")
        self.stem = nn.Sequential(_down(1, widths[0] // 2), _down(widths[0] // 2, widths[0]))
        self.levels = nn.ModuleList(
            _level(inputs, outputs, stride)
            for inputs, outputs, stride in zip(widths[:1] + widths[:3], widths, (1, 2, 2, 2), strict=True)
        )
        self.deepest = conv_bn_relu(widths[3], decoder, 1, bias=False)
        self.skips = nn.ModuleList(Skip(width, decoder, gate=gate) for width in widths[2::-1])
        self.coarse = nn.Conv2d(decoder, 2, 1)
        self.fine = nn.Conv2d(decoder, 2, 1)
        self.classify = RegionHead(
            widths[2], widths[3], decoder, num_classes, regions=regions, dropout=dropout
        )

    def forward(self, frames: Tensor) -> Output:
        """Analyse N x 1 or 3 x H x W frames in [0, 1]."""
        x = self.stem(self.prepare(frames))
        encoded = []
        for level in self.levels:
            x = level(x)
            encoded.append(x)
        x = self.deepest(x)
        decoded = []
        for skip, features in zip(self.skips, encoded[2::-1], strict=True):
            x = skip(features, x)
            decoded.append(x)
        coarse = F.interpolate(self.coarse(decoded[0]), self.size, mode="bilinear")
        fine = self.fine(x)
        logits = F.interpolate(fine, self.size, mode="bilinear")
        # The class must not pull the mask out of shape.
        inside = F.avg_pool2d(_lesion(fine).detach(), 2)
        classes = self.classify(inside, decoded[1], encoded[2], encoded[3])
        return Output(logits, _lesion(logits)[:, 0], classes, {"coarse_logits": coarse})


class Skip(nn.Module):
    """One step of the decoder: doubles what lies deeper and adds the encoder's features through a gate."""

    def __init__(self, encoded: int, decoder: int, *, gate: bool) -> None:
        """Channels of the encoder's features and of the decoder."""
        super().__init__()
        self.lateral = nn.Conv2d(encoded, decoder, 1, bias=False)
        self.norm = nn.BatchNorm2d(decoder)
        self.gate = nn.Conv2d(decoder, 1, 1) if gate else None
        self.merge = nn.Sequential(
            conv_bn_relu(decoder, decoder, 3, bias=False), conv_bn_relu(decoder, decoder, 3, bias=False)
        )

    def forward(self, encoded: Tensor, deeper: Tensor) -> Tensor:
        """N x E x 2h x 2w and N x D x h x w -> N x D x 2h x 2w."""
        side = self.norm(self.lateral(encoded))
        if self.gate is not None:
            side = side * upsample2(self.gate(deeper).sigmoid())
        merged: Tensor = self.merge(F.relu(side + upsample2(deeper)))
        return merged


class RegionHead(nn.Module):
    """Class from the whole frame, from inside the lesion and from its rim."""

    def __init__(
        self, middle: int, deepest: int, decoder: int, num_classes: int, *, regions: bool, dropout: float
    ) -> None:
        """Channels of the encoder at 1/16 and at 1/32, and of the decoder."""
        super().__init__()
        self.regions = regions
        pooled = 2 * deepest + (2 * (decoder + middle) + 2 if regions else 0)
        self.read = nn.Sequential(
            nn.Linear(pooled, 96, bias=False),
            nn.BatchNorm1d(96),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(96, num_classes),
        )

    def forward(self, inside: Tensor, decoded: Tensor, middle: Tensor, deepest: Tensor) -> Tensor:
        """Pool and classify.

        :param inside: N x 1 x H/8 x W/8: probability that a cell is lesion.
        :param decoded: N x D x H/8 x W/8.
        :param middle: N x M x H/16 x W/16.
        :param deepest: N x L x H/32 x W/32.
        :return: N x K logits.
        """
        pooled = [deepest.mean(dim=(2, 3)), deepest.amax(dim=(2, 3))]
        if self.regions:
            rim = F.max_pool2d(inside, 5, 1, 2) - inside
            inside_2, rim_2 = F.avg_pool2d(inside, 2), F.avg_pool2d(rim, 2)
            pooled += [_mean(decoded, inside), _mean(decoded, rim)]
            pooled += [_mean(middle, inside_2), _mean(middle, rim_2)]
            pooled += [inside.mean(dim=(2, 3)), inside.amax(dim=(2, 3))]
        logits: Tensor = self.read(torch.cat(pooled, dim=1))
        return logits


def _mean(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the pixels: N x C x h x w, N x 1 x h x w -> N x C; near 0 where all weights are."""
    return (features * weights).mean(dim=(2, 3)) / (weights.mean(dim=(2, 3)) + 0.005)


def _lesion(logits: Tensor) -> Tensor:
    """Softmax over two, as the sigmoid of their difference: N x 2 x h x w -> N x 1 x h x w."""
    wide = full_precision(logits)
    return (wide[:, 1:] - wide[:, :1]).sigmoid()


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def _level(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))
